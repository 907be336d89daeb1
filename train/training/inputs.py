"""What an experiment is trained and evaluated on: pixels, labels, sampling, OOD images, learning rates. No framework.

TensorFlow's loop (train/training/loop.py) and PyTorch's (train/experiments/torch/loop.py) are given the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.contract import ModelContract
from edge_runtime.errors import ConfigInvalid, RunInvalid
from train.configs.schema import AugmentConfig, StageConfig, TilesConfig, TrainConfig
from train.data.outliers import divide_outliers, generate_outliers, outlier_pixels, read_outliers
from train.data.pixels import PixelArray, cached_pixels
from train.data.sampling import draw_epoch, epoch_length, loss_weights, photo_weights
from train.data.sources import DataSet
from train.evaluation.metrics import FloatArray, IntArray
from train.training.distillation import SoftLabels, read_soft_labels

# Generated OOD images, each split by its own seed.
GENERATED = {"train": 400, "threshold": 100, "test": 100}
TRAIN, THRESHOLD, TEST = GENERATED
# Of the photos, evaluated after training.
PARTS = ("val", "test")
# Fixed, whatever the config's seed: an image that one run trains on may not be counted by another.
DIVISION_SEED = 20181
# Training squares are cached this much larger than the network's input, so that zooming in does not blur.
MARGIN = 1.15


@dataclass(frozen=True)
class Inputs:
    """Where an experiment's arrays come from."""

    config: TrainConfig
    contract: ModelContract
    data: DataSet
    folder: Path
    """Of the first data set."""
    cache: Path
    """Folder of cached pixels."""

    @property
    def codes(self) -> tuple[str, ...]:
        """The labels in output order."""
        return self.data.manifest.labels.codes

    def square_px(self, size_px: int) -> int:
        """Side of the squares on which a network of size_px is evaluated: its input, or the square of its tiles."""
        tiles = self.config.tiles
        return round(size_px / tiles.fraction) if tiles.grid else size_px

    def pixels(self, photo_ids: list[str], size_px: int) -> PixelArray:
        """[n, size_px, size_px, 3] of photos in the given order."""
        return cached_pixels(self.data.manifest, photo_ids, self.contract, size_px, self.cache)

    def labels(self, photo_ids: list[str]) -> IntArray:
        """Class indices [n]."""
        label_of = {photo.photo_id: photo.label for photo in self.data.manifest.photos}
        return np.array([self.data.manifest.labels.index(label_of[i]) for i in photo_ids], np.int64)

    def training_rows(self) -> IntArray:
        """[n] places of the training photos among all photos.

        Raises:
            ConfigInvalid: They lack a class.
        """
        photos, part_of = self.data.manifest.photos, self.data.assignment
        rows = np.array([i for i, p in enumerate(photos) if part_of[p.photo_id] == "train"], np.int64)
        present = {photos[i].label for i in rows}
        if empty := [code for code in self.codes if code not in present]:
            found, expected = f"no photo of {', '.join(empty)}", "every class in training"
            fix = "use more data, or a smaller test share (split.folds)"
            raise ConfigInvalid("the training split lacks classes", found=found, expected=expected, fix=fix)
        return rows

    def draw_chances(self, rows: IntArray) -> FloatArray:
        """[n] chances that sum to 1: how often training draws each of these photos."""
        photos = [self.data.manifest.photos[i] for i in rows]
        draw_of = {source.folder: source.draw for source in self.config.source}
        source_draw = np.array([draw_of.get(self.data.source_of[p.photo_id], 1.0) for p in photos])
        labels = self.labels([p.photo_id for p in photos])
        return photo_weights(labels, [p.lesion_id for p in photos], self.config.imbalance, source_draw)

    def prior_correction(self, rows: IntArray, chances: FloatArray) -> FloatArray:
        """[classes] that [decision] subtracts from the logits of a network trained on these photos, drawn so."""
        decision, prior = self.config.decision, self._prior(rows, chances)
        if decision.prior_of == "all":
            return np.asarray(decision.prior_correction * np.log(prior))
        # The loss took out the prior of all data sets: its difference to the first one's is still in the logits.
        first = self._prior(rows, chances, self.config.data.folder)
        taken_out = self.config.imbalance.logit_adjustment * np.log(first / prior)
        return np.asarray(taken_out + decision.prior_correction * np.log(first))

    def _prior(self, rows: IntArray, chances: FloatArray, source: str = "") -> FloatArray:
        """[classes] shares of the classes among these photos as they are drawn; of one data set if it is named."""
        photo_ids = [self.data.manifest.photos[i].photo_id for i in rows]
        counted = np.array([not source or self.data.source_of[i] == source for i in photo_ids])
        sums = np.bincount(self.labels(photo_ids), weights=chances * counted, minlength=len(self.codes))
        return np.asarray(sums / sums.sum())

    def shown(self, rows: IntArray, chances: FloatArray, count: int) -> PixelArray:
        """[count, size_px, size_px, 3] of these photos, drawn as in training, preprocessed as on the device.

        A photo can be there more than once: without that, many of few photos would have the data's own frequencies.
        """
        some = rows[draw_epoch(chances, (self.config.seed,), count)]
        photo_ids = [self.data.manifest.photos[i].photo_id for i in some]
        return self.pixels(photo_ids, self.config.input.size_px)

    def keep_pixels(self) -> None:
        """Make what is evaluated after training, so that a full disk (DiskFull) is noticed before it."""
        size_px, count = self.config.input.size_px, self.config.model.batch_norm_photos
        for part in PARTS:
            if photo_ids := self.data.ids(part):
                self.pixels(photo_ids, self.square_px(size_px))
        if count:
            rows = self.training_rows()
            self.shown(rows, self.draw_chances(rows), count)

    def outliers(self, part: str, size_px: int) -> tuple[PixelArray, PixelArray] | None:
        """Real and generated OOD images, each [n, size_px, size_px, 3]; None if the config has none.

        `part` is `train`, `threshold` or `test`; no kind of real image occurs in two of them.
        """
        if not self.config.outliers.folder:
            return None
        images = read_outliers(self.folder.parent / self.config.outliers.folder)
        divided = divide_outliers(images, DIVISION_SEED)
        generated = generate_outliers(GENERATED[part], size_px, seed=list(GENERATED).index(part))
        return outlier_pixels(divided[part], self.contract, size_px), generated


