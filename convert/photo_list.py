"""Labelled photos of a comparison: the manifest of a run, or any CSV with columns path and label. stdlib only.

Optional: `photo_id` (else the path), `group_id` or `lesion_id` (else the photo_id), `split`, `sex`, `age`, `site`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convert.inputs import NAMED_PROBLEMS, SUBGROUP_COLUMNS, Photo
from edge_runtime.errors import DataInvalid, UsageError
from train.artifacts.files import read_object
from train.artifacts.manifest import read_rows
from train.artifacts.run import require_root

MANIFEST = "manifest.csv"
NEEDED = ("path", "label")
ALL, TEST = "all", "test"


@dataclass(frozen=True)
class PhotoList:
    """Labelled photos."""

    manifest: Path
    root: Path
    """The folder to which the paths were relative."""
    split: str
    """`all`, or the split that was chosen."""
    photos: tuple[Photo, ...]
    values: dict[str, str] = field(default_factory=dict)
    """photo_id to the cell of a further column."""


def read_photo_list(
    data: Path, codes: Sequence[str], *, root: Path | None = None, split: str | None = None, column: str = ""
) -> PhotoList:
    """Read labelled photos.

    Args:
        data: A CSV, or a run directory that holds manifest.csv.
        codes: Of the models' labels.
        root: The folder of the paths. Else: where the run.json beside the CSV says; else the CSV's folder.
        split: Its name; None takes `test`, or everything of a CSV without splits.
        column: A further column whose cells are returned; none if empty.

    Raises:
        DataInvalid: No such table, an unknown label, a photo twice, or no photo of the split.
        RunInvalid: run.json names a folder that does not exist.
        UsageError: The table has splits but no test split, and none was named; or no such split.
    """
    manifest = data / MANIFEST if data.is_dir() else data
    rows = read_rows(manifest, [*NEEDED, *([column] if column else [])])
    chosen = _choose_split(sorted({row.get("split", "") for row in rows} - {""}), split, manifest)
    folder = _root(manifest, root)
    rows = [row for row in rows if chosen in (ALL, row.get("split"))]
    ids = [row.get("photo_id") or row["path"] for row in rows]
    _require_usable(rows, ids, codes, chosen, manifest)
    photos = tuple(
        Photo(
            photo_id,
            folder / row["path"],
            codes.index(row["label"]),
            row.get("group_id") or row.get("lesion_id") or photo_id,
            row.get("split", ""),
            **{name: row.get(name, "") for name in SUBGROUP_COLUMNS},
        )
        for photo_id, row in zip(ids, rows, strict=True)
    )
    values = {photo_id: row[column] for photo_id, row in zip(ids, rows, strict=True)} if column else {}
    return PhotoList(manifest, folder, chosen, photos, values)


def draw_photos(photos: Sequence[Photo], limit: int | None, seed: int) -> tuple[Photo, ...]:
    """Shuffle photos, so that an interrupted comparison has a random sample, and keep at most `limit`."""
    shuffled = list(photos)
    random.Random(seed).shuffle(shuffled)
    return tuple(shuffled if limit is None else shuffled[:limit])


def _choose_split(known: Sequence[str], split: str | None, manifest: Path) -> str:
    if split is None:
        if known and TEST not in known:
            raise UsageError(
                f"--split is required: {manifest} has no test split",
                found=f"splits {', '.join(known)}",
                fix=f"Name one with --split {'|'.join([*known, ALL])}",
            )
        return TEST if known else ALL
    if split != ALL and split not in known:
        raise UsageError(
            f"--split: {manifest} has no split {split!r}",
            found=", ".join(known) or "no splits",
            expected=f"one of {', '.join([*known, ALL])}",
        )
    return split


def _root(manifest: Path, root: Path | None) -> Path:
    beside = manifest.parent / "run.json"
    if beside.is_file():
        return require_root(read_object(beside), root, manifest.parent)
    if root is not None and not root.is_dir():
        raise UsageError("--photos: not a folder", found=str(root))
    return (root or manifest.parent).resolve()


def _require_usable(
    rows: Sequence[Mapping[str, str]], ids: Sequence[str], codes: Sequence[str], chosen: str, manifest: Path
) -> None:
    if unknown := sorted({row["label"] for row in rows} - set(codes)):
        raise DataInvalid(
            f"{manifest}: labels that the models do not have",
            found=", ".join(unknown[:NAMED_PROBLEMS]),
            expected=", ".join(codes),
            fix="Use photos of these labels, or a model of those labels",
        )
    if repeated := [name for name, times in Counter(ids).items() if times > 1]:
        raise DataInvalid(f"{manifest}: duplicate photos", found=", ".join(repeated[:NAMED_PROBLEMS]))
    if not rows:
        raise DataInvalid(f"{manifest}: no photos in split {chosen}", fix="Name another --split")
