"""Motion-JPEG streams: JPEG after JPEG, from a pipe or a file. stdlib only.

Whatever lies between two pictures (a multipart header, zeros) is passed over, and so is a picture that another one
begins in: it was cut.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from threading import Semaphore, Thread
from typing import TYPE_CHECKING

from edge_runtime.errors import ImageNotFound
from edge_runtime.images.photos import CHUNK_BYTES, STDIN, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    Item = TypeVar("Item")

MAX_FRAME_BYTES = 64 * 1024**2
START = b"\xff\xd8\xff"
# As libjpeg looks for markers: no stuffed zeros and fill bytes, nor what has no length: TEM, restarts.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_START, _END = b"\xd8", b"\xd9"


def frames(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield each whole JPEG of what `read` returns piece by piece, until that is empty.

    Segments are skipped by their length: previews inside them have starts and ends of their own.
    """
    data, place = bytearray(), 0
    while chunk := read(CHUNK_BYTES):
        data += chunk
        while True:
            if not place:
                start = data.find(START)
                del data[: start if start >= 0 else max(0, len(data) - 2)]
                if start < 0:
                    break
                place = 2
            found = _MARKER.search(data, place)
            if found is None:
                place = max(2, len(data) - 1)
                break
            place, after = found.span()
            if found[1] in (_START, _END):
                if found[1] == _END:
                    yield bytes(data[:after])
                del data[: after if found[1] == _END else place]
                place = 0
                continue
            end = after + max(2, int.from_bytes(data[after : after + 2], "big"))
            if len(data) < max(end, after + 2):
                break
            place = end
        if len(data) > MAX_FRAME_BYTES:
            data, place = bytearray(), 0


def numbered_frames(source: str) -> Iterator[tuple[str, bytes]]:
    """Yield frames of a stream, `-` is stdin, each named `SOURCE:NUMBER`; of a pipe the newest, others are dropped.

    Raises:
        ImageNotFound: It cannot be read.
    """
    try:
        file = None if source == STDIN else opened(source)
        descriptor = 0 if file is None else file.fileno()
        whole = frames(lambda count: os.read(descriptor, count))
        numbered = ((f"{source}:{number}", frame) for number, frame in enumerate(whole, 1))
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        yield from numbered if is_file else newest(numbered)
    except OSError as error:
        problem, found = "the stream cannot be read", error.strerror or str(error)
        raise ImageNotFound(problem, where=source, found=found, expected="Motion-JPEG") from error


def newest(items: Iterable[Item]) -> Iterator[Item]:
    """Yield items that a thread takes from their source as they come: the newest, and the last; its OSError too."""
    slot: deque[Item] = deque(maxlen=1)
    ended: list[OSError | None] = []
    changed = Semaphore(0)

    def fill() -> None:
        try:
            for item in items:
                slot.append(item)
                changed.release()
            ended.append(None)
        except OSError as error:
            ended.append(error)
        changed.release()

    Thread(target=fill, name="edge-classify-stream", daemon=True).start()
    while slot or not ended:
        changed.acquire()
        if slot:
            yield slot.pop()
    if ended[0] is not None:
        raise ended[0]
