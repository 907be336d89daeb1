"""What a process of one photo may do and a library may not: pause the collector, import ahead, end at once."""

from __future__ import annotations

import gc
import os
import sys

from edge_runtime._startup import PLAIN
from edge_runtime._startup.records import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def run(load: Callable[[], Callable[[], int]]) -> NoReturn:
    """Run a command as the whole process: `load` imports and returns it, it returns its exit status."""
    if PLAIN:
        sys.exit(load()())
    # Imports create ten thousand objects and no garbage.
    gc.disable()
    command = load()
    gc.freeze()
    gc.enable()
    status = command()
    # Everything is written and closed; nothing here waits for the interpreter's own end.
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    finally:
        # Also where stderr cannot be written: the results are out.
        os._exit(status)


class GcPaused:
    """A block without garbage collection, for work that makes many objects and no garbage."""

    def __enter__(self) -> None:
        self._enabled = gc.isenabled()
        if not PLAIN:
            gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._enabled:
            gc.enable()


def import_ahead(load: Callable[[], object]) -> None:
    """Call what imports a module in a thread; if it fails, the import fails again, and is reported, where needed."""
    if PLAIN:
        return
    from _thread import start_new_thread

    start_new_thread(_quietly, (load,))


def _quietly(load: Callable[[], object]) -> None:
    try:
        load()
    except Exception:  # noqa: BLE001
        return
