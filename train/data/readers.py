"""Five ways in which photos lie on a disk, one manifest out; every photo is decoded before training starts.

`ham10000`        HAM10000 as distributed: HAM10000_metadata.csv and two image folders, a photo in either.
`pad_ufes_20`     PAD-UFES-20 as distributed: metadata.csv, and photos in folders below.
`isic2018_task3`  Images of ISIC 2018 Task 3 with labels.csv: image_id, dx, and perhaps lesion_id.
`folders`         A folder per class, named by the label's code.
`csv`             A CSV file with the columns photo_id, path, label, and perhaps lesion_id, sex, age, site, dx_type.

Problems are collected over the whole data set and reported together. Pillow.
"""

from __future__ import annotations

import os
import struct
import sys
import tomllib
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from edge_runtime.errors import ConfigInvalid, DataInvalid, DataNotFound
from edge_runtime.images.preprocess import ACCEPTED_FORMATS, MAX_PIXELS
from train.artifacts.manifest import LABELS_DIR, LabelSet, Manifest, Photo, read_rows
from train.data.near_duplicates import phash

HAM10000_METADATA = ("HAM10000_metadata.csv", "HAM10000_metadata")
HAM10000_FOLDERS = ("HAM10000_images_part_1", "HAM10000_images_part_2")
HAM10000_COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
PAD_UFES_METADATA = "metadata.csv"
PAD_UFES_COLUMNS = (
    "img_id", "diagnostic", "patient_id", "fitspatrick", "biopsed", "age", "gender", "region",
)  # fmt: skip
FITZPATRICK_TYPES = ("1", "2", "3", "4", "5", "6")
ISIC2018_TABLE = "labels.csv"
ISIC2018_COLUMNS = ("image_id", "dx")
CSV_NAME = "manifest.csv"
CSV_COLUMNS = ("photo_id", "path", "label")
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
ON_PROBLEM = ("refuse", "skip")
NAMES_SHOWN = 5
# The hash needs 32 px a side; a JPEG is decoded at the smallest scale of at least twice that. All of its data is
# still read, so a truncated file fails.
HASH_DECODE_PX = 64
# What Pillow's decoders raise on damaged files, and on pictures too large to be meant.
DECODING_ERRORS = (
    OSError, ValueError, SyntaxError, struct.error, EOFError, IndexError, KeyError, MemoryError,
    Image.DecompressionBombError,
)  # fmt: skip

MISSING = "missing file"
OUTSIDE = "path outside the data folder"
UNREADABLE = "unreadable or truncated image"
UNKNOWN_LABEL = "unknown label"
DUPLICATE = "duplicate id"
EMPTY_CLASS = "class without photos"


class ProblemReport:
    """Problems by kind, with counts and first names. Drops nothing by itself."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, name: str) -> None:
        """Notes one problem of a kind."""
        self.names[kind].append(name)

    def __bool__(self) -> bool:
        return bool(self.names)

    def text(self) -> str:
        """One part a kind: `3 x unknown label: a, b, c`."""
        parts = []
        for kind, names in self.names.items():
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            parts.append(f"{len(names)} x {kind}: {', '.join(names[:NAMES_SHOWN])}{more}")
        return "; ".join(parts)


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
    """Reads a data set and checks every photo of it.

    Args:
        reader: one of READERS.
        root: The data folder; for `csv` a folder with a manifest.csv, or the CSV file itself (paths in it are
            relative to its folder).
        labels: What may occur.
        name: Of the data set, for the manifest.
        on_problem: `refuse` raises on any problem; `skip` reports to stderr and goes on without those photos.
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
        raise DataNotFound(
            "no such data folder",
            where=str(root),
            found=f"nothing; its nearest existing parent is {_existing_parent(root)}",
            expected=EXPECTED[reader],
            fix="correct the data folder in the config, or put the photos there",
        )
    problems = ProblemReport()
    folder, photos = READERS[reader](root, labels, problems)
    photos = _decodable(
        folder, _unique(_known(photos, labels, problems), problems), problems, progress=progress
    )
    counts = Counter(photo.label for photo in photos)
    empty = [code for code in labels.codes if not counts[code]] if every_class or not photos else []
    for code in empty:
        problems.add(EMPTY_CLASS, code)
    if problems and (on_problem == "refuse" or empty):
        raise DataInvalid(
            f"{root}: the data set has problems",
            found=problems.text(),
            expected=f"readable photos of {'every class' if every_class else 'these classes'} "
            f"({', '.join(labels.codes)}), each id once",
            fix="correct the data"
            + ("" if empty else ', or set on_problem = "skip" to leave these photos out'),
        )
    if problems:
        print(f"{root}: photos left out: {problems.text()}", file=sys.stderr)
    return Manifest(name, folder, labels, tuple(sorted(photos, key=lambda photo: photo.photo_id)))


