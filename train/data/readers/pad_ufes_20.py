"""PAD-UFES-20 as distributed: metadata.csv and phone photos in folders below; an excerpt may have them as JPEG."""

from __future__ import annotations

import tomllib
from pathlib import Path, PurePosixPath

from edge_runtime.errors import DataInvalid
from train.artifacts.labels import LabelSet, source_file
from train.artifacts.manifest import Photo
from train.artifacts.tables import read_rows
from train.data.readers.scan import MISSING, ProblemReport, known, paths_by_stem, unexpected

METADATA = "metadata.csv"
COLUMNS = ("img_id", "diagnostic", "patient_id", "fitspatrick", "biopsed", "age", "gender", "region")
EXPECTED = f"{METADATA} and folders with <img_id>.png or .jpg"
FITZPATRICK_TYPES = ("1", "2", "3", "4", "5", "6")


def read(root: Path, labels: LabelSet, problems: ProblemReport) -> tuple[Path, list[Photo]]:
    """Read the table, with its diagnoses as codes of the label set ham10000.

    A photo's lesion_id is its patient's: photos of one patient share skin, phone and lighting, by which a network can
    recognize them, so they may not stand in two splits. Of the 303 patients of 392 photos 70 have several.
    """
    metadata = root / METADATA
    path_of = paths_by_stem(root) if metadata.is_file() else {}
    if not path_of:
        lacking = "there are no photos" if metadata.is_file() else f"{METADATA} is missing"
        fix = "unpack the distribution there, or name another reader in the config"
        raise unexpected(f"not PAD-UFES-20 as distributed: {lacking}", root, EXPECTED, fix)
    code_of = tomllib.loads(source_file("pad_ufes_20").read_text(encoding="utf-8"))["codes"]
    photos = []
    for row in read_rows(metadata, COLUMNS):
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
                sex=known(row, "gender").lower(),
                age=known(row, "age"),
                site=known(row, "region").lower(),
                # "May have clinical diagnosis according to a consensus of a group of dermatologists" (Pacheco 2020).
                dx_type="histo" if row["biopsed"].lower() == "true" else "consensus",
            )
        )
    return root, photos


def read_fitzpatrick(root: Path) -> dict[str, str]:
    """Read the skin types of a data folder, for which the manifest has no column.

    Returns:
        photo_id to Fitzpatrick type, `1` (burns always) to `6` (never); photos without one are left out.

    Raises:
        DataInvalid: No such table, missing columns, or an unknown type.
    """
    types: dict[str, str] = {}
    for row in read_rows(root / METADATA, COLUMNS):
        # Written as 2.0, since the column has gaps.
        text = known(row, "fitspatrick").removesuffix(".0")
        if text and text not in FITZPATRICK_TYPES:
            where, found = str(root / METADATA), repr(row["fitspatrick"])
            expected = f"one of {', '.join(FITZPATRICK_TYPES)}, or nothing"
            problem = f"unknown Fitzpatrick type of {row['img_id']}"
            raise DataInvalid(problem, where=where, found=found, expected=expected)
        if text:
            types[PurePosixPath(row["img_id"]).stem] = text
    return types
