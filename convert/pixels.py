"""The contract's pixels of a run's photos, made once and kept in RUN/convert. numpy.

Calibration, fine-tuning and the acceptance test all read their pixels here, through train/data/pixels.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from convert.inputs import Photo, Run
from edge_runtime.contract import ModelContract
from train.data import pixels
from train.data.pixels import PixelArray


def read_pixels(photos: Sequence[Photo], contract: ModelContract, *, progress: str = "") -> PixelArray:
    """As `train.data.pixels.read_pixels`, of a run's photos."""
    return pixels.read_pixels([photo.path for photo in photos], contract, progress=progress)


def cached_pixels(run: Run, photos: Sequence[Photo], name: str) -> PixelArray:
    """Return pixels of photos of a split, `name`, from RUN/convert/pixels, made on first use.

    Returns:
        [n, height_px, width_px, 3] uint8, read-only, memory-mapped: 1.1 GB for the 7,200 of a train split at 224 px.

    Raises:
        ImageError: A photo cannot be read.
    """
    plain = run.contract.to_dict()
    sizes = [(photo.photo_id, photo.path.stat().st_size) for photo in photos]
    key = pixels.cache_key(json.dumps([plain["input"], plain["geometry"], sizes]))
    path = run.work_folder / "pixels" / f"{name}_{key}.npy"
    return pixels.kept_pixels(
        path, [photo.path for photo in photos], run.contract, progress=f"pixels of {name}"
    )
