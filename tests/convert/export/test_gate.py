from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from convert.export import gate as check
from convert.inputs import Photo
from convert.recipes import RECIPES, Limits
from edge_runtime.errors import ConversionRefused
from train.evaluation.intervals import balanced_accuracy_estimate, recalls
from train.evaluation.metrics import (
    balanced_accuracy,
    expected_calibration_error,
    paired_difference_interval,
)

LIMITS = Limits(
    min_agreement=0.9,
    max_mean_score_difference=0.1,
    max_score_difference=0.5,
    max_balanced_accuracy_loss=0.02,
)


def _figures(agreement: float, mean: float, largest: float, loss: float) -> dict[str, float]:
    return {
        "photos": 200,
        "agreement": agreement,
        "mean_score_difference": mean,
        "max_score_difference": largest,
        "balanced_accuracy_loss": loss,
    }


GOOD = _figures(0.95, 0.05, 0.3, 0.01)


def _photos(**counts: int) -> list[Photo]:
    return [
        Photo(f"{split}{i}", Path("x"), 0, "", split, "", "", "")
        for split, n in counts.items()
        for i in range(n)
    ]


def _labelled(labels: npt.NDArray[np.int64], groups: Sequence[str]) -> list[Photo]:
    return [
        Photo(f"p{i}", Path("x"), int(label), group, "test", "", "", "")
        for i, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]


def test_the_test_split_is_never_used() -> None:
    chosen = check.choose_check_photos(_photos(train=100, test=500, val=30), 200)
    assert len(chosen) == 130
    assert {photo.split for photo in chosen} == {"train", "val"}


def test_all_of_val_is_used_and_train_fills_up() -> None:
    chosen = check.choose_check_photos(_photos(train=1000, val=150), 200)
    assert [photo.split for photo in chosen] == ["val"] * 150 + ["train"] * 50
    assert len(set(chosen)) == 200
    # Of the train split from end to end: its first rows may all be of one class.
    assert [photo.photo_id for photo in chosen[150:]] == [f"train{i}" for i in range(0, 1000, 20)]
    assert len(check.choose_check_photos(_photos(train=10, val=800), 200)) == 800


def test_scores_are_compared_photo_by_photo() -> None:
    labels = np.array([0, 0, 1, 1])
    keras = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]])
    converted = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.6, 0.3], [0.5, 0.4, 0.1]])
    found = check.compare(labels, keras, converted)
    assert (found["photos"], found["agreement"]) == (4, 0.75)
    # The largest change of each photo is 0.1, 0, 0.2, 0.3.
    assert found["mean_score_difference"] == pytest.approx(0.15)
    assert found["max_score_difference"] == pytest.approx(0.3)
    assert (found["keras_balanced_accuracy"], found["converted_balanced_accuracy"]) == (1, 0.75)
    assert found["balanced_accuracy_loss"] == 0.25
    assert check.compare(labels, converted, keras)["balanced_accuracy_loss"] == -0.25


def test_within_limits() -> None:
    assert check.problems_beyond(GOOD, LIMITS) == []
    # What stands at its limit is within.
    at = _figures(0.9, 0.1, 0.5, 0.25)
    limits = Limits(0.9, 0.1, 0.5, 0.25)
    assert check.problems_beyond(at, limits) == []
    better = _figures(0.9, 0.1, 0.5, -0.25)
    assert check.problems_beyond(better, limits) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"agreement": 0.89}, "top-1 agreement"),
        ({"mean_score_difference": 0.11}, "mean score difference"),
        ({"max_score_difference": 0.51}, "largest score difference"),
        ({"balanced_accuracy_loss": 0.03}, "balanced accuracy loss"),
        ({"agreement": float("nan")}, "top-1 agreement"),
        ({"mean_score_difference": float("nan")}, "mean score difference"),
    ],
)
def test_each_limit_refuses(changed: dict[str, float], words: str) -> None:
    broken = GOOD | changed
    problems = check.problems_beyond(broken, LIMITS)
    assert len(problems) == 1 and words in problems[0]
    with pytest.raises(ConversionRefused) as caught:
        check.require_within(broken, replace(RECIPES["int8_ptq"], limits=LIMITS))
    assert words in caught.value.found


