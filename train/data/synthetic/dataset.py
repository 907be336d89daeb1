"""`dermedge experiment synthetic`: draw a dataset of synthetic lesion images in HAM10000's format. numpy, Pillow.

No photo of a person is in it, so tests and demos may contain it. The seven classes look different, as the seven
diagnoses do, and overlap a little; several photos show the same lesion from another angle, distance and light.
Nothing measured on it says anything about skin.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_runtime.errors import DataInvalid, UsageError, escaped
from edge_runtime.files import unfinished
from train.artifacts.command import NOTHING_WRITTEN, command_parser, run_command
from train.artifacts.files import whole_file
from train.data.readers.ham10000 import COLUMNS, FOLDERS, METADATA
from train.data.synthetic.lesions import PAINTERS, draw_photo

# Class to its share of the photos: as imbalanced as a small set can be that still has every class in every part.
SHARES = {"akiec": 0.08, "bcc": 0.11, "bkl": 0.15, "df": 0.06, "mel": 0.16, "nv": 0.37, "vasc": 0.07}
LEAST_LESIONS = 6
LEAST_PHOTOS_OF_CLASS = 8
LEAST_PHOTOS = LEAST_PHOTOS_OF_CLASS * len(SHARES)
PHOTOS_PER_LESION = 1.6
MOST_PHOTOS_OF_LESION = 5
SAMPLE_SIZE_PX = (450, 600)
JPEG_QUALITY = 90
SITES = (
    "back", "lower extremity", "trunk", "upper extremity", "abdomen", "face", "chest", "scalp", "unknown",
)  # fmt: skip
DX_TYPES = ("histo", "follow_up", "consensus", "confocal")


def draw_dataset(out: Path, *, photos: int = 700, seed: int = 0) -> None:
    """Draw a data set that `train.data.readers` reads as `ham10000`; it appears whole or not at all.

    Args:
        out: The folder to make; it may exist if it is empty.
        photos: How many, at least LEAST_PHOTOS. A hundred take about two seconds.
        seed: Equal seeds give equal bytes (with the same versions of numpy and Pillow).

    Raises:
        UsageError: Too few photos.
        DataInvalid: `out` is not empty or not a folder.
    """
    if photos < LEAST_PHOTOS:
        expected = f"{LEAST_PHOTOS} or more"
        raise UsageError("too few photos for seven classes", found=str(photos), expected=expected)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        expected = "a folder that is empty or does not exist"
        raise DataInvalid(f"{out}: not an empty folder", expected=expected, fix="name another one")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(out)
    temporary.mkdir()
    try:
        _draw_into(temporary, photos, seed)
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _draw_into(folder: Path, photos: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = _class_sizes(photos).items()
    lesions = [(code, size) for code, count in sizes for size in _lesion_sizes(rng, count)]
    views = [(lesion, view) for lesion, (_, size) in enumerate(lesions) for view in range(size)]
    facts = [_facts(rng) for _ in lesions]
    # Ids in mixed order, as in HAM10000: neighbours are not of one class, nor of one lesion.
    order = rng.permutation(len(views))
    for name in FOLDERS:
        (folder / name).mkdir()
    rows = []
    for number, (lesion, view) in enumerate((views[i] for i in order), start=1):
        photo_id, code = f"PHANTOM_{number:05d}", lesions[lesion][0]
        part = FOLDERS[number * len(FOLDERS) > len(views)]
        image = draw_photo(code, seed * 1_000_003 + lesion, view)
        image.save(folder / part / f"{photo_id}.jpg", quality=JPEG_QUALITY)
        dx_type, age, sex, site = facts[lesion]
        rows.append((f"PHANTOM_L{lesion + 1:04d}", photo_id, code, dx_type, age, sex, site))
    with (folder / METADATA[0]).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(sorted(rows))


def _class_sizes(photos: int) -> dict[str, int]:
    """Photos of each class: by SHARES, none below LEAST_PHOTOS_OF_CLASS; the largest takes what rounding leaves."""
    sizes = {code: max(LEAST_PHOTOS_OF_CLASS, round(photos * share)) for code, share in SHARES.items()}
    while (excess := sum(sizes.values()) - photos) != 0:
        largest = max(sizes, key=lambda code: sizes[code])
        sizes[largest] -= 1 if excess > 0 else -1
    return sizes


def _lesion_sizes(rng: np.random.Generator, photos: int) -> list[int]:
    """Photos of each lesion: at least one each, the rest at random."""
    lesions = max(LEAST_LESIONS, round(photos / PHOTOS_PER_LESION))
    sizes = [1] * lesions
    while sum(sizes) < photos:
        lesion = rng.integers(lesions)
        sizes[lesion] += sizes[lesion] < MOST_PHOTOS_OF_LESION
    return sizes


def _facts(rng: np.random.Generator) -> tuple[str, str, str, str]:
    """dx_type, age, sex, localization of a lesion; some ages are missing, as in HAM10000."""
    age = f"{5.0 * rng.integers(4, 18)}" if rng.uniform() > 0.03 else ""
    return str(rng.choice(DX_TYPES)), age, str(rng.choice(("male", "female"))), str(rng.choice(SITES))


def draw_sample(path: Path, *, code: str = "nv", seed: int = 0) -> None:
    """Write one 600 x 450 image, whole or not at all; the suffix of `path` determines the format.

    Raises:
        UsageError: Unknown class, or a suffix that is not of an image.
    """
    suffix = path.suffix.lower()
    if suffix not in (".jpg", ".jpeg", ".png"):
        raise UsageError(f"{path}: cannot tell the format", found=repr(suffix), expected=".jpg or .png")
    image = draw_photo(code, seed, 0, SAMPLE_SIZE_PX)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        image.save(temporary, "PNG" if suffix == ".png" else "JPEG", quality=JPEG_QUALITY)


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    made = command_parser(
        "experiment synthetic",
        "Draw synthetic lesion images: a dataset in HAM10000's format, or one sample.",
        "example:\n  dermedge experiment synthetic --out build/phantom --photos 100",
    )
    target = made.add_mutually_exclusive_group(required=True)
    folder, file = "New or empty folder for a dataset", "File for one image, .jpg or .png"
    target.add_argument("--out", type=Path, metavar="DIR", help=f"{folder} (default: none)")
    target.add_argument("--sample", type=Path, metavar="FILE", help=f"{file} (default: none)")
    photos, label = "Number of images in the dataset", "Class of the sample"
    made.add_argument("--photos", type=int, default=700, metavar="N", help=f"{photos} (default: %(default)s)")
    made.add_argument("--label", choices=[*PAINTERS], default="nv", help=f"{label} (default: %(default)s)")
    seed = "Seed of the images (default: %(default)s)"
    made.add_argument("--seed", type=int, default=0, metavar="N", help=seed)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 2 on an error, 130 when interrupted."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: _draw(arguments), interrupted=NOTHING_WRITTEN)


def _draw(arguments: argparse.Namespace) -> int:
    if arguments.seed < 0:
        raise UsageError("--seed is negative", found=str(arguments.seed), expected="0 or more")
    if arguments.sample is not None:
        draw_sample(arguments.sample, code=arguments.label, seed=arguments.seed)
    else:
        draw_dataset(arguments.out, photos=arguments.photos, seed=arguments.seed)
    print(escaped(str(arguments.sample or arguments.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
