"""What the commands of this room share: how they end, and an argument type. stdlib only."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from edge_runtime.errors import EdgeError, UsageError

EXIT_INTERRUPTED = 130


def run_command(
    work: Callable[[], int], *, interrupted: str = "", after_os_error: str = "; nothing was written"
) -> int:
    """Runs a command's work and says on stderr why it failed.

    Args:
        work: Returns the exit status.
        interrupted: Said after Ctrl-C; nothing if empty.
        after_os_error: Said behind an error of the operating system: what it cost.

    Returns:
        The exit status: of the work, of the error, or EXIT_INTERRUPTED.
    """
    try:
        return work()
    except EdgeError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"error: {error}{after_os_error}", file=sys.stderr)
        return UsageError.exit_status
    except KeyboardInterrupt:
        if interrupted:
            print(interrupted, file=sys.stderr)
        return EXIT_INTERRUPTED


def positive(text: str) -> int:
    """An argument that is at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value
