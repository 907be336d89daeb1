"""Class imbalance: sampling and loss weights, and the photos of an epoch. numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class Imbalance(Protocol):
    """How a config weighs rare classes; its table [imbalance]."""

    @property
    def sampling_exponent(self) -> float:
        """Exponent of the class count; -0.5 is the square-root sampling of Mahajan et al. 2018."""

    @property
    def lesion_exponent(self) -> float:
        """Exponent of the lesion's photo count."""

    @property
    def oversampling(self) -> float:
        """Above 0: share of the largest class to which each class is filled up, in place of the exponents."""


def photo_weights(
    labels: npt.NDArray[np.int64],
    lesions: Sequence[str],
    config: Imbalance,
    source_draw: FloatArray | float = 1.0,
) -> FloatArray:
    """Return the probability of each photo to be drawn, [n], sums to 1.

    Args:
        labels: [n] class indices.
        lesions: [n] lesion ids.
        config: Exponents.
        source_draw: [n] factor of each photo's data set.
    """
    if config.oversampling > 0:
        weights = repeats(labels, config.oversampling)
    else:
        _, lesion, photos = np.unique(np.asarray(lesions), return_inverse=True, return_counts=True)
        weights = np.bincount(labels)[labels].astype(np.float64) ** config.sampling_exponent
        weights *= photos[lesion].astype(np.float64) ** config.lesion_exponent
    weights *= source_draw
    return np.asarray(weights / weights.sum())


def repeats(labels: npt.NDArray[np.int64], share: float) -> FloatArray:
    """Return how often an epoch of classical oversampling shows each photo, [n], 1 or more.

    `share` of the largest class's photos is what each class is filled up to; labels are [n] class indices.
    """
    counts = np.bincount(labels)
    return np.asarray(np.maximum(1.0, share * counts.max() / np.maximum(counts, 1))[labels])


def epoch_length(labels: npt.NDArray[np.int64], config: Imbalance) -> int:
    """Return the number of photos in an epoch: as many as there are, more where rare ones are repeated."""
    if config.oversampling > 0:
        return round(float(repeats(labels, config.oversampling).sum()))
    return len(labels)


def loss_weights(labels: npt.NDArray[np.int64], drawn: FloatArray, exponent: float) -> FloatArray:
    """Return (photos of a class) ** exponent, [classes], scaled to mean 1 over the photos as they are drawn."""
    weights = np.maximum(np.bincount(labels), 1).astype(np.float64) ** exponent
    return np.asarray(weights / (weights[labels] * drawn).sum())


def draw_epoch(weights: FloatArray, seed: Sequence[int], count: int | None = None) -> npt.NDArray[np.int64]:
    """Return the photos of one epoch, in order.

    Systematic sampling over photos sorted by weight: each photo, and each class, appears floor or ceil of its expected
    count, so epochs differ less than under independent draws. A pure function of its arguments, so an interrupted
    epoch can be continued.

    Args:
        weights: [n], sums to 1.
        seed: Of this epoch.
        count: How many are drawn; as many as there are if None.

    Returns:
        [count] indices.
    """
    rng = np.random.default_rng(seed)
    count = len(weights) if count is None else count
    order = rng.permutation(len(weights))
    order = order[np.argsort(weights[order], kind="stable")]
    edges = np.cumsum(weights[order])
    points = (np.arange(count) + rng.random()) / count * edges[-1]
    return rng.permutation(order[np.searchsorted(edges, points, side="right").clip(max=len(weights) - 1)])
