"""A run directory has one writer at a time, who has the space that it needs. stdlib only.

The lock is flock's on RUN/writer.lock, which the kernel drops when its process ends, however it ends. On NFS, Linux
asks the server; mounts with `nolock` or `local_lock` see the writers of their own machine alone, and a file system
without locks is used with a warning. Windows, where training is not supported, has none.
"""

from __future__ import annotations

import errno
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_runtime.errors import DiskFull, RunBusy

LOCK_FILE = "writer.lock"
MAX_NAME_BYTES = 1000
FULL = (errno.ENOSPC, errno.EDQUOT)
SPARE_BYTES = 1 << 16
"""That a file system needs beside what is written to it."""


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Be the only process that writes to a folder, which is made if absent; remove a killed one's half checkpoints.

    Raises:
        RunBusy: Another process, or another block of this one, writes there.
        DiskFull: The block found a disk full.
        OSError: The folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(folder / LOCK_FILE)
    try:
        _remove_half_checkpoints(folder)
        yield
    except Exception as error:
        # TensorFlow's errors have no number.
        if any(os.strerror(number) in str(error) for number in FULL):
            raise _full(folder, f"; {str(error).splitlines()[0]}") from error
        raise
    finally:
        _remove_half_checkpoints(folder)
        (folder / LOCK_FILE).unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path) -> int:
    """Return the descriptor of a lock file, locked, with this process's name in it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(descriptor).st_nlink:
            raise BlockingIOError  # Its holder has just removed it.
    except BlockingIOError as error:
        found = os.read(descriptor, MAX_NAME_BYTES).decode("utf-8", "replace") or "one without a name"
        os.close(descriptor)
        fix = "wait until it has ended, or name another folder"
        problem, where = "another process writes to this folder", str(path.parent)
        raise RunBusy(problem, where=where, found=found, expected="one writer", fix=fix) from error
    except (ImportError, OSError) as error:
        print(f"warning: {path}: cannot be locked ({error}); start no second process", file=sys.stderr)
    since = datetime.now(UTC).isoformat(timespec="seconds")
    name = f"process {os.getpid()} on {platform.node()} since {since}: {shlex.join(sys.argv)}"
    with suppress(OSError):  # Where the disk is full already.
        os.truncate(descriptor, 0)
        os.write(descriptor, name.encode("utf-8", "replace")[:MAX_NAME_BYTES])
    return descriptor


def _remove_half_checkpoints(folder: Path) -> None:
    for left in folder.glob("checkpoints/ckpt-*_temp"):
        shutil.rmtree(left, ignore_errors=True)


def bytes_of(variables: Iterable[Any]) -> int:
    """Return the size of TensorFlow's variables."""
    return sum(variable.shape.num_elements() * variable.dtype.size for variable in variables)


def require_space(folder: Path, needed: int, existing: Path | None = None) -> None:
    """Refuse to begin what a disk has no space for.

    Args:
        folder: Where it will be written.
        needed: Bytes.
        existing: A file, or a folder of files, that is there already and counts.

    Raises:
        DiskFull: There are fewer free bytes.
    """
    files = [existing, *existing.glob("*")] if existing else []
    needed -= sum(path.stat().st_size for path in files if path.is_file())
    if needed + SPARE_BYTES > _free(folder):
        raise _full(folder, expected=f"{needed:,} bytes")


def _free(folder: Path) -> int:
    """Return the free bytes of a folder's disk, or of the one where it was."""
    return shutil.disk_usage(next(path for path in (folder, *folder.resolve().parents) if path.exists())).free


def _full(folder: Path, more: str = "", expected: str = "") -> DiskFull:
    found, fix = f"{_free(folder):,} bytes free{more}", "free space, or name a folder on another disk"
    return DiskFull("not enough disk space", where=str(folder), found=found, expected=expected, fix=fix)
