"""Intervals of recall and balanced accuracy that hold for few lesions too. numpy and scipy.

A class's photos count as so many independent ones as the design effect of lesions whose photos are alike leaves (Kish
1965), with Student's t of the lesions' number (Korn and Graubard, Survey Methodology 24, 1998). Recalls have score
intervals (Wilson 1927), their mean one whose recalls are fitted to each mean (Martin Andres et al., Journal of
Statistical Computation and Simulation 82, 2012). Fewer than ten lesions do not show their design effect: each counts
once, bounds are exact (Clopper and Pearson 1934), and a mean takes such classes in by their margins (MOVER; Zou et al.,
Computational Statistics and Data Analysis 53, 2009). train/README.md has their coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from train.evaluation.metrics import (
    FEW_LESIONS,
    TAILS,
    Estimate,
    FloatArray,
    GroupDraws,
    IntArray,
    area_under_roc,
    percentile_interval,
)

SIGNIFICANT_P = 0.05
NORMAL_QUANTILE = 1.959963984540054
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ClassRecall:
    """One class's recall and what its interval rests on."""

    photos: int
    lesions: int
    hits: int
    effective: float
    """Independent photos that carry as much information: between the number of lesions and of photos."""

    @property
    def few(self) -> bool:
        """Fewer than `FEW_LESIONS` lesions."""
        return self.lesions < FEW_LESIONS

    def estimate(self) -> Estimate | None:
        """Recall with its 95 % interval; None without a photo."""
        return balanced_accuracy_estimate([self])


def recalls(y_true: IntArray, y_pred: IntArray, classes: int, lesions: Sequence[str]) -> list[ClassRecall]:
    """Return each class's recall, of true and predicted class indices [n] and the lesion of each photo [n]."""
    names = np.asarray(lesions)
    return [share_of((y_pred == index)[y_true == index], names[y_true == index]) for index in range(classes)]


def share_of(hit: BoolArray, lesions: Sequence[str] | npt.NDArray[Any]) -> ClassRecall:
    """Return the share of photos [n] that are hits, such as an accuracy, with what its interval rests on."""
    photos, hits = len(hit), int(hit.sum())
    _, which = np.unique(lesions, return_inverse=True)
    of_lesion = np.bincount(which)
    count = len(of_lesion)
    share = hits / photos if photos else 0.0
    # Of lesions whose photos are all alike.
    effective = photos**2 / float((of_lesion**2).sum()) if photos else 0.0
    if count >= FEW_LESIONS:
        from scipy.special import stdtrit

        # The variance of a ratio of sums over lesions, against that of as many independent photos.
        excess = np.bincount(which, weights=hit) - share * of_lesion
        variance = float((excess**2).sum()) / photos**2 * count / (count - 1)
        if variance > 0:
            effective = float(np.clip(share * (1 - share) / variance, effective, photos))
        effective *= float(stdtrit(photos - 1, TAILS[1]) / stdtrit(count - 1, TAILS[1])) ** 2
    return ClassRecall(photos, count, hits, effective)


def balanced_accuracy_estimate(of_classes: Sequence[ClassRecall]) -> Estimate | None:
    """Mean recall over the classes that have photos, with its interval; None where none has."""
    present = [one for one in of_classes if one.photos]
    if not present:
        return None
    parts = [(1, _exact(one.hits / one.photos, one.effective)) for one in present if one.few]
    if many := [one for one in present if not one.few]:
        shares, effective = np.array([(one.hits / one.photos, one.effective) for one in many]).T
        parts.append((len(many), Estimate(float(shares.mean()), *_score_bounds(shares, effective))))
    weighed = np.array([weight * np.array(part) for weight, part in parts]) / len(present)
    value = float(np.mean([one.hits / one.photos for one in present]))
    below, above = np.sqrt(((weighed[:, 1:] - weighed[:, :1]) ** 2).sum(axis=0))
    return Estimate(value, max(0.0, value - float(below)), min(1.0, value + float(above)))


