"""Intervals of recall and balanced accuracy that hold for few lesions too. numpy and scipy.

A bootstrap of whole lesions has nothing to draw from where a class has one lesion or no error: its interval shrinks to
a point, or loses the class. Here each class's recall gets a Beta distribution (Jeffreys prior, as recommended for
binomial proportions by Brown, Cai and DasGupta, Statistical Science 16, 2001) with an effective number of photos that
allows for photos of one lesion being alike (design effect, Kish 1965). Fewer than ten lesions do not show that effect:
each counts as one photo then, so the interval is rather too wide. Balanced accuracy is the mean of independent draws
from the classes' distributions. `python -m tests.benchmarks.interval_coverage` measures the coverage.
An area under the ROC curve with few lesions on one side has the widest interval that so many lesions allow.
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

DRAWS = 20_000
SIGNIFICANT_P = 0.05
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
        if not self.photos:
            return None
        from scipy.special import betaincinv

        low, high = map(float, betaincinv(*self._shape(), TAILS))
        # At 0 or all hits the end is closed, as Brown, Cai and DasGupta modify the Jeffreys interval.
        low, high = low if self.hits else 0.0, 1.0 if self.hits == self.photos else high
        return Estimate(self.hits / self.photos, low, high)

    def draw(self, rng: np.random.Generator, size: int) -> FloatArray:
        """Values of the recall from its distribution, [size]."""
        return rng.beta(*self._shape(), size)

    def _shape(self) -> tuple[float, float]:
        share = self.hits / self.photos
        return self.effective * share + 0.5, self.effective * (1 - share) + 0.5


def recalls(y_true: IntArray, y_pred: IntArray, classes: int, lesions: Sequence[str]) -> list[ClassRecall]:
    """The recall of each class.

    Args:
        y_true: [n] class indices.
        y_pred: [n] class indices.
        classes: Number of classes.
        lesions: [n] lesion of each photo.
    """
    names = np.asarray(lesions)
    return [share_of((y_pred == index)[y_true == index], names[y_true == index]) for index in range(classes)]


def share_of(hit: BoolArray, lesions: Sequence[str] | npt.NDArray[Any]) -> ClassRecall:
    """Return the share of photos [n] that are hits, such as an accuracy, with what its interval rests on."""
    photos, hits = len(hit), int(hit.sum())
    _, which = np.unique(lesions, return_inverse=True)
    of_lesion = np.bincount(which)
    count = len(of_lesion)
    share = hits / photos if photos else 0.0
    effective = float(count)
    if count >= FEW_LESIONS and 0 < hits < photos:
        # The variance of a ratio of sums over lesions, against that of as many independent photos.
        excess = np.bincount(which, weights=hit) - share * of_lesion
        variance = float((excess**2).sum()) / photos**2 * count / (count - 1)
        if variance > 0:
            effective = float(np.clip(share * (1 - share) / variance, 1, photos))
    return ClassRecall(photos, count, hits, effective)


def balanced_accuracy_estimate(of_classes: Sequence[ClassRecall], *, seed: int = 0) -> Estimate | None:
    """Mean recall over the classes that have photos, with its interval; None where none has."""
    present = [one for one in of_classes if one.photos]
    if not present:
        return None
    rng = np.random.default_rng(seed)
    draws = np.mean([one.draw(rng, DRAWS) for one in present], axis=0)
    low, high = percentile_interval(draws)
    value = float(np.mean([one.hits / one.photos for one in present]))
    return Estimate(value, min(low, value), max(high, value))


def auc_estimate(draws: GroupDraws, positive: BoolArray, score: FloatArray) -> Estimate | None:
    """Area under the ROC curve of [n] sides and scores with its interval; None when one side is empty."""
    value = area_under_roc(positive, score)
    if value is None:
        return None
    smaller = min(len(np.unique(draws.group_index[side])) for side in (positive, ~positive))
    if smaller >= FEW_LESIONS:
        return Estimate(value, *percentile_interval(draws.auc(positive, score)))
    from scipy.special import betaincinv

    # No AUC has a larger variance than value (1 - value) / smaller side (Birnbaum and Klose, Annals of Mathematical
    # Statistics 28, 1957): that of a share of as many independent lesions.
    low, high = betaincinv(smaller * value + 0.5, smaller * (1 - value) + 0.5, [0.025, 0.975])
    return Estimate(value, min(float(low), value), max(float(high), value))


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
