"""A CSV with photo_id, path and label; optional: lesion_id, sex, age, site, dx_type."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from train.artifacts.files import is_file
from train.artifacts.labels import LabelSet
from train.artifacts.manifest import Photo
from train.artifacts.tables import read_rows
from train.data.readers.scan import MISSING, OUTSIDE, ProblemReport, known, unexpected

NAME = "manifest.csv"
COLUMNS = ("photo_id", "path", "label")
EXPECTED = f"a CSV file ({NAME}) with the columns {', '.join(COLUMNS)}"


def read(root: Path, labels: LabelSet, problems: ProblemReport) -> tuple[Path, list[Photo]]:
    """Read a CSV file, or manifest.csv of a folder; paths are relative to its folder and may not leave it."""
    table = root if root.is_file() else root / NAME
    folder = table.parent
    if not table.is_file():
        raise unexpected(f"no {NAME}", root, EXPECTED, "write one, or name another reader in the config")
    photos = []
    for row in read_rows(table, COLUMNS):
        photo_id, path = row["photo_id"], PurePosixPath(row["path"].replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            problems.add(OUTSIDE, f"{photo_id} ({path})")
        elif not is_file(folder / path):
            problems.add(MISSING, str(path))
        else:
            described = {key: known(row, key) for key in ("sex", "age", "site", "dx_type")}
            lesion_id = row.get("lesion_id") or photo_id
            photos.append(Photo(photo_id, path.as_posix(), row["label"], lesion_id, **described))
    return folder, photos
