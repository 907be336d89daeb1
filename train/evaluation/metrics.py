"""Metrics of a classifier from labels and probabilities. numpy and scikit-learn.

Balanced accuracy (mean recall over classes, Brodersen et al. 2010) comes first everywhere. Photos of one lesion are
not independent, so intervals come from a bootstrap that draws whole lesions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

UNKNOWN = "unknown"
# Upper end, which does not belong to it, and name.
AGE_BANDS = ((20, "0-19"), (40, "20-39"), (60, "40-59"), (80, "60-79"), (200, "80 and over"))
# Draws whose AUCs are computed at once: 32 x 10,000 photos are 3 MB an array.
DRAWS_AT_ONCE = 32


class Estimate(NamedTuple):
    """A metric and its 95 % interval."""

    value: float
    low: float
    high: float


def recall_per_class(y_true: IntArray, y_pred: IntArray, classes: int) -> FloatArray:
    """Return the share of each class's photos that are classified correctly.

    Args:
        y_true: [n] class indices.
        y_pred: [n] class indices.
        classes: Number of classes.

    Returns:
        [classes] in [0, 1]; NaN where a class has no photo.
    """
    counts = np.bincount(y_true, minlength=classes).astype(np.float64)
    hits = np.bincount(y_true[y_true == y_pred], minlength=classes).astype(np.float64)
    return np.divide(hits, counts, out=np.full(classes, np.nan), where=counts > 0)


def precision_per_class(y_true: IntArray, y_pred: IntArray, classes: int) -> FloatArray:
    """Return the share of each class's predictions that are correct, [classes]; NaN where it is never predicted."""
    return recall_per_class(y_pred, y_true, classes)


def balanced_accuracy(y_true: IntArray, y_pred: IntArray, classes: int) -> float:
    """Mean recall over the classes that occur in y_true, in [0, 1]."""
    return float(np.nanmean(recall_per_class(y_true, y_pred, classes)))


def expected_calibration_error(y_true: IntArray, probs: FloatArray, bins: int = 15) -> float:
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


