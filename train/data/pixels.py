"""Photos decoded once, through the runtime's preprocessing, into one memory-mapped array per size. numpy, Pillow.

Evaluation reads arrays of exactly the contract's size: those bytes are the runtime's pixels. Training reads arrays
with a margin, from which augmentation resamples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edge_runtime.contract import InputSpec, ModelContract
from edge_runtime.images.preprocess import fit_pixels
from train.artifacts.manifest import Manifest
from train.artifacts.run import whole_file

PixelArray = npt.NDArray[np.uint8]


def cached_pixels(
    manifest: Manifest, photo_ids: Sequence[str], contract: ModelContract, size_px: int, folder: Path
) -> PixelArray:
    """Pixels of photos in the given order, read from the cache or written to it.

    Args:
        manifest: Where the photos are.
        photo_ids: Which, in which order.
        contract: Its geometry is applied; its input size is replaced by size_px.
        size_px: Side of the squares.
        folder: The cache; its files can be deleted at any time.

    Returns:
        [n, size_px, size_px, 3] uint8, memory-mapped, read only.

    Raises:
        ImageError: A photo that was readable when the manifest was made no longer is.
    """
    sized = dataclasses.replace(
        contract, input=InputSpec(size_px, size_px, contract.input.color_space, contract.input.alpha)
    )
    key = hashlib.sha256("\n".join([manifest.sha256, repr(sized.geometry), *photo_ids]).encode()).hexdigest()[
        :16
    ]
    path = folder / f"{size_px}px_{key}.npy"
    cached = _read(path)
    if cached is not None and len(cached) == len(photo_ids):
        return cached
    folder.mkdir(parents=True, exist_ok=True)
    by_id = {photo.photo_id: manifest.root / photo.path for photo in manifest.photos}
    _write(path, [by_id[photo_id] for photo_id in photo_ids], sized)
    return np.load(path, mmap_mode="r")


def _read(path: Path) -> PixelArray | None:
    """What was cached; None where nothing is, or what no disk error should leave: it is made anew."""
    try:
        cached: PixelArray = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return cached


def _write(path: Path, photos: Sequence[Path], contract: ModelContract) -> None:
    shape = (len(photos), contract.input.height_px, contract.input.width_px, 3)
    # Threads, not processes: pixels of the test split are made when TensorFlow runs, and forking beside its threads can
    # hang. Pillow's decoders and resize release the interpreter lock.
    with whole_file(path) as temporary, ThreadPoolExecutor(os.cpu_count()) as pool:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        fitted = pool.map(partial(fit_photo, contract=contract), photos)
        for i, pixels_u8 in enumerate(
            tqdm(fitted, total=len(photos), desc=f"pixels {shape[1]} px", unit="photo")
        ):
            array[i] = np.frombuffer(pixels_u8, np.uint8).reshape(shape[1:])
        array.flush()
        del array


def fit_photo(photo: Path, contract: ModelContract) -> bytes:
    """A file's pixels by the runtime's preprocessing; errors as `fit_pixels`."""
    return fit_pixels(photo.read_bytes(), contract, name=str(photo))
