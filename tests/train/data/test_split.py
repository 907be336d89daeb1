"""No lesion and no near-duplicate on two sides, whatever the data looks like; and the gate notices when there is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import ConfigInvalid, DataInvalid, SplitLeaks
from train.artifacts.labels import load_labels
from train.artifacts.manifest import Manifest, Photo
from train.configs.schema import SplitConfig
from train.data.split import (
    PARTS,
    Split,
    _random_leak,
    check_split,
    make_split,
    require_parts,
)

SEEDS = range(8)
NEAR_BITS = SplitConfig().near_duplicate_bits
FOLDS = 5
VAL_SHARE = 0.12
# Of all photos. Generated sets have 300 to 600 photos in groups of up to 12, so a part can miss its share by a group.
SHARE_TOLERANCE = 0.03
# Of a class's photos: a rare class has 20 photos in groups of up to 4.
CLASS_SHARE_TOLERANCE = 0.2
# Seed and test fold to the split of `_generated(seed)`, as made by the code that divided the bundled model's data: runs
# that are made anew must test on the same photos.
GOLDEN = {
    (0, 0): "f16d53a3bc461d8407f726b211dc9170ed5fe8607c3e5069b067d4e06adb7ee0",
    (0, 3): "d854aeea92d1d0f89911b9a6d727c02269dafd9965529712b47f1a5c0e47c9d7",
    (1, 0): "40875666922819577486211bc19a15b51b36ff45944bc8bdb451f77b8cb5068b",
    (1, 3): "ed4555a71329c5ac47c10680ac9d4859605a6f5ea0adb4c2639a875102fea5c0",
}


def _hash(rng: np.random.Generator) -> int:
    return int(rng.integers(0, 2**64, dtype=np.uint64))


def _generated(seed: int) -> Manifest:
    """Imbalanced classes, several photos a lesion, and near-duplicates across lesions, some in chains and classes."""
    rng = np.random.default_rng(seed)
    labels = load_labels("ham10000")
    photos: list[Photo] = []
    for code, share in zip(
        labels.codes, rng.permutation([0.4, 0.2, 0.12, 0.1, 0.08, 0.06, 0.04]), strict=True
    ):
        for lesion in range(max(12, int(300 * share))):
            for view in range(rng.integers(1, 5)):
                photo_id = f"{rng.integers(10**9):09d}"
                lesion_id = f"{code}-{lesion}"
                photos.append(Photo(photo_id, f"{photo_id}.jpg", code, lesion_id, phash=f"{_hash(rng):016x}"))
                del view
    for _ in range(10):
        i, j = rng.choice(len(photos), 2, replace=False)
        flipped = int(photos[i].phash, 16) ^ (1 << int(rng.integers(64)))
        photos[j] = dataclasses.replace(photos[j], phash=f"{flipped:016x}")
    return Manifest("generated", Path("nowhere"), labels, tuple(photos))


def _split(manifest: Manifest, seed: int = 0, test_fold: int = 0, **changes: float) -> Split:
    options = {
        "folds": FOLDS,
        "val_share": VAL_SHARE,
        "near_duplicate_bits": NEAR_BITS,
    } | changes
    return make_split(manifest, test_fold=test_fold, seed=seed, **options)


def _lacking_classes() -> Manifest:
    """Photos of patients, as a small phone set: several classes a patient, no df and vasc, and two lesions of mel."""
    rng = np.random.default_rng(4)
    photos = []
    for patient in range(60):
        photos += [
            Photo(
                f"p{patient:02d}-{view}",
                "x",
                str(rng.choice(["akiec", "bcc", "bkl", "nv"])),
                f"P{patient:02d}",
            )
            for view in range(rng.integers(1, 4))
        ]
    photos += [Photo("m0", "x", "mel", "M0"), Photo("m1", "x", "mel", "M1"), Photo("m2", "x", "mel", "M1")]
    return Manifest("phone", Path("nowhere"), load_labels("ham10000"), tuple(photos))


@pytest.fixture(scope="module", params=SEEDS)
def manifest(request: pytest.FixtureRequest) -> Manifest:
    return _generated(request.param)


def test_no_group_stands_on_two_sides(manifest: Manifest):
    split = _split(manifest)
    assert set(split.assignment) == set(split.group_of) == {photo.photo_id for photo in manifest.photos}
    assert set(split.assignment.values()) == {"train", "val", "test"}
    parts_of_lesion, parts_of_group = defaultdict(set), defaultdict(set)
    for photo in manifest.photos:
        parts_of_lesion[photo.lesion_id].add(split.assignment[photo.photo_id])
        parts_of_group[split.group_of[photo.photo_id]].add(split.assignment[photo.photo_id])
    assert {len(parts) for parts in parts_of_lesion.values()} == {1}
    assert {len(parts) for parts in parts_of_group.values()} == {1}
    # Slow and plain: every pair of photos that are near each other.
    near = 0
    for i, a in enumerate(manifest.photos):
        for b in manifest.photos[:i]:
            if (int(a.phash, 16) ^ int(b.phash, 16)).bit_count() <= NEAR_BITS:
                near += 1
                assert split.assignment[a.photo_id] == split.assignment[b.photo_id]
                assert split.group_of[a.photo_id] == split.group_of[b.photo_id]
    assert near >= 5
    assert len(split.leak.near_duplicates_across_lesions) <= near
    assert split.leak.merged_groups >= 1


def test_every_class_stands_in_every_part_near_its_share(manifest: Manifest):
    split = _split(manifest)
    wanted = {"test": 1 / FOLDS, "val": VAL_SHARE, "train": 1 - 1 / FOLDS - VAL_SHARE}
    totals = Counter(photo.label for photo in manifest.photos)
    counts = Counter((split.assignment[photo.photo_id], photo.label) for photo in manifest.photos)
    for part, share in wanted.items():
        size = sum(counts[part, code] for code in totals)
        assert size / len(manifest.photos) == pytest.approx(share, abs=SHARE_TOLERANCE)
        for code in manifest.labels.codes:
            assert counts[part, code] > 0
            assert counts[part, code] / totals[code] == pytest.approx(share, abs=CLASS_SHARE_TOLERANCE)
            assert split.leak.sizes[part][code] == counts[part, code]


def test_the_split_depends_on_the_seed_and_not_on_the_order(manifest: Manifest):
    split = _split(manifest, seed=5)
    shuffled = dataclasses.replace(manifest, photos=manifest.photos[::-1])
    assert _split(manifest, seed=5) == split
    assert _split(shuffled, seed=5) == split
    assert _split(manifest, seed=6).assignment != split.assignment


def test_the_folds_tests_are_disjoint_and_cover_all(manifest: Manifest):
    tests = [
        {i for i, part in _split(manifest, test_fold=fold).assignment.items() if part == "test"}
        for fold in range(FOLDS)
    ]
    assert sum(map(len, tests)) == len(manifest.photos)
    assert set.union(*tests) == {photo.photo_id for photo in manifest.photos}


@pytest.mark.parametrize(("seed", "fold"), GOLDEN)
def test_a_seed_gives_the_split_that_it_always_gave(seed: int, fold: int):
    split = _split(_generated(seed), seed=seed, test_fold=fold)
    rows = (f"{i},{split.group_of[i]},{part}" for i, part in sorted(split.assignment.items()))
    assert hashlib.sha256("\n".join(rows).encode()).hexdigest() == GOLDEN[seed, fold]


def test_the_gate_fails_when_one_photo_of_a_lesion_is_moved(manifest: Manifest):
    split = _split(manifest)
    lesions = Counter(photo.lesion_id for photo in manifest.photos)
    moved = next(
        p for p in manifest.photos if lesions[p.lesion_id] > 1 and split.assignment[p.photo_id] == "test"
    )
    leaking = split.assignment | {moved.photo_id: "train"}
    with pytest.raises(SplitLeaks, match="1 lesions in several splits") as caught:
        check_split(manifest, leaking, -1)
    assert f"{moved.lesion_id} (test, train)" in caught.value.found
    assert caught.value.exit_status == 2


def test_the_gate_fails_when_a_near_duplicate_lesion_is_moved_whole(manifest: Manifest):
    split = _split(manifest)
    by_id = {photo.photo_id: photo for photo in manifest.photos}
    a, b = split.leak.near_duplicates_across_lesions[0]
    there = {"train": "val", "val": "test", "test": "train"}[split.assignment[b]]
    lesion = by_id[b].lesion_id
    leaking = split.assignment | {p.photo_id: there for p in manifest.photos if p.lesion_id == lesion}
    with pytest.raises(SplitLeaks, match="near-duplicate pairs in different splits") as caught:
        check_split(manifest, leaking, NEAR_BITS)
    assert a in caught.value.found
    assert "lesions in several" not in caught.value.found
    check_split(manifest, leaking, -1)


@pytest.mark.parametrize("every_class", [True, False])
def test_what_is_made_by_group_goes_through_the_gate(every_class: bool, monkeypatch: pytest.MonkeyPatch):
    manifest = _generated(0)
    alternating = {photo.photo_id: PARTS[i % 3] for i, photo in enumerate(manifest.photos)}
    monkeypatch.setattr("train.data.split._assign", lambda *_: alternating)
    with pytest.raises(SplitLeaks, match="lesions in several splits"):
        _split(manifest, every_class=every_class)


def test_a_random_split_does_not_pass_the_gate(manifest: Manifest):
    rng = np.random.default_rng(0)
    assignment = {
        photo.photo_id: str(rng.choice(["train", "test"], p=[0.8, 0.2])) for photo in manifest.photos
    }
    with pytest.raises(SplitLeaks, match=r"and \d+ more"):
        check_split(manifest, assignment, NEAR_BITS)


def test_the_gate_wants_every_photo_in_a_known_part(manifest: Manifest):
    assignment = dict(_split(manifest).assignment)
    first, second = sorted(assignment)[:2]
    part = assignment.pop(first)
    with pytest.raises(DataInvalid, match=f"1 photos in only one of the two.*{first}"):
        check_split(manifest, assignment, -1)
    with pytest.raises(DataInvalid, match="stranger"):
        check_split(manifest, assignment | {first: part, "stranger": "val"}, -1)
    with pytest.raises(DataInvalid, match=second):
        check_split(manifest, assignment | {first: part, second: "holdout"}, -1)
    with pytest.raises(DataInvalid, match=first):
        require_parts(manifest, assignment)
    require_parts(manifest, assignment | {first: part})


def test_the_reported_leak_is_what_random_splits_leak(manifest: Manifest):
    split = _split(manifest)
    rng = np.random.default_rng(1)
    lesions = np.array([photo.lesion_id for photo in manifest.photos])
    labels = np.array([photo.label for photo in manifest.photos])
    test_size = sum(sum(counts.values()) for part, counts in split.leak.sizes.items() if part == "test")
    drawn: list[float] = []
    of_class = defaultdict(list)
    for _ in range(300):
        is_test = np.zeros(len(lesions), bool)
        is_test[rng.choice(len(lesions), test_size, replace=False)] = True
        leaked = np.isin(lesions[is_test], lesions[~is_test])
        drawn.append(leaked.mean())
        for code in manifest.labels.codes:
            of_class[code].extend(leaked[labels[is_test] == code])
    # 300 draws of about 90 photos: the mean is known to well within 0.02.
    assert split.leak.random_leak == pytest.approx(np.mean(drawn), abs=0.02)
    for code, share in split.leak.random_leak_of_class.items():
        assert share == pytest.approx(np.mean(of_class[code]), abs=0.06), code
    totals = Counter(labels.tolist())
    weighed = sum(totals[code] * share for code, share in split.leak.random_leak_of_class.items())
    assert split.leak.random_leak == pytest.approx(weighed / len(labels))
    # Two of four photos are drawn: with the one of a lesion the other one in one of three cases.
    assert _random_leak(2, 2, 4) == pytest.approx(2 / 3)


def test_the_report_is_json_and_text(manifest: Manifest):
    leak = _split(manifest).leak
    plain = json.loads(json.dumps(dataclasses.asdict(leak)))
    assert plain["random_leak"] == leak.random_leak
    assert plain["photos"] == len(manifest.photos)
    text = leak.text()
    assert f"{leak.random_leak:.1%}" in text
    assert f"mel {leak.random_leak_of_class['mel']:.1%}" in text
    assert "\ntrain: " in text
    assert "\nval: " in text
    assert "\ntest: " in text


def test_without_val_there_are_two_parts():
    split = _split(_generated(0), val_share=0)
    assert set(split.assignment.values()) == {"train", "test"}
    assert list(split.leak.sizes) == ["train", "test"]


def test_without_hashes_or_when_switched_off_lesions_alone_count():
    manifest = _generated(0)
    bare = dataclasses.replace(
        manifest, photos=tuple(dataclasses.replace(p, phash="") for p in manifest.photos)
    )
    for split in (_split(bare), _split(manifest, near_duplicate_bits=-1)):
        assert split.leak.near_duplicates_across_lesions == ()
        assert split.leak.merged_groups == 0
        assert split.leak.groups == split.leak.lesions


def test_chained_near_duplicates_are_one_group():
    labels = load_labels("ham10000")
    rng = np.random.default_rng(2)
    photos = [
        Photo(f"{code}{i:02d}", "x", code, f"{code}{i:02d}", phash=f"{_hash(rng):016x}")
        for code in labels.codes
        for i in range(8)
    ]
    chain = 0x0F0F_0F0F_0F0F_0F0F
    for k, step in enumerate((0, 3, 1, 2)):  # each three bits from the next, the ends nine from each other
        photos[k] = dataclasses.replace(photos[k], phash=f"{chain ^ ((1 << 3 * step) - 1):016x}")
    split = make_split(
        Manifest("chain", Path("x"), labels, tuple(photos)),
        folds=3, test_fold=0, val_share=0.2, near_duplicate_bits=3, seed=0,
    )  # fmt: skip
    assert {split.group_of[f"akiec{k:02d}"] for k in range(4)} == {"akiec00"}
    assert split.leak.merged_groups == 1
    assert len(split.leak.near_duplicates_across_lesions) == 3


def test_pairs_that_the_label_set_knows_stay_together():
    manifest = _generated(3)
    split = _split(manifest, near_duplicate_bits=-1)
    test_photo = next(p for p in manifest.photos if split.assignment[p.photo_id] == "test")
    train_photo = next(
        p for p in manifest.photos if p.label == test_photo.label and split.assignment[p.photo_id] == "train"
    )
    known = ((test_photo.photo_id, train_photo.photo_id), ("absent", train_photo.photo_id))
    knowing = dataclasses.replace(manifest, labels=dataclasses.replace(manifest.labels, same_lesion=known))
    with pytest.raises(SplitLeaks, match=f"1 near-duplicate pairs.*{train_photo.photo_id}"):
        check_split(knowing, split.assignment, -1)
    kept = _split(knowing, near_duplicate_bits=-1)
    assert kept.assignment[test_photo.photo_id] == kept.assignment[train_photo.photo_id]
    assert kept.leak.near_duplicates_across_lesions == (tuple(sorted(known[0])),)


@pytest.mark.parametrize("seed", SEEDS)
def test_just_enough_lesions_put_every_class_everywhere(seed: int):
    labels = load_labels("ham10000")
    photos = tuple(
        Photo(f"{code}{i}", "x", code, f"{code}{i}") for code in labels.codes for i in range(FOLDS + 1)
    )
    manifest = Manifest("small", Path("x"), labels, photos)
    for fold in range(FOLDS):
        split = _split(manifest, seed=seed, test_fold=fold)
        assert all(count > 0 for counts in split.leak.sizes.values() for count in counts.values())


def test_too_few_lesions_are_refused_with_their_number():
    manifest = _generated(0)
    kept = [p for p in manifest.photos if p.label != "df"] + [
        p for p in manifest.photos if p.lesion_id == "df-0"
    ]
    with pytest.raises(DataInvalid, match="no df in .*df 1,") as caught:
        _split(dataclasses.replace(manifest, photos=tuple(kept)))
    assert caught.value.fix


@pytest.mark.parametrize("seed", SEEDS)
def test_one_source_of_several_may_lack_classes(seed: int):
    manifest = _lacking_classes()
    with pytest.raises(DataInvalid, match="no df in train.*vasc 0"):
        _split(manifest, seed=seed)
    tested: Counter[str] = Counter()
    for fold in range(FOLDS):
        split = _split(manifest, seed=seed, test_fold=fold, every_class=False)
        tested.update(i for i, part in split.assignment.items() if part == "test")
        # Two groups for five folds and val: they stay apart, and training has one unless val and test took both.
        parts = {split.assignment["m0"], split.assignment["m1"]}
        assert len(parts) == 2
        assert "train" in parts
        for part in ("train", "val", "test"):
            assert split.leak.sizes[part]["df"] == split.leak.sizes[part]["vasc"] == 0
            assert all(split.leak.sizes[part][code] for code in ("akiec", "bcc", "bkl", "nv"))
        present = {"akiec", "bcc", "bkl", "nv", "mel"}
        assert set(split.leak.random_leak_of_class) == set(split.leak.leaked_of_class) == present
        assert split.leak.text()
    assert tested == Counter(photo.photo_id for photo in manifest.photos)


def test_lenient_about_classes_or_not_gives_one_split(manifest: Manifest):
    assert _split(manifest, every_class=False) == _split(manifest)


def test_no_photo_at_all_is_refused():
    with pytest.raises(DataInvalid, match="no photos to split"):
        _split(dataclasses.replace(_generated(0), photos=()), every_class=False)


def test_a_random_split_leaks_as_much_as_it_says(manifest: Manifest):
    def divide(photos: Manifest, fold: int = 0) -> Split:
        return make_split(
            photos,
            folds=FOLDS,
            test_fold=fold,
            val_share=VAL_SHARE,
            near_duplicate_bits=4,
            seed=0,
            method="random",
        )

    split = divide(manifest)
    assert divide(dataclasses.replace(manifest, photos=manifest.photos[::-1])) == split
    with pytest.raises(SplitLeaks, match="lesions in several splits"):
        check_split(manifest, split.assignment, 4)
    leaked: Counter[str] = Counter()
    for photo in manifest.photos:
        siblings = [p for p in manifest.photos if p.lesion_id == photo.lesion_id]
        if split.assignment[photo.photo_id] == "test":
            leaked[photo.label] += any(split.assignment[p.photo_id] == "train" for p in siblings)
    assert split.leak.method == "random"
    assert split.leak.leaked == leaked.total() > 20
    assert split.leak.leaked_of_class == {code: leaked[code] for code in manifest.labels.codes}
    assert f"this split: {leaked.total()} of " in split.leak.text()
    # Class by class, each part has its share to within a photo or two.
    totals = Counter(photo.label for photo in manifest.photos)
    for code in manifest.labels.codes:
        assert split.leak.sizes["test"][code] == pytest.approx(totals[code] / FOLDS, abs=1)
        assert split.leak.sizes["val"][code] == pytest.approx(totals[code] * VAL_SHARE, abs=2)
    tests = [
        {i for i, part in divide(manifest, k).assignment.items() if part == "test"} for k in range(FOLDS)
    ]
    assert sum(map(len, tests)) == len(set.union(*tests)) == len(manifest.photos)
    # The groups are the grouped split's, for intervals by lesion.
    assert split.group_of == _split(manifest).group_of


def test_a_grouped_split_says_that_it_leaks_nothing(manifest: Manifest):
    leak = _split(manifest).leak
    assert leak.method == "grouped"
    assert leak.leaked == 0
    assert set(leak.leaked_of_class.values()) == {0}
    assert "this split: none" in leak.text()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"folds": 1}, "folds is 1"),
        ({"test_fold": FOLDS}, "test_fold is 5, not 0 to 4"),
        ({"test_fold": -1}, "test_fold is -1"),
        ({"val_share": 0.8}, "val_share is 0.8"),
        ({"val_share": -0.1}, "val_share is -0.1"),
    ],
)
def test_numbers_out_of_range_are_named(changes: dict[str, float], problem: str):
    with pytest.raises(ConfigInvalid, match=problem):
        _split(_generated(0), **changes)
