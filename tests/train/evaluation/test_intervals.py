"""Intervals of recall and balanced accuracy where lesions are few: never degenerate, and they cover."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.interval_coverage import coverage
from train.evaluation.intervals import FEW_LESIONS, balanced_accuracy_estimate, recalls

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