@dataclass(frozen=True)
class Photos:
    """What batches are drawn from."""

    pixels_u8: PixelArray
    """[m, side, side, 3] cached squares, memory-mapped."""
    labels: IntArray
    """[m]."""
    classes: int
    teacher: SoftLabels | None = None
    """[m, classes]."""
    outliers_u8: PixelArray | None = None
    """[k, side, side, 3]."""
    outliers_per_batch: int = 0


@dataclass
class TrainingData:
    """What training may see."""

    rows: IntArray
    """[n] rows of each stage's photos that belong to the training split."""
    drawn: FloatArray
    """[n] relative chance of each, sums to 1."""
    epoch_photos: int
    """Photos shown in an epoch."""
    prior: FloatArray
    """[classes] shares of the classes among the photos as they are drawn."""
    loss_weights: FloatArray
    """[classes]."""
    photos_by_stage: Sequence[Photos]
    """For each stage: training squares with a margin, of all splits' photos."""
    val_labels: IntArray
    val_by_stage: Sequence[PixelArray]
    """For each stage: validation squares of the stage's size, or of its tiles' square."""


def training_data(inputs: Inputs, run: Path) -> TrainingData:
    """Collect what each stage draws from.

    Raises:
        ConfigInvalid: A batch exceeds the photos of an epoch; and what `Inputs` raises.
    """
    config, data, codes = inputs.config, inputs.data, inputs.codes
    photo_ids = [photo.photo_id for photo in data.manifest.photos]
    labels, rows = inputs.labels(photo_ids), inputs.training_rows()
    epoch_photos = epoch_length(labels[rows], config.imbalance)
    if (largest := max(config.stage, key=lambda stage: stage.batch)).batch > epoch_photos:
        problem = f"stage {largest.name}: batch exceeds the number of training samples in an epoch"
        found, expected = str(largest.batch), f"at most {epoch_photos}"
        raise ConfigInvalid(problem, found=found, expected=expected, fix="make batch smaller")
    drawn = inputs.draw_chances(rows)
    teacher = read_soft_labels(config.distill, run, data.manifest, rows)
    val_ids = data.ids("val")
    by_stage, val_by_stage = [], []
    for stage in config.stage:
        square_px = inputs.square_px(stage.size_px)
        side_px = square_px if config.tiles.grid else round(stage.size_px * MARGIN)
        ood = inputs.outliers(TRAIN, side_px)
        ood_u8 = evenly(*ood) if ood else None
        squares_u8 = inputs.pixels(photo_ids, side_px)
        by_stage.append(Photos(squares_u8, labels, len(codes), teacher, ood_u8, config.outliers.per_batch))
        val_by_stage.append(inputs.pixels(val_ids, square_px))
    return TrainingData(
        rows=rows,
        drawn=drawn,
        epoch_photos=epoch_photos,
        prior=np.bincount(labels[rows], weights=drawn, minlength=len(codes)).astype(np.float64),
        loss_weights=loss_weights(labels[rows], drawn, config.imbalance.loss_exponent),
        photos_by_stage=by_stage,
        val_labels=inputs.labels(val_ids),
        val_by_stage=val_by_stage,
    )


