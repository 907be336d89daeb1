"""The arrays that an experiment learns from and is measured on: pixels, labels, pictures without a lesion. numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.contract import ModelContract
from edge_runtime.errors import ConfigInvalid
from train.configs.schema import TrainConfig
from train.data.outliers import divide_outliers, generate_outliers, outlier_pixels, read_outliers
from train.data.pixels import PixelArray, cached_pixels
from train.data.sampling import draw_epoch, photo_weights
from train.data.sources import DataSet
from train.evaluation.metrics import FloatArray, IntArray

# Generated pictures without a lesion, each part by its own seed.
GENERATED = {"train": 400, "threshold": 100, "test": 100}
TRAIN, THRESHOLD, TEST = GENERATED
# Fixed, whatever the config's seed: a picture that one run learns from may not be counted by another.
DIVISION_SEED = 20181


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
        """Side of the squares on which a network of size_px is measured: its input, or the square of its tiles."""
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
            raise ConfigInvalid(
                "the training split lacks classes",
                found=f"no photo of {', '.join(empty)}",
                expected="every class in training",
                fix="use more data, or a smaller test share (split.folds)",
            )
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
            return decision.prior_correction * np.log(prior)
        # The loss took out the prior of all data sets: its difference to the first one's is still in the answers.
        first = self._prior(rows, chances, self.config.data.folder)
        taken_out = self.config.imbalance.logit_adjustment * np.log(first / prior)
        return taken_out + decision.prior_correction * np.log(first)

    def _prior(self, rows: IntArray, chances: FloatArray, source: str = "") -> FloatArray:
        """[classes] shares of the classes among these photos as they are drawn; of one data set if it is named."""
        photo_ids = [self.data.manifest.photos[i].photo_id for i in rows]
        counted = np.array([not source or self.data.source_of[i] == source for i in photo_ids])
        sums = np.bincount(self.labels(photo_ids), weights=chances * counted, minlength=len(self.codes))
        return sums / sums.sum()

    def shown(self, rows: IntArray, chances: FloatArray, count: int) -> PixelArray:
        """[count, size_px, size_px, 3] of these photos, drawn as training draws them, seen as the device sees them.

        A photo can be there more than once: without that, many of few photos would come as nature has them.
        """
        some = rows[draw_epoch(chances, (self.config.seed,), count)]
        photo_ids = [self.data.manifest.photos[i].photo_id for i in some]
        return self.pixels(photo_ids, self.config.input.size_px)

    def outliers(self, part: str, size_px: int) -> tuple[PixelArray, PixelArray] | None:
        """Real and generated pictures without a lesion, each [n, size_px, size_px, 3]; None if the config has none.

        Args:
            part: `train`, `threshold` or `test`; no kind of real picture stands in two of them.
            size_px: Their side.
        """
        if not self.config.outliers.folder:
            return None
        divided = divide_outliers(
            read_outliers(self.folder.parent / self.config.outliers.folder), DIVISION_SEED
        )
        generated = generate_outliers(GENERATED[part], size_px, seed=list(GENERATED).index(part))
        return outlier_pixels(divided[part], self.contract, size_px), generated
