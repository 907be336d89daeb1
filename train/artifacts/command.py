"""How every command of this room and of `convert` ends: what it says on stderr, its exit status. stdlib only."""

from __future__ import annotations

import sys
from collections.abc import Callable

from edge_runtime.errors import EdgeError, UsageError

EXIT_INTERRUPTED = 130
# What an interruption costs. A command that keeps a part of its work says neither, or words of its own.
NOTHING_WRITTEN = "interrupted; nothing was written"
RESUMES = "interrupted; the same command resumes from the last checkpoint"


def run_command(work: Callable[[], int], *, interrupted: str = "", after_os_error: str = "") -> int:
    """Runs a command's work and says on stderr why it failed.

    Args:
        work: Returns the exit status.
        interrupted: Said after Ctrl-C; nothing if empty.
        after_os_error: Said behind an error of the operating system: what it cost, or what to do.

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
