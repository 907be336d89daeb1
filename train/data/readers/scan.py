"""What readers share: the photo files of a folder, and problems collected over a whole data set. stdlib only."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_runtime.errors import DataInvalid
from train.artifacts.labels import LabelSet
from train.artifacts.manifest import Photo

PHOTO_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff",
)  # fmt: skip
NAMES_SHOWN = 5
MISSING = "missing file"
OUTSIDE = "path outside the data folder"
UNREADABLE = "unreadable or truncated image"
UNKNOWN_LABEL = "unknown label"
DUPLICATE = "duplicate id"
CONTROL = "id with a control character"
EMPTY_CLASS = "class without photos"


class ProblemReport(dict[str, list[str]]):
    """Kind of problem to the names of what has it; a report without problems is false."""

    def add(self, kind: str, name: str) -> None:
        """Note one problem of a kind."""
        self.setdefault(kind, []).append(name)

    def lines(self) -> list[str]:
        """Return one text a kind, with count and first names: `3 x unknown label: a, b, c`."""
        return [f"{len(names)} x {kind}: {first_names(names)}" for kind, names in self.items()]


Reader = Callable[[Path, LabelSet, ProblemReport], tuple[Path, list[Photo]]]


def photo_files(root: Path) -> list[Path]:
    """Return all photos below a folder, relative to it, sorted; hidden files and folders are left out."""
    files = (file for file in sorted(root.rglob("*")) if file.suffix.lower() in PHOTO_SUFFIXES)
    places = (file.relative_to(root) for file in files)
    return [place for place in places if not any(part.startswith(".") for part in place.parts)]


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
    names = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(root))
    return first_names(names) or "an empty folder"


def unexpected(problem: str, root: Path, expected: str, fix: str) -> DataInvalid:
    """Return the error of a folder that does not hold what a reader expects."""
    return DataInvalid(problem, where=str(root), found=contents(root), expected=expected, fix=fix)


def first_names(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
