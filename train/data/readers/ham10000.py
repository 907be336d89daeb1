"""HAM10000 as distributed: a metadata CSV and two image folders, a photo in either."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from train.artifacts.labels import LabelSet
from train.artifacts.manifest import Photo
from train.artifacts.tables import read_rows
from train.data.readers.scan import MISSING, ProblemReport, known, unexpected

METADATA = ("HAM10000_metadata.csv", "HAM10000_metadata")
FOLDERS = ("HAM10000_images_part_1", "HAM10000_images_part_2")
COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
EXPECTED = f"{METADATA[0]} and {' and '.join(FOLDERS)} with <image_id>.jpg in either"


def read(root: Path, labels: LabelSet, problems: ProblemReport) -> tuple[Path, list[Photo]]:
    """Read the table; photos that it lists and neither folder has are a problem."""
    metadata = next((root / name for name in METADATA if (root / name).is_file()), None)
    folders = [folder for folder in FOLDERS if (root / folder).is_dir()]
    if metadata is None or not folders:
        lacking = "the metadata CSV is missing" if metadata is None else "the image folders are missing"
        fix = "unpack the distribution there, or name another reader in the config"
        raise unexpected(f"not HAM10000 as distributed: {lacking}", root, EXPECTED, fix)
    path_of = {
        PurePosixPath(entry.name).stem: f"{folder}/{entry.name}"
        for folder in reversed(folders)
        for entry in os.scandir(root / folder)
        if entry.name.lower().endswith((".jpg", ".jpeg"))
    }
    photos = []
    for row in read_rows(metadata, COLUMNS):
        photo_id = row["image_id"]
        if photo_id not in path_of:
            problems.add(MISSING, f"{photo_id}.jpg")
            continue
        described = {name: known(row, name) for name in ("sex", "age", "dx_type")}
        lesion_id, site = row["lesion_id"] or photo_id, known(row, "localization")
        photos.append(Photo(photo_id, path_of[photo_id], row["dx"], lesion_id, site=site, **described))
    return root, photos
