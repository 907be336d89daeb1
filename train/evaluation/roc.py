"""Sensitivity over specificity with intervals by lesion, and operating points fitted on other folds. numpy.

A curve here is a staircase: at each specificity the sensitivity of the lowest threshold that keeps it. Straight lines
between steps would promise thresholds that do not exist, which matters for a quantized file's few levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.evaluation.intervals import auc_estimate, share_of
from train.evaluation.metrics import (
    DRAWS_AT_ONCE,
    Estimate,
    FloatArray,
    GroupDraws,
    IntArray,
    percentile_interval,
)

BoolArray = npt.NDArray[np.bool_]
# A specificity is a ratio of counts; a reader's is rounded to four digits.
ROUNDING = 1e-9
GRID = np.linspace(0, 1, 101)


def sensitivity_at(
    positive: BoolArray, score: FloatArray, specificity: FloatArray, weights: FloatArray | None = None
) -> FloatArray:
    """Return the sensitivity of [n] sides and scores, higher for positive ones, at [k] least specificities.

    With weights [draws, n], how often each photo counts, a row a draw; NaN where a draw has no photo of a side.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.diff(score[order], append=np.inf) != 0)
    given = np.ones((1, len(score))) if weights is None else weights
    sides = [given[:, order] * side[order] for side in (positive, ~positive)]
    found, false = (np.cumsum(side, axis=1)[:, ends] for side in sides)
    curves = np.full((len(given), len(specificity)), np.nan)
    for i in range(len(given)):
        if found[i, -1] > 0 and false[i, -1] > 0:
            allowed = (1 - specificity + ROUNDING) * false[i, -1]
            last = np.searchsorted(false[i], allowed, side="right")
            reached = np.concatenate([[0.0], found[i]])
            curves[i] = reached[last] / found[i, -1]
    return curves[0] if weights is None else curves


