"""Logits of a Keras network on cached photos, whole or as tiles. numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.contract import Normalization
from train.data.pixels import PixelArray, normalize
from train.evaluation.metrics import FloatArray, softmax


def predict_logits(
    model: Any, pixels_u8: PixelArray, normalization: Normalization, *, batch: int = 16
) -> npt.NDArray[np.float32]:
    """Return logits of cached photos.

    Args:
        model: Its `predict_on_batch` takes [n, s, s, 3] normalized -> [n, classes]: Keras' is one compiled graph, which
            is faster than `model(...)` does (tests/benchmarks/train_step.py).
        pixels_u8: [n, s, s, 3] uint8.
        normalization: The contract's.
        batch: Photos a call. The layers of many do not fit a core's cache.

    Returns:
        [n, classes].
    """
    parts = []
    for start in range(0, len(pixels_u8), batch):
        some = normalize(pixels_u8[start : start + batch], normalization)
        parts.append(np.asarray(model.predict_on_batch(some)))
    return np.concatenate(parts)


def predict_tiles(
    model: Any, pixels_u8: PixelArray, normalization: Normalization, size_px: int, grid: int
) -> npt.NDArray[np.float64]:
    """Return the log of the mean scores over grid x grid tiles, evenly spread in reading order, [n, classes].

    Args:
        model: As `predict_logits`.
        pixels_u8: [n, side, side, 3] uint8, side at least size_px.
        normalization: The contract's.
        size_px: Side of a tile.
        grid: Tiles a side.
    """
    last = pixels_u8.shape[1] - size_px
    places = [round(i * last / max(grid - 1, 1)) if grid > 1 else last // 2 for i in range(grid)]
    scores = [
        softmax(
            predict_logits(model, pixels_u8[:, top : top + size_px, left : left + size_px], normalization)
        )
        for top in places
        for left in places
    ]
    return np.asarray(np.log(np.maximum(np.mean(scores, axis=0), 1e-12)))


def correct_prior(model: Any, correction: FloatArray) -> None:
    """Subtract [classes] of the training prior from the logits, in the bias of the model's last layer, a Dense."""
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel, (bias - correction).astype(bias.dtype)])