def _read_ham10000(root: Path, labels: LabelSet, problems: ProblemReport) -> tuple[Path, list[Photo]]:
    metadata = next((root / name for name in HAM10000_METADATA if (root / name).is_file()), None)
    folders = [folder for folder in HAM10000_FOLDERS if (root / folder).is_dir()]
    if metadata is None or not folders:
        raise DataInvalid(
            f"{root}: not HAM10000 as distributed: "
            + ("the metadata CSV is missing" if metadata is None else "the image folders are missing"),
            found=_contents(root),
            expected=EXPECTED["ham10000"],
            fix="unpack the distribution there, or name another reader in the config",
        )
    rows = read_rows(metadata, HAM10000_COLUMNS)
    path_of: dict[str, str] = {}
    for folder in reversed(folders):
        for entry in os.scandir(root / folder):
            if entry.name.lower().endswith((".jpg", ".jpeg")):
                path_of[PurePosixPath(entry.name).stem] = f"{folder}/{entry.name}"
    photos = []
    for row in rows:
        path = path_of.get(row["image_id"])
        if path is None:
            problems.add(MISSING, f"{row['image_id']}.jpg")
            continue
        photos.append(
            Photo(
                photo_id=row["image_id"],
                path=path,
                label=row["dx"],
                lesion_id=row["lesion_id"] or row["image_id"],
                sex=_known_text(row["sex"]),
                age=_known_text(row["age"]),
                site=_known_text(row["localization"]),
                dx_type=_known_text(row["dx_type"]),
            )
        )
    return root, photos


def _read_pad_ufes_20(root: Path, labels: LabelSet, problems: ProblemReport) -> tuple[Path, list[Photo]]:
    """The whole distribution has its photos in imgs_part_1 to 3, an excerpt may have them elsewhere, as JPEG.

    A photo's lesion_id is its patient's: photos of one patient share skin, phone and room, by which a network knows
    them again, so they may not stand on two sides of a split. Of the 303 patients of 392 photos 70 have several.
    """
    metadata = root / PAD_UFES_METADATA
    path_of: dict[str, str] = {}
    for file in sorted(root.rglob("*")) if metadata.is_file() else ():
        place = file.relative_to(root)
        if file.suffix.lower() in PHOTO_SUFFIXES and not any(part.startswith(".") for part in place.parts):
            path_of.setdefault(file.stem, place.as_posix())
    if not path_of:
        raise DataInvalid(
            f"{root}: not PAD-UFES-20 as distributed: "
            + ("there are no photos" if metadata.is_file() else f"{PAD_UFES_METADATA} is missing"),
            found=_contents(root),
            expected=EXPECTED["pad_ufes_20"],
            fix="unpack the distribution there, or name another reader in the config",
        )
    code_of = _codes_of_source("pad_ufes_20")
    photos = []
    for row in read_rows(metadata, PAD_UFES_COLUMNS):
        photo_id = PurePosixPath(row["img_id"]).stem
        if photo_id not in path_of:
            problems.add(MISSING, row["img_id"])
            continue
        photos.append(
            Photo(
                photo_id=photo_id,
                path=path_of[photo_id],
                label=code_of.get(row["diagnostic"], row["diagnostic"]),
                lesion_id=row["patient_id"] or photo_id,
                sex=_known_text(row["gender"]).lower(),
                age=_known_text(row["age"]),
                site=_known_text(row["region"]).lower(),
                # "May have clinical diagnosis according to a consensus of a group of dermatologists" (Pacheco 2020).
                dx_type="histo" if row["biopsed"].lower() == "true" else "consensus",
            )
        )
    return root, photos


