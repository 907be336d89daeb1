"""Metrics of a classifier from labels and probabilities. numpy and scikit-learn.

Balanced accuracy (mean recall over classes, Brodersen et al. 2010) comes first everywhere. Photos of one lesion are
not independent, so intervals come from a bootstrap that draws whole lesions.

Here and in the modules beside it `y_true`, `y_pred`, `first` and `second` are [n] class indices, `classes` their count,
`probs` [n, classes] whose rows sum to 1, `groups` the [n] lesions of the photos, `positive` and `score` [n] sides and
scores, `repeats` bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

UNKNOWN = "unknown"
CALIBRATION_BINS = 15
FEW_LESIONS = 10
"""Below so many lesions of a class, its recall is one or two patients' word: said beside every figure that uses it."""
# Upper end, which does not belong to it, and name.
AGE_BANDS = ((20, "0-19"), (40, "20-39"), (60, "40-59"), (80, "60-79"), (200, "80 and over"))
# Draws whose AUCs are computed at once: 32 x 10,000 photos are 3 MB an array.
DRAWS_AT_ONCE = 32
# Of 95 %, as they are rounded in the committed figures.
TAILS = ((1 - 0.95) / 2, 1 - (1 - 0.95) / 2)


class Estimate(NamedTuple):
    """A metric and its 95 % interval."""

    value: float
    low: float
    high: float


def recall_per_class(y_true: IntArray, y_pred: IntArray, classes: int) -> FloatArray:
    """Return the share of each class's photos that are classified correctly, [classes]; NaN where it has no photo."""
    counts = np.bincount(y_true, minlength=classes).astype(np.float64)
    hits = np.bincount(y_true[y_true == y_pred], minlength=classes).astype(np.float64)
    return np.divide(hits, counts, out=np.full(classes, np.nan), where=counts > 0)


def balanced_accuracy(y_true: IntArray, y_pred: IntArray, classes: int) -> float:
    """Mean recall over the classes that occur in y_true, in [0, 1]."""
    return float(np.nanmean(recall_per_class(y_true, y_pred, classes)))


def expected_calibration_error(y_true: IntArray, probs: FloatArray, bins: int = CALIBRATION_BINS) -> float:
    """Mean gap between top score and accuracy over equal-width bins, weighted by count (Guo et al. 2017)."""
    which, gap = _calibration_gaps(y_true, probs, bins)
    return float(np.abs(np.bincount(which, weights=gap, minlength=bins)).sum() / len(y_true))


def _calibration_gaps(y_true: IntArray, probs: FloatArray, bins: int) -> tuple[IntArray, FloatArray]:
    """Bin of each photo's top score, and that score minus 1 if it is correct, 0 if not; [n] each."""
    top_score = probs.max(axis=1)
    which = np.minimum((top_score * bins).astype(np.int64), bins - 1)
    return which, top_score - (probs.argmax(axis=1) == y_true)


