"""The contract's pixels of many photos, made once and kept in RUN/convert. numpy and edge_runtime.

Calibration, fine-tuning and the gate all read their pixels here, through `edge_runtime.images.preprocess`: what the
converter sees is what a device sees.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from convert.files import whole_file
from convert.inputs import Photo, Run
from edge_runtime.contract import ModelContract
from edge_runtime.images.preprocess import fit_pixels

PixelArray = npt.NDArray[np.uint8]


def read_pixels(photos: Sequence[Photo], contract: ModelContract, *, progress: str = "") -> PixelArray:
    """Pixels of photos, in memory.

    Returns:
        [n, height_px, width_px, 3] uint8.

    Raises:
        ImageError: A photo cannot be read.
    """
    pixels_u8 = np.empty(_shape(photos, contract), np.uint8)
    _fill(pixels_u8, photos, contract, progress)
    return pixels_u8


def cached_pixels(run: Run, photos: Sequence[Photo], name: str) -> PixelArray:
    """Pixels of photos from RUN/convert/pixels, made on first use; read-only and memory-mapped.

    Args:
        run: Its contract says how photos become pixels.
        photos: In the order of the result.
        name: For the file's name and the progress bar: a split.

    Returns:
        [n, height_px, width_px, 3] uint8. 150 KB a photo at 224 px: 1.1 GB for the 7,200 of a usual train split.

    Raises:
        ImageError: A photo cannot be read.
    """
    folder = run.work_folder / "pixels"
    path = folder / f"{name}_{_key(photos, run.contract)}.u8"
    shape = _shape(photos, run.contract)
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            mapped = np.memmap(temporary, np.uint8, "w+", shape=shape)
            _fill(mapped, photos, run.contract, f"pixels of {name}")
            mapped.flush()
            del mapped
    return np.memmap(path, np.uint8, "r", shape=shape)


def _shape(photos: Sequence[Photo], contract: ModelContract) -> tuple[int, int, int, int]:
    return len(photos), contract.input.height_px, contract.input.width_px, 3


def _key(photos: Sequence[Photo], contract: ModelContract) -> str:
    """Changes with the photos, their order, their sizes and everything that makes pixels of them."""
    plain = contract.to_dict()
    described = [plain["input"], plain["geometry"], [(p.photo_id, p.path.stat().st_size) for p in photos]]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def _fill(pixels_u8: PixelArray, photos: Sequence[Photo], contract: ModelContract, progress: str) -> None:
    def fit(photo: Photo) -> bytes:
        return fit_pixels(photo.path.read_bytes(), contract, name=str(photo.path))

    # Threads suffice: Pillow's decoders and resize release the interpreter lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        fitted = pool.map(fit, photos)
        bar = tqdm(fitted, total=len(photos), desc=progress, unit="photo", disable=not progress)
        for i, pixels in enumerate(bar):
            pixels_u8[i] = np.frombuffer(pixels, np.uint8).reshape(pixels_u8.shape[1:])


def normalize(pixels_u8: PixelArray, contract: ModelContract) -> npt.NDArray[np.float32]:
    """The Keras model's input: (pixel - mean) / std, float32, same shape."""
    mean, std = np.float32(contract.normalization.mean), np.float32(contract.normalization.std)
    normalized: npt.NDArray[np.float32] = (pixels_u8.astype(np.float32) - mean) / std
    return normalized