@dataclass(frozen=True)
class Curve:
    """One model's ROC curve of one task."""

    lesions: int
    auc: Estimate
    specificity: FloatArray
    """[k] where the curve was computed: GRID and further ones; sorted."""
    sensitivity: FloatArray
    """[k]."""
    of_draws: FloatArray
    """[repeats, k] the same of every draw."""
    draws: GroupDraws
    positive: BoolArray
    score: FloatArray

    def at(self, specificity: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return sensitivities [m] at some of the curve's specificities [m], and of every draw [repeats, m]."""
        places = np.searchsorted(self.specificity, specificity)
        return self.sensitivity[places], self.of_draws[:, places]

    @property
    def band(self) -> tuple[FloatArray, FloatArray]:
        """Return the 95 % band, low and high [k], at each specificity by itself."""
        low, high = np.quantile(self.of_draws, [0.025, 0.975], axis=0)
        return low, high


def make_curve(
    positive: BoolArray,
    score: FloatArray,
    groups: tuple[str, ...],
    *,
    specificities: FloatArray = GRID,
    repeats: int = 1000,
) -> Curve:
    """Compute a curve with its intervals, of [n] sides, both present, and scores that are higher for positive ones.

    `specificities` are further arguments of `Curve.at`, beside GRID. Draws are of whole lesions: equal groups give
    equal draws, so that two models can be compared as a pair.
    """
    draws = GroupDraws.draw(groups, positive, repeats=repeats)
    auc = auc_estimate(draws, positive, score)
    assert auc is not None
    everywhere = np.unique(np.concatenate([GRID, specificities]))
    parts = []
    for start in range(0, repeats, DRAWS_AT_ONCE):
        weights = draws.counts[start : start + DRAWS_AT_ONCE, draws.group_index].astype(np.float64)
        parts.append(sensitivity_at(positive, score, everywhere, weights))
    return Curve(
        lesions=len(draws.counts[0]),
        auc=auc,
        specificity=everywhere,
        sensitivity=sensitivity_at(positive, score, everywhere),
        of_draws=np.concatenate(parts),
        draws=draws,
        positive=positive,
        score=score,
    )


def auc_difference(first: Curve, second: Curve) -> Estimate:
    """Return the area of `second` minus that of `first` on the same photos, on the same draws."""
    of_draws = second.draws.auc(second.positive, second.score) - first.draws.auc(first.positive, first.score)
    return Estimate(second.auc.value - first.auc.value, *percentile_interval(of_draws))


# ------------------------------------------------------------------ readers


def sensitivity_of(curve: Curve, specificity: float) -> Estimate:
    """Return the curve's sensitivity at one of its specificities, with an interval over draws of photos."""
    reached, of_draws = curve.at(np.array([specificity]))
    return Estimate(float(reached[0]), *percentile_interval(of_draws[:, 0]))


def readers_under(curve: Curve, points: FloatArray) -> Estimate:
    """Return the share of readers [readers, 2] whose sensitivity is below the curve at their own specificity.

    The interval is over draws of photos and of readers.
    """
    reached, of_draws = curve.at(points[:, 1])
    drawn = np.random.default_rng(0).integers(len(points), size=of_draws.shape)
    under = np.take_along_axis(of_draws > points[:, 0], drawn, axis=1).mean(axis=1)
    return Estimate(float((reached > points[:, 0]).mean()), *percentile_interval(under))


def above_readers(curve: Curve, points: FloatArray, seen: tuple[int, int]) -> Estimate:
    """Return the curve's advantage over the mean reader, in sensitivity at the mean specificity.

    Args:
        curve: The model's.
        points: [readers, 2] sensitivity and specificity; their mean specificity is one of the curve's.
        seen: Positive and negative photos that every reader judged. Their difficulty is drawn as if it were common to
            all readers, the most that it can add: which reader missed which photo is not known.

    Returns:
        The difference, with an interval over draws of our photos, of readers and of their photos.
    """
    mean, rng, repeats = points.mean(axis=0), np.random.default_rng(0), len(curve.of_draws)
    drawn = points[rng.integers(len(points), size=(repeats, len(points)))].mean(axis=1)
    drawn += rng.binomial(seen, mean, size=(repeats, 2)) / seen - mean
    places = np.searchsorted(curve.specificity, drawn[:, 1].clip(0, 1) - ROUNDING)
    of_draws = curve.of_draws[np.arange(repeats), places] - drawn[:, 0]
    value = sensitivity_of(curve, mean[1]).value - float(mean[0])
    return Estimate(value, *percentile_interval(of_draws))


# ------------------------------------------------------------------ operating points

Rule = Callable[[BoolArray, FloatArray], float]


def threshold_for_sensitivity(target: float) -> Rule:
    """Return a rule: the highest threshold that finds at least this share of the positives."""

    def rule(positive: BoolArray, score: FloatArray) -> float:
        found = np.sort(score[positive])
        return float(found[max(0, int(np.floor((1 - target) * len(found) + ROUNDING)))])

    return rule


def youden_threshold(positive: BoolArray, score: FloatArray) -> float:
    """Return the threshold with the largest sum of sensitivity and specificity (Youden 1950); the highest of equals."""
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.diff(score[order], append=np.inf) != 0)
    found = np.cumsum(positive[order])[ends] / positive.sum()
    false = np.cumsum(~positive[order])[ends] / (~positive).sum()
    return float(score[order][ends[np.argmax(np.round(found - false, 9))]])


@dataclass(frozen=True)
class OperatingPoint:
    """Sensitivity and specificity of thresholds on folds that they were not fitted on."""

    name: str
    sensitivity: Estimate
    specificity: Estimate
    thresholds: tuple[float, ...]
    """Of each fold."""


def operating_point(name: str, rule: Rule, curve: Curve, folds: IntArray) -> OperatingPoint | None:
    """Fit a threshold for each fold on the other folds' predictions, and evaluate it on the fold; None of one fold."""
    numbers = sorted({int(fold) for fold in folds})
    if len(numbers) < 2:
        return None
    called = np.zeros(len(folds), bool)
    thresholds = []
    for fold in numbers:
        others = folds != fold
        thresholds.append(rule(curve.positive[others], curve.score[others]))
        called[~others] = curve.score[~others] >= thresholds[-1]
    estimates = []
    for side, right in ((curve.positive, called), (~curve.positive, ~called)):
        found = share_of(right[side], curve.draws.group_index[side]).estimate()
        assert found is not None
        estimates.append(found)
    return OperatingPoint(name, estimates[0], estimates[1], tuple(thresholds))