def bootstrap_interval(
    statistic: Callable[..., float],
    groups: Sequence[str],
    *arrays: npt.NDArray[Any],
    repeats: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a statistic when whole groups are drawn with replacement.

    Args:
        statistic: Called with the resampled arrays.
        groups: [n] lesion of each photo.
        *arrays: Each [n, ...].
        repeats: Draws.
        seed: Of the draws.
        level: Of the interval.

    Returns:
        (low, high).
    """
    _, group_index = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(group_index, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(group_index[order])) + 1)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(repeats):
        drawn = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        values.append(statistic(*(array[drawn] for array in arrays)))
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


@dataclass(frozen=True)
class GroupDraws:
    """Whole groups drawn with replacement, many times: the same draws as `bootstrap_interval`, kept as counts.

    Every figure that is made of sums over photos then costs one matrix product for all draws together; a summary
    with thirty intervals takes a second where thirty calls of `bootstrap_interval` take minutes.
    """

    group_index: IntArray
    """[n] group of each photo, 0 to groups - 1."""
    counts: npt.NDArray[np.int32]
    """[repeats, groups] how often a draw holds each group."""

    @classmethod
    def draw(cls, groups: Sequence[str], *, repeats: int = 1000, seed: int = 0) -> GroupDraws:
        """Draws; equal arguments give equal draws.

        Args:
            groups: [n] lesion of each photo.
            repeats: Draws.
            seed: Of the draws.
        """
        names, group_index = np.unique(np.asarray(groups), return_inverse=True)
        size = len(names)
        rng = np.random.default_rng(seed)
        counts = np.empty((repeats, size), np.int32)
        for start in range(0, repeats, DRAWS_AT_ONCE):
            # A call for many draws: each costs ten times what it takes to draw for some hundred lesions.
            block = counts[start : start + DRAWS_AT_ONCE]
            drawn = rng.integers(size, size=block.shape) + np.arange(len(block))[:, None] * size
            block[:] = np.bincount(drawn.ravel(), minlength=block.size).reshape(block.shape)
        return cls(group_index.astype(np.int64), counts)

    @cached_property
    def _factors(self) -> FloatArray:
        """`counts` as a matrix product wants them."""
        return self.counts.astype(np.float64)

    def sums(self, values: npt.NDArray[Any]) -> FloatArray:
        """Sums over the drawn photos.

        Args:
            values: [n, k].

        Returns:
            [repeats, k].
        """
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
        """`balanced_accuracy` of each draw, [repeats]."""
        return np.asarray(np.nanmean(self.recall(y_true, y_pred, classes), axis=1))

    def mean(self, values: npt.NDArray[Any]) -> FloatArray:
        """Mean of [n] values over the photos of each draw, [repeats]."""
        sums = self.sums(np.column_stack([values, np.ones(len(values))]))
        return np.asarray(sums[:, 0] / sums[:, 1])

    def calibration_error(self, y_true: IntArray, probs: FloatArray, bins: int = 15) -> FloatArray:
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


def percentile_interval(draws: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """(low, high) of a figure's values [repeats] over draws; those without a value are left out."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def calibration_error_interval(draws: FloatArray, value: float) -> tuple[float, float]:
    """(low, high) of the calibration error: the percentile interval less the bootstrap's own upward bias.

    A calibration error is a sum of absolute values, so every draw adds noise that only raises it. On fewer than some
    1,000 photos the plain interval often lies above the true error, this one rarely; the figure itself is mostly noise.
    """
    low, high = percentile_interval(draws)
    bias = float(np.mean(draws)) - value
    return max(0.0, low - bias), max(0.0, high - bias)


def paired_difference_interval(
    y_true: IntArray,
    first: IntArray,
    second: IntArray,
    classes: int,
    groups: Sequence[str],
    *,
    repeats: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Balanced accuracy of `second` minus that of `first` on the same photos.

    Both are measured on the same draws of lesions, so what makes a lesion hard for both cancels: the interval is
    narrower than the two figures' own intervals suggest.

    Args:
        y_true: [n] class indices.
        first: [n] predictions of one model.
        second: [n] predictions of the other.
        classes: Number of classes.
        groups: [n] lesion of each photo.
        repeats: Bootstrap draws.
        seed: Of the draws.
    """
    draws = GroupDraws.draw(groups, repeats=repeats, seed=seed)
    value = balanced_accuracy(y_true, second, classes) - balanced_accuracy(y_true, first, classes)
    of_draws = draws.balanced_accuracy(y_true, second, classes) - draws.balanced_accuracy(
        y_true, first, classes
    )
    return Estimate(value, *percentile_interval(of_draws))


def age_band(age: str) -> str:
    """Return `40-59` and the like; `unknown` for what is not a number of years."""
    try:
        years = float(age)
    except ValueError:
        return UNKNOWN
    return next((name for end, name in AGE_BANDS if 0 <= years < end), UNKNOWN)


def summarize(
    y_true: IntArray,
    probs: FloatArray,
    codes: Sequence[str],
    groups: Sequence[str],
    malignant: Sequence[bool] | None = None,
    *,
    repeats: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return all metrics of one split, ready for metrics.json.

    Args:
        y_true: [n] class indices.
        probs: [n, classes], rows sum to 1.
        codes: [classes] label codes.
        groups: [n] lesion of each photo, for intervals.
        malignant: [classes] which labels are malignant; None leaves that AUC out.
        repeats: Bootstrap draws.
        seed: Of the draws.

    Returns:
        Plain numbers, lists and dicts; a figure that cannot be computed is None. `intervals` repeats the names of the
        figures, each with [low, high] at 95 %.
    """
    # Late: scikit-learn takes 1.5 s to import, and `dermedge compare` does not need it.
    from sklearn.metrics import confusion_matrix

    classes = len(codes)
    y_pred = probs.argmax(axis=1).astype(np.int64)
    draws = GroupDraws.draw(groups, repeats=repeats, seed=seed)
    recall = recall_per_class(y_true, y_pred, classes)
    precision = precision_per_class(y_true, y_pred, classes)
    counts = np.bincount(y_true, minlength=classes)
    summary: dict[str, Any] = {
        "photos": len(y_true),
        "lesions": len(set(groups)),
        "balanced_accuracy": balanced_accuracy(y_true, y_pred, classes),
        "balanced_accuracy_interval": list(
            percentile_interval(draws.balanced_accuracy(y_true, y_pred, classes))
        ),
        "accuracy": float((y_true == y_pred).mean()),
        "expected_calibration_error": expected_calibration_error(y_true, probs),
        "per_class": {
            code: {
                "photos": int(counts[i]),
                "recall": _number(recall[i]),
                "precision": _number(precision[i]),
                "auc": area_under_roc(y_true == i, probs[:, i]),
            }
            for i, code in enumerate(codes)
        },
        "confusion": confusion_matrix(y_true, y_pred, labels=range(classes)).tolist(),
        "intervals": _intervals(draws, y_true, y_pred, probs, codes),
    }
    if malignant is not None:
        is_malignant = np.asarray(malignant, dtype=bool)
        side, score = is_malignant[y_true], probs[:, is_malignant].sum(axis=1)
        summary["malignant_auc"] = area_under_roc(side, score)
        summary["intervals"]["malignant_auc"] = _interval(draws.auc(side, score))
    return summary


def _intervals(
    draws: GroupDraws, y_true: IntArray, y_pred: IntArray, probs: FloatArray, codes: Sequence[str]
) -> dict[str, Any]:
    """[low, high] of every figure of a summary but the balanced accuracy; None where there is none."""
    recall = draws.recall(y_true, y_pred, len(codes))
    precision = draws.recall(y_pred, y_true, len(codes))
    error = expected_calibration_error(y_true, probs)
    return {
        "accuracy": _interval(draws.mean(y_true == y_pred)),
        "expected_calibration_error": list(
            calibration_error_interval(draws.calibration_error(y_true, probs), error)
        ),
        "per_class": {
            code: {
                "recall": _interval(recall[:, i]),
                "precision": _interval(precision[:, i]),
                "auc": _interval(draws.auc(y_true == i, probs[:, i])),
            }
            for i, code in enumerate(codes)
        },
    }


def _interval(draws: FloatArray) -> list[float] | None:
    return None if np.isnan(draws).all() else list(percentile_interval(draws))


def area_under_roc(positive: npt.NDArray[np.bool_], score: FloatArray) -> float | None:
    """Area under the ROC curve of [n] sides and scores; None when one side is empty."""
    if positive.all() or not positive.any():
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, score))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
