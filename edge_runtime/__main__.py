"""`edge-classify`, and `python -m edge_runtime`: the command line as a process of its own.

What a process may do and a function may not: imports without the garbage collector, and an end without taking Python
apart first. Both together are 5 ms of a run on one photo that takes 60.
"""

from __future__ import annotations

import gc
import os
import sys

from edge_runtime._startup.records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn


def run() -> NoReturn:
    """Runs `cli.main` on the command line and ends the process with its exit status."""
    # Imports make ten thousand objects and no garbage.
    gc.disable()
    from edge_runtime.cli.command import main

    gc.freeze()
    gc.enable()
    status = main()
    # Everything is written and closed; nothing here waits for the interpreter's own end.
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    finally:
        # Also where stderr cannot be written: the answers are out.
        os._exit(status)


if __name__ == "__main__":
    run()
