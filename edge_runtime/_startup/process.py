"""What a process may do and a library may not: pause the collector, import ahead, end at once, also by Ctrl-C."""

from __future__ import annotations

import gc
import os
import sys
from time import sleep

from edge_runtime._startup import PLAIN
from edge_runtime._startup.records import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

EXIT_INTERRUPTED = 130
GRACE_S = 0.4


def run(load: Callable[[], Callable[[], int]]) -> NoReturn:
    """Run a command as the whole process: `load` imports and returns it, it returns its exit status."""
    if PLAIN:
        sys.exit(load()())
    # Imports create ten thousand objects and no garbage.
    gc.disable()
    try:
        command = load()
        gc.freeze()
        gc.enable()
        status = command()
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    # Everything is written and closed; nothing here waits for the interpreter's own end.
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    finally:
        # Also where stderr cannot be written: the results are out.
        os._exit(status)


def interruptible(work: Callable[[], int]) -> int:
    """Call `work`; Ctrl-C ends the process GRACE_S later if it is still decoding or inferring then.

    A KeyboardInterrupt waits for native code of the main thread, and what it closes for that of the workers. Pillow and
    LiteRT let other threads run meanwhile: one is told by the signal itself.
    """
    from _signal import SIGINT, set_wakeup_fd  # type: ignore[import-not-found, unused-ignore]
    from _thread import start_new_thread

    try:
        before = set_wakeup_fd(-1)
    except ValueError:
        return work()  # Not the main thread.
    if os.name != "posix":
        return work()
    ended, (told, tell) = False, os.pipe()
    os.set_blocking(tell, False)
    set_wakeup_fd(tell)

    def watch() -> None:
        while (number := os.read(told, 1)) and number[0] != SIGINT:
            pass
        sleep(GRACE_S if number else 0)
        if not ended:
            try:
                files = sys.modules.get("edge_runtime.files")
                for path in tuple(files.written) if files else ():
                    path.unlink(missing_ok=True)
                os.write(2, b"interrupted\n")
            finally:
                os._exit(EXIT_INTERRUPTED)
        os.close(told)

    start_new_thread(watch, ())
    try:
        return work()
    finally:
        ended = True
        set_wakeup_fd(before)
        os.close(tell)


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
