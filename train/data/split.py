"""Split a manifest into train, val and test so that no lesion, and no near-duplicate, is in two splits.

Lesions are merged into groups where photos of different lesions are near-duplicates by perceptual hash; groups are
spread over the splits, stratified by class. `make_split` and training call `check_split`, which refuses leakage.
Its method `random` leaks by design. numpy, pandas.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from edge_runtime.errors import ConfigInvalid, DataInvalid, SplitLeaks
from train.artifacts.manifest import Manifest, Photo
from train.data.near_duplicates import near_duplicate_pairs
from train.data.readers.scan import first_names

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class LeakReport:
    """Leakage of this split and of a random one, and sizes. Shares are 0 to 1."""

    method: str
    """`grouped` or `random`."""
    photos: int
    lesions: int
    groups: int
    """Lesions after near-duplicates have merged some."""
    random_leak: float
    """Expected share of test photos whose lesion is also outside the test part, had the same number of test photos
    been drawn at random."""
    random_leak_of_class: dict[str, float]
    """The same of each class's test photos; classes without a photo are left out."""
    leaked: int
    """Test photos of this split whose lesion is also in the training part, counted; 0 when grouped."""
    leaked_of_class: dict[str, int]
    """The same by class."""
    near_duplicate_bits: int
    near_duplicates_across_lesions: tuple[tuple[str, str], ...]
    """Pairs of photo_ids whose lesion_ids differ, found by hash or known to the label set."""
    merged_groups: int
    """Groups of more than one lesion."""
    sizes: dict[str, dict[str, int]]
    """Part to class to photos."""
    group_sizes: dict[str, int]
    """Part to groups."""

    def text(self) -> str:
        """Several lines for people."""
        of_class = ", ".join(f"{code} {share:.1%}" for code, share in self.random_leak_of_class.items())
        lines = [
            f"{self.photos} photos of {self.lesions} lesions; {len(self.near_duplicates_across_lesions)} "
            f"near-duplicate pairs (at most {self.near_duplicate_bits} bits, or known) across lesions; "
            f"{self.merged_groups} groups of several lesions, {self.groups} groups in all",
            f"expected leakage of a random image-level split: {self.random_leak:.1%} of the test photos ({of_class}); "
            f"this split: {self._leaked_text()}",
        ]
        for part, counts in self.sizes.items():
            by_class = ", ".join(f"{code} {counts[code]}" for code in self.random_leak_of_class)
            photos, groups = sum(counts.values()), self.group_sizes[part]
            lines.append(f"{part}: {photos} photos of {groups} groups ({by_class})")
        return "\n".join(lines)

    def _leaked_text(self) -> str:
        if not self.leaked:
            return "none"
        tested, leaked = self.sizes["test"], self.leaked_of_class.items()
        shares = ", ".join(f"{code} {n / tested[code]:.1%}" for code, n in leaked if tested[code])
        return f"{self.leaked} of {sum(tested.values())} ({shares}), LEAKY BY DESIGN"


@dataclass(frozen=True)
class Split:
    """Split of each photo."""

    assignment: dict[str, str]
    """photo_id to `train`, `val` or `test`."""
    group_of: dict[str, str]
    """photo_id to its group: the smallest lesion_id in it."""
    leak: LeakReport


