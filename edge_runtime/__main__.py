"""`edge-classify` and `python -m edge_runtime`: the command line as a process of its own.

A process may import without the garbage collector and end without Python's finalization: 5 ms of a run on one photo
that takes 60.
"""

from __future__ import annotations

import gc
import os
import sys

from edge_runtime._startup.records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn


def run() -> NoReturn:
    """Run `cli.command.main` on the command line and end the process with its exit status."""
    # Imports create ten thousand objects and no garbage.
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
        # Also where stderr cannot be written: the results are out.
        os._exit(status)


if __name__ == "__main__":
    run()
