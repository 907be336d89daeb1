"""What readers share: the photo files of a folder, and problems collected over a whole data set. stdlib only."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from train.artifacts.labels import LabelSet
from train.artifacts.manifest import Photo

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
NAMES_SHOWN = 5
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
        """Note one problem of a kind."""
        self.names[kind].append(name)

    def __bool__(self) -> bool:
        return bool(self.names)

    def lines(self) -> list[str]:
        """Return one text a kind: `3 x unknown label: a, b, c`."""
        return [f"{len(names)} x {kind}: {_first(names)}" for kind, names in self.names.items()]


Reader = Callable[[Path, LabelSet, ProblemReport], tuple[Path, list[Photo]]]


def photo_files(root: Path) -> list[Path]:
    """Return all photos below a folder, relative to it, sorted; hidden files and folders are left out."""
    found = []
    for file in sorted(root.rglob("*")):
        place = file.relative_to(root)
        if file.suffix.lower() in PHOTO_SUFFIXES and not any(part.startswith(".") for part in place.parts):
            found.append(place)
    return found


def paths_by_stem(root: Path) -> dict[str, str]:
    """Return name without suffix to POSIX path of `photo_files`; the first of equal names stays."""
    path_of: dict[str, str] = {}
    for place in photo_files(root):
        path_of.setdefault(place.stem, place.as_posix())
    return path_of


def known(row: Mapping[str, str], column: str) -> str:
    """Return a cell, empty where it says that nothing is known."""
    text = row.get(column, "")
    return "" if text.lower() in ("unknown", "nan", "na", "none") else text


def contents(root: Path) -> str:
    """Return a folder's first names, for an error."""
    if not root.is_dir():
        return "a file, not a folder"
    return (
        _first(sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(root))) or "an empty folder"
    )


def _first(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