def make_split(
    manifest: Manifest,
    *,
    folds: int,
    test_fold: int,
    val_share: float,
    near_duplicate_bits: int,
    seed: int,
    every_class: bool = True,
    common_val: bool = False,
    method: str = "grouped",
    renamed: Mapping[str, str] | None = None,
) -> Split:
    """Split by group, stratified by class.

    Args:
        manifest: The photos; the result does not depend on their order.
        folds: Number of equal parts, 2 or more.
        test_fold: Which of them is the test part, 0 to folds - 1; with the same seed the folds' tests are disjoint.
        val_share: Share of all photos that goes to val, 0 (no val part) to below 1 - 1 / folds.
        near_duplicate_bits: Photos whose hashes differ in at most so many bits stay together; negative: off.
        seed: Equal seeds give equal splits.
        every_class: False for one data set of several: classes that do not occur in it are ignored, and one with
            fewer groups than parts stands in some of them only.
        common_val: Val is fold 0's, less the photos of test_fold.
        method: `grouped`; or `random`, photo by photo as the founding study did, leaky by design: it only shows what
            would have been reported. Groups are found all the same, for the report and for intervals.
        renamed: Part to the name that it gets at last; two of one name are joined.

    Raises:
        ConfigInvalid: Numbers out of range.
        DataInvalid: There is no photo; or, with `every_class`, a class has too few groups to stand in every part.
        SplitLeaks: Never, unless this module is broken: the result is checked.
    """
    _require_ranges(manifest, folds, test_fold, val_share)
    parts = [part for part in PARTS if part != "val" or val_share > 0]
    photos = sorted(manifest.photos, key=lambda photo: photo.photo_id)
    pairs = _pairs(manifest, near_duplicate_bits)
    group_of = _merge_lesions(photos, pairs)
    kept = group_of if method == "grouped" else {photo.photo_id: photo.photo_id for photo in photos}
    codes, val_for = manifest.labels.codes, 0 if common_val else test_fold
    assignment = _assign(photos, kept, codes, folds, test_fold, val_share, val_for, seed)
    if every_class:
        _require_every_class(photos, assignment, codes, parts, kept)
    if method == "grouped":
        check_split(manifest, assignment, near_duplicate_bits)
    drawn, names = Counter(assignment.values())["test"], {part: part for part in parts} | dict(renamed or {})
    assignment = {photo_id: names[part] for photo_id, part in assignment.items()}
    rows = [(p.label, p.lesion_id, group_of[p.photo_id], assignment[p.photo_id]) for p in photos]
    table = pd.DataFrame(rows, columns=["label", "lesion", "group", "part"])
    leak = LeakReport(
        method=method,
        near_duplicate_bits=near_duplicate_bits,
        near_duplicates_across_lesions=tuple(
            (a.photo_id, b.photo_id) for a, b in pairs if a.lesion_id != b.lesion_id
        ),
        **_counted(table, codes, list(dict.fromkeys(names.values())), drawn),
    )
    return Split(assignment, group_of, leak)


def check_split(manifest: Manifest, assignment: Mapping[str, str], near_duplicate_bits: int) -> None:
    """Refuse a split (photo_id to part, for every photo) with a lesion or a near-duplicate in two parts.

    Raises:
        SplitLeaks: Some do; counts and first names are given.
        DataInvalid: Photos without a part, parts without a photo, or a part other than train, val, test.
    """
    require_parts(manifest, assignment)
    parts_of: dict[str, set[str]] = defaultdict(set)
    for photo in manifest.photos:
        parts_of[photo.lesion_id].add(assignment[photo.photo_id])
    lesions = [f"{lesion} ({', '.join(sorted(p))})" for lesion, p in sorted(parts_of.items()) if len(p) > 1]
    pairs = [(a.photo_id, b.photo_id) for a, b in _pairs(manifest, near_duplicate_bits)]
    apart = [(a, b) for a, b in pairs if assignment[a] != assignment[b]]
    twins = [f"{a} ({assignment[a]}) and {b} ({assignment[b]})" for a, b in apart]
    kinds = {"lesions in several splits": lesions, "near-duplicate pairs in different splits": twins}
    if found := [f"{len(names)} {kind}: {first_names(names)}" for kind, names in kinds.items() if names]:
        problem, fix = "the same lesion occurs in two splits", 'split by lesion: split.method = "grouped"'
        expected = "each lesion, with its near-duplicates, in one split"
        raise SplitLeaks(f"Data leakage: {problem}", details=found, expected=expected, fix=fix)


def require_parts(manifest: Manifest, assignment: Mapping[str, str]) -> None:
    """Refuse an assignment that lacks photos, has others, or names an unknown split; leakage is not checked.

    Raises:
        DataInvalid: Photos without a part, parts without a photo, or a part other than train, val, test.
    """
    ids = {photo.photo_id for photo in manifest.photos}
    astray = sorted((ids - assignment.keys()) | (assignment.keys() - ids))
    astray += sorted(i for i in ids & assignment.keys() if assignment[i] not in PARTS)
    if astray:
        found = f"{len(astray)} photos in only one of the two, or in an unknown split: {first_names(astray)}"
        expected = f"each photo in one of {', '.join(PARTS)}"
        problem, fix = "the split does not match these photos", "make the split again"
        raise DataInvalid(problem, found=found, expected=expected, fix=fix)