def read_fitzpatrick(root: Path) -> dict[str, str]:
    """Skin type of PAD-UFES-20's photos, for tables; the manifest has no column for it.

    Args:
        root: The data folder.

    Returns:
        photo_id to Fitzpatrick type, `1` (burns always) to `6` (never); photos without one are not in it.

    Raises:
        DataInvalid: No such table, columns are lacking, or a type that is none.
    """
    types: dict[str, str] = {}
    for row in read_rows(root / PAD_UFES_METADATA, PAD_UFES_COLUMNS):
        # Written as 2.0, since the column has gaps.
        text = _known_text(row["fitspatrick"]).removesuffix(".0")
        if text and text not in FITZPATRICK_TYPES:
            raise DataInvalid(
                f"{root / PAD_UFES_METADATA}: no Fitzpatrick type for {row['img_id']}",
                found=repr(row["fitspatrick"]),
                expected=f"one of {', '.join(FITZPATRICK_TYPES)}, or nothing",
            )
        if text:
            types[PurePosixPath(row["img_id"]).stem] = text
    return types


def _codes_of_source(reader: str) -> dict[str, str]:
    """What a data set calls a diagnosis, to the code of it."""
    return dict(tomllib.loads(_source_file(reader).read_text(encoding="utf-8"))["codes"])


def source_licence(reader: str) -> str:
    """The licence of a further data set's photos; empty where only the user knows it."""
    path = _source_file(reader)
    return str(tomllib.loads(path.read_text(encoding="utf-8"))["licence"]) if path.is_file() else ""


def _source_file(reader: str) -> Path:
    return LABELS_DIR / "sources" / f"{reader}.toml"


def _read_isic2018_task3(root: Path, labels: LabelSet, problems: ProblemReport) -> tuple[Path, list[Photo]]:
    """The validation images with a table of their diagnoses and lesions; a lesion_id of its own where none is given."""
    table = root / ISIC2018_TABLE
    if not table.is_file():
        raise DataInvalid(
            f"{root}: no {ISIC2018_TABLE}",
            found=_contents(root),
            expected=EXPECTED["isic2018_task3"],
            fix="name another reader, or write the table",
        )
    path_of = {
        file.stem: file.relative_to(root).as_posix()
        for file in sorted(root.rglob("*"))
        if file.suffix.lower() in PHOTO_SUFFIXES and not file.name.startswith(".")
    }
    photos = []
    for row in read_rows(table, ISIC2018_COLUMNS):
        photo_id = row["image_id"]
        if photo_id in path_of:
            lesion_id = row.get("lesion_id") or photo_id
            photos.append(Photo(photo_id, path_of[photo_id], row["dx"], lesion_id))
        else:
            problems.add(MISSING, photo_id)
    return root, photos


def _read_folders(root: Path, labels: LabelSet, problems: ProblemReport) -> tuple[Path, list[Photo]]:
    """A folder below a class's folder is taken as one lesion: its photos are never divided."""
    if not any((root / code).is_dir() for code in labels.codes):
        raise DataInvalid(
            f"{root}: no folder is named after a class",
            found=_contents(root),
            expected=EXPECTED["folders"] + f" ({', '.join(labels.codes)})",
            fix="rename the folders, or name another reader or label set in the config",
        )
    photos = []
    for file in sorted(root.rglob("*")):
        place = file.relative_to(root)
        if file.suffix.lower() not in PHOTO_SUFFIXES or any(part.startswith(".") for part in place.parts):
            continue
        if len(place.parts) < 2:
            problems.add(UNKNOWN_LABEL, f"{place} (in no class's folder)")
            continue
        photo_id = place.with_suffix("").as_posix()
        lesion_id = place.parent.as_posix() if len(place.parts) > 2 else photo_id
        photos.append(Photo(photo_id, place.as_posix(), place.parts[0], lesion_id))
    return root, photos