def evenly(real: PixelArray, generated: PixelArray) -> PixelArray:
    """Both kinds in one array, the real images repeated so that as many of either kind are drawn."""
    times = max(1, round(len(generated) / max(len(real), 1)))
    return np.concatenate([*[real] * times, generated])


def stage_augmentation(config: TrainConfig, stage: StageConfig) -> AugmentConfig:
    """The ranges of a stage's views: [augment], with the stage's own zoom if it has one, within tiles if any."""
    views = config.augment
    if stage.zoom:
        views = dataclasses.replace(views, zoom=(stage.zoom[0], stage.zoom[1]))
    return tile_augmentation(views, config.tiles) if config.tiles.grid else views


def tile_augmentation(augmentation: AugmentConfig, tiles: TilesConfig) -> AugmentConfig:
    """Views of one random tile: the zoom is relative to a tile, which may lie anywhere in the square."""
    zoom = (augmentation.zoom[0] * tiles.fraction, augmentation.zoom[1] * tiles.fraction)
    return dataclasses.replace(augmentation, zoom=zoom, shift=(1 - tiles.fraction) / 2)


def learning_rate(stage: StageConfig, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then a cosine from learning_rate to final_learning_rate over the whole stage."""
    total = max(stage.epochs * steps_per_epoch, 1)
    warmup = stage.warmup_share * total
    if step < warmup:
        return stage.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(total - warmup, 1)
    span = stage.learning_rate - stage.final_learning_rate
    return stage.final_learning_rate + span * 0.5 * (1 + math.cos(math.pi * share))


def require_finite(loss_sum: float, stage: StageConfig, epoch: int) -> None:
    """Refuse to go on, or to keep anything, once a loss is not finite.

    Raises:
        RunInvalid: It is not; what was kept before is left.
    """
    if not math.isfinite(loss_sum):
        problem = f"stage {stage.name}, epoch {epoch + 1}: training has diverged"
        found, fix = f"a loss of {loss_sum}", "choose a smaller learning_rate and another --workdir"
        raise RunInvalid(problem, found=found, expected="a finite loss", fix=fix)