def softmax(logits: npt.NDArray[Any], temperature: float = 1.0) -> FloatArray:
    """Probabilities [n, classes] of logits [n, classes] divided by a temperature."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class GroupDraws:
    """Whole groups drawn with replacement, many times, kept as counts.

    Every figure that is made of sums over photos then costs one matrix product for all draws together.
    """

    group_index: IntArray
    """[n] group of each photo, 0 to groups - 1."""
    counts: npt.NDArray[np.int32]
    """[repeats, groups] how often a draw holds each group."""

    @classmethod
    def draw(
        cls,
        groups: Sequence[str],
        strata: npt.NDArray[Any] | None = None,
        *,
        repeats: int = 1000,
        seed: int = 0,
    ) -> GroupDraws:
        """Draws; equal arguments give equal draws.

        Args:
            groups: [n] lesion of each photo.
            strata: [n] class of each photo: groups are drawn among those of the same classes, so that no draw lacks
                one; None draws among all.
            repeats: Draws.
            seed: Of the draws.
        """
        names, group_index = np.unique(np.asarray(groups), return_inverse=True)
        counts, rng = np.empty((repeats, len(names)), np.int32), np.random.default_rng(seed)
        for members in _strata(group_index, strata):
            size = len(members)
            for start in range(0, repeats, DRAWS_AT_ONCE):
                # A call for many draws: each costs ten times what it takes to draw for some hundred lesions.
                shape = (min(DRAWS_AT_ONCE, repeats - start), size)
                drawn = rng.integers(size, size=shape) + np.arange(shape[0])[:, None] * size
                counts[start : start + shape[0], members] = np.bincount(
                    drawn.ravel(), minlength=drawn.size
                ).reshape(shape)
        return cls(group_index.astype(np.int64), counts)

    @cached_property
    def _factors(self) -> FloatArray:
        """`counts` as a matrix product wants them."""
        return self.counts.astype(np.float64)

    def sums(self, values: npt.NDArray[Any]) -> FloatArray:
        """Sums of [n, k] values over the drawn photos, [repeats, k]."""
        of_group = np.zeros((self.counts.shape[1], values.shape[1]))
        np.add.at(of_group, self.group_index, values)
        return self._factors @ of_group

    def recall(self, y_true: IntArray, y_pred: IntArray, classes: int) -> FloatArray:
        """`recall_per_class` of each draw, [repeats, classes]; precision with the arguments exchanged."""
        is_class = np.eye(classes)[y_true]
        totals = self.sums(is_class)
        hits = self.sums(is_class * (y_true == y_pred)[:, None])
        return np.divide(hits, totals, out=np.full_like(totals, np.nan), where=totals > 0)

    def balanced_accuracy(self, y_true: IntArray, y_pred: IntArray, classes: int) -> FloatArray:
        """`balanced_accuracy` of each draw over the classes that y_true has, [repeats]; NaN where a draw lacks one."""
        return np.asarray(self.recall(y_true, y_pred, classes)[:, np.unique(y_true)].mean(axis=1))

    def recall_difference(
        self, y_true: IntArray, first: IntArray, second: IntArray, classes: int
    ) -> FloatArray:
        """Recall of `second` minus that of `first` in each draw, [repeats, classes].

        Fewer than `FEW_LESIONS` lesions of a class say too little when they are drawn again: there the shares of photos
        that the second model gains and loses are drawn from their Dirichlet distribution (Jeffreys prior), with one
        observation a lesion. Equal predictions differ by 0.
        """
        drawn = self.recall(y_true, second, classes) - self.recall(y_true, first, classes)
        rng, differ = np.random.default_rng(0), bool((first != second).any())
        for i in np.unique(y_true) if differ else ():
            inside = y_true == i
            lesions = len(np.unique(self.group_index[inside]))
            if lesions < FEW_LESIONS:
                gained, lost = ((a == i) & (b != i) for a, b in ((second, first), (first, second)))
                gain, loss = float(gained[inside].mean()), float(lost[inside].mean())
                seen = lesions * np.array([gain, loss, 1 - gain - loss])
                shares = rng.dirichlet(seen + 0.5, size=len(drawn))
                drawn[:, i] = shares[:, 0] - shares[:, 1]
        return drawn

    def balanced_difference(
        self, y_true: IntArray, first: IntArray, second: IntArray, classes: int
    ) -> Estimate:
        """Balanced accuracy of `second` minus that of `first`, with its 95 % interval."""
        value = balanced_accuracy(y_true, second, classes) - balanced_accuracy(y_true, first, classes)
        drawn = self.recall_difference(y_true, first, second, classes)[:, np.unique(y_true)].mean(axis=1)
        low, high = percentile_interval(drawn)
        return Estimate(value, min(low, value), max(high, value))

    def mean(self, values: npt.NDArray[Any]) -> FloatArray:
        """Mean of [n] values over the photos of each draw, [repeats]."""
        sums = self.sums(np.column_stack([values, np.ones(len(values))]))
        return np.asarray(sums[:, 0] / sums[:, 1])

    def calibration_error(
        self, y_true: IntArray, probs: FloatArray, bins: int = CALIBRATION_BINS
    ) -> FloatArray:
        """`expected_calibration_error` of each draw, [repeats]."""
        which, gap = _calibration_gaps(y_true, probs, bins)
        sums = self.sums(np.column_stack([np.eye(bins)[which] * gap[:, None], np.ones(len(gap))]))
        return np.asarray(np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1])

    def auc(self, positive: npt.NDArray[np.bool_], score: FloatArray) -> FloatArray:
        """Area under the ROC curve of each draw, [repeats]; NaN where one side is empty.

        The share of drawn pairs (positive, negative) in which the positive scores higher, ties counting half.
        """
        order = np.argsort(score, kind="stable")
        starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
        group_index, is_positive = self.group_index[order], positive[order]
        found = np.empty(len(self.counts))
        for start in range(0, len(found), DRAWS_AT_ONCE):
            weights = self.counts[start : start + DRAWS_AT_ONCE, group_index].astype(np.float64)
            above = np.add.reduceat(weights * is_positive, starts, axis=1)
            below = np.add.reduceat(weights * ~is_positive, starts, axis=1)
            won = (above * (below.cumsum(axis=1) - below / 2)).sum(axis=1)
            pairs = above.sum(axis=1) * below.sum(axis=1)
            found[start : start + DRAWS_AT_ONCE] = np.divide(
                won, pairs, out=np.full_like(won, np.nan), where=pairs > 0
            )
        return found


def _strata(group_index: IntArray, strata: npt.NDArray[Any] | None) -> list[IntArray]:
    """Return the groups that have the same classes, each group once; all of them without strata."""
    size = int(group_index.max(initial=-1)) + 1
    if strata is None:
        return [np.arange(size)]
    _, kind = np.unique(strata, return_inverse=True)
    has = np.zeros((size, int(kind.max(initial=-1)) + 1), bool)
    has[group_index, kind] = True
    _, stratum = np.unique(has, axis=0, return_inverse=True)
    return [np.flatnonzero(stratum == i) for i in range(int(stratum.max(initial=-1)) + 1)]


def percentile_interval(draws: FloatArray) -> tuple[float, float]:
    """(low, high) at 95 % of a figure's values [repeats] over draws; NaN if one of them has no value."""
    low, high = np.quantile(draws, TAILS)
    return float(low), float(high)


