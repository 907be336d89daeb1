"""Labelled photos of a comparison: the manifest of a run, or any CSV with columns path and label. pandas.

Optional: `photo_id` (else the path), `group_id` or `lesion_id` (else the photo_id), `split`, `sex`, `age`, `site`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.inputs import NAMED_PROBLEMS, SUBGROUP_COLUMNS, Photo
from edge_runtime.errors import DataInvalid, UsageError
from train.artifacts.files import read_object
from train.artifacts.run import require_root

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "manifest.csv"
NEEDED = ("path", "label")
OPTIONAL = ("photo_id", "group_id", "lesion_id", "split", *SUBGROUP_COLUMNS)
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
        UsageError: No such file; or the table has splits but no test split, and none was named.
    """
    manifest = data / MANIFEST if data.is_dir() else data
    table = _read_table(manifest, [*NEEDED, *([column] if column else [])])
    table = table.reindex(columns=list(dict.fromkeys([*table.columns, *OPTIONAL])), fill_value="")
    chosen = _choose_split(sorted(set(table["split"]) - {""}), split, manifest)
    folder = _root(manifest, root)
    ids = table["photo_id"].mask(table["photo_id"] == "", table["path"])
    groups = table["group_id"].mask(table["group_id"] == "", table["lesion_id"])
    table = table.assign(photo_id=ids, group_id=groups.mask(groups == "", ids))
    if chosen != ALL:
        table = table[table["split"] == chosen]
    _require_usable(table, codes, chosen, manifest)
    index_of = {code: i for i, code in enumerate(codes)}
    columns = ["photo_id", "group_id", "split", *SUBGROUP_COLUMNS]
    rows: list[dict[str, Any]] = table[columns].to_dict("records")
    photos = tuple(
        Photo(path=folder / path, label=index_of[label], **row)
        for row, path, label in zip(rows, table["path"], table["label"], strict=True)
    )
    values = dict(zip(table["photo_id"], table[column].str.strip(), strict=True)) if column else {}
    return PhotoList(manifest, folder, chosen, photos, values)


def draw_photos(photos: Sequence[Photo], limit: int | None, seed: int) -> tuple[Photo, ...]:
    """Shuffle photos, so that an interrupted comparison has a random sample, and keep at most `limit`."""
    shuffled = list(photos)
    random.Random(seed).shuffle(shuffled)
    return tuple(shuffled if limit is None else shuffled[:limit])


def _read_table(manifest: Path, needed: Sequence[str]) -> pd.DataFrame:
    # Late: what needs no photos needs not wait for it.
    import pandas as pd

    try:
        table = pd.read_csv(
            manifest, dtype=str, na_filter=False, index_col=False, encoding="utf-8-sig"
        ).fillna("")
    except OSError as error:
        raise UsageError(
            f"{manifest}: cannot be read",
            found=error.strerror or str(error),
            expected=f"a CSV with columns {', '.join(NEEDED)}, or a run directory",
        ) from error
    except ValueError as error:
        raise DataInvalid(f"{manifest}: not a CSV", found=str(error), expected="UTF-8 text") from error
    lacking = [name for name in needed if name not in table]
    if lacking or table.empty:
        raise DataInvalid(
            f"{manifest}: not a table of photos",
            found=f"no column {', '.join(lacking)}" if lacking else "no rows",
            expected=f"columns {', '.join(needed)}; {', '.join(OPTIONAL)} if known",
        )
    return table


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


def _require_usable(table: pd.DataFrame, codes: Sequence[str], chosen: str, manifest: Path) -> None:
    if unknown := sorted(set(table["label"]) - set(codes)):
        raise DataInvalid(
            f"{manifest}: labels that the models do not have",
            found=", ".join(unknown[:NAMED_PROBLEMS]),
            expected=", ".join(codes),
            fix="Use photos of these labels, or a model of those labels",
        )
    if len(repeated := table["photo_id"][table["photo_id"].duplicated()]):
        raise DataInvalid(f"{manifest}: duplicate photos", found=", ".join(repeated[:NAMED_PROBLEMS]))
    if table.empty:
        raise DataInvalid(
            f"{manifest}: no photos", found=f"no row of split {chosen}", fix="Name another --split"
        )
