"""Figures against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.train.evaluation.plain_bootstrap import bootstrap_interval
from train.evaluation import metrics
from train.evaluation.intervals import auc_estimate, balanced_accuracy_estimate, recalls, share_of
from train.evaluation.summary import summarize

TRUTH = np.array([0, 0, 0, 0, 1, 1, 2, 2])
ANSWERS = np.array([0, 0, 0, 1, 1, 2, 2, 2])


def test_recall_precision_and_balanced_accuracy() -> None:
    np.testing.assert_allclose(metrics.recall_per_class(TRUTH, ANSWERS, 3), [0.75, 0.5, 1.0])
    np.testing.assert_allclose(metrics.recall_per_class(ANSWERS, TRUTH, 3), [1.0, 0.5, 2 / 3])
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


def test_calibration_gaps_cancel_within_a_bin_and_not_between_bins() -> None:
    probs = np.array([[0.7, 0.3], [0.7, 0.3], [0.8, 0.2], [0.8, 0.2]])
    # Quarters: 0.7 lies in the third and is right twice, 0.8 in the fourth and is wrong twice.
    truth = np.array([0, 0, 1, 1])
    assert metrics.expected_calibration_error(truth, probs, bins=4) == pytest.approx((2 * 0.3 + 2 * 0.8) / 4)
    assert metrics.expected_calibration_error(truth, probs, bins=2) == pytest.approx((2 * 0.8 - 2 * 0.3) / 4)
    # A score of 1 belongs to the last bin.
    assert metrics.expected_calibration_error(truth, np.eye(2)[truth]) == 0


def test_softmax_with_temperature() -> None:
    logits = np.log([[0.8, 0.2]])
    np.testing.assert_allclose(metrics.softmax(logits), [[0.8, 0.2]])
    np.testing.assert_allclose(metrics.softmax(logits, 2.0), [[2 / 3, 1 / 3]])
    assert np.isfinite(metrics.softmax(np.array([[1e4, -1e4]]))).all()


def test_interval_covers_and_grows_when_photos_share_lesions() -> None:
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(60) < 0.7, 5).astype(float)
    alone = bootstrap_interval(np.mean, [str(i) for i in range(300)], right)
    grouped = bootstrap_interval(np.mean, [str(i // 5) for i in range(300)], right)
    assert alone[0] < right.mean() < alone[1]
    # Five copies of a lesion carry the information of one: the interval is about sqrt(5) times as wide.
    assert 1.7 < (grouped[1] - grouped[0]) / (alone[1] - alone[0]) < 2.9


def test_interval_is_reproducible() -> None:
    values = np.arange(40.0)
    groups = [str(i) for i in range(40)]
    assert bootstrap_interval(np.mean, groups, values) == bootstrap_interval(np.mean, groups, values)


def test_summary_holds_every_figure() -> None:
    probs = np.eye(3)[ANSWERS] * 0.8 + 0.2 / 3
    groups = [f"lesion{i}" for i in range(8)]
    summary = summarize(TRUTH, probs, ["a", "b", "c"], groups, [False, True, True], repeats=50)
    assert summary["balanced_accuracy"] == pytest.approx(0.75)
    assert summary["accuracy"] == pytest.approx(6 / 8)
    assert summary["confusion"] == [[3, 1, 0], [0, 1, 1], [0, 0, 2]]
    expected = {"photos": 4, "lesions": 4, "recall": 0.75, "precision": 1.0, "auc": 0.875}
    assert summary["per_class"]["a"] == expected
    assert summary["classes_few"] == ["a", "b", "c"]
    assert summary["calibration_bins"] == 15
    assert summary["photos"] == summary["lesions"] == 8
    low, high = summary["balanced_accuracy_interval"]
    assert 0 <= low <= 0.75 <= high <= 1
    assert summary["malignant_auc"] == pytest.approx(0.875)


# ------------------------------------------------------------------ many draws at once


def _scattered(photos: int = 400, classes: int = 4) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels, probabilities that lean towards them, and lesions of one to five photos."""
    rng = np.random.default_rng(5)
    groups = np.sort(rng.integers(photos // 3, size=photos))
    truth = rng.choice(classes, size=photos, p=[0.6, 0.2, 0.15, 0.05])
    # Two decimals: equal scores occur, as those of an int8 model do.
    scores = np.round(metrics.softmax(rng.normal(size=(photos, classes)) + 1.5 * np.eye(classes)[truth]), 2)
    return truth, scores / scores.sum(axis=1, keepdims=True), [f"lesion{i}" for i in groups]


def test_draws_give_the_intervals_of_the_plain_bootstrap() -> None:
    truth, probs, groups = _scattered()
    answers = probs.argmax(axis=1)
    draws = metrics.GroupDraws.draw(groups, repeats=200, seed=3)
    positive, score = truth == 1, probs[:, 1]
    assert len(np.unique(score)) < len(score) / 2
    figures = (
        (draws.balanced_accuracy(truth, answers, 4), _balanced, (truth, answers)),
        (draws.recall(truth, answers, 4)[:, 3], _rarest_recall, (truth, answers)),
        (draws.mean(truth == answers), np.mean, (truth == answers,)),
        (draws.calibration_error(truth, probs), metrics.expected_calibration_error, (truth, probs)),
        (draws.auc(positive, score), metrics.area_under_roc, (positive, score)),
    )
    for of_draws, statistic, arrays in figures:
        plain = bootstrap_interval(statistic, groups, *arrays, repeats=200, seed=3)
        np.testing.assert_allclose(metrics.percentile_interval(of_draws), plain, rtol=1e-9)
        assert plain[0] < plain[1]


def _balanced(truth: np.ndarray, answers: np.ndarray) -> float:
    return metrics.balanced_accuracy(truth, answers, 4)


def _rarest_recall(truth: np.ndarray, answers: np.ndarray) -> float:
    return float(metrics.recall_per_class(truth, answers, 4)[3])


def test_a_draw_without_one_side_has_no_auc() -> None:
    draws = metrics.GroupDraws.draw(["a", "b"], repeats=50)
    found = draws.auc(np.array([True, False]), np.array([0.9, 0.1]))
    one_sided = (draws.counts == 0).any(axis=1)
    assert 0 < one_sided.sum() < 50
    assert np.isnan(found[one_sided]).all()
    assert (found[~one_sided] == 1).all()


def test_a_draw_that_lacks_a_class_has_no_balanced_accuracy_and_no_interval() -> None:
    """It was the mean over the other classes, in silence, in half of the draws of the 193 photos."""
    truth, answers = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    draws = metrics.GroupDraws.draw(["a", "b", "c", "d"], repeats=60)
    found = draws.balanced_accuracy(truth, answers, 3)
    lacking = (draws.counts[:, 3] == 0) | (draws.counts[:, :3].sum(axis=1) == 0)
    assert 5 < lacking.sum() < 55
    assert (np.isnan(found) == lacking).all()
    assert np.isnan(metrics.percentile_interval(found)).all()


def test_draws_within_classes_keep_every_class() -> None:
    truth, probs, groups = _scattered()
    truth[:2], groups[:2] = 3, ["alone", "alone"]
    draws = metrics.GroupDraws.draw(groups, truth, repeats=200, seed=1)
    assert (draws.counts.sum(axis=1) == len(set(groups))).all()
    totals = draws.sums(np.eye(5)[np.append(truth[1:], 4)])
    assert (totals[:, :4] > 0).all()
    assert np.isfinite(draws.balanced_accuracy(truth, probs.argmax(axis=1), 4)).all()
    # A draw is of as many groups of each kind as there are.
    kinds = {group: frozenset(truth[np.array(groups) == group].tolist()) for group in groups}
    of_kind = np.array([kinds[name] == {0} for name in np.unique(groups)])
    assert (draws.counts[:, of_kind].sum(axis=1) == of_kind.sum()).all()
    assert draws.counts.std(axis=0).max() > 0.5


def test_paired_differences_are_sharper_than_two_intervals() -> None:
    truth, probs, groups = _scattered()
    first = probs.argmax(axis=1)
    # The second model repeats the first but for every fifth photo, which it answers rightly.
    second = np.where(np.arange(len(truth)) % 5 == 0, truth, first)
    found = metrics.paired_difference_interval(truth, first, second, 4, groups, repeats=300)
    expected = metrics.balanced_accuracy(truth, second, 4) - metrics.balanced_accuracy(truth, first, 4)
    assert found.value == pytest.approx(expected)
    assert 0 < found.low < found.value < found.high
    own = bootstrap_interval(_balanced, groups, truth, first, repeats=300)
    assert found.high - found.low < (own[1] - own[0]) / 2
    back = metrics.paired_difference_interval(truth, second, first, 4, groups, repeats=300)
    np.testing.assert_allclose([back.value, back.low, back.high], [-found.value, -found.high, -found.low])
    assert metrics.paired_difference_interval(truth, first, first, 4, groups) == (0, 0, 0)


@pytest.mark.parametrize("lesions", [1, 3, 8])
def test_the_difference_of_few_lesions_covers_the_true_one(lesions: int) -> None:
    """Drawn again and again, one lesion has no spread: a bootstrap's interval held the truth in a fifth of the sets."""
    rng, inside = np.random.default_rng(2), 0
    truth = np.repeat([0, 1], [lesions, 60])
    groups = [str(i) for i in range(len(truth))]
    for _ in range(60):
        # Of the first class the second model has 0.3 more, of the other as much as the first model.
        first = np.where(rng.random(len(truth)) < np.where(truth == 0, 0.5, 0.8), truth, 1 - truth)
        second = np.where(rng.random(len(truth)) < 0.8, truth, 1 - truth)
        found = metrics.paired_difference_interval(truth, first, second, 2, groups, repeats=300)
        inside += found.low <= 0.15 <= found.high
        assert found.low <= found.value <= found.high
    assert inside >= 53


def test_a_class_in_which_nothing_changed_is_not_certain_to_be_unchanged() -> None:
    truth, first = np.repeat([0, 1], [2, 40]), np.repeat([0, 1], [2, 40])
    second = np.where(np.arange(42) == 41, 0, first)
    draws = metrics.GroupDraws.draw([str(i) for i in range(42)], truth)
    drawn = draws.recall_difference(truth, first, second, 2)
    assert drawn[:, 0].std() > 0.1
    assert (draws.recall_difference(truth, first, first, 2) == 0).all()


def test_the_calibration_interval_lies_around_its_figure_and_not_below_zero() -> None:
    truth, probs, groups = _scattered()
    drawn = metrics.GroupDraws.draw(groups, repeats=300)
    error, low, high = metrics.calibration_estimate(drawn, truth, probs)
    draws = drawn.calibration_error(truth, probs)
    assert low < error < high
    assert draws.mean() > error
    # The bootstrap's own upward bias is taken off both ends.
    bias = draws.mean() - error
    assert (low, high) == pytest.approx(np.subtract(metrics.percentile_interval(draws), bias))
    right = np.eye(probs.shape[1])[truth] * 0.98 + 0.005
    assert metrics.calibration_estimate(drawn, truth, right).low >= 0


def test_a_summary_has_an_interval_for_every_figure() -> None:
    truth, probs, groups = _scattered()
    absent = np.where(truth == 3, 0, truth)
    summary = summarize(absent, probs, "abcd", groups, [False, False, True, True], repeats=100)
    intervals = summary["intervals"]
    for name in ("accuracy", "expected_calibration_error", "malignant_auc"):
        low, high = intervals[name]
        assert low < summary[name] < high
    assert intervals["per_class"].keys() == summary["per_class"].keys()
    for code, figures in intervals["per_class"].items():
        for name, interval in figures.items():
            value = summary["per_class"][code][name]
            assert (interval is None) == (value is None)
            assert interval is None or interval[0] <= value <= interval[1]
    assert intervals["per_class"]["d"]["recall"] is None
    assert intervals["per_class"]["d"]["auc"] is None


def test_a_summary_counts_lesions_and_draws_them() -> None:
    truth, probs, groups = _scattered()
    answers = probs.argmax(axis=1)
    summary = summarize(truth, probs, "abcd", groups, [False, False, True, True], repeats=150)
    assert summary["photos"] == 400
    assert summary["lesions"] == len(set(groups)) < 200
    draws = metrics.GroupDraws.draw(groups, truth, repeats=150)
    balanced = balanced_accuracy_estimate(recalls(truth, answers, 4, groups))
    assert [summary["balanced_accuracy"], *summary["balanced_accuracy_interval"]] == list(balanced or ())
    assert summary["intervals"]["accuracy"] == list(share_of(truth == answers, groups).estimate() or ())[1:]
    intervals = summary["intervals"]
    found = (summary["expected_calibration_error"], *intervals["expected_calibration_error"])
    assert found == metrics.calibration_estimate(draws, truth, probs)
    assert found[0] == metrics.expected_calibration_error(truth, probs)
    # Malignant is what the truth says, as sure as both of its labels together.
    side, score = truth >= 2, probs[:, 2:].sum(axis=1)
    assert summary["malignant_auc"] == metrics.area_under_roc(side, score)
    assert intervals["malignant_auc"] == list(auc_estimate(draws, side, score) or ())[1:]
    for i, code in enumerate("abcd"):
        of_class = intervals["per_class"][code]
        assert summary["per_class"][code]["auc"] == metrics.area_under_roc(truth == i, probs[:, i])
        for name, first, second in (("recall", truth, answers), ("precision", answers, truth)):
            estimate = recalls(first, second, 4, groups)[i].estimate()
            assert [summary["per_class"][code][name], *of_class[name]] == list(estimate or ())


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("0.0", "0-19"),
        ("19.5", "0-19"),
        ("20", "20-39"),
        ("80", "80 and over"),
        ("", "unknown"),
        ("nan", "unknown"),
        ("-1", "unknown"),
    ],
)
def test_age_bands(age: str, band: str) -> None:
    assert metrics.age_band(age) == band
