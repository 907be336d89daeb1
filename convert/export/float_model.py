"""A float model's scores for the contract's pixels. TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from edge_runtime.contract import ModelContract
from train.data.pixels import PixelArray, normalize
from train.evaluation.metrics import FloatArray, softmax

BATCH = 32


class Predictor:
    """Runs a model, from normalized pixels to logits, in batches of one size, so that it is traced once."""

    def __init__(self, model: Any, contract: ModelContract) -> None:
        self._forward = tf.function(lambda x: model(x, training=False))
        self._contract = contract

    def __call__(self, pixels_u8: PixelArray) -> FloatArray:
        """Softmax of the logits, [n, labels]; pixels_u8 is [n, height_px, width_px, 3]."""
        parts = []
        for i in range(0, len(pixels_u8), BATCH):
            batch = normalize(pixels_u8[i : i + BATCH], self._contract.normalization)
            filler = np.zeros((BATCH - len(batch), *batch.shape[1:]), np.float32)
            parts.append(self._forward(tf.constant(np.concatenate([batch, filler]))).numpy()[: len(batch)])
        return softmax(np.concatenate(parts).astype(np.float64))
