"""Photos decoded once, through the runtime's preprocessing, into one memory-mapped array per size. numpy, Pillow.

An array is written as a file and mapped only when it is whole: a full disk would end a mapped one with SIGBUS.

Evaluation, calibration and the acceptance test read arrays of exactly the contract's size: those bytes are the
runtime's pixels. Training reads arrays with a margin, from which augmentation resamples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tokenize import TokenError

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edge_runtime.contract import ModelContract, Normalization
from edge_runtime.images.preprocess import fit_file
from train.artifacts.bounded import require_file
from train.artifacts.files import whole_file
from train.artifacts.manifest import Manifest
from train.artifacts.writer import require_space

PixelArray = npt.NDArray[np.uint8]


def cached_pixels(
    manifest: Manifest, photo_ids: Sequence[str], contract: ModelContract, size_px: int, folder: Path
) -> PixelArray:
    """Return pixels of a manifest's photos, read from the cache or written to it.

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
    size = dataclasses.replace(contract.input, height_px=size_px, width_px=size_px)
    sized = dataclasses.replace(contract, input=size)
    key = cache_key(manifest.sha256, repr(sized.geometry), *photo_ids)
    by_id = {photo.photo_id: manifest.root / photo.path for photo in manifest.photos}
    photos = [by_id[photo_id] for photo_id in photo_ids]
    return kept_pixels(folder / f"{size_px}px_{key}.npy", photos, sized, progress=f"pixels {size_px} px")


def cache_key(*parts: str) -> str:
    """Return 16 hexadecimal digits that change with any of the parts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def kept_pixels(path: Path, photos: Sequence[Path], contract: ModelContract, *, progress: str) -> PixelArray:
    """Return pixels of photos from a .npy file, which is made if absent or damaged.

    Args:
        path: The file, whose name changes with the photos and with everything that makes pixels of them.
        photos: In the order of the result.
        contract: How photos become pixels.
        progress: Title of the progress bar.

    Returns:
        [n, height_px, width_px, 3] uint8, memory-mapped, read only. 150 KB a photo at 224 px.

    Raises:
        ImageError: A photo cannot be read.
        DiskFull: The file would not fit.
    """
    shape = _shape(photos, contract)
    try:
        require_file(path)
        cached: PixelArray = np.load(path, mmap_mode="r")
        if cached.shape == shape and cached.dtype == np.uint8:
            return cached
    except (OSError, ValueError, EOFError, SyntaxError, TokenError):
        pass  # Absent, or what no disk error should leave.
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        require_space(path.parent, math.prod(shape))
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[no-untyped-call]
        if hasattr(os, "posix_fallocate"):  # Not on macOS.
            os.posix_fallocate(stream.fileno(), 0, stream.tell() + math.prod(shape))
        for pixels_u8 in _fitted(photos, contract, progress):
            stream.write(pixels_u8)
    made: PixelArray = np.load(path, mmap_mode="r")
    return made


def read_pixels(photos: Sequence[Path], contract: ModelContract, *, progress: str = "") -> PixelArray:
    """Return pixels of photos in memory, [n, height_px, width_px, 3] uint8.

    Args:
        photos: In the order of the result.
        contract: How photos become pixels.
        progress: Title of a progress bar; none if empty.

    Raises:
        ImageError: A photo cannot be read.
    """
    array = np.empty(_shape(photos, contract), np.uint8)
    for i, pixels_u8 in enumerate(_fitted(photos, contract, progress)):
        array[i] = np.frombuffer(pixels_u8, np.uint8).reshape(array.shape[1:])
    return array


def _shape(photos: Sequence[Path], contract: ModelContract) -> tuple[int, int, int, int]:
    return len(photos), contract.input.height_px, contract.input.width_px, 3


def _fitted(photos: Sequence[Path], contract: ModelContract, progress: str) -> Iterator[bytes]:
    # Threads, not processes: pixels of the test split are made when TensorFlow runs, and forking beside its threads can
    # hang. Pillow's decoders and resize release the interpreter lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        fitted = pool.map(partial(fit_file, contract=contract), photos)
        yield from tqdm(fitted, total=len(photos), desc=progress, unit="photo", disable=not progress)


def normalize(pixels_u8: PixelArray, normalization: Normalization) -> npt.NDArray[np.float32]:
    """Return a network's input: (pixel - mean) / std, float32, same shape."""
    mean, std = np.float32(normalization.mean), np.float32(normalization.std)
    return np.asarray((pixels_u8.astype(np.float32) - mean) / std)
