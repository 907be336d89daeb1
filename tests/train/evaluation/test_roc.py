"""Sensitivity over specificity against scikit-learn's curve, readers under it, thresholds of other folds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from train.evaluation.roc import (
    GRID,
    above_readers,
    auc_difference,
    make_curve,
    operating_point,
    readers_under,
    sensitivity_at,
    sensitivity_of,
    threshold_for_sensitivity,
    youden_threshold,
)

REPEATS = 200
# Draws of 60 lesions scatter by some 0.05; what is compared here differs by more.
LESIONS = 60


def sides(
    seed: int, *, gap: float = 1.5, levels: int | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Two photos of each lesion, a third of them positive; levels: so many steps of the score."""
    rng = np.random.default_rng(seed)
    positive = np.repeat(np.arange(LESIONS) % 3 == 0, 2)
    score = 1 / (1 + np.exp(-(rng.normal(size=2 * LESIONS) + gap * positive)))
    if levels:
        score = np.round(score * levels) / levels
    return positive, score, tuple(f"L{i // 2}" for i in range(2 * LESIONS))


@pytest.mark.parametrize("levels", [None, 12])
@pytest.mark.parametrize("seed", range(5))
def test_the_staircase_is_that_of_the_roc_curve(seed: int, levels: int | None) -> None:
    positive, score, _ = sides(seed, levels=levels)
    false, found, _ = roc_curve(positive, score, drop_intermediate=False)
    expected = [found[false <= 1 - specificity + 1e-9].max() for specificity in GRID]
    assert sensitivity_at(positive, score, GRID) == pytest.approx(np.array(expected))


def test_weights_are_photos_counted_so_often() -> None:
    positive, score, _ = sides(0)
    counts = np.random.default_rng(1).integers(0, 3, len(score))
    repeated = np.repeat(np.arange(len(score)), counts)
    weighted = sensitivity_at(positive, score, GRID, counts[None].astype(float))
    assert weighted[0] == pytest.approx(sensitivity_at(positive[repeated], score[repeated], GRID))


def test_a_draw_without_a_side_has_no_curve() -> None:
    positive, score, _ = sides(0)
    assert np.isnan(sensitivity_at(positive, score, GRID, (~positive)[None].astype(float))).all()


def test_a_curve_and_its_interval() -> None:
    positive, score, groups = sides(2)
    curve = make_curve(positive, score, groups, repeats=REPEATS)
    assert curve.auc.value == pytest.approx(roc_auc_score(positive, score))
    assert curve.auc.low < curve.auc.value < curve.auc.high
    low, high = curve.band
    assert (low <= curve.sensitivity + 1e-9).all()
    assert (high >= curve.sensitivity - 1e-9).mean() > 0.95
    assert (curve.positive.sum(), curve.lesions) == (40, LESIONS)


def test_readers_below_and_above() -> None:
    positive, score, groups = sides(3)
    points = np.array([[0.0, 0.777], [1.0, 0.999], [0.01, 0.5]])
    curve = make_curve(positive, score, groups, specificities=points[:, 1], repeats=REPEATS)
    assert readers_under(curve, points).value == pytest.approx(2 / 3)
    mean = sensitivity_of(curve, 0.777)
    assert mean.value == pytest.approx(sensitivity_at(positive, score, np.array([0.777]))[0])
    # On the curve is not below it.
    assert readers_under(curve, np.array([[mean.value, 0.777]])).value == 0


def test_the_interval_of_a_difference_to_readers_holds_readers_and_their_photos() -> None:
    positive, score, groups = sides(4)
    alike = np.tile([0.8, 0.75], (21, 1))
    differing = alike + np.linspace(-0.15, 0.15, 21)[:, None] * [1, -1]
    assert differing.mean(axis=0) == pytest.approx(alike[0])
    curve = make_curve(
        positive, score, groups, specificities=np.array([0.75, differing.mean(axis=0)[1]]), repeats=2000
    )
    photos = sensitivity_of(curve, 0.75)
    many, few = (above_readers(curve, alike, (n, n)) for n in (10**6, 71))
    assert many.value == few.value == pytest.approx(photos.value - 0.8)
    assert [many.low, many.high] == pytest.approx([photos.low - 0.8, photos.high - 0.8], abs=0.03)
    assert few.high - few.low > 1.2 * (many.high - many.low)
    drawn = above_readers(curve, differing, (10**6, 10**6))
    assert drawn.high - drawn.low > many.high - many.low


def test_a_reader_above_a_hopeless_model() -> None:
    positive, score, groups = sides(4)
    curve = make_curve(positive, 1 - score, groups, specificities=np.array([0.768]), repeats=REPEATS)
    against = above_readers(curve, np.array([[0.803, 0.768]]), (1000, 1000))
    assert against.high < 0
    assert readers_under(curve, np.array([[0.803, 0.768]])).value == 0


def test_equal_models_do_not_differ_and_better_ones_do() -> None:
    positive, score, groups = sides(5)
    first = make_curve(positive, score, groups, repeats=REPEATS)
    assert auc_difference(first, first) == (0, 0, 0)
    better = make_curve(positive, score + 0.5 * positive, groups, repeats=REPEATS)
    assert auc_difference(first, better).low > 0


def test_thresholds() -> None:
    positive = np.array([True] * 5 + [False] * 5)
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.2, 0.65, 0.3, 0.25, 0.1, 0.05])
    assert threshold_for_sensitivity(0.8)(positive, score) == 0.6
    assert threshold_for_sensitivity(0.81)(positive, score) == 0.2
    assert threshold_for_sensitivity(1.0)(positive, score) == 0.2
    # 4 of 5 found and 1 of 5 called wrongly, against 3 of 5 and none: both sum to 1.6, the higher one is taken.
    assert youden_threshold(positive, score) == 0.7


def test_a_fold_does_not_choose_its_own_threshold() -> None:
    positive, score, groups = sides(6)
    folds = np.repeat(np.arange(LESIONS) // 20, 2)
    curve = make_curve(positive, score, groups, repeats=REPEATS)
    point = operating_point("s", threshold_for_sensitivity(0.9), curve, folds)
    assert point is not None
    for fold, threshold in enumerate(point.thresholds):
        others = folds != fold
        assert threshold == threshold_for_sensitivity(0.9)(positive[others], score[others])
    called = score >= np.array(point.thresholds)[folds]
    assert point.sensitivity.value == pytest.approx(called[positive].mean())
    assert point.specificity.value == pytest.approx((~called)[~positive].mean())
    # Whatever the fold's own labels are, its threshold stays.
    changed = make_curve(np.where(folds == 0, ~positive, positive), score, groups, repeats=REPEATS)
    again = operating_point("s", threshold_for_sensitivity(0.9), changed, folds)
    assert again is not None
    assert again.thresholds[0] == point.thresholds[0]


def test_one_fold_has_nothing_to_choose_on() -> None:
    positive, score, groups = sides(7)
    curve = make_curve(positive, score, groups, repeats=REPEATS)
    assert operating_point("s", youden_threshold, curve, np.zeros(len(score), np.int64)) is None