def _require_ranges(manifest: Manifest, folds: int, test_fold: int, val_share: float) -> None:
    problem = ""
    if folds < 2:
        problem = f"folds is {folds}, not 2 or more"
    elif not 0 <= test_fold < folds:
        problem = f"test_fold is {test_fold}, not 0 to {folds - 1}"
    elif not 0 <= val_share < 1 - 1 / folds:
        problem = f"val_share is {val_share}, not 0 to below {1 - 1 / folds:.3g}"
    if problem:
        raise ConfigInvalid("invalid split", details=[problem])
    if not manifest.photos:
        raise DataInvalid("no photos to split", where=manifest.name)


def _assign(
    photos: Sequence[Photo],
    group_of: Mapping[str, str],
    codes: Sequence[str],
    folds: int,
    test_fold: int,
    val_share: float,
    val_for: int,
    seed: int,
) -> dict[str, str]:
    """photo_id to part; photos of one group stay together. Val is what it is when `val_for` is the test fold."""
    rng = np.random.default_rng(seed)
    fold_of = _spread(photos, group_of, codes, [1 / folds] * folds, rng)
    part_of = {}
    if val_share > 0:
        rest = [photo for photo in photos if fold_of[group_of[photo.photo_id]] != val_for]
        share = val_share / (1 - 1 / folds)
        # Its own generator: val must not depend on how many draws the folds took.
        rng = np.random.default_rng([seed, val_for])
        halves = _spread(rest, group_of, codes, [1 - share, share], rng)
        part_of = {group: ("train", "val")[half] for group, half in halves.items()}
    part_of |= {group: "test" for group, fold in fold_of.items() if fold == test_fold}
    return {photo.photo_id: part_of.get(group_of[photo.photo_id], "train") for photo in photos}


def _pairs(manifest: Manifest, max_bits: int) -> list[tuple[Photo, Photo]]:
    """Near-duplicates among the photos that have a hash, and those that the label set knows."""
    by_id = {photo.photo_id: photo for photo in manifest.photos}
    hashed = [by_id[photo_id] for photo_id in sorted(by_id) if by_id[photo_id].phash]
    found = near_duplicate_pairs([int(photo.phash, 16) for photo in hashed], max_bits)
    pairs = {(hashed[i].photo_id, hashed[j].photo_id) for i, j in found}
    pairs |= {(min(pair), max(pair)) for pair in manifest.labels.same_lesion if by_id.keys() >= set(pair)}
    return [(by_id[first], by_id[second]) for first, second in sorted(pairs)]


def _merge_lesions(photos: Sequence[Photo], pairs: Sequence[tuple[Photo, Photo]]) -> dict[str, str]:
    """photo_id to group: lesions joined by near-duplicates, transitively."""
    joined = {photo.lesion_id: frozenset({photo.lesion_id}) for photo in photos}
    for a, b in pairs:
        if joined[a.lesion_id] is not joined[b.lesion_id]:
            both = joined[a.lesion_id] | joined[b.lesion_id]
            joined |= dict.fromkeys(both, both)
    return {photo.photo_id: min(joined[photo.lesion_id]) for photo in photos}


def _spread(
    photos: Sequence[Photo],
    group_of: Mapping[str, str],
    codes: Sequence[str],
    shares: Sequence[float],
    rng: np.random.Generator,
) -> dict[str, int]:
    """Group to part index, so that each class fills the parts by their shares.

    Greedy as scikit-learn's StratifiedGroupKFold, but for unequal shares and without its warning on rare classes:
    large groups first, each where the squared deviation from the shares, summed over classes, grows least.
    """
    groups = sorted({group_of[photo.photo_id] for photo in photos})
    counted = Counter((group_of[photo.photo_id], photo.label) for photo in photos)
    counts = np.array([[counted[group, code] for code in codes] for group in groups], float)
    fractions = counts / np.maximum(counts.sum(axis=0), 1)
    order = rng.permutation(len(groups))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    share = np.asarray(shares)
    filled = np.zeros((len(shares), len(codes)))
    waiting = (counts > 0).sum(axis=0)
    part_of: dict[str, int] = {}
    for i in order:
        added = fractions[i]
        growth = (2 * added * (filled / share[:, None] - 1) + added**2 / share[:, None]).sum(axis=1)
        for k in np.flatnonzero(added):
            lacking = filled[:, k] == 0
            # The last groups of a class go to the parts that have none of it yet.
            if lacking.any() and waiting[k] <= lacking.sum():
                growth = np.where(lacking, growth, np.inf)
        part = int(np.argmin(growth))
        filled[part] += added
        waiting -= counts[i] > 0
        part_of[groups[i]] = part
    return part_of


