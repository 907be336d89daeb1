"""Fine against coarse on generated features: classes, folds, and a claim that is true by construction."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from edge_runtime.errors import DataInvalid
from tests.train.evaluation.plain_bootstrap import bootstrap_interval
from train.evaluation.metrics import balanced_accuracy, paired_difference_interval
from train.experiments import hierarchy
from train.experiments.features import Features, read_features, write_features
from train.taxonomy.partition import TrainingClass
from train.taxonomy.tree import load_taxonomy

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
    with pytest.raises(DataInvalid) as caught:
        read_features(path)
    assert "dermedge experiment features " in caught.value.fix


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
    targets = hierarchy.assign_classes(classes, nodes, values)
    assert np.bincount(targets).tolist() == [7, 20, 20]
    assert len(set(targets[:20].tolist())) == len(set(targets[20:40].tolist())) == 1
    with pytest.raises(DataInvalid) as caught:
        hierarchy.assign_classes(classes[:1], nodes, values)
    assert caught.value.found == "a"


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


class Memory:
    """A head that answers as the nearest photo that it has learnt, and notes what its classes weighed."""

    weighed: ClassVar[list[np.ndarray]] = []

    def fit(self, inputs: np.ndarray, learnt: np.ndarray, sample_weight: np.ndarray) -> None:
        self.inputs, self.learnt = inputs, learnt
        Memory.weighed.append(np.bincount(learnt, weights=sample_weight))

    def predict_proba(self, asked: np.ndarray) -> np.ndarray:
        nearest = ((asked[:, None] - self.inputs[None]) ** 2).sum(axis=2).argmin(axis=1)
        return np.eye(int(self.learnt.max()) + 1)[self.learnt[nearest]]


def test_no_head_has_learnt_a_photo_or_a_lesion_that_it_answers(
    features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features that say which lesion it is and nothing of its label: whoever remembers a twin is always right."""
    rng = np.random.default_rng(3)
    values = np.repeat(rng.normal(size=(len(features.labels) // 2, WIDTH)), 2, axis=0).astype(np.float32)
    monkeypatch.setattr(hierarchy, "HEADS", {"memory": lambda photos, seed: Memory()})
    monkeypatch.setattr(Memory, "weighed", [])
    found = hierarchy.study(
        dataclasses.replace(features, values=values), load_taxonomy("nature2017"), "ham10000", folds=FOLDS,
        most_photos=(),
    )  # fmt: skip
    for level, nodes in (("three-way", 2), ("nine-way", 5)):
        direct = found["levels"][level]["heads"]["memory"]["direct"]
        assert direct["balanced_accuracy"][0] < 1 / nodes + 0.15
    # What is asked for weighs alike, in every fold.
    direct = [weights for weights in Memory.weighed if len(weights) < len(CODES)]
    assert [len(weights) for weights in direct] == [2, 5] * FOLDS
    for weights in direct:
        assert weights == pytest.approx(np.full(len(weights), weights.mean()))


def test_directions_and_their_spread_are_the_training_photos(features: Features) -> None:
    train, test = np.arange(100), np.arange(100, 168)
    learnt, asked = hierarchy._reduced(features.values, train, test, 0)
    other = features.values.copy()
    other[test] *= np.linspace(-20, 20, WIDTH, dtype=np.float32)
    again, moved = hierarchy._reduced(other, train, test, 0)
    np.testing.assert_array_equal(learnt, again)
    assert np.abs(moved - asked).max() > 1


def test_intervals_of_the_study_are_of_lesions(features: Features) -> None:
    rng = np.random.default_rng(5)
    y_true = np.repeat(rng.integers(2, size=84), 2)
    answers = {
        ("three-way", "linear", choice): np.where(np.repeat(rng.random(84) < right, 2), y_true, 1 - y_true)
        for choice, right in ((hierarchy.DIRECT, 0.6), (hierarchy.LABELS, 0.9))
    }
    direct, labels = answers.values()
    fold_of, widths = np.arange(168) // 2 % FOLDS, {f"three-way: {choice}": [2] for _, _, choice in answers}
    found = hierarchy._figures("three-way", answers, widths, y_true, fold_of, features.groups)["linear"]
    assert found["direct"]["less_direct"] is None
    expected = paired_difference_interval(y_true, direct, labels, 2, features.groups)
    assert found["labels"]["less_direct"] == list(expected) and expected.low > 0
    low, high = bootstrap_interval(lambda right: float(right.mean()), features.groups, y_true == labels)
    assert found["labels"]["accuracy"] == pytest.approx([(y_true == labels).mean(), low, high])
    by_fold = [balanced_accuracy(y_true[fold_of == k], labels[fold_of == k], 2) for k in range(FOLDS)]
    assert found["labels"]["balanced_accuracy_by_fold"] == by_fold
    assert found["labels"]["std_over_folds"] == pytest.approx(np.std(by_fold, ddof=1))


def test_the_command_on_no_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hierarchy.main([str(tmp_path / "gone.npz"), "--out", str(tmp_path / "h.json")]) == 2
    assert "gone.npz" in capsys.readouterr().err
