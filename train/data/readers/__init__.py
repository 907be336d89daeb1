"""Read a data set of any format, a module each, into a manifest; every photo is decoded before training starts. Pillow.

Problems are collected over the whole data set and reported together.
"""

from __future__ import annotations

import os
import struct
import sys
import warnings
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageOps

from edge_runtime.contract import has_control_characters
from edge_runtime.errors import ConfigInvalid, DataInvalid, DataNotFound, ImageError, escaped
from edge_runtime.images.preprocess import Reservation, decode_grey
from train.artifacts.labels import LabelSet
from train.artifacts.manifest import Manifest, Photo
from train.data.near_duplicates import phash
from train.data.readers import folders, ham10000, isic2018, pad_ufes_20, scan, table
from train.data.readers.scan import ProblemReport, Reader

# Not from train.configs.schema, whose READERS a test holds equal: `make demo` has no pydantic.
MODULES = {
    "ham10000": ham10000,
    "pad_ufes_20": pad_ufes_20,
    "isic2018_task3": isic2018,
    "folders": folders,
    "csv": table,
}
READERS: dict[str, Reader] = {name: module.read for name, module in MODULES.items()}
ON_PROBLEM = ("refuse", "skip")
# The hash needs 32 px a side; a JPEG is decoded at the smallest scale of at least twice that, for which alone the
# near-duplicate rule holds (near_duplicates.py). All of its data is still read, so a truncated file fails.
HASH_DECODE_PX = 64
# What Pillow's decoders raise on damaged files, and on images beyond the size limit.
DECODING_ERRORS = (
    OSError, ValueError, SyntaxError, struct.error, EOFError, IndexError, KeyError, MemoryError,
    Image.DecompressionBombError, ImageError,
)  # fmt: skip


def read_photos(
    reader: str,
    root: Path,
    labels: LabelSet,
    *,
    name: str,
    on_problem: str,
    every_class: bool = True,
    progress: bool = True,
) -> Manifest:
    """Read a data set and check every photo of it.

    Args:
        reader: one of READERS.
        root: The data folder; for `csv` a folder with a manifest.csv, or the CSV file itself (paths in it are
            relative to its folder).
        labels: What may occur.
        name: Of the data set, for the manifest.
        on_problem: `refuse` raises on any problem; `skip` reports to stderr and continues without those photos.
        every_class: Whether a class without photos is refused, whatever on_problem says. A data set that joins
            another one may lack classes, but not all of them.
        progress: Whether to draw a progress bar on stderr.

    Returns:
        The manifest, photos sorted by id, each with its perceptual hash.

    Raises:
        DataInvalid: No such folder, not the expected contents, or problems; all kinds are reported together.
        ConfigInvalid: An unknown reader or on_problem.
    """
    for value, allowed, field in ((reader, tuple(READERS), "reader"), (on_problem, ON_PROBLEM, "on_problem")):
        if value not in allowed:
            raise ConfigInvalid(f"unknown {field}", found=repr(value), expected=", ".join(allowed))
    if not root.exists():
        parent = next(parent for parent in root.absolute().parents if parent.exists())
        problem, found = "no such data folder", f"nothing; its nearest existing parent is {parent}"
        expected, fix = (
            MODULES[reader].EXPECTED,
            "correct the data folder in the config, or put the photos there",
        )
        raise DataNotFound(problem, where=str(root), found=found, expected=expected, fix=fix)
    problems = ProblemReport()
    folder, photos = READERS[reader](root, labels, problems)
    usable: list[Photo] = []
    for photo in photos:
        if photo.label not in labels.codes:
            problems.add(scan.UNKNOWN_LABEL, f"{photo.label!r} of {photo.photo_id}")
        elif has_control_characters(photo.photo_id + photo.lesion_id):
            problems.add(scan.CONTROL, photo.photo_id)
        else:
            usable.append(photo)
    photos = _unique(usable, problems)
    photos = _decodable(folder, photos, problems, progress=progress)
    counts = Counter(photo.label for photo in photos)
    empty = [code for code in labels.codes if not counts[code]] if every_class or not photos else []
    for code in empty:
        problems.add(scan.EMPTY_CLASS, code)
    if problems and (on_problem == "refuse" or empty):
        which = "every class" if every_class else "these classes"
        expected = f"readable photos of {which} ({', '.join(labels.codes)}), each id once"
        fix = "correct the data" + ', or set on_problem = "skip" to leave these photos out' * (not empty)
        details = problems.lines()
        raise DataInvalid("unusable data set", where=str(root), details=details, expected=expected, fix=fix)
    if problems:
        print(escaped(f"{root}: photos left out: {'; '.join(problems.lines())}"), file=sys.stderr)
    return Manifest(name, folder, labels, tuple(sorted(photos, key=lambda photo: photo.photo_id)))


def _unique(photos: list[Photo], problems: ProblemReport) -> list[Photo]:
    """Keep the first of equal rows with one id; of contradictory ones none."""
    rows_of: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        rows_of[photo.photo_id].append(photo)
    kept = []
    for photo_id, rows in rows_of.items():
        equal = len(set(rows)) == 1
        if len(rows) > 1:
            problems.add(scan.DUPLICATE, f"{photo_id} ({len(rows)} rows{'' if equal else ', contradictory'})")
        kept.extend(rows[:equal])
    return kept


def _decodable(root: Path, photos: list[Photo], problems: ProblemReport, *, progress: bool) -> list[Photo]:
    """Decode every photo, add its hash, note and drop those that cannot be decoded."""

    def look(photo: Photo) -> Photo | tuple[str, str]:
        try:
            return replace(photo, phash=f"{_decoded_hash(root / photo.path):016x}")
        except FileNotFoundError:
            return scan.MISSING, photo.path
        except DECODING_ERRORS as error:
            why = f"{error.problem}, {error.found}" if isinstance(error, ImageError) else str(error)
            return scan.UNREADABLE, f"{photo.path} ({why or type(error).__name__})"

    kept = []
    # Threads, not processes: Pillow decodes outside the GIL, and forking beside TensorFlow is not safe.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
        looked = pool.map(look, photos)
        if progress:
            # Late: the sample photo of the demo is drawn where only the runtime is installed.
            from tqdm import tqdm

            looked = tqdm(looked, total=len(photos), desc="checking photos", unit="photo")
        for seen in looked:
            if isinstance(seen, Photo):
                kept.append(seen)
            else:
                problems.add(*seen)
    return kept


def _decoded_hash(path: Path) -> int:
    with Reservation(path.name):
        return phash(ImageOps.exif_transpose(decode_grey(path, HASH_DECODE_PX)))