def calibration_estimate(draws: GroupDraws, y_true: IntArray, probs: FloatArray) -> Estimate:
    """Calibration error with the percentile interval less the bootstrap's own upward bias.

    A calibration error is a sum of absolute values, so every draw adds noise that only raises it. On fewer than some
    1,000 photos the plain interval often lies above the true error, this one rarely; the figure itself is mostly noise.
    """
    value, of_draws = expected_calibration_error(y_true, probs), draws.calibration_error(y_true, probs)
    low, high = percentile_interval(of_draws)
    bias = float(np.mean(of_draws)) - value
    return Estimate(value, max(0.0, low - bias), max(0.0, high - bias))


def calibration_floor(probs: FloatArray, bins: int = CALIBRATION_BINS, *, repeats: int = 400) -> list[float]:
    """Return mean, low and high (95 %) of the calibration error that these scores would show as true probabilities."""
    rng = np.random.default_rng(0)
    top = probs.max(axis=1)
    which = np.minimum((top * bins).astype(np.int64), bins - 1)
    errors = []
    for _ in range(repeats):
        gap = top - (rng.random(len(top)) < top)
        errors.append(np.abs(np.bincount(which, weights=gap, minlength=bins)).sum() / len(top))
    return [float(np.mean(errors)), *percentile_interval(np.array(errors))]


def paired_difference_interval(
    y_true: IntArray,
    first: IntArray,
    second: IntArray,
    classes: int,
    groups: Sequence[str],
    *,
    repeats: int = 1000,
) -> Estimate:
    """Balanced accuracy of `second` minus that of `first` on the same photos.

    Both are measured on the same draws of lesions, so what makes a lesion hard for both cancels: the interval is
    narrower than the two figures' own intervals suggest.
    """
    draws = GroupDraws.draw(groups, y_true, repeats=repeats)
    return draws.balanced_difference(y_true, first, second, classes)


def age_band(age: str) -> str:
    """Return `40-59` and the like; `unknown` for what is not a number of years."""
    try:
        years = float(age)
    except ValueError:
        return UNKNOWN
    return next((name for end, name in AGE_BANDS if 0 <= years < end), UNKNOWN)


def area_under_roc(positive: npt.NDArray[np.bool_], score: FloatArray) -> float | None:
    """Area under the ROC curve of [n] sides and scores; None when one side is empty."""
    if positive.all() or not positive.any():
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, score))
