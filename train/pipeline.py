"""The tf.data input pipeline: cached pixels to augmented, normalized batches. TensorFlow.

A batch is a pure function of (seed, stage, epoch, step), so an epoch can be entered at any step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edge_runtime.contract import Normalization
from train.augment import augment
from train.config import AugmentConfig
from train.pixels import PixelArray

# Training squares are cached this much larger than the network's input, so that zooming in does not blur.
MARGIN = 1.15


def margin_px(size_px: int) -> int:
    """Side of the cached training squares for a network input of size_px."""
    return round(size_px * MARGIN)


def training_batches(
    pixels_u8: PixelArray,
    labels: npt.NDArray[np.int64],
    drawn: npt.NDArray[np.int64],
    *,
    first_step: int,
    batch: int,
    size_px: int,
    augmentation: AugmentConfig,
    normalization: Normalization,
    seed: tuple[int, int],
) -> tf.data.Dataset:
    """The batches of one epoch from first_step on.

    Args:
        pixels_u8: [n, side, side, 3] cached squares.
        labels: [n] class indices.
        drawn: [m] which photos the epoch shows, in order.
        first_step: Steps already done.
        batch: Photos a step; the last, smaller batch is dropped.
        size_px: Side of the result.
        augmentation: Ranges.
        normalization: The contract's.
        seed: Of this epoch.

    Returns:
        A dataset of (pixels [batch, size_px, size_px, 3] float32 normalized, labels [batch] int64).
    """
    side = pixels_u8.shape[1]

    def gather(step: np.int64) -> tuple[PixelArray, npt.NDArray[np.int64]]:
        chosen = drawn[step * batch : (step + 1) * batch]
        return pixels_u8[chosen], labels[chosen]

    def prepare(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        squares, truth = tf.numpy_function(gather, [step], (tf.uint8, tf.int64), stateful=False)
        squares = tf.ensure_shape(squares, [batch, side, side, 3])
        step_seed = tf.random.experimental.stateless_fold_in(
            tf.constant(seed, tf.int32), tf.cast(step, tf.int32)
        )
        pixels = augment(squares, size_px, augmentation, step_seed)
        return (pixels - normalization.mean) / normalization.std, tf.ensure_shape(truth, [batch])

    steps = tf.data.Dataset.range(first_step, len(drawn) // batch)
    return steps.map(prepare, num_parallel_calls=2, deterministic=True).prefetch(2)
