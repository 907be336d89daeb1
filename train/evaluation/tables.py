"""Prediction tables (predictions_*.csv, oof*.csv): a row for each photo, a column for each class. numpy, pandas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import RunInvalid
from train.artifacts.tables import read_table
from train.evaluation.metrics import FloatArray, IntArray

if TYPE_CHECKING:
    import pandas as pd

NAMES_SHOWN = 5


def read_predictions(path: Path, required: Sequence[str], *, fix: str = "") -> pd.DataFrame:
    """Read a prediction table; all cells are texts.

    Raises:
        RunInvalid: No such file, not CSV, missing columns, no row, or a photo_id twice.
    """
    table = read_table(path, required, error=RunInvalid, fix=fix)
    if table.empty:
        raise RunInvalid("no predictions", where=str(path), expected="a row for each photo", fix=fix)
    if not table["photo_id"].is_unique:
        twice = table.loc[table["photo_id"].duplicated(), "photo_id"].iloc[0]
        raise RunInvalid(
            "a photo_id occurs twice", where=str(path), found=twice, expected="each photo once", fix=fix
        )
    return table


def class_indices(path: Path, labels: Iterable[str], codes: Sequence[str]) -> IntArray:
    """Return the index of each label, [n].

    Raises:
        RunInvalid: Labels that are not among the codes.
    """
    index_of = {code: i for i, code in enumerate(codes)}
    labels = list(labels)
    if unknown := sorted(set(labels) - set(codes)):
        found, expected = ", ".join(map(repr, unknown[:NAMES_SHOWN])), ", ".join(codes)
        raise RunInvalid("labels without a class", where=str(path), found=found, expected=expected)
    return np.array([index_of[label] for label in labels], np.int64)


def score_matrix(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> FloatArray:
    """Return the numbers of some columns, [n, columns].

    Raises:
        RunInvalid: Missing columns, or a cell that is not a finite number.
    """
    where = str(path)
    if lacking := [column for column in columns if column not in table.columns]:
        problem, found = f"missing columns: {', '.join(lacking)}", ", ".join(table.columns)
        raise RunInvalid(problem, where=where, found=found, expected="a column for each class")
    try:
        values = np.array([[float(cell) for cell in row] for row in table[list(columns)].to_numpy()])
    except ValueError as error:
        raise RunInvalid("a score is not a number", where=where, found=str(error)) from error
    if not np.isfinite(values).all():
        raise RunInvalid("scores are not finite", where=where, found="NaN or infinity", fix="train again")
    return values


def chosen(whole: object, inside: npt.NDArray[np.bool_], names: Iterable[str]) -> dict[str, Any]:
    """Return some photos' values of the named attributes, tuples or arrays of [n]; an empty one stays empty."""
    values = {name: getattr(whole, name) for name in names}
    return {
        name: value[inside] if isinstance(value, np.ndarray) else tuple(compress(value, inside))
        for name, value in values.items()
    }
