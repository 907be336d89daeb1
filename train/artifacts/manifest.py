"""The table of photos with their labels that every reader returns: a manifest. stdlib; pandas where it reads.

A manifest holds no pixels and no absolute path: the same table with another root is the same data set, and has
the same `sha256`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edge_runtime.errors import DataInvalid
from train.artifacts.files import csv_text, write_rows
from train.artifacts.labels import LabelSet
from train.artifacts.tables import read_rows, read_table

PHOTO_COLUMNS = ("photo_id", "path", "label", "lesion_id", "sex", "age", "site", "dx_type", "phash")
MANIFEST_COLUMNS = (*PHOTO_COLUMNS, "group_id", "split")
# Of a record, of a run.
PARTS_FILES = ("split.csv.gz", "manifest.csv")


@dataclass(frozen=True)
class Photo:
    """One photo of one lesion. Texts are empty where nothing is known."""

    photo_id: str
    path: str
    """POSIX, relative to the manifest's root."""
    label: str
    """Code of a label of the manifest's label set."""
    lesion_id: str
    """The photo_id where lesions are not known: each photo is then a lesion of its own."""
    sex: str = ""
    age: str = ""
    """Years, as the data set writes it."""
    site: str = ""
    """Part of the body."""
    dx_type: str = ""
    """How the diagnosis was made: `histo`, `follow_up`, `consensus`, `confocal`."""
    phash: str = ""
    """Perceptual hash as 16 hexadecimal digits (`train.data.near_duplicates.phash`); empty when not computed."""


@dataclass(frozen=True)
class Manifest:
    """A data set: where its photos are and what they show."""

    name: str
    root: Path
    labels: LabelSet
    photos: tuple[Photo, ...]

    @cached_property
    def sha256(self) -> str:
        """Return the hash of the table, 64 hexadecimal digits; independent of root and of the photos' order."""
        text = csv_text(PHOTO_COLUMNS, map(dataclasses.asdict, self._sorted()))
        return hashlib.sha256(text.encode()).hexdigest()

    def _sorted(self) -> list[Photo]:
        return sorted(self.photos, key=lambda photo: photo.photo_id)


def write_manifest(
    path: Path, manifest: Manifest, split: Mapping[str, str] | None, group_of: Mapping[str, str] | None
) -> None:
    """Write the manifest as CSV, sorted by photo_id, whole or not at all.

    Args:
        path: The file.
        manifest: The photos.
        split: photo_id to `train`, `val` or `test`; None leaves the column empty.
        group_of: photo_id to the group that may not be divided; None leaves the column empty.
    """
    rows = []
    for photo in manifest._sorted():
        group, part = ((of or {}).get(photo.photo_id, "") for of in (group_of, split))
        rows.append({**dataclasses.asdict(photo), "group_id": group, "split": part})
    write_rows(path, rows, "\n")


def read_manifest(
    path: Path, root: Path, name: str, labels: LabelSet
) -> tuple[Manifest, dict[str, str], dict[str, str]]:
    """Read what `write_manifest` wrote.

    Returns:
        The manifest, photo_id to split, photo_id to group; photos without an entry are not in the latter two.

    Raises:
        DataInvalid: No such file, other columns, an unknown label, or an id that occurs twice.
    """
    table = read_table(path, MANIFEST_COLUMNS)
    ids, groups, splits = table["photo_id"], table["group_id"], table["split"]
    where = str(path)
    if twice := sorted(set(ids[ids.duplicated()])):
        found = ", ".join(twice[:5])
        raise DataInvalid("an id occurs twice", where=where, found=found, expected="each photo_id once")
    if unknown := sorted(set(table["label"]) - set(labels.codes)):
        found, expected = ", ".join(map(repr, unknown[:5])), ", ".join(labels.codes)
        fix = f"read it with the label set it was made with, not {labels.name}"
        raise DataInvalid("unknown labels", where=where, found=found, expected=expected, fix=fix)
    photos = tuple(Photo(*row) for row in table[list(PHOTO_COLUMNS)].itertuples(index=False))
    split = dict(zip(ids[splits != ""], splits[splits != ""], strict=True))
    group_of = dict(zip(ids[groups != ""], groups[groups != ""], strict=True))
    return Manifest(name, root, labels, photos), split, group_of


def read_parts(source: Path) -> list[dict[str, str]]:
    """Read at least photo_id and split of the photos that a run (manifest.csv) or a record (split.csv.gz) used.

    Raises:
        DataInvalid: Neither file is there, or it cannot be read.
    """
    paths = [source / name for name in PARTS_FILES]
    return read_rows(next((path for path in paths if path.is_file()), paths[0]), ("photo_id", "split"))
