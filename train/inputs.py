"""The arrays that an experiment learns from and is measured on: pixels, labels, pictures without a lesion. numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.contract import ModelContract
from train.config import TrainConfig
from train.data_sets import DataSet
from train.metrics import IntArray
from train.outliers import divide_outliers, generate_outliers, outlier_pixels, read_outliers
from train.pixels import PixelArray, cached_pixels

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
