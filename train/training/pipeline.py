"""The tf.data input pipeline: cached pixels to augmented, normalized batches. TensorFlow.

A batch is a pure function of (seed, stage, epoch, step), so an epoch can be entered at any step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edge_runtime.contract import Normalization
from train.configs.schema import AugmentConfig
from train.data.pixels import PixelArray
from train.training.augment import augment, mixup
from train.training.inputs import Photos

# The label of an OOD image.
OUTLIER = -1


class Batch(NamedTuple):
    """One step's input. Outliers, if any, stand last; their targets are uniform."""

    pixels: tf.Tensor
    """[n, size_px, size_px, 3] float32, normalized."""
    truth: tf.Tensor
    """[n] int64 class indices, OUTLIER for outliers; after mixup the class with the larger share."""
    targets: tf.Tensor
    """[n, classes] float32."""
    teacher: tf.Tensor
    """[n, classes] float32: the teacher's probabilities, or the targets again where there is no teacher."""


def training_batches(
    photos: Photos,
    drawn: npt.NDArray[np.int64],
    *,
    first_step: int,
    batch: int,
    size_px: int,
    augmentation: AugmentConfig,
    normalization: Normalization,
    seed: tuple[int, int],
) -> tf.data.Dataset:
    """Make the batches of one epoch from first_step on, each with batch + photos.outliers_per_batch rows.

    Args:
        photos: What is drawn from.
        drawn: [m] rows of `photos` that the epoch shows, in order.
        first_step: Steps already done.
        batch: Photos a step, outliers not counted; the last, smaller batch is dropped.
        size_px: Side of the result.
        augmentation: Ranges.
        normalization: The contract's.
        seed: Of this epoch.
    """
    side, classes = photos.pixels_u8.shape[1], photos.classes
    outliers = photos.outliers_per_batch if photos.outliers_u8 is not None else 0
    rows = batch + outliers

    def gather(step: np.int64) -> tuple[PixelArray, npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        chosen = drawn[step * batch : (step + 1) * batch]
        pixels, truth = photos.pixels_u8[chosen], photos.labels[chosen]
        one_hot = np.eye(classes, dtype=np.float32)[truth]
        teacher = photos.teacher[chosen] if photos.teacher is not None else one_hot
        soft = np.concatenate([one_hot, teacher], axis=1)
        if photos.outliers_u8 is not None and outliers:
            which = np.random.default_rng([*seed, int(step)]).integers(len(photos.outliers_u8), size=outliers)
            pixels = np.concatenate([pixels, photos.outliers_u8[which]])
            truth = np.concatenate([truth, np.full(outliers, OUTLIER)])
            soft = np.concatenate([soft, np.full((outliers, 2 * classes), 1 / classes, np.float32)])
        return pixels, truth, soft.astype(np.float32)

    def prepare(step: tf.Tensor) -> Batch:
        gathered = tf.numpy_function(gather, [step], (tf.uint8, tf.int64, tf.float32), stateful=False)
        shapes = [rows, side, side, 3], [rows], [rows, 2 * classes]
        squares, truth, soft = map(tf.ensure_shape, gathered, shapes)
        epoch_seed = tf.constant(seed, tf.int32)
        step_seed = tf.random.experimental.stateless_fold_in(epoch_seed, tf.cast(step, tf.int32))
        pixels = augment(squares, size_px, augmentation, step_seed)
        if augmentation.mixup > 0:
            # Photos only: an outlier mixed with a lesion would still show the lesion.
            mixed, mixed_soft = mixup(pixels[:batch], soft[:batch], augmentation.mixup, step_seed)
            pixels = tf.concat([mixed, pixels[batch:]], axis=0)
            soft = tf.concat([mixed_soft, soft[batch:]], axis=0)
        pixels = (pixels - normalization.mean) / normalization.std
        return Batch(pixels, truth, soft[:, :classes], soft[:, classes:])

    steps = tf.data.Dataset.range(first_step, len(drawn) // batch)
    return steps.map(prepare, num_parallel_calls=2, deterministic=True).prefetch(2)
