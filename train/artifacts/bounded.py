"""Files of unknown origin, read with bounds: by what they declare, and by what unpacking them gives. stdlib only."""

from __future__ import annotations

import errno
import gzip
import io
import zipfile
import zlib
from pathlib import Path

MAX_TEXT_BYTES = 64 * 1024**2
"""Of a table or JSON, unpacked: half a million photos with scores of seven classes."""
MAX_CELLS = 10_000_000
"""Of a table: pandas holds some 100 bytes for each."""
MAX_COLUMNS = 10_000
MAX_ARRAYS_BYTES = 1024**3
"""Of all arrays of a .npz, .keras or .h5 file: twice the largest .tflite that a device opens."""
# What reading a damaged archive raises beside OSError, ValueError and KeyError.
DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, MemoryError, NotImplementedError, RecursionError)


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        OSError: It cannot be read.
        ValueError: It has more than MAX_TEXT_BYTES.
    """
    require_file(path)
    with path.open("rb") as stream:
        return _at_most(stream)


def require_file(path: Path) -> None:
    """Raise OSError for a pipe or device, which might never end, or a folder; not where there is nothing."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_table_bytes(path: Path) -> bytes:
    """Return a CSV's text for pandas, unpacked if its name ends in .gz.

    Raises:
        OSError, EOFError, zlib.error: It cannot be read or unpacked.
        ValueError: It has more than MAX_TEXT_BYTES, MAX_CELLS or MAX_COLUMNS.
    """
    require_file(path)
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        table = _at_most(stream)
    columns = 1 + table.partition(b"\n")[0].count(b",")
    # A short row is filled up.
    lines = 1 + table.count(b"\n") + table.count(b"\r")
    if columns > MAX_COLUMNS or columns * lines > MAX_CELLS:
        raise ValueError(
            f"{columns:,} columns in {lines:,} lines, more than {MAX_COLUMNS:,} or {MAX_CELLS:,} cells"
        )
    return table


def require_small_archive(path: Path) -> None:
    """Refuse a .npz or .keras file that declares more than MAX_ARRAYS_BYTES unpacked; zipfile reads no more than that.

    Raises:
        OSError, zipfile.BadZipFile: No archive.
        ValueError: It is too large.
    """
    require_file(path)
    with zipfile.ZipFile(path) as archive:
        declared = sum(member.file_size for member in archive.infolist())
    require_arrays(declared)


def require_arrays(declared_bytes: int) -> None:
    """Raise ValueError for more than MAX_ARRAYS_BYTES."""
    if declared_bytes > MAX_ARRAYS_BYTES:
        raise ValueError(f"{declared_bytes:,} bytes of arrays, more than {MAX_ARRAYS_BYTES:,}")


def _at_most(stream: io.BufferedIOBase) -> bytes:
    content = stream.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise ValueError(f"more than {MAX_TEXT_BYTES:,} bytes")
    return content
