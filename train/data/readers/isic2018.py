"""Images of ISIC 2018 Task 3 with labels.csv: image_id, dx, and optionally lesion_id."""

from __future__ import annotations

from pathlib import Path

from train.artifacts.labels import LabelSet
from train.artifacts.manifest import Photo
from train.artifacts.tables import read_rows
from train.data.readers.scan import MISSING, ProblemReport, paths_by_stem, unexpected

TABLE = "labels.csv"
COLUMNS = ("image_id", "dx")
EXPECTED = f"{TABLE} with {', '.join(COLUMNS)} (and lesion_id), and images in folders"


def read(root: Path, labels: LabelSet, problems: ProblemReport) -> tuple[Path, list[Photo]]:
    """Read the table; a photo without a lesion_id is a lesion of its own."""
    table = root / TABLE
    if not table.is_file():
        raise unexpected(f"no {TABLE}", root, EXPECTED, "name another reader, or write the table")
    path_of = paths_by_stem(root)
    photos = []
    for row in read_rows(table, COLUMNS):
        photo_id = row["image_id"]
        if photo_id in path_of:
            photos.append(Photo(photo_id, path_of[photo_id], row["dx"], row.get("lesion_id") or photo_id))
        else:
            problems.add(MISSING, photo_id)
    return root, photos
