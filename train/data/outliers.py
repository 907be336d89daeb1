"""OOD images (no lesion): sources, and their division into training, threshold and test sets.

Real images (Caltech-101: Li, Andreeto, Ranzato, Perona, CaltechDATA 2022) are divided by what they show, never by
image: the test set then holds unseen categories. The 240 images of the data folder show 83 kinds; with seed 20181:

| part | images | kinds | for |
| --- | --: | --: | --- |
| `train` | 84 | 29 | outlier exposure |
| `threshold` | 36 | 12 | the threshold of the not-a-lesion rule |
| `test` | 120 | 42 | test only |

Accidental photos are generated (train/data/synthetic/nonlesions.py). numpy, Pillow.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_runtime.contract import ModelContract
from edge_runtime.errors import DataInvalid
from train.artifacts.labels import source_file
from train.data.pixels import read_pixels
from train.data.readers.scan import photo_files
from train.data.synthetic.nonlesions import PAINTERS, finish

PART_SHARES = {"train": 0.35, "threshold": 0.15, "test": 0.5}
GENERATED_KINDS = tuple(PAINTERS)
NUMBERED = re.compile(r"_?(?:image_)?\d+$")


def read_outliers(folder: Path) -> list[Path]:
    """Return all images in a folder and below, sorted by path.

    Raises:
        DataInvalid: No such folder, or no image in it.
    """
    images = [folder / place for place in photo_files(folder)]
    if not images:
        found = "no image file" if folder.exists() else "no such folder"
        expected = "images without a lesion, such as Caltech-101"
        fix = "put them there, or remove [outliers] from the config"
        raise DataInvalid("no OOD images", where=str(folder), found=found, expected=expected, fix=fix)
    return images


@functools.cache
def _same_kind() -> dict[str, str]:
    return dict(tomllib.loads(source_file("ood_photos").read_text(encoding="utf-8"))["same_kind"])


def kind_of(path: Path) -> str:
    """Return what an image shows: the name before its number, or its folder's where the file is only numbered."""
    category = NUMBERED.sub("", path.stem) or path.parent.name
    return _same_kind().get(category, category)


def divide_outliers(paths: Sequence[Path], seed: int) -> dict[str, list[Path]]:
    """Divide OOD images into parts; all images of one kind stay together.

    Args:
        paths: From `read_outliers`; their order and folders do not matter.
        seed: Of the order in which kinds are dealt out.

    Returns:
        Part (of PART_SHARES) to its images, sorted by path; together all of them.

    Raises:
        DataInvalid: Fewer kinds than parts.
    """
    of_kind: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(paths):
        of_kind[kind_of(path)].append(path)
    if len(of_kind) < len(PART_SHARES):
        problem, found = "too few kinds of OOD images to divide them", ", ".join(sorted(of_kind)) or "none"
        expected = f"at least {len(PART_SHARES)} kinds, named as KIND_0001.jpg"
        raise DataInvalid(problem, found=found, expected=expected, fix="add images of other kinds")
    parts: dict[str, list[Path]] = {part: [] for part in PART_SHARES}
    drawn = {kind: hashlib.sha256(f"{seed} {kind}".encode()).hexdigest() for kind in of_kind}
    # Large kinds first, so that the small ones can even out; within a size in random order.
    for kind in sorted(of_kind, key=lambda kind: (-len(of_kind[kind]), drawn[kind])):
        part = min(parts, key=lambda part: (len(parts[part]) + 0.5 * len(of_kind[kind])) / PART_SHARES[part])
        parts[part].extend(of_kind[kind])
    return {part: sorted(chosen) for part, chosen in parts.items()}


def outlier_pixels(paths: Sequence[Path], contract: ModelContract, size_px: int) -> npt.NDArray[np.uint8]:
    """Return pixels of images as the runtime makes them, at another size than the contract's: [n, size_px, size_px, 3].

    Raises:
        ImageError: An image cannot be read.
    """
    size = dataclasses.replace(contract.input, height_px=size_px, width_px=size_px)
    return read_pixels(paths, dataclasses.replace(contract, input=size))


def generate_outliers(
    count: int, side_px: int, seed: int, kinds: Sequence[str] = GENERATED_KINDS
) -> npt.NDArray[np.uint8]:
    """Draw images such as people take by accident, without a lesion.

    Args:
        count: How many; image i shows kinds[i % len(kinds)] and does not depend on count.
        side_px: Side of the squares, at least 32; an image of 224 px takes about 5 ms.
        seed: Equal seeds give equal images (with the same versions of numpy and Pillow); others none in common.
        kinds: Of GENERATED_KINDS; to leave some out of training shows what unseen kinds cost.

    Returns:
        [count, side_px, side_px, 3].
    """
    array = np.empty((count, side_px, side_px, 3), np.uint8)
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        array[i] = finish(PAINTERS[kinds[i % len(kinds)]](rng, side_px), rng)
    return array
