"""Split a manifest into train, val and test so that no lesion, and no near-duplicate, is in two splits.

Lesions are merged into groups where photos of different lesions are near-duplicates by perceptual hash; groups are
spread over the splits, stratified by class. `make_split` and training call `check_split`, which refuses leakage.
Its method `random` leaks by design. numpy.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import ConfigInvalid, DataInvalid, SplitLeaks
from train.artifacts.manifest import Manifest, Photo
from train.data.near_duplicates import near_duplicate_pairs

PARTS = ("train", "val", "test")
NAMES_SHOWN = 5


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

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and lists, ready for JSON."""
        plain = dataclasses.asdict(self)
        plain["near_duplicates_across_lesions"] = [list(pair) for pair in self.near_duplicates_across_lesions]
        return plain

    def text(self) -> str:
        """Several lines for people."""
        of_class = ", ".join(f"{code} {share:.1%}" for code, share in self.random_leak_of_class.items())
        codes = list(self.random_leak_of_class)
        lines = [
            f"{self.photos} photos of {self.lesions} lesions; {len(self.near_duplicates_across_lesions)} "
            f"near-duplicate pairs (at most {self.near_duplicate_bits} bits, or known) across lesions; "
            f"{self.merged_groups} groups of several lesions, {self.groups} groups in all",
            f"expected leakage of a random image-level split: {self.random_leak:.1%} of the test photos ({of_class}); "
            f"this split: {self._leaked_text()}",
        ]
        for part, counts in self.sizes.items():
            by_class = ", ".join(f"{code} {counts[code]}" for code in codes)
            lines.append(
                f"{part}: {sum(counts.values())} photos of {self.group_sizes[part]} groups ({by_class})"
            )
        return "\n".join(lines)

    def _leaked_text(self) -> str:
        if not self.leaked:
            return "none"
        tested = self.sizes["test"]
        shares = [
            f"{code} {n / tested[code]:.1%}" for code, n in self.leaked_of_class.items() if tested[code]
        ]
        return f"{self.leaked} of {sum(tested.values())} ({', '.join(shares)}), LEAKY BY DESIGN"


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
            fewer groups than parts is spread as far as it goes.
        common_val: Val is fold 0's, less the photos of test_fold.
        method: `grouped`; or `random`, photo by photo as the founding study did, leaky by design: it only shows what
            would have been reported. Groups are found all the same, for the report and for intervals.

    Raises:
        ConfigInvalid: Numbers out of range.
        DataInvalid: There is no photo; or, with `every_class`, a class has too few groups to stand in every part.
        SplitLeaks: Never, unless this module is broken: the result is checked.
    """
    parts = _require_ranges(manifest, folds, test_fold, val_share)
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
    leak = _leak_report(method, photos, pairs, group_of, assignment, codes, near_duplicate_bits, parts)
    return Split(assignment, group_of, leak)


def check_split(manifest: Manifest, assignment: Mapping[str, str], near_duplicate_bits: int) -> None:
    """Refuse a split with a lesion or a near-duplicate in two parts.

    Args:
        manifest: The photos.
        assignment: photo_id to part, for every photo.
        near_duplicate_bits: As `make_split`.

    Raises:
        SplitLeaks: Some do; counts and first names are given.
        DataInvalid: Photos without a part, parts without a photo, or a part other than train, val, test.
    """
    require_parts(manifest, assignment)
    parts_of: dict[str, set[str]] = defaultdict(set)
    for photo in manifest.photos:
        parts_of[photo.lesion_id].add(assignment[photo.photo_id])
    lesions = [f"{lesion} ({', '.join(sorted(p))})" for lesion, p in sorted(parts_of.items()) if len(p) > 1]
    twins = [
        f"{a} ({assignment[a]}) and {b} ({assignment[b]})"
        for a, b in ((a.photo_id, b.photo_id) for a, b in _pairs(manifest, near_duplicate_bits))
        if assignment[a] != assignment[b]
    ]
    found = []
    if lesions:
        found.append(f"{len(lesions)} lesions in several splits: {_first(lesions)}")
    if twins:
        found.append(f"{len(twins)} near-duplicate pairs in different splits: {_first(twins)}")
    if found:
        raise SplitLeaks(
            "Data leakage: the same lesion occurs in two splits",
            details=found,
            expected="each lesion, with its near-duplicates, in one split",
            fix='split by lesion: split.method = "grouped"',
        )


def require_parts(manifest: Manifest, assignment: Mapping[str, str]) -> None:
    """Refuse an assignment that lacks photos, has others, or names an unknown split; leakage is not checked.

    Raises:
        DataInvalid: Photos without a part, parts without a photo, or a part other than train, val, test.
    """
    ids = {photo.photo_id for photo in manifest.photos}
    astray = sorted((ids - assignment.keys()) | (assignment.keys() - ids))
    astray += sorted(i for i in ids & assignment.keys() if assignment[i] not in PARTS)
    if astray:
        raise DataInvalid(
            "the split does not match these photos",
            found=f"{len(astray)} photos in only one of the two, or in an unknown split: {_first(astray)}",
            expected=f"each photo in one of {', '.join(PARTS)}",
            fix="make the split again",
        )


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _require_ranges(manifest: Manifest, folds: int, test_fold: int, val_share: float) -> list[str]:
    """The parts that these numbers make."""
    problems = []
    if folds < 2:
        problems.append(f"folds is {folds}, not 2 or more")
    elif not 0 <= test_fold < folds:
        problems.append(f"test_fold is {test_fold}, not 0 to {folds - 1}")
    elif not 0 <= val_share < 1 - 1 / folds:
        problems.append(f"val_share is {val_share}, not 0 to below {1 - 1 / folds:.3g}")
    if problems:
        raise ConfigInvalid("invalid split", details=problems)
    if not manifest.photos:
        raise DataInvalid("no photos to split", where=manifest.name)
    return [part for part in PARTS if part != "val" or val_share > 0]


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
    """photo_id to group: lesions joined by near-duplicates, transitively (union-find)."""
    parent = {photo.lesion_id: photo.lesion_id for photo in photos}

    def root(lesion: str) -> str:
        while parent[lesion] != lesion:
            parent[lesion] = lesion = parent[parent[lesion]]
        return lesion

    for a, b in pairs:
        first, second = sorted((root(a.lesion_id), root(b.lesion_id)))
        parent[second] = first
    return {photo.photo_id: root(photo.lesion_id) for photo in photos}


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
    index = {group: i for i, group in enumerate(groups)}
    counts = np.zeros((len(groups), len(codes)))
    for photo in photos:
        counts[index[group_of[photo.photo_id]], codes.index(photo.label)] += 1
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
    raise DataInvalid(
        "a class is missing from a split",
        found=f"{'; '.join(lacking)} (groups: {', '.join(f'{code} {groups[code]}' for code in codes)})",
        expected="at least as many lesions of each class as there are folds, and one more for val",
        fix="add photos of other lesions of the class, or use fewer folds",
    )


def _leak_report(
    method: str,
    photos: Sequence[Photo],
    pairs: Sequence[tuple[Photo, Photo]],
    group_of: Mapping[str, str],
    assignment: Mapping[str, str],
    codes: Sequence[str],
    near_duplicate_bits: int,
    parts: Sequence[str],
) -> LeakReport:
    lesion_sizes = Counter(photo.lesion_id for photo in photos)
    test_photos = sum(part == "test" for part in assignment.values())
    leak_of_size = {size: _random_leak(size, test_photos, len(photos)) for size in set(lesion_sizes.values())}
    chances: dict[str, list[float]] = {code: [] for code in codes}
    for photo in photos:
        chances[photo.label].append(leak_of_size[lesion_sizes[photo.lesion_id]])
    lesions_of: dict[str, set[str]] = defaultdict(set)
    groups_in: dict[str, set[str]] = defaultdict(set)
    for photo in photos:
        lesions_of[group_of[photo.photo_id]].add(photo.lesion_id)
        groups_in[assignment[photo.photo_id]].add(group_of[photo.photo_id])
    counts = Counter((assignment[photo.photo_id], photo.label) for photo in photos)
    trained = {photo.lesion_id for photo in photos if assignment[photo.photo_id] == "train"}
    leaked = Counter(
        photo.label for photo in photos if assignment[photo.photo_id] == "test" and photo.lesion_id in trained
    )
    return LeakReport(
        method=method,
        photos=len(photos),
        lesions=len(lesion_sizes),
        groups=len(lesions_of),
        random_leak=float(np.mean([chance for of_class in chances.values() for chance in of_class])),
        random_leak_of_class={code: float(np.mean(chances[code])) for code in codes if chances[code]},
        leaked=leaked.total(),
        leaked_of_class={code: leaked[code] for code in codes if chances[code]},
        near_duplicate_bits=near_duplicate_bits,
        near_duplicates_across_lesions=tuple(
            (a.photo_id, b.photo_id) for a, b in pairs if a.lesion_id != b.lesion_id
        ),
        merged_groups=sum(len(lesions) > 1 for lesions in lesions_of.values()),
        sizes={part: {code: counts[part, code] for code in codes} for part in parts},
        group_sizes={part: len(groups_in[part]) for part in parts},
    )


def require_unseen(source: Path, rows: Sequence[Mapping[str, str]], assignment: Mapping[str, str]) -> None:
    """Refuse weights that were trained on photos which are held out now.

    Args:
        source: Run or record of the weights, for the error.
        rows: train/artifacts/manifest.py `read_parts` of it.
        assignment: The parts of this training, by photo_id.

    Raises:
        SplitLeaks: They have.
    """
    held_out = {photo_id for photo_id, part in assignment.items() if part != "train"}
    if seen := sorted(
        row["photo_id"] for row in rows if row["split"] == "train" and row["photo_id"] in held_out
    ):
        raise SplitLeaks(
            "data leakage: photos that are held out here were in its training set",
            where=str(source),
            found=f"{len(seen)}, such as {seen[0]}",
            expected="none",
            fix="use runs that held them out too: of the same fold, or trained with split.common_val",
        )


def _random_leak(lesion_size: int, test_photos: int, photos: int) -> float:
    """Chance that a test photo has a sibling outside the test part when the test part is drawn at random.

    One minus the chance that all its lesion_size - 1 siblings are among the other test_photos - 1 drawn ones
    (hypergeometric): exact, so no repeated drawing is needed.
    """
    all_in_test = 1.0
    for i in range(lesion_size - 1):
        all_in_test *= max(0, test_photos - 1 - i) / (photos - 1 - i)
    return 1 - all_in_test
