"""Write files whole or not at all, and cells of CSV files as text. stdlib only.

An unfinished file stands beside its target under a random name and is created anew, through no link, so that nobody who
may write to the folder decides where the bytes go. The target's own link, if it is one, is replaced, not followed. The
name says which process writes: what a killed one has left, the next that writes into the folder removes.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edge_runtime.errors import OutputUnwritten

# Of the target's name, which may be as long as a name can be.
STEM_CHARS, SUFFIX_CHARS = 32, 16
STDOUT = "/dev/fd/1"
"""The file that stdout goes to."""
# What makes a cell a formula, or is cut off before it is looked at; full-width too, as East Asian spreadsheets have it.
FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
_swept: set[Path] = set()
written: set[Path] = set()
"""Unfinished files of `whole_files`; what ends the process at once removes them."""


@contextmanager
def whole_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield new empty files beside `paths`; they replace `paths`, in order, if the block succeeds, else are deleted.

    Each file is whole at every moment. They are renamed one after the other: what ends the process between two renames
    (a kill, a power cut, a failing disk) leaves the earlier ones new and the later ones as they were.

    Raises:
        OSError: A folder is missing or cannot be written.
    """
    temporaries: list[Path] = []
    try:
        for path in paths:
            temporary = unfinished(path)
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
            os.close(os.open(temporary, flags, 0o666))
            temporaries.append(temporary)
            written.add(temporary)
        yield temporaries
        for temporary, path in zip(temporaries, paths, strict=True):
            temporary.replace(path)
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
            written.discard(temporary)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Like `whole_files`, for one."""
    with whole_files([path]) as temporaries:
        yield temporaries[0]


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn what the operating system says while a file is written into OutputUnwritten."""
    try:
        yield
    except OSError as error:
        found, fix = error.strerror or str(error), "free disk space, or check permissions"
        raise OutputUnwritten("cannot be written", where=path, found=found, fix=fix) from error


def whole_lines(path: str) -> Iterator[bytes]:
    """Yield the lines of a file that grows by lines; what a kill has left of the last one is cut off the file."""
    end = 0
    with Path(path).open("r+b") as lines:
        for line in lines:
            if end and not line.endswith(b"\n"):
                lines.truncate(end)
                return
            end += len(line)
            yield line


def unfinished(path: Path) -> Path:
    """Return a new name beside `path` for what is not finished yet; what killed processes left there is removed."""
    # On another machine numbers of processes mean others.
    machine = f"{zlib.crc32(os.uname().nodename.encode()):08x}"
    if path.parent not in _swept:
        _swept.add(path.parent)
        for left in path.parent.glob(f".*.partial-*-{machine}*"):
            if _is_left(left):
                with suppress(OSError):
                    (shutil.rmtree if left.is_dir() else os.unlink)(left)
    name = f".{path.stem[:STEM_CHARS]}.partial-{os.urandom(8).hex()}-{os.getpid()}-{machine}"
    return path.with_name(f"{name}{path.suffix[-SUFFIX_CHARS:]}")


def _is_left(path: Path) -> bool:
    try:
        os.kill(int(path.name.rpartition(".partial-")[2].split("-")[1]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, IndexError, OverflowError):
        return False
    return False


def csv_cell(value: Any) -> Any:
    """Return a value for a CSV file; a text that spreadsheets would compute gets an apostrophe. Numbers stay."""
    if not (isinstance(value, str) and value.lstrip("'").startswith(FORMULA_STARTS)):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def csv_value(cell: str) -> str:
    """Return the text that `csv_cell` was given."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA_STARTS) else cell
