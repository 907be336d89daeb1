"""The photos of a comparison: any table of photos and labels, as training writes it or simpler. stdlib only.

A CSV needs the columns `path` and `label`. `photo_id` (else the path), `group_id` or `lesion_id` (else the photo_id),
`split`, `sex`, `age` and `site` are used where they stand.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.inputs import NAMED_PROBLEMS, Photo, find_root, read_object
from edge_runtime.errors import DataInvalid, UsageError

MANIFEST = "manifest.csv"
NEEDED = ("path", "label")
ALL, TEST = "all", "test"


@dataclass(frozen=True)
class PhotoList:
    """Photos with their truth."""

    manifest: Path
    root: Path
    """To which the paths were relative."""
    split: str
    """`all`, or the split that was chosen."""
    photos: tuple[Photo, ...]


def read_photo_list(
    data: Path, codes: Sequence[str], *, root: Path | None = None, split: str | None = None
) -> PhotoList:
    """Reads a table of photos.

    Args:
        data: A CSV, or a run directory that holds manifest.csv.
        codes: Of the models' labels.
        root: To which paths are relative. Else: where the run.json beside the table says; else the table's folder.
        split: Which one; None takes `test`, or everything of a table without splits.

    Raises:
        DataInvalid: Not such a table, an unknown label, a photo twice, or no photo of the split.
        RunInvalid: run.json names a folder that is not here.
        UsageError: No such file; or the table has splits, but no test photos, and none was named.
    """
    manifest = data / MANIFEST if data.is_dir() else data
    rows = _read_rows(manifest)
    chosen = _choose_split(rows, split, manifest)
    folder = _root(manifest, root)
    photos = _photos([row for row in rows if chosen in (ALL, row.get("split"))], codes, folder, manifest)
    if not photos:
        raise DataInvalid(
            f"{manifest}: no photo to compare on",
            found=f"no row of split {chosen}",
            fix="name another --split",
        )
    return PhotoList(manifest, folder, chosen, photos)


def draw_photos(photos: Sequence[Photo], limit: int | None, seed: int) -> tuple[Photo, ...]:
    """Photos in random order, so that an interrupted comparison has seen a fair sample; at most `limit` of them."""
    shuffled = list(photos)
    random.Random(seed).shuffle(shuffled)
    return tuple(shuffled if limit is None else shuffled[:limit])


def _read_rows(manifest: Path) -> list[dict[str, str]]:
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = [{key: value or "" for key, value in row.items() if key} for row in reader]
            columns = list(reader.fieldnames or ())
    except OSError as error:
        raise UsageError(
            f"{manifest}: the table of photos cannot be read",
            found=error.strerror or str(error),
            expected=f"a CSV with columns {', '.join(NEEDED)}, or a run directory",
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataInvalid(f"{manifest}: not a CSV", found=str(error), expected="UTF-8 text") from error
    lacking = [name for name in NEEDED if name not in columns]
    if lacking or not rows:
        raise DataInvalid(
            f"{manifest}: not a table of photos",
            found=f"no column {', '.join(lacking)}" if lacking else "no rows",
            expected=f"a CSV with columns {', '.join(NEEDED)}; photo_id, group_id, split, sex, age, site if known",
        )
    return rows


def _choose_split(rows: Sequence[dict[str, str]], split: str | None, manifest: Path) -> str:
    known = sorted({row.get("split", "") for row in rows} - {""})
    if split is None:
        if not known:
            return ALL
        if TEST not in known:
            raise UsageError(
                f"{manifest}: which photos are meant?",
                found=f"splits {', '.join(known)}, no test split",
                expected="photos from which no model has learnt",
                fix=f"name one with --split {'|'.join([*known, ALL])}",
            )
        return TEST
    if split != ALL and split not in known:
        raise UsageError(
            f"{manifest}: has no split {split!r}",
            found=", ".join(known) or "no splits",
            expected=f"one of {', '.join([*known, ALL])}",
        )
    return split


def _root(manifest: Path, root: Path | None) -> Path:
    beside = manifest.parent / "run.json"
    if beside.is_file():
        run: dict[str, Any] = read_object(beside)
        return find_root(run, root, manifest.parent)
    if root is not None and not root.is_dir():
        raise UsageError("--photos is no folder", found=str(root))
    return (root or manifest.parent).resolve()


def _photos(
    rows: Sequence[dict[str, str]], codes: Sequence[str], root: Path, manifest: Path
) -> tuple[Photo, ...]:
    index_of = {code: i for i, code in enumerate(codes)}
    unknown = sorted({row["label"] for row in rows} - set(index_of))
    photos = {}
    repeated: list[str] = []
    for row in rows:
        if row["label"] not in index_of:
            continue
        photo_id = row.get("photo_id") or row["path"]
        if photo_id in photos:
            repeated.append(photo_id)
        photos[photo_id] = Photo(
            photo_id,
            root / row["path"],
            index_of[row["label"]],
            row.get("group_id") or row.get("lesion_id") or photo_id,
            row.get("split", ""),
            row.get("sex", ""),
            row.get("age", ""),
            row.get("site", ""),
        )
    if unknown:
        raise DataInvalid(
            f"{manifest}: labels that the models do not know",
            found=", ".join(unknown[:NAMED_PROBLEMS]),
            expected=", ".join(codes),
            fix="compare on photos of these labels, or name the model of these labels",
        )
    if repeated:
        raise DataInvalid(f"{manifest}: photos stand there twice", found=", ".join(repeated[:NAMED_PROBLEMS]))
    return tuple(photos.values())
