"""Batch-norm statistics of photos preprocessed as on the device, in place of training's. TensorFlow.

Training averages them over views that are cropped, disturbed, mixed, and smaller than the shipped input, at the rate of
its momentum; averaged weights have none of their own at all. Here they are computed anew, from whole photos at the
shipped size, with all other weights as they are ("precise BN" of Wu and Johnson 2021; the mismatch of sizes is that of
Touvron et al. 2019). Where training showed OOD images, each batch holds as large a share of them here: without them the
rule that rejects such images was lost in two folds of five.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edge_runtime.contract import Normalization
from train.data.pixels import PixelArray

# Each layer is fed through its predecessors' statistics of the same batch, so a batch must be as large as training's.
BATCH = 50


def settle(
    model: Any,
    pixels_u8: PixelArray,
    normalization: Normalization,
    outliers_u8: PixelArray | None = None,
    outlier_share: float = 0.0,
) -> None:
    """Set the mean and variance of every batch norm.

    Args:
        model: A network with any weights; only the statistics change.
        pixels_u8: [n, size_px, size_px, 3] photos in random order, n at least 2; the last n % BATCH are left out where
            there are more than BATCH.
        normalization: Of the pixels.
        outliers_u8: [m, size_px, size_px, 3] OOD images in random order; after the last the first again.
        outlier_share: So many of them for each photo of a batch, rounded to whole images.
    """
    norms = [layer for layer in model.layers if isinstance(layer, tf_keras.layers.BatchNormalization)]
    momentums = [norm.momentum for norm in norms]
    # With no momentum a layer's moving statistics are those of the last batch.
    for norm in norms:
        norm.momentum = 0.0

    show = tf.function(lambda batch: model(batch, training=True), reduce_retracing=True)
    means: list[Any] = [[] for _ in norms]
    variances: list[Any] = [[] for _ in norms]
    beside = 0 if outliers_u8 is None else round(BATCH * outlier_share)
    for number, first in enumerate(range(0, max(len(pixels_u8) - BATCH, 0) + 1, BATCH)):
        photos_u8 = pixels_u8[first : first + BATCH]
        if outliers_u8 is not None and beside:
            places = np.arange(number * beside, (number + 1) * beside) % len(outliers_u8)
            photos_u8 = np.concatenate([photos_u8, outliers_u8[places]])
        batch = photos_u8.astype(np.float32)
        show(tf.constant((batch - normalization.mean) / normalization.std))
        for norm, mean, variance in zip(norms, means, variances, strict=True):
            mean.append(norm.moving_mean.numpy())
            variance.append(norm.moving_variance.numpy())
    for norm, momentum, mean, variance in zip(norms, momentums, means, variances, strict=True):
        norm.momentum = momentum
        norm.moving_mean.assign(np.mean(mean, axis=0))
        # Of all photos together: within the batches, and between their means.
        norm.moving_variance.assign(np.mean(variance, axis=0) + np.var(mean, axis=0))
