"""The tf.data input pipeline: cached pixels to augmented, normalized batches. TensorFlow.

A batch is a pure function of (seed, stage, epoch, step), so an epoch can be entered at any step.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edge_runtime.contract import Normalization
from train.augment import augment, mixup
from train.config import AugmentConfig, StageConfig, TilesConfig, TrainConfig
from train.pixels import PixelArray

# Training squares are cached this much larger than the network's input, so that zooming in does not blur.
MARGIN = 1.15
# The label of a picture that shows no lesion.
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


@dataclass(frozen=True)
class Photos:
    """What batches are drawn from."""

    pixels_u8: PixelArray
    """[m, side, side, 3] cached squares, memory-mapped."""
    labels: npt.NDArray[np.int64]
    """[m]."""
    classes: int
    teacher: npt.NDArray[np.float32] | None = None
    """[m, classes]."""
    outliers_u8: PixelArray | None = None
    """[k, side, side, 3]."""
    outliers_per_batch: int = 0


def margin_px(size_px: int) -> int:
    """Side of the cached training squares for a network input of size_px."""
    return round(size_px * MARGIN)


def tile_px(size_px: int, tiles: TilesConfig) -> int:
    """Side of the square of which a size_px tile is config.fraction."""
    return round(size_px / tiles.fraction)


def tile_augmentation(augmentation: AugmentConfig, tiles: TilesConfig) -> AugmentConfig:
    """Views of one random tile: the zoom is relative to a tile, which may lie anywhere in the square."""
    zoom = (augmentation.zoom[0] * tiles.fraction, augmentation.zoom[1] * tiles.fraction)
    return dataclasses.replace(augmentation, zoom=zoom, shift=(1 - tiles.fraction) / 2)


def stage_augmentation(config: TrainConfig, stage: StageConfig) -> AugmentConfig:
    """What a stage's views are drawn from: [augment], with the stage's own zoom if it has one, within tiles if any."""
    views = config.augment
    if stage.zoom:
        views = dataclasses.replace(views, zoom=(stage.zoom[0], stage.zoom[1]))
    return tile_augmentation(views, config.tiles) if config.tiles.grid else views


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
    """The batches of one epoch from first_step on.

    Args:
        photos: What is drawn from.
        drawn: [m] rows of `photos` that the epoch shows, in order.
        first_step: Steps already done.
        batch: Photos a step, outliers not counted; the last, smaller batch is dropped.
        size_px: Side of the result.
        augmentation: Ranges.
        normalization: The contract's.
        seed: Of this epoch.

    Returns:
        A dataset of Batch, each with batch + photos.outliers_per_batch rows.
    """
    side, classes = photos.pixels_u8.shape[1], photos.classes
    outliers = photos.outliers_per_batch if photos.outliers_u8 is not None else 0
    rows = batch + outliers

    def gather(step: np.int64) -> tuple[PixelArray, npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        chosen = drawn[step * batch : (step + 1) * batch]
        pixels, truth = photos.pixels_u8[chosen], photos.labels[chosen]
        one_hot = np.eye(classes, dtype=np.float32)[truth]
        soft = np.concatenate(
            [one_hot, photos.teacher[chosen] if photos.teacher is not None else one_hot], axis=1
        )
        if photos.outliers_u8 is not None and outliers:
            which = np.random.default_rng([*seed, int(step)]).integers(len(photos.outliers_u8), size=outliers)
            pixels = np.concatenate([pixels, photos.outliers_u8[which]])
            truth = np.concatenate([truth, np.full(outliers, OUTLIER)])
            soft = np.concatenate([soft, np.full((outliers, 2 * classes), 1 / classes, np.float32)])
        return pixels, truth, soft.astype(np.float32)

    def prepare(step: tf.Tensor) -> Batch:
        squares, truth, soft = tf.numpy_function(
            gather, [step], (tf.uint8, tf.int64, tf.float32), stateful=False
        )
        squares = tf.ensure_shape(squares, [rows, side, side, 3])
        truth, soft = tf.ensure_shape(truth, [rows]), tf.ensure_shape(soft, [rows, 2 * classes])
        step_seed = tf.random.experimental.stateless_fold_in(
            tf.constant(seed, tf.int32), tf.cast(step, tf.int32)
        )
        pixels = augment(squares, size_px, augmentation, step_seed)
        if augmentation.mixup > 0:
            # Photos only: an outlier mixed with a lesion would still show the lesion.
            mixed, mixed_soft = mixup(pixels[:batch], soft[:batch], augmentation.mixup, step_seed)
            pixels = tf.concat([mixed, pixels[batch:]], axis=0)
            soft = tf.concat([mixed_soft, soft[batch:]], axis=0)
        return Batch(
            (pixels - normalization.mean) / normalization.std, truth, soft[:, :classes], soft[:, classes:]
        )

    steps = tf.data.Dataset.range(first_step, len(drawn) // batch)
    return steps.map(prepare, num_parallel_calls=2, deterministic=True).prefetch(2)
