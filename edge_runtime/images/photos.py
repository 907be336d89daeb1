"""Photos as files: folders, lists and stdin to paths, paths to bytes. stdlib only."""

# Importing pathlib costs 4 ms of start-up.
# ruff: noqa: PTH110, PTH112, PTH116, PTH113, PTH114, PTH118, PTH119, PTH122, PTH123, PTH208

from __future__ import annotations

import os
import stat
import sys

from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.errors import EdgeError, ImageNotFound, ImageTooLarge, ImageUnreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO

STDIN = "-"
# Only to pick photos out of a folder; what a file is, its content decides.
PHOTO_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".tif", ".tiff",
    ".heic", ".heif", ".hif",
})  # fmt: skip
KINDS_TOLD = 8
PIPE_WAIT_S = 10
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CHUNK_BYTES = 65_536
# Content decides the format, never the file's name. Others are refused with this list in the message. HEIC comes on top
# where pillow-heif is installed.
ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
# 12,000 x 10,000: beyond any phone, and 360 MB decoded. Pillow itself only warns between one and two times its limit.
MAX_PIXELS = 120_000_000
MAX_JPEG_PIXELS = 500_000_000
"""Of a JPEG before it is decoded at a smaller scale, which takes memory for what is left alone: MAX_PIXELS at most."""
MAX_PHOTO_BYTES = 256 * 1024 * 1024
"""More than MAX_PIXELS of any accepted format needs, and less than /dev/zero gives."""


def list_photos(
    argument: str, *, recursive: bool = False, tell: Callable[[str], None] | None = None
) -> list[str]:
    """Return the photos that one argument names: a photo, `-` for stdin, or a folder of photos, sorted by name.

    `recursive` is as in `by_kind`; `tell` is called with how many files a folder has beside its photos, if it has any.

    Raises:
        ImageNotFound: A folder without photos, or one that cannot be listed.
    """
    if not is_folder(argument):
        return [argument]
    others = by_kind(argument, recursive=recursive)
    found = sorted(others.pop("photos"))
    kinds = sorted((-len(paths), kind) for kind, paths in others.items())
    told = ", ".join(f"{-number} {kind}" for number, kind in kinds[:KINDS_TOLD])
    told += ", and others" if len(kinds) > KINDS_TOLD else ""
    if not found:
        problem, fix = (
            "the folder holds no photos",
            "name photos, or another folder; --recursive takes subfolders",
        )
        expected = ", ".join(sorted(PHOTO_SUFFIXES))
        raise ImageNotFound(problem, where=argument, found=told or "nothing", expected=expected, fix=fix)
    if told and tell:
        tell(f"{argument}: {sum(map(len, others.values()))} passed over: {told}")
    return found


def is_folder(argument: str) -> bool:
    """Return whether an argument names a folder."""
    return argument != STDIN and os.path.isdir(argument)


def by_kind(folder: str, *, recursive: bool = False) -> dict[str, list[str]]:
    """Return what is in a folder, by kind: `photos` by suffix, other suffixes, `subfolders`, `dangling links` ...

    With `recursive` in its subfolders too, but hidden and linked ones.

    Raises:
        ImageNotFound: It cannot be listed.
    """
    found: dict[str, list[str]] = {"photos": []}
    folders = [folder]
    for place in folders:
        try:
            names = os.listdir(place)
        except OSError as error:
            if place is folder:
                problem, expected = "the folder cannot be listed", "a readable folder"
                raise _unread(problem, folder, error, expected, "its permissions") from error
            found.setdefault("unreadable subfolders", []).append(place)
            continue
        for path in (os.path.join(place, name) for name in names):
            kind = _kind(path)
            (folders if recursive and kind == "subfolders" else found.setdefault(kind, [])).append(path)
    return found


def listed_photos(argument: str, end: bytes = b"\n") -> Iterator[str]:
    """Yield the photos that a list names, as they come; `-` reads the list from stdin.

    A name `-` is a file of that name, `./-`: stdin may be the list itself.

    Args:
        argument: Path of the list.
        end: What ends each name: a line's end, or NUL as of `find -print0`.

    Raises:
        ImageNotFound: The list cannot be read.
    """
    try:
        if argument == STDIN:
            if sys.stdin is None:
                raise ValueError("stdin is closed")
            try:
                source: str | int = sys.stdin.fileno()
            except OSError:
                # Not a file: what a caller of `cli.main` put in its place.
                yield from _paths(sys.stdin.buffer, end)
                return
        else:
            source = argument
        # stdin by a reader of its own: a thread that still waits in sys.stdin's when Python ends would abort it.
        with opened(source) if isinstance(source, str) else open(source, "rb", closefd=False) as file:
            yield from _paths(file, end)
    except (OSError, ValueError) as error:
        wanted = "a text file with a path a line"
        raise _unread("the list of photos cannot be read", argument, error, wanted) from error


def _paths(file: Any, end: bytes) -> Iterator[str]:
    rest, chunk = b"", b"begin"
    while chunk:
        chunk = file.read1(CHUNK_BYTES)
        *names, rest = (rest + (chunk or end)).split(end)
        for name in names:
            if end != b"\0":
                name = name.rstrip(b"\r")
                if b"\0" in name:
                    raise ValueError("a NUL character: UTF-16, or names that --null separates")
            if path := os.fsdecode(name.removeprefix(BYTE_ORDER_MARK)):
                yield path if path != STDIN else os.path.join(os.curdir, path)