def _score_bounds(shares: FloatArray, effective: FloatArray) -> FloatArray:
    """Find the least and the largest mean of shares [k] of `effective` photos [k] that a score test does not reject.

    The likeliest shares of a lower mean have a tilt in common (the mean's Lagrange multiplier), which is found by
    halving: effective (share - fitted) = tilt fitted (1 - fitted). The upper bound is that of 1 - shares.
    """
    sides = np.stack([shares, 1 - shares])
    least, most = np.full((2, 1), 2.0**-10), np.full((2, 1), 2.0**30)
    for _ in range(40):
        tilt = np.sqrt(least * most)
        root = np.sqrt((effective - tilt) ** 2 + 4 * tilt * effective * (1 - sides))
        fitted = np.minimum(2 * effective * sides / (effective + tilt + root), sides)
        spread = np.sqrt((fitted * (1 - fitted) / effective).sum(axis=1, keepdims=True))
        rejected = tilt * spread >= NORMAL_QUANTILE
        least, most = np.where(rejected, least, tilt), np.where(rejected, tilt, most)
    return np.asarray(np.abs([0, 1] - fitted.mean(axis=1)))


def auc_estimate(draws: GroupDraws, positive: BoolArray, score: FloatArray) -> Estimate | None:
    """Area under the ROC curve of [n] sides and scores with its interval; None when one side is empty."""
    value = area_under_roc(positive, score)
    if value is None:
        return None
    smaller = min(len(np.unique(draws.group_index[side])) for side in (positive, ~positive))
    if smaller >= FEW_LESIONS and 0 < value < 1:
        return Estimate(value, *percentile_interval(draws.auc(positive, score)))
    # Draws of what is separated without an error have no error either. No AUC has a larger variance than
    # value (1 - value) / smaller side (Birnbaum and Klose, Annals of Mathematical Statistics 28, 1957).
    return _exact(value, smaller)


def _exact(share: float, effective: float) -> Estimate:
    """Return a share of so many independent photos with its exact interval."""
    from scipy.special import betaincinv

    hits, misses = effective * share, effective * (1 - share)
    low = float(betaincinv(hits, misses + 1, TAILS[0])) if hits else 0.0
    return Estimate(share, low, float(betaincinv(hits + 1, misses, TAILS[1])) if misses else 1.0)


def few(codes: Sequence[str], of_classes: Sequence[ClassRecall]) -> list[str]:
    """List the classes that have photos, of fewer than `FEW_LESIONS` lesions."""
    return [code for code, one in zip(codes, of_classes, strict=True) if one.photos and one.few]


def few_note(codes: Sequence[str], units: str = "lesions") -> str:
    """Return the sentence about classes of few lesions, or other units; empty without any."""
    if not codes:
        return ""
    return f"Fewer than {FEW_LESIONS} {units}: {', '.join(codes)}. Their recall rests on a few cases."


def mcnemar_p(worse: int, better: int) -> float:
    """Return McNemar's exact two-sided p of the changes to wrong and to right being equally likely."""
    from scipy.special import bdtr

    # The binomial test of scipy.stats gives the same p, but importing it takes longer than 100 photos.
    return min(1.0, 2 * float(bdtr(min(worse, better), worse + better, 0.5)))


def indistinct(other: str, difference: Sequence[float], p: float | None = None) -> str:
    """Return `cannot be distinguished from OTHER (the interval holds 0; McNemar p 0.73)`; empty where it can.

    Args:
        other: What it is compared with.
        difference: [value, low, high].
        p: McNemar's; None where there is none.
    """
    reasons = ["the interval holds 0"] if difference[1] <= 0 <= difference[2] else []
    if p is not None and p >= SIGNIFICANT_P:
        reasons.append(f"McNemar p {p:.2f}")
    return f"cannot be distinguished from {other} ({'; '.join(reasons)})" if reasons else ""