def test_refusal_names_every_problem() -> None:
    bad = _figures(0.5, 0.9, 1.0, 0.6)
    with pytest.raises(ConversionRefused) as caught:
        check.require_within(bad, RECIPES["int8_ptq"])
    assert caught.value.found.count(";") == 3


def test_limits_are_tighter_the_less_is_rounded() -> None:
    float32, ptq, qat = (RECIPES[name].limits for name in ("float32", "int8_ptq", "int8_qat"))
    assert float32.min_agreement > qat.min_agreement > ptq.min_agreement
    assert float32.max_mean_score_difference < qat.max_mean_score_difference < ptq.max_mean_score_difference
    assert (
        float32.max_balanced_accuracy_loss < qat.max_balanced_accuracy_loss < ptq.max_balanced_accuracy_loss
    )


def test_paired_report_counts_flips() -> None:
    labels = np.array([0, 0, 1, 1])
    keras = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4]])
    converted = np.array([[0.8, 0.2], [0.6, 0.4], [0.7, 0.3], [0.6, 0.4]])
    report = check.paired_report(_labelled(labels, "abcd"), keras, converted, ("x", "y"))
    assert (report["answers_changed"], report["right_to_wrong"], report["wrong_to_right"]) == (2, 1, 1)
    assert report["keras"]["balanced_accuracy"] == 0.5 and report["converted"]["balanced_accuracy"] == 0.5
    assert report["converted"]["recall"] == {"x": 1.0, "y": 0.0}
    assert report["max_score_difference"] == pytest.approx(0.5)
    low, high = report["balanced_accuracy_loss_interval"]
    assert low <= report["balanced_accuracy_loss"] == 0.0 <= high


def test_figures_of_the_pair_are_each_models_own_and_their_intervals_are_of_lesions() -> None:
    rng = np.random.default_rng(7)
    groups = [f"lesion{i // 3}" for i in range(120)]
    # Photos of a lesion are alike, for both models: intervals by photo would be far too narrow.
    labels = np.repeat(rng.integers(0, 3, 40), 3)
    keras = np.repeat(rng.dirichlet(np.ones(3), 40), 3, axis=0)
    converted = np.repeat(rng.dirichlet(np.ones(3) / 2, 40), 3, axis=0)
    report = check.paired_report(_labelled(labels, groups), keras, converted, ("x", "y", "z"))
    assert (report["photos"], report["lesions"]) == (120, 40)
    answers = {"keras": keras.argmax(axis=1), "converted": converted.argmax(axis=1)}
    difference = paired_difference_interval(labels, answers["keras"], answers["converted"], 3, groups)
    assert report["balanced_accuracy_loss"] == pytest.approx(-difference.value) != 0
    expected = (-difference.high, -difference.low)
    assert report["balanced_accuracy_loss_interval"] == pytest.approx(expected)
    for name, scores in (("keras", keras), ("converted", converted)):
        own = report[name]
        estimate = balanced_accuracy_estimate(recalls(labels, answers[name], 3, groups))
        assert own["balanced_accuracy_interval"] == list(estimate or ())[1:]
        assert own["balanced_accuracy"] == balanced_accuracy(labels, answers[name], 3)
        assert own["accuracy"] == (answers[name] == labels).mean()
        assert own["expected_calibration_error"] == expected_calibration_error(labels, scores)


def test_subgroups() -> None:
    photos = [
        Photo("a", Path("x"), 0, "", "test", "male", "35", "back"),
        Photo("b", Path("x"), 1, "", "test", "male", "80.0", ""),
        Photo("c", Path("x"), 1, "", "test", "", "-5", ""),
    ]
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]])
    report = check.subgroup_report(photos, scores, scores)
    assert set(report) == {"sex", "age", "site"}
    assert report["sex"]["male"] == {
        "photos": 2,
        "classes": 2,
        "agreement": 1.0,
        "keras_balanced_accuracy": 0.5,
        "converted_balanced_accuracy": 0.5,
    }
    assert set(report["age"]) == {"20-39", "80 and over", "unknown"}
    other = check.subgroup_report(photos, scores, scores[:, ::-1])["sex"]
    assert (other["male"]["agreement"], other["male"]["converted_balanced_accuracy"]) == (0.0, 0.5)
    assert other["unknown"]["keras_balanced_accuracy"] == 1
    assert other["unknown"]["converted_balanced_accuracy"] == 0
    assert report["site"]["unknown"]["photos"] == 2
