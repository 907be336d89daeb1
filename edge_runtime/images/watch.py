"""Photos as they arrive in a folder, each answered once, also after a kill. stdlib only.

The folder is looked at twice a second, which works on every file system (memory cards, network shares). A photo is
taken when it is as it was at the look before and nobody writes to it, as far as Linux's inotify says. A young one that
is damaged may still be on its way from another machine: it is tried again before that is its answer.
"""

# ruff: noqa: PTH103, PTH111, PTH113, PTH116, PTH118, PTH120

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from edge_runtime.errors import ImageError, UsageError
from edge_runtime.files import whole_lines, writing
from edge_runtime.images.photos import by_kind, read_photo
from edge_runtime.result import error_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from edge_runtime.result import Prediction

    Stamp = tuple[int, ...]
    Result = Prediction | ImageError
    Classify = Callable[[str, bytes | ImageError], Result]

POLL_S = 0.5
PATIENCE_S = 10.0
_MODIFY, _CLOSED, _MOVED, _DELETED, _OVERFLOW = 0x2, 0x8, 0xC0, 0x200, 0x4000
_EVENT = struct.Struct("iIII")


class State:
    """What was answered: a file of JSON lines, which one process at a time appends to.

    A line is on the disk before its answer is printed: after a kill the file is complete, and what was printed lacks
    one answer at most.

    Raises:
        UsageError: The file cannot be read and written, is another kind of file, or is in use.
    """

    def __init__(self, path: str) -> None:
        import fcntl

        self.known: dict[str, tuple[Stamp, str]] = {}
        """Name in the folder to what changes with the file, and its SHA-256."""
        self._path = path
        try:
            os.makedirs(os.path.dirname(path) or os.curdir, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for entry in map(json.loads, whole_lines(path)):
                self.known[entry["photo"]] = tuple(entry["stamp"]), entry["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            found = getattr(error, "strerror", None) or "another kind of file"
            expected, fix = "a file of --watch that no process uses", "name another one with --state"
            problem = "the state file cannot be used"
            raise UsageError(problem, where=path, found=found, expected=expected, fix=fix) from error

    def add(self, photo: str, stamp: Stamp, sha256: str, answer: dict[str, object]) -> None:
        """Remember an answer, on the disk; OutputUnwritten where that fails."""
        entry = {"photo": photo, "stamp": stamp, "sha256": sha256, "answer": answer}
        with writing(self._path):
            line = json.dumps(entry).encode() + b"\n"
            if os.write(self._file, line) < len(line):
                raise OSError("no space is left")
            os.fsync(self._file)
        self.known[photo] = stamp, sha256

    def close(self) -> None:
        """Let another process use the file."""
        os.close(self._file)


def state_file(folder: str) -> str:
    """Return the state file of a watched folder for which none is named."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    key = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
    return os.path.join(home, "dermedge", f"watch-{key}.jsonl")


def cut_unfinished(path: str) -> None:
    """Cut what a kill has left of the last of the JSON lines in a file; its answer is in the state."""
    with suppress(OSError):
        lines = whole_lines(path) if os.path.isfile(path) else iter(())
        if next(lines, b"").startswith(b'{"schema": '):
            deque(lines, 0)


def answers(
    folder: str, state: State, classify: Classify, *, only_new: bool = False, recursive: bool = False
) -> Generator[tuple[str, Result]]:
    """Yield path and answer of each photo in a folder that the state does not know with its content; without end.

    Folders are searched as by `by_kind`, whose ImageNotFound is raised. `classify` gets a photo's path, and its bytes
    or why it has none. `only_new` leaves the photos that are there at the start.
    """
    writers, folder = _Writers(), folder.rstrip("/") or "/"
    before: dict[str, Stamp] = {}
    tried: dict[str, Stamp] = {}
    while True:
        now = {path: _stamp(path) for path in sorted(by_kind(folder, recursive=recursive)["photos"])}
        writers.follow({folder, *map(os.path.dirname, now)})
        for path, stamp in now.items():
            name = os.path.relpath(path, folder)
            if only_new:
                state.known[name] = stamp, _read(path)[1]
            known_stamp, known_sha256 = state.known.get(name, (None, None))
            is_young = 0 <= time.time_ns() - stamp[1] < PATIENCE_S * 1e9
            seen = known_stamp, tried.get(path) if is_young else None
            if stamp[0] == 0 or stamp != before.get(path) or stamp in seen:
                continue
            photo, sha256 = _read(path)
            # Looked at after reading: whoever writes from now on changes the stamp.
            if _stamp(path) != stamp or writers.are_at(path):
                continue
            if sha256 and sha256 == known_sha256:
                state.known[name] = stamp, sha256
                continue
            answer = classify(path, photo)
            if is_young and isinstance(answer, ImageError):
                tried[path] = stamp
                continue
            fields = error_fields(path, answer) if isinstance(answer, ImageError) else answer.to_dict()
            state.add(name, stamp, sha256, fields)
            yield path, answer
        before, only_new = now, False
        time.sleep(POLL_S)


def _read(path: str) -> tuple[bytes | ImageError, str]:
    try:
        photo = read_photo(path)
    except ImageError as error:
        return error, ""
    return photo, hashlib.sha256(photo).hexdigest()


def _stamp(path: str) -> Stamp:
    """Return what changes with a file: its bytes, times of content and inode; zeros if it is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0, 0
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class _Writers:
    """Which files are being written, by Linux's inotify; elsewhere none are known."""

    def __init__(self) -> None:
        import ctypes

        self._busy: set[str] = set()
        self._folders: dict[int, str] = {}
        self._libc = ctypes.CDLL(None)
        is_linux = hasattr(self._libc, "inotify_init1")
        self._queue = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC) if is_linux else -1

    def follow(self, folders: set[str]) -> None:
        """Hear of files in these folders from now on."""
        for folder in folders if self._queue >= 0 else ():
            events = _MODIFY | _CLOSED | _MOVED | _DELETED
            self._folders[self._libc.inotify_add_watch(self._queue, os.fsencode(folder), events)] = folder

    def are_at(self, path: str) -> bool:
        """Return whether somebody has written to a file and not closed it yet."""
        while True:
            try:
                data = os.read(self._queue, 65_536)
            except OSError:
                return path in self._busy  # No more events, or no inotify.
            while data:
                folder, event, _, length = _EVENT.unpack_from(data)
                name, data = data[_EVENT.size : _EVENT.size + length], data[_EVENT.size + length :]
                changed = os.path.join(self._folders.get(folder, ""), os.fsdecode(name.rstrip(b"\0")))
                if event & _OVERFLOW:
                    self._busy.clear()
                elif event & _MODIFY:
                    self._busy.add(changed)
                else:
                    self._busy.discard(changed)