def read_photo(photo: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a photo; `-` reads stdin.

    Raises:
        ImageNotFound: No such file, or it cannot be read.
        ImageUnreadable: Empty, or a device.
        ImageTooLarge: More than MAX_PHOTO_BYTES.
    """
    name = os.fspath(photo)
    return checked_bytes(_read_stdin if name == STDIN else lambda: _read_file(name), name)


def goes_on(photo: bytes) -> bool:
    """Return whether another picture follows the first, but one that belongs to it (MPO)."""
    starts = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*", b"BM")
    if photo.startswith((b"RIFF", b"BM")):
        riff = photo.startswith(b"RIFF")
        size = photo[4:8] if riff else photo[2:6]
        return photo.startswith(starts, int.from_bytes(size, "little") + 8 * riff)
    end = b"\xff\xd9" if photo.startswith(b"\xff\xd8") else b"IEND\xaeB`\x82"
    return b"MPF\0" not in photo[:65_536] and any(end + start in photo for start in starts)


def name_of(photo: Any) -> str:
    """Return a photo's path, or `photo` where it has none."""
    if isinstance(photo, (str, os.PathLike)):
        return os.fspath(photo)
    name = getattr(photo, "filename", None) or getattr(photo, "name", None)
    return name if isinstance(name, str) else "photo"


def checked_bytes(read: Callable[[], bytes], name: str) -> bytes:
    """Return what `read` returns; errors as `read_photo`."""
    try:
        data = read()
    except EdgeError:
        raise
    except (OSError, ValueError) as error:
        raise _unread("the photo cannot be read", name, error, "a readable file") from error
    if not data:
        raise ImageUnreadable(
            "the file is empty", where=name, found="0 bytes", expected="a photo", fix="copy the photo again"
        )
    if len(data) > MAX_PHOTO_BYTES:
        problem = "the file is too large"
        found, expected = f"more than {MAX_PHOTO_BYTES:,} bytes", f"at most {MAX_PHOTO_BYTES:,} bytes"
        raise ImageTooLarge(problem, where=name, found=found, expected=expected, fix="save the photo as JPEG")
    return data


def _unread(
    problem: str, where: str, error: Exception, expected: str, checked: str = "the path"
) -> ImageNotFound:
    found = getattr(error, "strerror", None) or str(error)
    return ImageNotFound(problem, where=where, found=found, expected=expected, fix=f"check {checked}")


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise ValueError("stdin is closed")
    return sys.stdin.buffer.read(MAX_PHOTO_BYTES + 1)


def opened(name: str) -> BinaryIO:
    """Open a file to read; a named pipe only if somebody opens it to write within PIPE_WAIT_S.

    Raises:
        OSError: It cannot be opened, or nobody does.
    """
    if not stat.S_ISFIFO(os.stat(name).st_mode) or not os.access(name, os.R_OK):
        return open(name, "rb")
    from queue import Empty, SimpleQueue
    from threading import Thread

    pipe: SimpleQueue[BinaryIO] = SimpleQueue()
    Thread(target=lambda: pipe.put(open(name, "rb")), daemon=True).start()  # noqa: SIM115
    try:
        return pipe.get(timeout=PIPE_WAIT_S)
    except Empty:
        os.close(os.open(name, os.O_WRONLY | os.O_NONBLOCK))
        pipe.get().close()
        raise TimeoutError(f"a named pipe that nobody writes to for {PIPE_WAIT_S} s") from None


def _read_file(name: str) -> bytes:
    with opened(name) as file:
        status = os.fstat(file.fileno())
        mode = status.st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            found, fix = "a device or a socket", "name a regular file, or - for stdin"
            raise ImageUnreadable("not a file", where=name, found=found, expected="a photo", fix=fix)
        # Not the limit, for which Python would first reserve memory.
        return file.read(min(status.st_size or MAX_PHOTO_BYTES, MAX_PHOTO_BYTES) + 1)


def _kind(path: str) -> str:
    """Return what a folder's entry is: `photos`, or why it is none."""
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1].lower()
    if name.startswith("."):
        return "hidden"
    if os.path.isfile(path):
        return "photos" if suffix in PHOTO_SUFFIXES else suffix or "without suffix"
    if os.path.isdir(path):
        return "linked folders" if os.path.islink(path) else "subfolders"
    return "pipes, sockets or devices" if os.path.exists(path) else "dangling links"


def require_size(width_px: int, height_px: int, name: str, most: int = 0) -> None:
    """Raise ImageTooLarge for more than `most` pixels, MAX_PIXELS if 0."""
    if width_px * height_px > (most or MAX_PIXELS):
        raise too_large(name, f"{width_px} x {height_px} pixels", most)


def too_large(name: str, found: str, most: int = 0) -> ImageTooLarge:
    """Return the error for too many pixels."""
    return ImageTooLarge(
        "the image has too many pixels",
        where=name,
        found=found,
        expected=f"at most {most or MAX_PIXELS:,} pixels",
        fix="crop or shrink the photo first",
    )
