"""A folder per class, named by the label's code; a folder below it is one lesion, whose photos are never divided."""

from __future__ import annotations

from pathlib import Path

from train.artifacts.labels import LabelSet
from train.artifacts.manifest import Photo
from train.data.readers.scan import UNKNOWN_LABEL, ProblemReport, photo_files, unexpected

EXPECTED = "a folder per class, named by the label's code, with photos in it"


def read(root: Path, labels: LabelSet, problems: ProblemReport) -> tuple[Path, list[Photo]]:
    """Read all photos below a class's folder; one beside these folders is a problem."""
    if not any((root / code).is_dir() for code in labels.codes):
        fix = "rename the folders, or name another reader or label set in the config"
        expected = f"{EXPECTED} ({', '.join(labels.codes)})"
        raise unexpected("no folder is named after a class", root, expected, fix)
    photos = []
    for place in photo_files(root):
        if len(place.parts) < 2:
            problems.add(UNKNOWN_LABEL, f"{place} (in no class's folder)")
            continue
        photo_id = place.with_suffix("").as_posix()
        lesion_id = place.parent.as_posix() if len(place.parts) > 2 else photo_id
        photos.append(Photo(photo_id, place.as_posix(), place.parts[0], lesion_id))
    return root, photos
