"""What a training learns from: squares, labels, chances, outliers, and how a stage shows them. numpy, no framework.

TensorFlow's loop (train/training/loop.py) and PyTorch's (train/experiments/torch/loop.py) are given the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ConfigInvalid, RunInvalid
from train.configs.schema import AugmentConfig, StageConfig, TilesConfig, TrainConfig
from train.data.pixels import PixelArray
from train.data.sampling import epoch_length, loss_weights
from train.training.distillation import read_soft_labels
from train.training.inputs import TRAIN, Inputs

# Training squares are cached this much larger than the network's input, so that zooming in does not blur.
MARGIN = 1.15


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


@dataclass
class TrainingData:
    """What training may see."""

    rows: npt.NDArray[np.int64]
    """[n] rows of each stage's photos that belong to the training split."""
    drawn: npt.NDArray[np.float64]
    """[n] relative chance of each, sums to 1."""
    epoch_photos: int
    """Photos shown in an epoch."""
    prior: npt.NDArray[np.float64]
    """[classes] shares of the classes among the photos as they are drawn."""
    loss_weights: npt.NDArray[np.float64]
    """[classes]."""
    photos_by_stage: Sequence[Photos]
    """For each stage: training squares with a margin, of all splits' photos."""
    val_labels: npt.NDArray[np.int64]
    val_by_stage: Sequence[PixelArray]
    """For each stage: validation squares of the stage's size, or of its tiles' square."""


def training_data(inputs: Inputs, run: Path) -> TrainingData:
    """What each stage draws from.

    Raises:
        ConfigInvalid: A batch is larger than an epoch: nothing would be learnt. And what `Inputs` raises.
    """
    config, data, codes = inputs.config, inputs.data, inputs.codes
    photo_ids = [photo.photo_id for photo in data.manifest.photos]
    labels, rows = inputs.labels(photo_ids), inputs.training_rows()
    epoch_photos = epoch_length(labels[rows], config.imbalance)
    if (largest := max(config.stage, key=lambda stage: stage.batch)).batch > epoch_photos:
        raise ConfigInvalid(
            f"stage {largest.name}: a batch is larger than an epoch, so that nothing would be learnt",
            found=f"batch {largest.batch}, an epoch of {epoch_photos} photos",
            expected="at least one batch an epoch",
            fix="make batch smaller",
        )
    drawn = inputs.draw_chances(rows)
    teacher = read_soft_labels(config.distill, run, data.manifest, rows)
    val_ids = data.ids("val")
    by_stage, val_by_stage = [], []
    for stage in config.stage:
        square_px = inputs.square_px(stage.size_px)
        side_px = square_px if config.tiles.grid else margin_px(stage.size_px)
        outliers = inputs.outliers(TRAIN, side_px)
        by_stage.append(
            Photos(
                inputs.pixels(photo_ids, side_px),
                labels,
                len(codes),
                teacher,
                evenly(*outliers) if outliers else None,
                config.outliers.per_batch,
            )
        )
        val_by_stage.append(inputs.pixels(val_ids, square_px))
    return TrainingData(
        rows=rows,
        drawn=drawn,
        epoch_photos=epoch_photos,
        prior=np.bincount(labels[rows], weights=drawn, minlength=len(codes)),
        loss_weights=loss_weights(labels[rows], drawn, config.imbalance.loss_exponent),
        photos_by_stage=by_stage,
        val_labels=inputs.labels(val_ids),
        val_by_stage=val_by_stage,
    )


def evenly(real: PixelArray, generated: PixelArray) -> PixelArray:
    """Both kinds in one array, the real pictures repeated so that as many of either kind are drawn."""
    times = max(1, round(len(generated) / max(len(real), 1)))
    return np.concatenate([*[real] * times, generated])


def require_finite(loss_sum: float, stage: StageConfig, epoch: int) -> None:
    """Refuses to go on, or to keep anything, once a loss is no number any more.

    Raises:
        RunInvalid: It is not; what was kept before is left.
    """
    if not math.isfinite(loss_sum):
        raise RunInvalid(
            f"stage {stage.name}, epoch {epoch + 1}: training has diverged",
            found=f"a loss of {loss_sum}",
            expected="a finite loss",
            fix="choose a smaller learning_rate and another --workdir",
        )


def learning_rate(stage: StageConfig, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then a cosine from learning_rate to final_learning_rate over the whole stage."""
    total = max(stage.epochs * steps_per_epoch, 1)
    warmup = stage.warmup_share * total
    if step < warmup:
        return stage.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(total - warmup, 1)
    span = stage.learning_rate - stage.final_learning_rate
    return stage.final_learning_rate + span * 0.5 * (1 + math.cos(math.pi * share))
