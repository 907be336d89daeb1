"""Pictures that show no lesion: where they come from, and which may train, choose a threshold, or only be counted.

Ordinary pictures (Caltech-101: Li, Andreeto, Ranzato, Perona, CaltechDATA 2022) are divided by what they show, never
by picture: the counted part then holds kinds of things that the model never saw. The 240 pictures of the data folder
show 83 kinds of things; with the seed 20181, that of the configs, they fall into

| part | pictures | kinds | for |
| --- | --: | --: | --- |
| `train` | 84 | 29 | outlier exposure |
| `threshold` | 36 | 12 | the threshold of the not-a-lesion rule |
| `test` | 120 | 42 | counted only |

What users photograph by accident is generated (train/data/synthetic/nonlesions.py). numpy, Pillow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_runtime.contract import ModelContract
from edge_runtime.errors import DataInvalid
from train.data.pixels import fit_photo
from train.data.readers import PHOTO_SUFFIXES
from train.data.synthetic.nonlesions import PAINTERS, finish

PART_SHARES = {"train": 0.35, "threshold": 0.15, "test": 0.5}
# Categories of Caltech-101 that show the same kind of thing: both would give the counted part what training saw.
SAME_KIND = {
    "Faces_easy": "Faces",
    "Leopards": "wild_cat",
    "brontosaurus": "stegosaurus",
    "cougar_body": "wild_cat",
    "cougar_face": "wild_cat",
    "crayfish": "lobster",
    "crocodile_head": "crocodile",
    "flamingo_head": "flamingo",
    "ketch": "schooner",
    "lotus": "water_lilly",
    "mandolin": "electric_guitar",
    "windsor_chair": "chair",
}
GENERATED_KINDS = tuple(PAINTERS)
NUMBERED = re.compile(r"_?(?:image_)?\d+$")


def read_outliers(folder: Path) -> list[Path]:
    """All pictures in a folder and below, in order of their paths.

    Raises:
        DataInvalid: No such folder, or no picture in it.
    """
    found = [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in PHOTO_SUFFIXES and not file.name.startswith(".")
    ]
    if not found:
        raise DataInvalid(
            f"{folder}: no pictures without a lesion",
            found="nothing" if not folder.exists() else "no image file",
            expected="ordinary pictures, such as Caltech-101",
            fix="put them there, or leave [outliers] out of the config",
        )
    return found


def kind_of(path: Path) -> str:
    """What a picture shows: the name before its number, or its folder's where the file is only numbered."""
    category = NUMBERED.sub("", path.stem) or path.parent.name
    return SAME_KIND.get(category, category)


def divide_outliers(paths: Sequence[Path], seed: int) -> dict[str, list[Path]]:
    """Divides pictures without a lesion into parts; all pictures of one kind stay together.

    Args:
        paths: From `read_outliers`.
        seed: Of the order in which kinds are dealt out; folders and the paths' order do not matter.

    Returns:
        Part (of PART_SHARES) to its pictures, in order of their paths; together all of them.

    Raises:
        DataInvalid: Fewer kinds than parts.
    """
    of_kind: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(paths):
        of_kind[kind_of(path)].append(path)
    if len(of_kind) < len(PART_SHARES):
        raise DataInvalid(
            "too few kinds of pictures without a lesion to divide them",
            found=", ".join(sorted(of_kind)) or "none",
            expected=f"at least {len(PART_SHARES)} kinds, named as KIND_0001.jpg",
            fix="add other pictures",
        )
    parts: dict[str, list[Path]] = {part: [] for part in PART_SHARES}
    # Large kinds first, so that the small ones can even out; within a size in random order.
    for kind in sorted(of_kind, key=lambda kind: (-len(of_kind[kind]), _draw(seed, kind))):
        part = min(parts, key=lambda part: (len(parts[part]) + 0.5 * len(of_kind[kind])) / PART_SHARES[part])
        parts[part].extend(of_kind[kind])
    return {part: sorted(chosen) for part, chosen in parts.items()}


def _draw(seed: int, kind: str) -> str:
    return hashlib.sha256(f"{seed} {kind}".encode()).hexdigest()


def outlier_pixels(paths: Sequence[Path], contract: ModelContract, size_px: int) -> npt.NDArray[np.uint8]:
    """Pixels of pictures as the runtime makes them, [n, size_px, size_px, 3].

    Args:
        paths: In the order wanted; a hundred pictures of 300 px take half a second.
        contract: Its geometry is applied; its input size is replaced by size_px.
        size_px: Side of the squares.

    Raises:
        ImageError: A picture that cannot be read.
    """
    sized = dataclasses.replace(
        contract, input=dataclasses.replace(contract.input, height_px=size_px, width_px=size_px)
    )
    array = np.empty((len(paths), size_px, size_px, 3), np.uint8)
    # Threads, not processes: forking beside TensorFlow's threads can hang.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for i, pixels_u8 in enumerate(pool.map(partial(fit_photo, contract=sized), paths)):
            array[i] = np.frombuffer(pixels_u8, np.uint8).reshape(array.shape[1:])
    return array


def generate_outliers(
    count: int, side_px: int, seed: int, kinds: Sequence[str] = GENERATED_KINDS
) -> npt.NDArray[np.uint8]:
    """Draws pictures that people take by accident and that show no lesion.

    Args:
        count: How many; picture i shows kinds[i % len(kinds)] and does not depend on count.
        side_px: Side of the squares, at least 32; a picture of 224 px takes about 5 ms.
        seed: Equal seeds give equal pictures (with the same versions of numpy and Pillow); others none in common.
        kinds: Of GENERATED_KINDS; to leave some out of training shows what unseen kinds cost.

    Returns:
        [count, side_px, side_px, 3].
    """
    array = np.empty((count, side_px, side_px, 3), np.uint8)
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        array[i] = finish(PAINTERS[kinds[i % len(kinds)]](rng, side_px), rng)
    return array
