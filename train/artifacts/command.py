"""Exit statuses, last words on stderr and argument types of every command of `train` and `convert`. stdlib only."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from edge_runtime.errors import EdgeError, UsageError, escaped, with_nearest

EXIT_INTERRUPTED = 130
INTERRUPT_S = 0.5
# What an interruption costs. A command that keeps a part of its work says neither, or words of its own.
NOTHING_WRITTEN = "interrupted; nothing was written"
RESUMES = "interrupted; the same command resumes from the last checkpoint"
AND_NOTHING_WRITTEN = "; nothing was written"


def run_command(work: Callable[[], int], *, interrupted: str = "", after_os_error: str = "") -> int:
    """Run a command's work and print on stderr why it failed.

    Args:
        work: Returns the exit status.
        interrupted: Printed after Ctrl-C; nothing if empty.
        after_os_error: Appended to an error of the operating system: what was lost, or what to do.

    Returns:
        The exit status: of the work, of the error, or EXIT_INTERRUPTED.
    """
    try:
        return work()
    except EdgeError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"error: {escaped(str(error))}{after_os_error}", file=sys.stderr)
        return UsageError.exit_status
    except KeyboardInterrupt:
        if interrupted:
            print(interrupted, file=sys.stderr)
        return EXIT_INTERRUPTED


@contextmanager
def ended_by_interrupt(said: str) -> Iterator[None]:
    """End the process INTERRUPT_S after Ctrl-C, saying `said`, where native code keeps Python from seeing it."""
    left, (reader, writer) = threading.Event(), os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        if os.read(reader, 1) and not left.wait(INTERRUPT_S):
            print(said, file=sys.stderr, flush=True)
            os._exit(EXIT_INTERRUPTED)
        os.close(reader)

    signal.set_wakeup_fd(writer)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(-1)
        os.close(writer)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(with_nearest(message, self._option_string_actions))


def command_parser(verb: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Make the parser of `dermedge VERB`, still without options; the epilog keeps its lines."""
    return _Parser(
        prog=f"dermedge {verb}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def positive(text: str) -> int:
    """Parse an argument that is at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def not_negative(text: str) -> int:
    """Parse an argument that is at least 0; numpy accepts no other seeds."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is below 0")
    return value
