"""From a trained network to figures: logits, temperature, thresholds, metrics.json content. TensorFlow.

The temperature and the refer threshold are chosen on the validation photos; the test photos are only counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from edge_runtime.contract import Calibration, Normalization, Rule
from train.data.pixels import PixelArray
from train.evaluation.metrics import FloatArray, IntArray, softmax

# Outside this range a fit says that the validation photos cannot tell.
TEMPERATURES = (0.2, 5.0)


def predict_logits(
    model: Any, pixels_u8: PixelArray, normalization: Normalization, *, batch: int = 16
) -> npt.NDArray[np.float32]:
    """Logits of cached photos.

    Args:
        model: Its `predict_on_batch` takes [n, s, s, 3] normalized -> [n, classes]: Keras' is one compiled graph, which
            answers more photos a second than `model(...)` does (tests/benchmarks/train_step.py).
        pixels_u8: [n, s, s, 3] uint8.
        normalization: The contract's.
        batch: Photos a call. The layers of many do not fit a core's cache.

    Returns:
        [n, classes].
    """
    parts = []
    for start in range(0, len(pixels_u8), batch):
        pixels = pixels_u8[start : start + batch].astype(np.float32)
        parts.append(np.asarray(model.predict_on_batch((pixels - normalization.mean) / normalization.std)))
    return np.concatenate(parts)


def predict_tiles(
    model: Any, pixels_u8: PixelArray, normalization: Normalization, size_px: int, grid: int
) -> npt.NDArray[np.float64]:
    """Log of the mean scores over grid x grid tiles, evenly spread in reading order.

    Args:
        model: As `predict_logits`.
        pixels_u8: [n, side, side, 3] uint8, side at least size_px.
        normalization: The contract's.
        size_px: Side of a tile.
        grid: Tiles a side.

    Returns:
        [n, classes].
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
    return np.log(np.maximum(np.mean(scores, axis=0), 1e-12))


def correct_prior(model: Any, correction: FloatArray) -> None:
    """Takes the training prior out of the answers, in place, in the bias of the last layer.

    Args:
        model: Ends in a Dense of logits with a bias.
        correction: [classes] that is subtracted: train/training/inputs.py `prior_correction`.
    """
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel, (bias - correction).astype(bias.dtype)])


def fit_temperature(y_true: IntArray, logits: FloatArray) -> Calibration:
    """The temperature that minimizes the negative log likelihood (Guo et al. 2017)."""
    rows = np.arange(len(y_true))

    def loss(log_temperature: float) -> float:
        probs = softmax(logits, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(probs[rows, y_true], 1e-12)).mean())

    fitted = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return Calibration(method="temperature", temperature=round(float(np.exp(fitted.x)), 4))


def refer_rule(probs: FloatArray, share: float) -> Rule | None:
    """Refers the least certain `share` of photos such as these; None for a share of 0."""
    if share == 0:
        return None
    threshold = round(float(np.quantile(probs.max(axis=1), share)), 4)
    source = f"{share:.0%} quantile of the top score of the {len(probs)} validation photos"
    return Rule(measure="top_score", threshold=threshold, source=source)
