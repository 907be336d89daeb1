"""Intervals of recall and balanced accuracy where lesions are few: never degenerate, and they cover."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.interval_coverage import coverage
from train.evaluation.intervals import (
    auc_estimate,
    balanced_accuracy_estimate,
    indistinct,
    recalls,
    share_of,
)
from train.evaluation.metrics import FEW_LESIONS, GroupDraws

SAMPLES = 120


def test_one_lesion_gives_a_wide_interval() -> None:
    (one, _) = recalls(np.array([0]), np.array([0]), 2, ["a"])
    estimate = one.estimate()
    assert estimate is not None and estimate.value == estimate.high == 1.0
    assert estimate.low < 0.2
    assert one.few and one.lesions == 1 < FEW_LESIONS


def test_a_class_without_photos_has_no_recall_and_does_not_count() -> None:
    of_classes = recalls(np.array([0, 0]), np.array([0, 1]), 2, ["a", "b"])
    assert of_classes[1].estimate() is None
    whole = balanced_accuracy_estimate(of_classes)
    assert whole is not None and whole.value == 0.5
    assert balanced_accuracy_estimate(recalls(np.array([], int), np.array([], int), 2, [])) is None


def test_photos_of_one_lesion_count_less_than_photos_of_many() -> None:
    truth, predicted = np.zeros(40, int), np.array([0] * 20 + [1] * 20)
    alike = recalls(truth, predicted, 2, [f"{i // 4}" for i in range(40)])[0]
    apart = recalls(truth, predicted, 2, [str(i) for i in range(40)])[0]
    assert alike.effective < 15 < 35 < apart.effective <= 40


@pytest.mark.parametrize("lesions", [1, 3, 8, 40])
def test_the_interval_covers_the_true_value(lesions: int) -> None:
    recall, whole, _ = coverage([lesions, 60, 40], [0.8, 0.7, 0.9], SAMPLES, seed=5)
    # 95 % is claimed; of so few samples 0.89 is within three standard errors.
    assert recall >= 0.89
    assert whole >= 0.89


def test_an_auc_of_few_lesions_is_as_uncertain_as_their_number_says() -> None:
    """One positive lesion, found: drawn again and again, its area would be 1 in every draw."""
    positive, groups = np.arange(60) < 2, [f"L{i // 2}" for i in range(60)]
    score = np.linspace(1, 0, 60)
    draws = GroupDraws.draw(groups, positive, repeats=50)
    found = auc_estimate(draws, positive, score)
    assert found is not None
    assert found.value == found.high == 1
    assert found.low < 0.3
    many = auc_estimate(draws, np.arange(60) < 30, np.random.default_rng(0).random(60))
    assert many is not None
    assert many.high - many.low < 0.5
    assert auc_estimate(draws, np.ones(60, bool), score) is None


def test_an_auc_of_one_is_not_certain() -> None:
    """Thirty lesions on each side, separated without an error: each draw is, too."""
    positive, score = np.arange(60) < 30, np.linspace(1, 0, 60)
    draws = GroupDraws.draw([f"L{i}" for i in range(60)], positive, repeats=50)
    for signed, bound in ((score, 1), (-score, 0)):
        found = auc_estimate(draws, positive, signed)
        assert found is not None and found.value == bound
        assert 0.05 < found.high - found.low < 0.2


def test_a_share_without_exceptions_has_an_interval() -> None:
    found = share_of(np.ones(12, bool), [str(i) for i in range(12)]).estimate()
    assert found is not None
    assert found.low < 0.9 < found.high == 1


@pytest.mark.parametrize(
    ("difference", "p", "told"),
    [
        ((0.1, 0.05, 0.2), None, True),
        ((-0.1, -0.2, -0.01), 0.049, True),
        ((0.1, 0.05, 0.2), 0.05, False),
        ((0.1, 0.0, 0.2), 0.001, False),
        ((0.0, 0.0, 0.0), None, False),
    ],
)
def test_what_cannot_be_told_apart_is_said_once(
    difference: tuple[float, float, float], p: float | None, told: bool
) -> None:
    sentence = indistinct("the other", difference, p)
    assert (sentence == "") is told
    assert told or sentence.startswith("cannot be distinguished from the other (")


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_independent_photos_have_wilsons_interval(hits: int, count: int, low: float, high: float) -> None:
    for wrong, bounds in ((False, (low, high)), (True, (1 - high, 1 - low))):
        found = share_of((np.arange(count) < hits) != wrong, [str(i) for i in range(count)]).estimate()
        assert found is not None
        assert (found.low, found.high) == pytest.approx(bounds, abs=5e-5)


def test_few_lesions_have_exact_bounds() -> None:
    """Nine lesions of eleven photos count at most nine times; 7 of 9 as Clopper and Pearson have it."""
    hit = np.arange(9) < 7
    found = share_of(hit, [str(i) for i in range(9)]).estimate()
    assert found is not None
    assert found[1:] == pytest.approx((0.3999, 0.9719), abs=5e-5)
    one = share_of(np.ones(11, bool), [str(max(0, i - 2)) for i in range(11)])
    assert one.few and 6 < one.effective < 9


def test_recalls_of_one_have_a_mean_below_one() -> None:
    """Seven classes without an error: each could hide some."""
    truth = np.repeat(np.arange(7), 30)
    whole = balanced_accuracy_estimate(recalls(truth, truth, 7, [str(i) for i in range(210)]))
    assert whole is not None
    assert 0.9 < whole.low < whole.value == whole.high == 1.0
