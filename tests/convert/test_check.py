from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convert import check
from convert.recipes import RECIPES, Limits
from convert.run_directory import Photo
from edge_runtime.errors import ConversionRefused

LIMITS = Limits(
    min_agreement=0.9,
    max_mean_score_difference=0.1,
    max_score_difference=0.5,
    max_balanced_accuracy_loss=0.02,
)
GOOD = check.Comparison(200, 0.95, 0.05, 0.3, 0.80, 0.79)


def _photos(**counts: int) -> list[Photo]:
    return [
        Photo(f"{split}{i}", Path("x"), 0, "", split, "", "", "")
        for split, n in counts.items()
        for i in range(n)
    ]


def test_gate_never_sees_the_test_split() -> None:
    chosen = check.choose_check_photos(_photos(train=100, test=500, val=30), 200)
    assert len(chosen) == 130
    assert {photo.split for photo in chosen} == {"train", "val"}


def test_gate_takes_all_of_val_and_fills_up_from_train() -> None:
    chosen = check.choose_check_photos(_photos(train=1000, val=150), 200)
    assert [photo.split for photo in chosen] == ["val"] * 150 + ["train"] * 50
    assert len(set(chosen)) == 200
    assert len(check.choose_check_photos(_photos(train=10, val=800), 200)) == 800


def test_within_limits() -> None:
    assert check.problems_beyond(GOOD, LIMITS) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"agreement": 0.89}, "top-1 agreement"),
        ({"mean_score_difference": 0.11}, "mean score difference"),
        ({"max_score_difference": 0.51}, "largest score difference"),
        ({"converted_balanced_accuracy": 0.77}, "balanced accuracy loss"),
        ({"agreement": float("nan")}, "top-1 agreement"),
        ({"mean_score_difference": float("nan")}, "mean score difference"),
    ],
)
def test_each_limit_refuses(changed: dict[str, float], words: str) -> None:
    broken = check.Comparison(**{**vars(GOOD), **changed})
    problems = check.problems_beyond(broken, LIMITS)
    assert len(problems) == 1 and words in problems[0]


def test_refusal_names_every_problem() -> None:
    bad = check.Comparison(200, 0.5, 0.9, 1.0, 0.9, 0.3)
    with pytest.raises(ConversionRefused) as caught:
        check.require_within(bad, RECIPES["int8_ptq"])
    assert caught.value.message.count(";") >= 4
    assert "nothing was written" in caught.value.message


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
    report = check.paired_report(labels, ["a", "b", "c", "d"], keras, converted, ("x", "y"))
    assert (report["answers_changed"], report["right_to_wrong"], report["wrong_to_right"]) == (2, 1, 1)
    assert report["keras"]["balanced_accuracy"] == 0.5 and report["converted"]["balanced_accuracy"] == 0.5
    assert report["converted"]["recall"] == {"x": 1.0, "y": 0.0}
    assert report["max_score_difference"] == pytest.approx(0.5)
    low, high = report["balanced_accuracy_loss_interval"]
    assert low <= report["balanced_accuracy_loss"] == 0.0 <= high


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
    assert report["site"]["unknown"]["photos"] == 2
