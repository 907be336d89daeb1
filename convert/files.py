"""The files that commands write: which, and whole or not at all. stdlib only."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_runtime.errors import UsageError

OTHER_OUT = "give --out another name or folder"
# Of the .json beside a converted model: no contract and no file of a run has all of them.
REPORT_KEYS = frozenset({"schema_version", "model", "options", "recipe", "run"})


@contextmanager
def whole_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yields temporary paths beside `paths`; they replace `paths`, in order, when the block ends well, else vanish.

    Each file is whole at every moment. They are renamed one after the other: what ends the process between two renames
    (a kill, a power cut, a failing disk) leaves the earlier ones new and the later ones as they were.

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


def require_out(out: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuses, before minutes are spent, an output that cannot be written or would destroy what is not its own.

    Args:
        out: The .tflite; its report is written beside it.
        inputs: What the conversion reads; neither file may replace one of them.

    Raises:
        UsageError: Not a .tflite name; its folder is missing or closed to this user; it or its report is a folder or
            an input; or what stands in the report's place is no report of a conversion.
    """
    if out.suffix != ".tflite":
        raise UsageError("--out names no model file", found=str(out), expected="a name that ends in .tflite")
    if not out.parent.is_dir():
        raise UsageError("--out's folder does not exist", found=str(out.parent), fix="make the folder first")
    if not os.access(out.parent, os.W_OK):
        raise UsageError("--out's folder cannot be written to", found=str(out.parent), fix=OTHER_OUT)
    taken = {path.resolve() for path in inputs}
    for path, role in ((out, "--out"), (report_path(out), "--out's report")):
        if path.is_dir():
            raise UsageError(f"{role} is a folder", found=str(path), expected="a file to write")
        if path.resolve() in taken:
            raise UsageError(
                f"{role} would replace a file that the conversion reads", found=str(path), fix=OTHER_OUT
            )
    if report_path(out).exists() and not _holds_report(report_path(out)):
        raise UsageError(
            "--out's report would replace a file that is none of a conversion",
            found=str(report_path(out)),
            expected="nothing, or the report of an earlier conversion",
            fix=f"{OTHER_OUT}, or move that file",
        )


def require_out_folder(out: Path, expected: str = "a folder") -> None:
    """Refuses, before an hour is spent, a folder of results that cannot be made or written to.

    Args:
        out: The folder, which need not be there yet.
        expected: What it is for, for the error.

    Raises:
        UsageError: It, or the nearest folder above it that is there, is a file or closed to this user.
    """
    there = next(path for path in (out, *out.resolve().parents) if path.exists())
    if not there.is_dir():
        raise UsageError("--out is no folder", found=f"{there} is a file", expected=expected)
    if not os.access(there, os.W_OK):
        raise UsageError("--out cannot be written to", found=str(there), fix="name another folder")


def _holds_report(path: Path) -> bool:
    """Whether a file is what a conversion writes beside its model."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return is_report(content)


def is_report(content: Any) -> bool:
    """Whether parsed JSON has the parts by which a conversion's report is known."""
    parts = ("model", "run")
    return (
        isinstance(content, dict)
        and content.keys() >= REPORT_KEYS
        and all(isinstance(content[part], dict) for part in parts)
    )
