"""Memory of photos: bounds before decoding, and one budget for all photos in progress. stdlib only.

Counted is what Pillow 13 and its libraries were measured to hold (tests/edge_runtime/images/test_memory.py): 4 bytes a
pixel of colour, 1 of grey; every coefficient of a JPEG of several scans, whatever its scale; 12 for WebP, a still too;
a TIFF's largest strip or tile. Later steps hold two pictures at most, and one byte a pixel for transparency.

The budget is seven eighths of the memory there is when nothing is held, MAX_TOGETHER_BYTES at most, or `limit`'s.
"""

# Importing pathlib costs 4 ms of start-up.
# ruff: noqa: PTH123

from __future__ import annotations

import sys
from _thread import _local, allocate_lock

from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.errors import EdgeError, ImageTooLarge, OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Iterable
    from threading import Condition

MAX_DECODED_BYTES = 640 * 1024**2
"""What decoding one photo may hold, the picture included: enough for 120 megapixels of PNG, 50 of WebP."""
MAX_TOGETHER_BYTES = 1024**3
"""What one photo may hold from its decoding to the network's size, and all of them unless `limit` says otherwise."""
UNCOUNTED_BYTES = 16 * 1024**2
"""Photos that need no more do not wait: HAM10000's need 2 MB, a phone's JPEG of 12 megapixels 6 MB."""
PILLOW_BLOCK_BYTES = 64 * 1024**2
"""Above what glibc takes from a heap, 32 MiB at most."""
MAX_SCANS = 32
"""Of a JPEG: libjpeg writes 10. Each costs time for all pixels, however few its bytes."""
SCAN_MARK = b"\xff\xda"
# By controller, none in cgroup v2: folder, file with the limit, file with what is taken.
GROUPS = {
    "": ("/sys/fs/cgroup", "memory.max", "memory.current"),
    "memory": ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
}

_thread = _local()
_lock = allocate_lock()
_changed: Condition | None = None
_limit_bytes: int | None = None
_budget_bytes = MAX_TOGETHER_BYTES
_held_bytes = 0


def limit(budget_bytes: int | None) -> None:
    """Set what all photos in progress may hold together; None: what is free, as the module says."""
    global _limit_bytes
    _limit_bytes = budget_bytes


