"""`edge-classify` and `python -m edge_runtime`: the command line as a process of its own."""

from __future__ import annotations

from edge_runtime._startup import process
from edge_runtime._startup.records import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def run() -> NoReturn:
    """Run `cli.command.main` on the command line and end the process with its exit status."""
    process.run(_load)


def _load() -> Callable[[], int]:
    from edge_runtime.cli.command import main

    return main


if __name__ == "__main__":
    run()
