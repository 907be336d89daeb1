"""CSV tables: all cells are texts until someone says otherwise. pandas, imported when a table is read."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.contract import has_control_characters
from edge_runtime.errors import DataInvalid, DataNotFound, EdgeError, RunInvalid, RunNotFound
from edge_runtime.files import csv_value
from train.artifacts.bounded import read_table_bytes

if TYPE_CHECKING:
    import pandas as pd


NOT_FOUND: dict[type[EdgeError], type[EdgeError]] = {DataInvalid: DataNotFound, RunInvalid: RunNotFound}


def read_table(
    path: Path, required: Sequence[str] = (), *, error: type[EdgeError] = DataInvalid, fix: str = ""
) -> pd.DataFrame:
    """Read a CSV with a header, gzipped if its name ends in .gz.

    Args:
        path: The file.
        required: Columns that it must have.
        error: Class of what is raised.
        fix: Of that error.

    Returns:
        A row for each line; cells are stripped texts, empty where a row is short.

    Raises:
        EdgeError: Of class `error`: no such file, too large (`bounded`), not UTF-8 CSV, a row longer than the header,
            missing columns, or a control character in a required one.
    """
    import pandas as pd

    where, columns = str(path), ", ".join(required)
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    try:
        with warnings.catch_warnings():
            # Of a first row with more cells than the header; any other such row is an error by itself.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(io.BytesIO(read_table_bytes(path)), index_col=False, **options)
    except FileNotFoundError as missing:
        expected = f"a CSV file with {columns}" if columns else "a CSV file"
        kind = NOT_FOUND.get(error, error)
        raise kind("no such file", where=where, expected=expected, fix=fix) from missing
    except pd.errors.EmptyDataError:
        table = pd.DataFrame(dtype=str)
    except (OSError, EOFError, zlib.error, ValueError, pd.errors.ParserWarning) as bad:
        problem, expected = "not a readable CSV file", "CSV, UTF-8"
        raise error(problem, where=where, found=str(bad), expected=expected, fix=fix) from bad
    if lacking := [column for column in required if column not in table.columns]:
        problem, found = f"missing columns: {', '.join(lacking)}", ", ".join(table.columns) or "an empty file"
        raise error(problem, where=where, found=found, expected=columns, fix=fix)
    table = table.fillna("").apply(lambda column: column.str.strip().map(csv_value))
    for column in required:
        if hostile := [
            cell for cell in table[column] if not cell.isprintable() and has_control_characters(cell)
        ]:
            problem, expected = f"a control character in column {column}", "text in one line"
            raise error(problem, where=where, found=repr(hostile[0]), expected=expected, fix="rename it")
    return table


def read_rows(path: Path, required: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return `read_table` as one dict a row."""
    rows: list[Any] = read_table(path, required).to_dict("records")
    return rows
