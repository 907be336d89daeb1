"""Write files whole or not at all, and read JSON objects and TOML files back. stdlib only."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import DataInvalid, RunInvalid, UsageError
from edge_runtime.files import csv_cell as csv_cell
from edge_runtime.files import csv_value as csv_value
from edge_runtime.files import whole_file as whole_file
from edge_runtime.files import whole_files as whole_files
from train.artifacts.bounded import read_bytes

# What must be of one kind in the JSON files of a run, at any depth; a file of another name is not looked at.
_TABLES = dict.fromkeys(("data", "config", "imbalance", "distill", "decision", "split", "outliers"), dict)
_EXPONENTS = ("sampling_exponent", "lesion_exponent", "oversampling", "logit_adjustment")
_NUMBERS = dict.fromkeys((*_EXPONENTS, "prior_correction", "draw"), int | float)
_CONFIG = {**_TABLES, **_NUMBERS, "source": list, "folder": str, "teacher": str}
KINDS: Mapping[str, Mapping[str, Any]] = {
    "config.json": _CONFIG,
    "crossval.json": {**_CONFIG, "name": str},
    "run.json": {**_CONFIG, "status": str, "run_id": str, "prior_of_runs": dict, "versions": dict},
    "metrics.json": {**dict.fromkeys(("val", "test", "outliers", "sources"), dict), "selection": list},
}


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def json_text(data: Any) -> str:
    """Return indented JSON with a final newline."""
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, data: Any) -> None:
    """Write indented JSON whole or not at all."""
    write_text(path, json_text(data))


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], newline: str = "\n") -> str:
    """Return a CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator=newline)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], newline: str = "\r\n") -> None:
    """Write a CSV whole or not at all, cells by `csv_cell`; the first row's keys are the header."""
    cells = [{name: csv_cell(value) for name, value in row.items()} for row in rows]
    write_text(path, csv_text(list(rows[0]) if rows else [], cells, newline))


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object of a run directory.

    Raises:
        RunInvalid: No such file, or no JSON object.
    """
    try:
        content = json.loads(read_bytes(path).decode("utf-8"))
        json_text(content).encode()  # Half of a surrogate pair is no text.
        misfits = list(_misfits(content, KINDS.get(path.name, {})))
    except OSError as error:
        found = error.strerror or str(error)
        raise RunInvalid(f"{path}: cannot be read", found=found, expected="a JSON object") from error
    except (ValueError, RecursionError) as error:
        raise RunInvalid(f"{path}: not JSON", found=str(error), fix="train again") from error
    if not isinstance(content, dict):
        raise RunInvalid(f"{path}: not a JSON object", found=type(content).__name__, fix="train again")
    if misfits:
        raise RunInvalid("values of another kind", where=str(path), details=misfits, fix="train again")
    return content


def _misfits(found: Any, kinds: Mapping[Any, Any]) -> Iterator[str]:
    listed = found if isinstance(found, list) else ()
    for key, value in found.items() if isinstance(found, dict) else enumerate(listed):
        if key in kinds and not isinstance(value, kinds[key]):
            yield f"{key} is {type(value).__name__}, not {getattr(kinds[key], '__name__', 'a number')}"
        yield from _misfits(value, kinds)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is none, or nested too deeply.
    """
    try:
        return tomllib.loads(read_bytes(path).decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_named_toml(name_or_path: str, folder: Path, what: str) -> tuple[Path, dict[str, Any]]:
    """Read a TOML file by its name in a folder, without the suffix, or by its path; return the path too.

    Raises:
        DataInvalid: No such file (those of the folder are named), or not TOML.
    """
    given = Path(name_or_path)
    path = given if given.suffix == ".toml" else folder / f"{name_or_path}.toml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.toml"))
        near = difflib.get_close_matches(name_or_path, known, n=1)
        expected = f"one of {', '.join(known)}, or a path to a .toml file"
        fix = f"write {near[0]!r}" if near else "correct the name"
        found = f"no file {path}"
        raise DataInvalid(f"no such {what}", where=name_or_path, found=found, expected=expected, fix=fix)
    try:
        return path, read_toml(path)
    except (OSError, ValueError) as error:
        raise DataInvalid("not TOML", where=str(path), found=str(error), fix="correct the file") from error


def is_file(path: Path) -> bool:
    """Whether a path from a table is a file; a name that is too long for the file system is none."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises OSError)


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes; of a folder, over names and contents of all files, sorted by name."""
    if path.is_dir():
        files = (file for file in sorted(path.rglob("*")) if file.is_file())
        lines = "\n".join(f"{file.relative_to(path)} {sha256_of(file)}" for file in files)
        return hashlib.sha256(lines.encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_out_folder(out: Path) -> None:
    """Refuse, before an hour is spent, a folder of results that cannot be made or written to.

    Raises:
        UsageError: It, or the nearest existing folder above it, is a file or not writable.
    """
    existing = next(path for path in (out, *out.resolve().parents) if path.exists())
    if not existing.is_dir():
        raise UsageError("--out is not a folder", found=f"{existing} is a file", expected="a folder")
    if not os.access(existing, os.W_OK):
        raise UsageError("--out is not writable", found=str(existing), fix="name another folder")