def _read_csv(root: Path, labels: LabelSet, problems: ProblemReport) -> tuple[Path, list[Photo]]:
    table = root if root.is_file() else root / CSV_NAME
    folder = table.parent
    if not table.is_file():
        raise DataInvalid(
            f"{root}: no {CSV_NAME}",
            found=_contents(root),
            expected=EXPECTED["csv"],
            fix="write one, or name another reader in the config",
        )
    photos = []
    for row in read_rows(table, CSV_COLUMNS):
        photo_id, path = row["photo_id"], PurePosixPath(row["path"].replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            problems.add(OUTSIDE, f"{photo_id} ({path})")
        elif not (folder / path).is_file():
            problems.add(MISSING, str(path))
        else:
            optional = {key: _known_text(row.get(key, "")) for key in ("sex", "age", "site", "dx_type")}
            lesion_id = row.get("lesion_id") or photo_id
            photos.append(Photo(photo_id, path.as_posix(), row["label"], lesion_id, **optional))
    return folder, photos


READERS: dict[str, Callable[[Path, LabelSet, ProblemReport], tuple[Path, list[Photo]]]] = {
    "ham10000": _read_ham10000,
    "pad_ufes_20": _read_pad_ufes_20,
    "isic2018_task3": _read_isic2018_task3,
    "folders": _read_folders,
    "csv": _read_csv,
}
EXPECTED = {
    "ham10000": f"{HAM10000_METADATA[0]} and {' and '.join(HAM10000_FOLDERS)} with <image_id>.jpg in either",
    "isic2018_task3": f"{ISIC2018_TABLE} with {', '.join(ISIC2018_COLUMNS)} (and lesion_id), and images in folders",
    "pad_ufes_20": f"{PAD_UFES_METADATA} and folders with <img_id>.png or .jpg",
    "folders": "a folder per class, named by the label's code, with photos in it",
    "csv": f"a CSV file ({CSV_NAME}) with the columns {', '.join(CSV_COLUMNS)}",
}


def _known(photos: list[Photo], labels: LabelSet, problems: ProblemReport) -> list[Photo]:
    codes = set(labels.codes)
    for photo in photos:
        if photo.label not in codes:
            problems.add(UNKNOWN_LABEL, f"{photo.label!r} of {photo.photo_id}")
    return [photo for photo in photos if photo.label in codes]


def _unique(photos: list[Photo], problems: ProblemReport) -> list[Photo]:
    """Of rows that repeat an id the first stays if all agree; if they contradict, none can be trusted."""
    rows_of: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        rows_of[photo.photo_id].append(photo)
    kept = []
    for photo_id, rows in rows_of.items():
        contradiction = len(set(rows)) > 1
        if len(rows) > 1:
            problems.add(
                DUPLICATE, f"{photo_id} ({len(rows)} rows{', contradictory' if contradiction else ''})"
            )
        if not contradiction:
            kept.append(rows[0])
    return kept


def _decodable(root: Path, photos: list[Photo], problems: ProblemReport, *, progress: bool) -> list[Photo]:
    """Decodes every photo, adds its hash, notes and drops those that cannot be decoded."""

    def look(photo: Photo) -> tuple[Photo, str]:
        try:
            return replace(photo, phash=f"{_decoded_hash(root / photo.path):016x}"), ""
        except FileNotFoundError:
            return photo, MISSING
        except DECODING_ERRORS as error:
            return photo, f"{photo.path} ({str(error) or type(error).__name__})"

    kept = []
    # Threads, not processes: Pillow decodes outside the GIL, and forking a process that runs TensorFlow is not
    # safe.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
        looked = pool.map(look, photos)
        if progress:
            # Here, not at the top: the sample photo of the demo is drawn where only the runtime is installed.
            from tqdm import tqdm

            looked = tqdm(looked, total=len(photos), desc="checking photos", unit="photo")
        for photo, problem in looked:
            if not problem:
                kept.append(photo)
            elif problem == MISSING:
                problems.add(MISSING, photo.path)
            else:
                problems.add(UNREADABLE, problem)
    return kept


def _decoded_hash(path: Path) -> int:
    with Image.open(path, formats=ACCEPTED_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
        image.draft("L", (HASH_DECODE_PX, HASH_DECODE_PX))
        image.load()
        return phash(ImageOps.exif_transpose(image))


def _known_text(text: str) -> str:
    return "" if text.lower() in ("unknown", "nan", "na", "none") else text


def _existing_parent(path: Path) -> Path:
    return next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))


def _contents(root: Path) -> str:
    """What a folder holds, for an error: its first names."""
    if not root.is_dir():
        return "a file, not a folder"
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in os.scandir(root))
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return (", ".join(names[:NAMES_SHOWN]) + more) or "an empty folder"
