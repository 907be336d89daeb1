"""Write files whole or not at all, and read JSON objects and TOML files back. stdlib only."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import DataInvalid, RunInvalid, UsageError
from edge_runtime.files import csv_cell as csv_cell
from edge_runtime.files import csv_value as csv_value
from edge_runtime.files import whole_file as whole_file
from edge_runtime.files import whole_files as whole_files
from train.artifacts.bounded import read_bytes


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
    except OSError as error:
        found = error.strerror or str(error)
        raise RunInvalid(f"{path}: cannot be read", found=found, expected="a JSON object") from error
    except ValueError as error:
        raise RunInvalid(f"{path}: not JSON", found=str(error), fix="train again") from error
    if not isinstance(content, dict):
        raise RunInvalid(f"{path}: not a JSON object", found=type(content).__name__, fix="train again")
    return content


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
        return path, tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataInvalid("not TOML", where=str(path), found=str(error), fix="correct the file") from error


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
