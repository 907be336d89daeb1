"""The bootstrap of whole lesions as the textbook has it: what `GroupDraws` is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


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
