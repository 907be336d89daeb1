"""Intervals of recall and balanced accuracy that hold for few lesions too. numpy and scipy.

A bootstrap of whole lesions has nothing to draw from where a class has one lesion or no error: its interval shrinks to
a point, or loses the class. Here each class's recall gets a Beta distribution (Jeffreys prior, as recommended for
binomial proportions by Brown, Cai and DasGupta, Statistical Science 16, 2001) with an effective number of photos that
allows for photos of one lesion being alike (design effect, Kish 1965). Balanced accuracy is the mean of independent
draws from the classes' distributions. `python -m tests.benchmarks.interval_coverage` measures the coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from train.evaluation.metrics import Estimate, FloatArray, IntArray

FEW_LESIONS = 10
"""Below so many lesions of a class, its recall is one or two patients' word: said beside every figure that uses it."""
DRAWS = 20_000


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

    def estimate(self, level: float = 0.95) -> Estimate | None:
        """Recall with its interval; None without a photo."""
        if not self.photos:
            return None
        from scipy.stats import beta

        tail = (1 - level) / 2
        a, b = self._shape()
        # At 0 or all hits the end is closed, as Brown, Cai and DasGupta modify the Jeffreys interval.
        low = 0.0 if not self.hits else float(beta.ppf(tail, a, b))
        high = 1.0 if self.hits == self.photos else float(beta.ppf(1 - tail, a, b))
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
    return [_recall(names[y_true == index], (y_pred == index)[y_true == index]) for index in range(classes)]


def _recall(lesions: npt.NDArray[Any], hit: npt.NDArray[np.bool_]) -> ClassRecall:
    photos, hits = len(hit), int(hit.sum())
    _, which = np.unique(lesions, return_inverse=True)
    of_lesion = np.bincount(which)
    count = len(of_lesion)
    share = hits / photos if photos else 0.0
    effective = float(count)
    if count > 1 and 0 < hits < photos:
        # The variance of a ratio of sums over lesions, against that of as many independent photos.
        excess = np.bincount(which, weights=hit) - share * of_lesion
        variance = float((excess**2).sum()) / photos**2 * count / (count - 1)
        if variance > 0:
            effective = float(
                np.clip(share * (1 - share) / variance, count if count < FEW_LESIONS else 1, photos)
            )
    return ClassRecall(photos, count, hits, effective)


def balanced_accuracy_estimate(
    of_classes: Sequence[ClassRecall], *, level: float = 0.95, seed: int = 0
) -> Estimate | None:
    """Mean recall over the classes that have photos, with its interval; None where none has."""
    present = [one for one in of_classes if one.photos]
    if not present:
        return None
    rng = np.random.default_rng(seed)
    draws = np.mean([one.draw(rng, DRAWS) for one in present], axis=0)
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    value = float(np.mean([one.hits / one.photos for one in present]))
    return Estimate(value, min(float(low), value), max(float(high), value))
