"""Figures against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from train import metrics

TRUTH = np.array([0, 0, 0, 0, 1, 1, 2, 2])
ANSWERS = np.array([0, 0, 0, 1, 1, 2, 2, 2])


def test_recall_precision_and_balanced_accuracy() -> None:
    np.testing.assert_allclose(metrics.recall_per_class(TRUTH, ANSWERS, 3), [0.75, 0.5, 1.0])
    np.testing.assert_allclose(metrics.precision_per_class(TRUTH, ANSWERS, 3), [1.0, 0.5, 2 / 3])
    assert metrics.balanced_accuracy(TRUTH, ANSWERS, 3) == pytest.approx(0.75)


def test_a_class_without_photos_does_not_count() -> None:
    assert np.isnan(metrics.recall_per_class(TRUTH, ANSWERS, 4)[3])
    assert metrics.balanced_accuracy(TRUTH, ANSWERS, 4) == pytest.approx(0.75)


def test_always_the_commonest_answer_scores_one_over_classes() -> None:
    assert metrics.balanced_accuracy(TRUTH, np.zeros(8, int), 3) == pytest.approx(1 / 3)


def test_calibration_error_of_a_known_case() -> None:
    # Ten answers at 0.9 of which six are right: the gap is 0.3.
    probs = np.tile([0.9, 0.1], (10, 1))
    truth = np.array([0] * 6 + [1] * 4)
    assert metrics.expected_calibration_error(truth, probs) == pytest.approx(0.3)


def test_softmax_with_temperature() -> None:
    logits = np.log([[0.8, 0.2]])
    np.testing.assert_allclose(metrics.softmax(logits), [[0.8, 0.2]])
    np.testing.assert_allclose(metrics.softmax(logits, 2.0), [[2 / 3, 1 / 3]])
    assert np.isfinite(metrics.softmax(np.array([[1e4, -1e4]]))).all()


def test_interval_covers_and_grows_when_photos_share_lesions() -> None:
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(60) < 0.7, 5).astype(float)
    alone = metrics.bootstrap_interval(np.mean, [str(i) for i in range(300)], right)
    grouped = metrics.bootstrap_interval(np.mean, [str(i // 5) for i in range(300)], right)
    assert alone[0] < right.mean() < alone[1]
    # Five copies of a lesion carry the information of one: the interval is about sqrt(5) times as wide.
    assert 1.7 < (grouped[1] - grouped[0]) / (alone[1] - alone[0]) < 2.9


def test_interval_is_reproducible() -> None:
    values = np.arange(40.0)
    groups = [str(i) for i in range(40)]
    assert metrics.bootstrap_interval(np.mean, groups, values) == metrics.bootstrap_interval(
        np.mean, groups, values
    )


def test_summary_holds_every_figure() -> None:
    probs = np.eye(3)[ANSWERS] * 0.8 + 0.2 / 3
    groups = [f"lesion{i}" for i in range(8)]
    summary = metrics.summarize(TRUTH, probs, ["a", "b", "c"], groups, [False, True, True], repeats=50)
    assert summary["balanced_accuracy"] == pytest.approx(0.75)
    assert summary["accuracy"] == pytest.approx(6 / 8)
    assert summary["confusion"] == [[3, 1, 0], [0, 1, 1], [0, 0, 2]]
    assert summary["per_class"]["a"] == {"photos": 4, "recall": 0.75, "precision": 1.0, "auc": 0.875}
    assert summary["photos"] == summary["lesions"] == 8
    low, high = summary["balanced_accuracy_interval"]
    assert 0 <= low <= 0.75 <= high <= 1
    assert summary["malignant_auc"] == pytest.approx(0.875)
