"""Memory of photos: bounds before decoding, and one budget for all photos in progress. stdlib only.

Counted is what Pillow 13 and its libraries were measured to hold (tests/edge_runtime/images/test_memory.py): 4 bytes a
pixel of colour, 1 of grey; every coefficient of a JPEG of several scans, whatever its scale; 12 for WebP, a still too;
a TIFF's largest strip or tile. Later steps hold two pictures at most, and one byte a pixel for transparency.
"""

from __future__ import annotations

from _thread import _local, allocate_lock

from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.errors import ImageTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable
    from threading import Condition

MAX_DECODED_BYTES = 640 * 1024**2
"""What decoding one photo may hold, the picture included: enough for 120 megapixels of PNG, 50 of WebP."""
MAX_TOGETHER_BYTES = 1024**3
"""What all photos may hold from their decoding to the network's size; one that finds too little waits."""
UNCOUNTED_BYTES = 16 * 1024**2
"""Photos that need no more do not wait: HAM10000's need 2 MB, a phone's JPEG of 12 megapixels 6 MB."""
PILLOW_BLOCK_BYTES = 64 * 1024**2
"""Above what glibc takes from a heap, 32 MiB at most."""
MAX_SCANS = 32
"""Of a JPEG: libjpeg writes 10. Each costs time for all pixels, however few its bytes."""
SCAN_MARK = b"\xff\xda"

_thread = _local()
_lock = allocate_lock()
_changed: Condition | None = None
_free_bytes = MAX_TOGETHER_BYTES


class Reservation:
    """The memory of one photo: what is decoded in this thread inside the block is counted until the block ends.

    Args:
        name: The photo's, for the ImageTooLarge that a MemoryError inside the block becomes.
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
        if isinstance(error, MemoryError):
            raise no_memory(self._name) from error

    def hold(self, needed_bytes: int) -> None:
        """Wait until so many bytes are free, in place of what was held before."""
        global _free_bytes
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
            _free_bytes += self._held_bytes
            self._held_bytes = 0
            changed.notify_all()
            changed.wait_for(lambda: _free_bytes >= needed_bytes)
            _free_bytes -= needed_bytes
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
    reservation = getattr(_thread, "reservation", None)
    if reservation is not None:
        reservation.hold(needed_bytes)


def no_memory(name: str) -> ImageTooLarge:
    """Return the error for a photo that is within all limits, but not within this machine's memory."""
    return ImageTooLarge("not enough memory to decode the image", where=name, fix="shrink the photo first")


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
        raise ImageTooLarge(
            "the JPEG has too many scans",
            where=name,
            found=f"{scans:,} scans",
            expected=f"at most {MAX_SCANS}",
            fix="save the photo as a baseline JPEG",
        )


def _count_scans(jpeg: bytes) -> int:
    """Count scans up to the first picture's end, looking for markers as libjpeg does."""
    import re

    # Stuffed zeros, fill bytes and what has no length: TEM, restarts, a second start.
    marker, scans, position = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])"), 0, 2
    while (found := marker.search(jpeg, position)) and found[1] != b"\xd9":
        scans += found[1] == SCAN_MARK[1:]
        position = found.end() + max(2, int.from_bytes(jpeg[found.end() : found.end() + 2], "big"))
    return scans