def _require_every_class(
    photos: Sequence[Photo],
    assignment: Mapping[str, str],
    codes: Sequence[str],
    parts: Sequence[str],
    group_of: Mapping[str, str],
) -> None:
    present = {(assignment[photo.photo_id], photo.label) for photo in photos}
    lacking = [f"no {code} in {part}" for part in parts for code in codes if (part, code) not in present]
    if not lacking:
        return
    groups = Counter(label for _, label in {(group_of[photo.photo_id], photo.label) for photo in photos})
    found = f"{'; '.join(lacking)} (groups: {', '.join(f'{code} {groups[code]}' for code in codes)})"
    expected = "at least as many lesions of each class as there are folds, and one more for val"
    fix = "add photos of other lesions of the class, or use fewer folds"
    raise DataInvalid("a class is missing from a split", found=found, expected=expected, fix=fix)


def _counted(table: pd.DataFrame, codes: Sequence[str], parts: Sequence[str], drawn: int) -> dict[str, Any]:
    """Sizes and leakage of a split, and the expected leakage of `drawn` test photos drawn at random."""
    size = table.groupby("lesion")["lesion"].transform("size")
    table["random_leak"] = size.map({n: _random_leak(n, drawn, len(table)) for n in size.unique()})
    trained = table["lesion"][table["part"] == "train"]
    table["leaked"] = (table["part"] == "test") & table["lesion"].isin(trained)
    by_class = {code: table[table["label"] == code] for code in codes if (table["label"] == code).any()}
    lesions_in = table.groupby("group")["lesion"].nunique()
    sizes = pd.crosstab(table["part"], table["label"]).reindex(index=parts, columns=codes, fill_value=0)
    return {
        "photos": len(table),
        "lesions": table["lesion"].nunique(),
        "groups": len(lesions_in),
        "random_leak": float(np.mean(np.concatenate([rows["random_leak"] for rows in by_class.values()]))),
        "random_leak_of_class": {code: float(rows["random_leak"].mean()) for code, rows in by_class.items()},
        "leaked": int(table["leaked"].sum()),
        "leaked_of_class": {code: int(rows["leaked"].sum()) for code, rows in by_class.items()},
        "merged_groups": int((lesions_in > 1).sum()),
        "sizes": sizes.to_dict("index"),
        "group_sizes": table.groupby("part")["group"].nunique().reindex(parts, fill_value=0).to_dict(),
    }


def require_unseen(source: Path, rows: Sequence[Mapping[str, str]], assignment: Mapping[str, str]) -> None:
    """Refuse weights that were trained on photos which are held out now.

    Args:
        source: Run or record of the weights, for the error.
        rows: `read_parts` of it.
        assignment: photo_id to part of this training.

    Raises:
        SplitLeaks: They have.
    """
    trained = {row["photo_id"] for row in rows if row["split"] == "train"}
    if seen := sorted(i for i, part in assignment.items() if part != "train" and i in trained):
        problem = "data leakage: photos that are held out here were in its training set"
        found = f"{len(seen)}, such as {seen[0]}"
        fix = "use runs that held them out too: of the same fold, or trained with split.common_val"
        raise SplitLeaks(problem, where=str(source), found=found, expected="none", fix=fix)


def _random_leak(lesion_size: int, test_photos: int, photos: int) -> float:
    """Chance that a test photo has a sibling outside the test part when the test part is drawn at random.

    One minus the chance that all its lesion_size - 1 siblings are among the other test_photos - 1 drawn ones
    (hypergeometric): exact, so no repeated drawing is needed.
    """
    return 1 - math.prod(max(0, test_photos - 1 - i) / (photos - 1 - i) for i in range(lesion_size - 1))
