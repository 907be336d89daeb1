"""Photos as they arrive in a folder. stdlib only.

Polling, not the kernel's notifications: it works on every file system (memory cards, network shares) and a photo is
taken only when it has stopped growing, which a notification does not say.
"""

# ruff: noqa: PTH116

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from edge_runtime.errors import ImageNotFound
from edge_runtime.images.photos import photos_in

POLL_S = 0.5


def arrivals(folder: str, *, poll_s: float = POLL_S) -> Iterator[str]:
    """Yield photos that arrive in `folder`, each once, when size and time are unchanged over one poll; without end.

    Photos that are there at the start are ignored; one that is replaced arrives again.

    Raises:
        ImageNotFound: The folder cannot be listed.
    """
    done = _states(folder)
    before = dict(done)
    while True:
        time.sleep(poll_s)
        now = _states(folder)
        for path in sorted(now):
            if now[path] == before.get(path) and now[path] != done.get(path) and now[path][0] > 0:
                done[path] = now[path]
                yield path
        # A photo that went and comes back has arrived.
        done = {path: state for path, state in done.items() if path in now}
        before = now


def _states(folder: str) -> dict[str, tuple[int, int]]:
    """Return size in bytes and time of every photo in the folder."""
    if not os.path.isdir(folder):  # noqa: PTH112
        found, expected = "nothing, or a file", "a folder to watch"
        raise ImageNotFound(
            "not a folder", where=folder, found=found, expected=expected, fix="check the path"
        )
    states = {}
    for path in photos_in(folder):
        try:
            status = os.stat(path)
        except OSError:
            continue  # gone since it was listed
        states[path] = (status.st_size, status.st_mtime_ns)
    return states
