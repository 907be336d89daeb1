"""What the commands of this room share: how they end (as in `train`), and argument types. stdlib only."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from train.artifacts import command

EXIT_INTERRUPTED = command.EXIT_INTERRUPTED


def run_command(
    work: Callable[[], int], *, interrupted: str = "", after_os_error: str = "; nothing was written"
) -> int:
    """As `train.artifacts.command.run_command`, for commands whose files appear at their end, all or none.

    Args:
        work: Returns the exit status.
        interrupted: Said after Ctrl-C; nothing if empty.
        after_os_error: Said behind an error of the operating system: what it cost.

    Returns:
        The exit status: of the work, of the error, or EXIT_INTERRUPTED.
    """
    return command.run_command(work, interrupted=interrupted, after_os_error=after_os_error)


def positive(text: str) -> int:
    """An argument that is at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def not_negative(text: str) -> int:
    """An argument that is at least 0; numpy takes no other seeds."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is below 0")
    return value
