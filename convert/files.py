"""The files that commands write: which, and whole or not at all. stdlib only."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_runtime.errors import UsageError


@contextmanager
def whole_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yields temporary paths beside `paths`; they replace `paths`, in order, when the block ends well, else vanish.

    Raises:
        OSError: A folder is missing or cannot be written.
    """
    temporaries = [path.with_name(f".{path.name}.partial-{os.getpid()}") for path in paths]
    try:
        yield temporaries
        for temporary, path in zip(temporaries, paths, strict=True):
            temporary.replace(path)
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Like `whole_files`, for one."""
    with whole_files([path]) as temporaries:
        yield temporaries[0]


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_model(path: Path) -> str:
    """As `sha256_of`; of a folder over the names and contents of all files, in order of name."""
    if path.is_file():
        return sha256_of(path)
    lines = [
        f"{file.relative_to(path)} {sha256_of(file)}" for file in sorted(path.rglob("*")) if file.is_file()
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def json_text(data: Any) -> str:
    """Indented JSON with a final newline."""
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def report_path(out: Path) -> Path:
    """model.json beside model.tflite."""
    return out.with_suffix(".json")


def require_out(out: Path) -> None:
    """Refuses, before minutes are spent, an output that cannot be written.

    Raises:
        UsageError: Not a .tflite name, or its folder is missing.
    """
    if out.suffix != ".tflite":
        raise UsageError("--out names no model file", found=str(out), expected="a name that ends in .tflite")
    if not out.parent.is_dir():
        raise UsageError("--out's folder does not exist", found=str(out.parent), fix="make the folder first")
    for path in (out, report_path(out)):
        if path.is_dir():
            raise UsageError("--out is a folder", found=str(path), expected="a file to write")
