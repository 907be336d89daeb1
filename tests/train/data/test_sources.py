"""Two data sets in one run: each split on its own, joined without a mix-up, and passed through the gate again."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigInvalid, DataInvalid, SplitLeaks
from tests.train.conftest import FURTHER_CODES, PHANTOM_PHOTOS
from train.artifacts.manifest import Manifest, write_manifest
from train.configs.schema import DataConfig, MergedLabel, SourceConfig, SplitConfig, StageConfig, TrainConfig
from train.data.sources import (
    NO_TEST,
    DataSet,
    find_data,
    merged_labels,
    read_sources,
    reread,
    split_sources,
)
from train.data.split import require_unseen

FURTHER = SourceConfig(reader="csv", folder="further", draw=2.0)
FURTHER_PHOTOS = 50
ONE = TrainConfig(
    name="sources",
    data=DataConfig(reader="ham10000", folder="phantom", labels="ham10000"),
    stage=(StageConfig("all", "all", epochs=1, size_px=32, learning_rate=1e-3),),
    seed=5,
    split=SplitConfig(folds=4, val_share=0.2),
)
TWO = dataclasses.replace(ONE, source=(FURTHER,))


@pytest.fixture(scope="module")
def alone(phantom: Path) -> list[Manifest]:
    return read_sources(ONE, phantom)


@pytest.fixture(scope="module")
def both(phantom: Path) -> list[Manifest]:
    return read_sources(TWO, phantom)


@pytest.fixture
def joined(both: list[Manifest]) -> DataSet:
    return split_sources(TWO, both)


def of(data: DataSet, source: str) -> dict[str, str]:
    return {i: part for i, part in data.assignment.items() if data.source_of[i] == source}


# -------------------------------------------------------------------- joined


def test_the_photos_of_both_are_found_below_one_root(both: list[Manifest], phantom: Path) -> None:
    assert [manifest.name for manifest in both] == ["phantom", "further"]
    assert [len(manifest.photos) for manifest in both] == [PHANTOM_PHOTOS, FURTHER_PHOTOS]
    for manifest in both:
        assert manifest.root == phantom.parent
        assert all(photo.path.startswith(f"{manifest.name}/") for photo in manifest.photos)
        assert all((manifest.root / photo.path).is_file() for photo in manifest.photos)


def test_a_single_data_set_keeps_its_own_root(alone: list[Manifest], phantom: Path) -> None:
    (manifest,) = alone
    assert manifest.root == phantom
    assert all(photo.path.startswith("HAM10000_images_part_") for photo in manifest.photos)


def test_the_first_ones_folds_do_not_depend_on_the_second(
    alone: list[Manifest], both: list[Manifest]
) -> None:
    for fold in range(ONE.split.folds):
        one, two = (
            dataclasses.replace(c, split=dataclasses.replace(c.split, test_fold=fold)) for c in (ONE, TWO)
        )
        without, data = split_sources(one, alone), split_sources(two, both)
        assert of(data, "phantom") == without.assignment
        assert {i: data.group_of[i] for i in without.group_of} == without.group_of


def test_a_seed_of_the_folds_keeps_them_for_trainings_of_other_seeds(alone: list[Manifest]) -> None:
    def parts(seed: int, of_folds: int) -> dict[str, str]:
        split = dataclasses.replace(ONE.split, seed=of_folds)
        return split_sources(dataclasses.replace(ONE, seed=seed, split=split), alone).assignment

    assert parts(5, 0) == parts(6, 5) == parts(7, 5)
    assert parts(6, 0) != parts(5, 0)


def test_every_photo_has_a_part_a_group_and_a_source(joined: DataSet) -> None:
    ids = {photo.photo_id for photo in joined.manifest.photos}
    assert len(ids) == PHANTOM_PHOTOS + FURTHER_PHOTOS
    assert ids == joined.assignment.keys() == joined.group_of.keys() == joined.source_of.keys()
    assert joined.manifest.name == "phantom+further"
    assert set(joined.leaks) == {"phantom", "further"}
    assert sum(len(joined.ids(part)) for part in ("train", "val", "test")) == len(ids)
    for source in ("phantom", "further"):
        assert set(of(joined, source).values()) == {"train", "val", "test"}
    parts_of: dict[str, set[str]] = {}
    for photo_id, group in joined.group_of.items():
        parts_of.setdefault(group, set()).add(joined.assignment[photo_id])
    assert all(len(parts) == 1 for parts in parts_of.values())


def test_the_second_may_lack_classes_the_first_may_not(phantom: Path, joined: DataSet) -> None:
    labels = {
        photo.label for photo in joined.manifest.photos if joined.source_of[photo.photo_id] == "further"
    }
    assert labels == set(FURTHER_CODES)
    assert len(labels) == len(joined.manifest.labels.codes) - 2
    swapped = dataclasses.replace(
        ONE,
        data=DataConfig(reader="csv", folder="further", labels="ham10000"),
        source=(SourceConfig("ham10000", "phantom"),),
    )
    with pytest.raises(DataInvalid, match="class without photos"):
        read_sources(swapped, phantom.with_name("further"))


def test_a_photo_id_in_both_is_refused(phantom: Path, tmp_path: Path) -> None:
    for name in ("phantom", "further"):
        shutil.copytree(phantom.with_name(name), tmp_path / name)
    table = tmp_path / "further" / "manifest.csv"
    table.write_text(table.read_text().replace("FURTHER_00_0", "PHANTOM_00007"))
    with pytest.raises(DataInvalid, match="PHANTOM_00007"):
        read_sources(TWO, tmp_path / "phantom")


def test_a_missing_second_folder_is_named(phantom: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom, tmp_path / "phantom")
    with pytest.raises(DataInvalid, match="further"):
        read_sources(TWO, tmp_path / "phantom")


def test_a_missing_first_folder_says_how_to_give_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DERMEDGE_DATA", str(tmp_path))
    with pytest.raises(DataInvalid, match="--data"):
        find_data(ONE, None)
    (tmp_path / "phantom").mkdir()
    assert find_data(ONE, None) == tmp_path / "phantom"


def test_the_first_of_several_must_bear_its_name(phantom: Path, tmp_path: Path) -> None:
    (tmp_path / "renamed").mkdir()
    assert find_data(ONE, tmp_path / "renamed") == tmp_path / "renamed"
    with pytest.raises(DataInvalid, match="another name"):
        find_data(TWO, tmp_path / "renamed")
    # A link bears the name that its target lacks.
    (tmp_path / "phantom").symlink_to(tmp_path / "renamed")
    assert find_data(TWO, tmp_path / "phantom").name == "phantom"


def test_one_file_in_two_data_sets_stands_in_one_part(phantom: Path, tmp_path: Path) -> None:
    for name in ("phantom", "further"):
        shutil.copytree(phantom.with_name(name), tmp_path / name)
    manifests = read_sources(TWO, tmp_path / "phantom")
    divided = split_sources(TWO, manifests)
    test = next(p for p in manifests[0].photos if divided.assignment[p.photo_id] == "test")
    train = next(p for p in manifests[1].photos if divided.assignment[p.photo_id] == "train")
    shutil.copy(tmp_path / test.path, tmp_path / train.path)
    with pytest.raises(SplitLeaks, match="two datasets"):
        split_sources(TWO, read_sources(TWO, tmp_path / "phantom"))


# -------------------------------------------------------------------- read back


def test_an_interrupted_run_reads_back_what_it_wrote(joined: DataSet, phantom: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "manifest.csv", joined.manifest, joined.assignment, joined.group_of)
    again = reread(TWO, tmp_path / "manifest.csv", phantom)
    assert again.manifest == joined.manifest
    assert again.assignment == joined.assignment
    assert again.group_of == joined.group_of
    assert again.source_of == joined.source_of


@pytest.mark.parametrize("source", ["phantom", "further"])
def test_a_moved_lesion_is_refused_in_either(
    joined: DataSet, phantom: Path, tmp_path: Path, source: str
) -> None:
    lesions = Counter(photo.lesion_id for photo in joined.manifest.photos)
    moved = next(
        photo
        for photo in joined.manifest.photos
        if lesions[photo.lesion_id] > 1
        and joined.source_of[photo.photo_id] == source
        and joined.assignment[photo.photo_id] == "train"
    )
    assignment = {**joined.assignment, moved.photo_id: "test"}
    write_manifest(tmp_path / "manifest.csv", joined.manifest, assignment, joined.group_of)
    with pytest.raises(SplitLeaks, match=moved.lesion_id):
        reread(TWO, tmp_path / "manifest.csv", phantom)


# -------------------------------------------------------------------- without a test part


def test_without_a_test_fold_no_photo_is_held_out_for_the_end(both: list[Manifest]) -> None:
    config = dataclasses.replace(TWO, split=dataclasses.replace(TWO.split, test_fold=NO_TEST))
    data = split_sources(config, both)
    assert set(data.assignment.values()) == {"train", "val"}
    assert data.ids("test") == []
    for source, photos in (("phantom", PHANTOM_PHOTOS), ("further", FURTHER_PHOTOS)):
        val = sum(part == "val" for part in of(data, source).values())
        assert val / photos == pytest.approx(config.split.val_share, abs=0.08)
    groups = {part: {data.group_of[i] for i in data.ids(part)} for part in ("train", "val")}
    assert not groups["train"] & groups["val"]
    labels = {photo.photo_id: photo.label for photo in data.manifest.photos}
    for part in ("train", "val"):
        assert {labels[i] for i in data.ids(part)} == set(data.manifest.labels.codes)


@pytest.mark.parametrize("common_val", [False, True])
def test_a_random_split_without_a_test_split_has_a_report(both: list[Manifest], common_val: bool) -> None:
    split = dataclasses.replace(TWO.split, test_fold=NO_TEST, method="random", common_val=common_val)
    found = split_sources(dataclasses.replace(TWO, split=split), both)
    assert set(found.assignment.values()) == {"train", "val"}
    assert all(leak.leaked == 0 and "this split: none" in leak.text() for leak in found.leaks.values())


def test_a_common_val_is_learnt_from_by_no_fold_and_not_by_the_model_to_ship(both: list[Manifest]) -> None:
    def parts(test_fold: int) -> dict[str, str]:
        # A larger share, so that every class still stands in val when a fold's photos are taken from it.
        split = dataclasses.replace(TWO.split, test_fold=test_fold, val_share=0.4, common_val=True)
        return split_sources(dataclasses.replace(TWO, split=split), both).assignment

    shipped = parts(NO_TEST)
    val = {i for i, part in shipped.items() if part == "val"}
    assert set(shipped.values()) == {"train", "val"}
    assert len(val) > 10
    for fold in range(TWO.split.folds):
        of_fold = parts(fold)
        assert {i for i, part in of_fold.items() if part == "val"} == {i for i in val if of_fold[i] != "test"}
        assert not {i for i, part in of_fold.items() if part == "train"} & val
    assert not {i for i, part in parts(0).items() if part == "test"} & val


@pytest.mark.parametrize("part", ["val", "test"])
def test_weights_that_have_learnt_what_is_held_out_are_refused(part: str) -> None:
    """Validation photos choose temperature and thresholds: a network that has learnt them is refused as well."""
    here = {"a": "train", "b": part, "c": part}
    unseen = [{"photo_id": "a", "split": "train"}, {"photo_id": "b", "split": "val"}]
    unseen += [{"photo_id": "c", "split": "test"}, {"photo_id": "elsewhere", "split": "train"}]
    require_unseen(Path("other"), unseen, here)
    seen = [{**row, "split": "train"} for row in unseen]
    with pytest.raises(SplitLeaks, match="^other: ") as caught:
        require_unseen(Path("other"), seen, here)
    assert caught.value.found == "2, such as b"


# -------------------------------------------------------------------- merged labels


def merging(*merged: MergedLabel) -> TrainConfig:
    return dataclasses.replace(TWO, merge=merged)


def test_a_merged_label_stands_where_its_first_one_stood() -> None:
    config = merging(MergedLabel("benign2", "Keratosis or fibroma", ("df", "bkl")))
    labels = merged_labels(config)
    assert labels.codes == ("akiec", "bcc", "benign2", "mel", "nv", "vasc")
    merged = labels.labels[2]
    assert (merged.name, merged.group) == ("Keratosis or fibroma", "benign")
    # A merged label may keep the code of one of its own.
    assert merged_labels(merging(MergedLabel("nv", "Nevus", ("df", "nv")))).codes[3] == "nv"
    assert merged_labels(TWO).codes == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


def test_photos_carry_the_merged_label_in_both(phantom: Path, both: list[Manifest]) -> None:
    manifests = read_sources(merging(MergedLabel("keratinous", "Keratinous", ("akiec", "bcc"))), phantom)
    for manifest, plain in zip(manifests, both, strict=True):
        assert manifest.labels.codes == ("keratinous", "bkl", "df", "mel", "nv", "vasc")
        pairs = Counter(
            (before.label, after.label) for before, after in zip(plain.photos, manifest.photos, strict=True)
        )
        assert {(a, b) for a, b in pairs if a != b} == {("akiec", "keratinous"), ("bcc", "keratinous")}


@pytest.mark.parametrize(
    ("merged", "said"),
    [
        ([("a", ("bkl", "naevus"))], "naevus is unknown"),
        ([("a", ("bkl", "df")), ("b", ("df", "nv"))], "df is merged twice"),
        ([("a", ("mel", "nv"))], "a merges labels of the groups benign, malignant"),
        ([("nv", ("bkl", "df"))], "nv would name two labels"),
        ([("a", ("bkl", "df")), ("a", ("nv", "vasc"))], "a would name two labels"),
        ([("a", ("bkl",))], "a merges fewer than two labels"),
        ([("a", ())], "a merges fewer than two labels"),
    ],
)
def test_mergers_that_do_not_fit_are_refused(merged: list[tuple[str, tuple[str, ...]]], said: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        merged_labels(merging(*(MergedLabel(code, code, labels) for code, labels in merged)))
    assert said in caught.value.message
