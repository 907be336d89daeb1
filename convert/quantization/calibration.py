"""Which photos set the quantizer's ranges: train split only, classes balanced, seeded. numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain, islice, zip_longest
from typing import Any

import numpy as np

from convert.inputs import Photo
from edge_runtime.errors import DataInvalid


def choose_calibration_photos(
    photos: Sequence[Photo], classes: int, count: int, seed: int
) -> tuple[Photo, ...]:
    """Draw so many photos of split `train`.

    Returns:
        Photos in drawing order: classes take turns, so every prefix is balanced too; a class that runs out leaves
        its turns to the others.

    Raises:
        DataInvalid: A class has no photo in the train split, or the split has fewer than `count`.
    """
    rng = np.random.default_rng(seed)
    of_class: list[list[Photo]] = []
    for label in range(classes):
        members = sorted(
            (p for p in photos if p.split == "train" and p.label == label), key=lambda p: p.photo_id
        )
        if not members:
            raise DataInvalid(
                "calibration needs train photos of every class",
                found=f"no photo of class {label} in the train split",
                fix="add train photos of this class",
            )
        of_class.append([members[i] for i in rng.permutation(len(members))])
    chosen = take_turns(of_class, count)
    if len(chosen) < count:
        found = f"{len(chosen)} in the train split"
        fix = "add train photos, or convert with float32, float16 or dynamic_int8, which need none"
        raise DataInvalid("too few calibration photos", found=found, expected=f"at least {count}", fix=fix)
    return chosen


def take_turns(of_class: Sequence[Sequence[Photo]], count: int) -> tuple[Photo, ...]:
    """The first photo of each class, then the second, and so on: `count`, or all where there are fewer."""
    turns = chain.from_iterable(zip_longest(*of_class))
    return tuple(islice((photo for photo in turns if photo), count))


def describe(photos: Sequence[Photo], codes: Sequence[str], seed: int) -> dict[str, Any]:
    """The calibration photos' entry in model.json."""
    ids = [photo.photo_id for photo in photos]
    return {
        "split": "train",
        "photos": len(photos),
        "per_class": {code: sum(photo.label == i for photo in photos) for i, code in enumerate(codes)},
        "seed": seed,
        "ids_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        "ids": ids,
    }