class Reservation:
    """The memory of one photo: what is decoded in this thread inside the block is counted until the block ends.

    Args:
        name: The photo's, for the OutOfMemory that a MemoryError inside the block becomes.
    """

    def __init__(self, name: str) -> None:
        self._name, self._held_bytes = name, 0

    def __enter__(self) -> Reservation:
        self._outer = getattr(_thread, "reservation", None)
        _thread.reservation = self
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        _thread.reservation = self._outer
        self.hold(0)
        # An import that a MemoryError ends part-way fails in many ways, here and in other threads.
        odd = isinstance(error, Exception) and not isinstance(error, EdgeError)
        if isinstance(error, MemoryError) or (odd and free_bytes() < PILLOW_BLOCK_BYTES):
            raise no_memory(self._name) from error

    def hold(self, needed_bytes: int) -> None:
        """Wait until so many bytes are free, in place of what was held before.

        Raises:
            OutOfMemory: They are more than the budget.
        """
        global _held_bytes, _budget_bytes
        needed_bytes = needed_bytes if needed_bytes > UNCOUNTED_BYTES else 0
        if needed_bytes == self._held_bytes:
            return
        if needed_bytes:
            # Blocks of Pillow's usual size stay with glibc's heap of the thread that had them: four threads with a PNG
            # of 108 megapixels each, one after the other, held 2.3 GB instead of 0.8.
            from PIL import _imaging

            _imaging.set_block_size(PILLOW_BLOCK_BYTES)
        changed = _condition()
        with changed:
            _held_bytes -= self._held_bytes
            self._held_bytes = 0
            changed.notify_all()
            if needed_bytes and not _held_bytes:
                _budget_bytes = _limit_bytes or min(MAX_TOGETHER_BYTES, free_bytes() * 7 // 8)
            if needed_bytes > _budget_bytes:
                raise no_memory(self._name, f"{needed_bytes:,} bytes", f"at most {_budget_bytes:,} bytes")
            changed.wait_for(lambda: not _held_bytes or _held_bytes + needed_bytes <= _budget_bytes)
            _held_bytes += needed_bytes
            self._held_bytes = needed_bytes


def _condition() -> Condition:
    """Return the budget's condition; `threading` is imported for large photos alone."""
    global _changed
    with _lock:
        if _changed is None:
            from threading import Condition

            _changed = Condition()
        return _changed


def require_memory(decoder_bytes: int, pixels: int, name: str, *, transparent: bool = False) -> None:
    """Refuse a photo that needs too much memory; one that does not may have to wait for its turn, see `Reservation`.

    Its decoder holds `decoder_bytes`, the decoded picture of so many pixels included, which is blended if transparent.

    Raises:
        ImageTooLarge: More than MAX_DECODED_BYTES, or two pictures more than MAX_TOGETHER_BYTES.
        OutOfMemory: More than the budget.
    """
    needed_bytes = max(decoder_bytes, (9 if transparent else 8) * pixels)
    for found, limit in ((decoder_bytes, MAX_DECODED_BYTES), (needed_bytes, MAX_TOGETHER_BYTES)):
        if found > limit:
            raise ImageTooLarge(
                "the image needs too much memory",
                where=name,
                found=f"{found:,} bytes to decode it",
                expected=f"at most {limit:,} bytes",
                fix="shrink the photo first, or save it as a baseline JPEG",
            )
    _thread.needed_bytes = decoder_bytes
    reservation = getattr(_thread, "reservation", None)
    if reservation is not None:
        reservation.hold(needed_bytes)


def no_memory(name: str, found: str = "", expected: str = "") -> OutOfMemory:
    """Return the error for a photo that is within all limits, but not within this machine's memory."""
    fix = "shrink the photo first, or free memory or raise --max-memory"
    found, expected = found or f"{free_bytes():,} bytes free", expected or "enough to decode it"
    return OutOfMemory("not enough memory for the image", where=name, found=found, expected=expected, fix=fix)


def raise_if_short(error: Exception, name: str) -> None:
    """Raise OutOfMemory if a decoder failed for want of memory, which most of them report as damage."""
    needed_bytes = getattr(_thread, "needed_bytes", 0)
    if isinstance(error, MemoryError) or "out of memory" in str(error) or needed_bytes > free_bytes():
        raise no_memory(name) from error


def coefficient_bytes(pixels: int, samplings: Iterable[tuple[int, int]]) -> int:
    """Return the bytes of a JPEG's coefficients, from the horizontal and vertical sampling of its components."""
    areas = [max(1, horizontal) * max(1, vertical) for horizontal, vertical in samplings]
    return 2 * pixels * sum(areas) // max(areas)


def require_scans(jpeg: bytes, name: str) -> None:
    """Refuse a JPEG of more than MAX_SCANS scans.

    Raises:
        ImageTooLarge: It has more, previews and further pictures in the file not counted.
    """
    if jpeg.count(SCAN_MARK) > MAX_SCANS and (scans := _count_scans(jpeg)) > MAX_SCANS:
        problem = "the JPEG has too many scans"
        found, fix = f"{scans:,} scans", "save the photo as a baseline JPEG"
        raise ImageTooLarge(problem, where=name, found=found, expected=f"at most {MAX_SCANS}", fix=fix)


def _count_scans(jpeg: bytes) -> int:
    """Count scans up to the first picture's end, looking for markers as libjpeg does."""
    import re

    # Stuffed zeros, fill bytes and what has no length: TEM, restarts, a second start.
    marker, scans, position = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])"), 0, 2
    while (found := marker.search(jpeg, position)) and found[1] != b"\xd9":
        scans += found[1] == SCAN_MARK[1:]
        position = found.end() + max(2, int.from_bytes(jpeg[found.end() : found.end() + 2], "big"))
    return scans


def free_bytes(root: str = "") -> int:
    """Return the bytes that machine, control groups and limits leave to this process; `root` is before all paths."""
    free = [_number(f"{root}/proc/meminfo", "MemAvailable:") * 1024]
    for entry in _words(f"{root}/proc/self/cgroup"):
        controller, _, group = entry.partition(":")[2].partition(":")
        folder, limit, use = GROUPS.get(controller, ("", "", ""))
        parts = group.split("/") if folder else []
        for depth in range(len(parts)):
            place = f"{root}{folder}{'/'.join(parts[: depth + 1])}"
            # The cache of files is counted too, and given up for whoever needs memory.
            taken = _number(f"{place}/{use}", "", 0) - _number(f"{place}/memory.stat", "inactive_file", 0)
            free.append(_number(f"{place}/{limit}") - max(0, taken))
    try:
        from resource import RLIM_INFINITY, RLIMIT_AS, getpagesize, getrlimit
    except ImportError:
        return max(0, min(free))
    if (most := getrlimit(RLIMIT_AS)[0]) != RLIM_INFINITY:
        free.append(most - _number(f"{root}/proc/self/statm", "", 0) * getpagesize())
    return max(0, min(free))


def _number(path: str, after: str = "", otherwise: int = sys.maxsize) -> int:
    words = _words(path)
    at = words.index(after) + 1 if after in words else 0
    return int(words[at]) if words[at:] and words[at].isdigit() else otherwise


def _words(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().split()
    except (OSError, MemoryError):
        return []
