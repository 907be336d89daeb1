"""Photos and their true labels, as datasets are published: folders by class, or a folder and a table. pandas.

A table names each photo (`image`, `image_id`, `isic_id`, `photo_id`, `img_id`, `file`, `filename` or `path`, with or
without suffix) and its label: a column `label`, `dx`, `diagnosis`, `diagnostic`, `class` or `target`, or one column of
0 and 1 for each label, as ISIC's ground truth has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from edge_runtime.errors import DataInvalid, UsageError
from edge_runtime.images.preprocess import PHOTO_SUFFIXES, by_kind
from train.artifacts.tables import read_table

PHOTO_COLUMNS = ("image", "image_id", "isic_id", "photo_id", "img_id", "file", "filename", "path")
LABEL_COLUMNS = ("label", "dx", "diagnosis", "diagnostic", "class", "target")
GROUP_COLUMNS = {"group_id": "groups", "lesion_id": "lesions", "group": "groups", "patient_id": "patients"}
"""Column to what its values are, the finest first."""
OWN_COLUMNS = ("given", "given_path", "stem")
"""What reading adds to a table."""
NAMED = 8
"""So many of a problem's cases are named; the others are counted."""


@dataclass(frozen=True)
class Truth:
    """Labelled photos in the order of their names."""

    table: pd.DataFrame
    """Columns path, label (index in the model's labels), group (lesion or patient; the photo itself where unknown), and
    the ground truth's own columns, all text."""
    left_out: int
    """Photos whose label is mapped to nothing."""
    units: str
    """What intervals draw: lesions, patients, groups, or photos where no column says which belong together."""


def read_truth(
    data: Path,
    codes: Sequence[str],
    *,
    labels: str | Path | None = None,
    mapping: Mapping[str, str] | None = None,
) -> Truth:
    """Read photos and labels.

    Args:
        data: A folder of photos, at any depth, hidden ones left out; without `labels` the name of each photo's folder
            is its label.
        codes: The model's labels.
        labels: A CSV of true labels.
        mapping: Label of the data to code of the model, "" to leave its photos out; others must be codes, in any case.

    Raises:
        UsageError: No such folder or table, or a mapping to what is no code.
        DataInvalid: Unknown labels, photos that are missing or twice, no photo.
    """
    if not data.is_dir():
        raise UsageError("--data: not a folder", found=str(data))
    files = sorted(map(Path, by_kind(str(data), recursive=True)["photos"]))
    if labels is None:
        table = pd.DataFrame({"path": files, "given": [path.parent.name for path in files]})
    else:
        table = _join(_read_table(labels, codes), files, labels, data)
    if foreign := sorted(set((mapping or {}).values()) - {"", *codes}):
        raise UsageError("--map: not a label of the model", found=_some(foreign), expected=", ".join(codes))
    known = {code.lower(): code for code in codes} | {k.lower(): v for k, v in (mapping or {}).items()}
    found = table["given"].str.lower().map(known)
    if unknown := sorted(set(table.loc[found.isna(), "given"])):
        problem = f"{labels or data}: labels that the model does not have"
        fix = "map them with --map LABEL=CODE, or leave them out with --map LABEL="
        raise DataInvalid(problem, found=_some(unknown), expected=", ".join(codes), fix=fix)
    chosen = table[found != ""].assign(label=found[found != ""].map(list(codes).index))
    if chosen.empty:
        expected = f"files ending in {', '.join(sorted(PHOTO_SUFFIXES))}"
        raise DataInvalid(f"{data}: no labelled photo", expected=expected)
    group = next((column for column in GROUP_COLUMNS if column in chosen), None)
    own = chosen["path"].map(str)
    groups = own if group is None else chosen[group].where(chosen[group] != "", own)
    labelled = chosen.assign(group=groups).reset_index(drop=True)
    units = "photos" if group is None else GROUP_COLUMNS[group]
    return Truth(labelled, len(table) - len(chosen), units)


def _read_table(path: str | Path, codes: Sequence[str]) -> pd.DataFrame:
    table = read_table(Path(path), error=UsageError).rename(columns=str.strip)
    lower = {column.lower(): column for column in table.columns}
    photo = next((lower[name] for name in PHOTO_COLUMNS if name in lower), None)
    label = next((lower[name] for name in LABEL_COLUMNS if name in lower), None)
    one_hot = [lower[code.lower()] for code in codes if code.lower() in lower]
    if photo is None or (label is None and len(one_hot) < 2):
        raise DataInvalid(
            f"{path}: no column of photos, or none of labels",
            found=", ".join(table.columns[:20]),
            expected=f"one of {', '.join(PHOTO_COLUMNS)}; one of {', '.join(LABEL_COLUMNS)}, or one for each label",
        )
    if label is not None:
        given = table[label]
    else:
        marks: Any = table[one_hot].apply(pd.to_numeric, errors="coerce").fillna(0) > 0.5
        if (bad := marks.sum(axis=1) != 1).any():
            found = _some(list(table.loc[bad, photo]))
            raise DataInvalid(f"{path}: rows without exactly one label", found=found)
        given = marks.idxmax(axis=1)
    stems = table[photo].map(_stem)
    return table.rename(columns={"path": "given_path"}).assign(given=given, stem=stems)


def _stem(name: str) -> str:
    """A photo's name without folder and suffix; other dots belong to the name."""
    path = Path(name)
    return path.stem if path.suffix.lower() in PHOTO_SUFFIXES else path.name


def _join(table: pd.DataFrame, files: Sequence[Path], labels: str | Path, data: Path) -> pd.DataFrame:
    places = pd.DataFrame({"path": files, "stem": [path.stem for path in files]})
    named = places["stem"][places["stem"].isin(set(table["stem"]))]
    for what, stems in (("the table", table["stem"]), (str(data), named)):
        if (twice := stems[stems.duplicated()]).any():
            raise DataInvalid(f"{labels}: photos that are twice in {what}", found=_some(sorted(set(twice))))
    joined = table.merge(places, on="stem", how="left", validate="one_to_one")
    if (missing := joined["path"].isna()).any():
        problem = f"{labels}: {int(missing.sum())} of {len(joined)} photos are not in {data}"
        found = _some(list(joined.loc[missing, "stem"]))
        raise DataInvalid(problem, found=found, fix="name the folder of all photos with --data")
    return joined


def _some(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
