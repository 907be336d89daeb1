"""Fine against coarse on generated features: classes, folds, and a claim that is true by construction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import DataInvalid
from train import hierarchy
from train.features import Features, read_features, write_features
from train.taxonomy import load_taxonomy
from train.training_classes import TrainingClass

CODES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
WIDTH = 12
FOLDS = 3
PHOTOS = 24
# So small that no training class holds two of the nine nodes.
MOST_PHOTOS = (40, 10)


@pytest.fixture(scope="module")
def features() -> Features:
    """24 photos of 12 lesions of each label, around a centre of its own."""
    rng = np.random.default_rng(0)
    labels = np.repeat(CODES, PHOTOS)
    centres = dict(zip(CODES, 2 * rng.normal(size=(len(CODES), WIDTH)), strict=True))
    values = np.array([centres[label] for label in labels]) + rng.normal(size=(len(labels), WIDTH))
    about = {"network": "net", "weights": "imagenet", "size_px": 32, "photos": "generated"}
    ids = tuple(f"P{i:03d}" for i in range(len(labels)))
    groups = tuple(f"L{i // 2:03d}" for i in range(len(labels)))
    return Features(ids, tuple(labels.tolist()), groups, values.astype(np.float32), about)


def test_features_come_back(features: Features, tmp_path: Path) -> None:
    write_features(tmp_path / "f.npz", features)
    again = read_features(tmp_path / "f.npz")
    assert (again.photo_ids, again.labels, again.groups) == (
        features.photo_ids,
        features.labels,
        features.groups,
    )
    assert again.about == features.about
    # float16 keeps three digits.
    assert again.values == pytest.approx(features.values, abs=0.01)


@pytest.mark.parametrize("content", [b"", b"not an archive"])
def test_what_holds_no_features(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f.npz"
    path.write_bytes(content)
    with pytest.raises(DataInvalid, match=r"python -m train\.features"):
        read_features(path)


def test_folds_keep_groups_whole(features: Features) -> None:
    numbers = hierarchy.fold_numbers(features, "ham10000", FOLDS, 0)
    assert set(numbers.tolist()) == set(range(FOLDS))
    fold_of: dict[str, set[int]] = {}
    for group, number in zip(features.groups, numbers.tolist(), strict=True):
        fold_of.setdefault(group, set()).add(number)
    assert all(len(folds) == 1 for folds in fold_of.values())
    for code in CODES:
        assert {n for n, label in zip(numbers.tolist(), features.labels, strict=True) if label == code} == {
            0,
            1,
            2,
        }


def test_parts_of_a_disease_are_equal_and_of_one_look() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate(
        [rng.normal(size=(20, 4)) + 9, rng.normal(size=(20, 4)) - 9, rng.normal(size=(7, 4))]
    )
    nodes = ["a"] * 40 + ["b"] * 7
    classes = [TrainingClass("b", ("b",), 7), *(TrainingClass("a", ("a",), 20, part, 2) for part in range(2))]
    learnt = hierarchy.assign_classes(classes, nodes, values)
    assert np.bincount(learnt).tolist() == [7, 20, 20]
    assert len(set(learnt[:20].tolist())) == len(set(learnt[20:40].tolist())) == 1
    with pytest.raises(DataInvalid, match="belongs to no training class"):
        hierarchy.assign_classes(classes[:1], nodes, values)


def test_the_study_and_its_command(
    features: Features, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_features(tmp_path / "f.npz", features)
    command = [str(tmp_path / "f.npz"), "--out", str(tmp_path / "h.json"), "--folds", str(FOLDS)]
    assert hierarchy.main(command) == 2
    assert "benign_epidermal is finer than the training classes" in capsys.readouterr().err
    command += ["--most-photos", *map(str, MOST_PHOTOS)]
    assert hierarchy.main(command) == 0
    assert "nine-way, linear, direct: balanced accuracy" in capsys.readouterr().out
    found = json.loads((tmp_path / "h.json").read_text(encoding="utf-8"))
    assert found["photos"] == len(CODES) * PHOTOS
    three, nine = found["levels"]["three-way"], found["levels"]["nine-way"]
    assert list(three["nodes"]) == ["benign", "malignant"]
    assert three["absent"] == ["non_neoplastic"]
    assert len(nine["nodes"]) == 5
    linear = three["heads"]["linear"]
    assert linear["direct"]["classes_by_fold"] == [2] * FOLDS
    assert linear["labels"]["classes_by_fold"] == [7] * FOLDS
    assert np.sum(linear["labels"]["confusion"]) == found["photos"]
    assert len(linear["labels"]["balanced_accuracy_by_fold"]) == FOLDS
    # Seven clouds in two classes: a line cannot divide them, the sum of seven can.
    assert linear["labels"]["less_direct"][1] > 0
    again = hierarchy.study(
        read_features(tmp_path / "f.npz"), load_taxonomy("nature2017"), "ham10000", folds=FOLDS,
        most_photos=MOST_PHOTOS,
    )  # fmt: skip
    assert json.loads(json.dumps(again)) == found


def test_the_command_on_no_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hierarchy.main([str(tmp_path / "gone.npz"), "--out", str(tmp_path / "h.json")]) == 2
    assert "no features" in capsys.readouterr().err
