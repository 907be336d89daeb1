"""Run the long tier, or the quarter of it that a commit's hash chooses: `python -m tests.long_tier --quarter commit`.

The tier is a list of make targets with their rough cost. Four quarters of about equal cost keep continuous integration
short, while every target runs in one of four commits on average.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.shared_artifact import REPOSITORY

QUARTERS = 4
# A quarter that takes longer does not fit into the thirty minutes of `.ci/run`.
MAX_QUARTER_S = 9 * 60


@dataclass(frozen=True)
class Unit:
    """One make command.

    Attributes:
        words: Target and variables.
        cost_s: Rough seconds on two cores, downloads included.
    """

    words: tuple[str, ...]
    cost_s: int

    @property
    def name(self) -> str:
        return " ".join(self.words)


def _tests(*arguments: str, cost_s: int) -> Unit:
    return Unit(("test-long-python", f"PYTEST_ARGS={' '.join(arguments)}"), cost_s)


# The tests marked `long`, by folder or file; what stands in none of these is the last unit.
LONG_PATHS = {
    "tests/convert": 100,
    "tests/train/experiments": 110,
    "tests/train/test_configs.py": 150,
    "tests/train/networks": 90,
    "tests/train/training": 60,
}
UNITS = (
    *(_tests(path, cost_s=cost_s) for path, cost_s in LONG_PATHS.items()),
    _tests("tests", *(f"--ignore={path}" for path in LONG_PATHS), cost_s=85),
    Unit(("mediapipe",), 75),
    Unit(("test-torch",), 380),
    Unit(("test-newest",), 130),
    Unit(("test-gpu",), 50),
    Unit(("test-pi",), 240),
    Unit(("test-android",), 170),
    Unit(("test-app",), 240),
)


def quarters(units: Sequence[Unit] = UNITS) -> list[list[Unit]]:
    """Share the units among the quarters: the costliest first, each to the cheapest quarter so far."""
    shares: list[list[Unit]] = [[] for _ in range(QUARTERS)]
    for unit in sorted(units, key=lambda unit: (-unit.cost_s, unit.name)):
        min(shares, key=cost_s).append(unit)
    return shares


def cost_s(units: Sequence[Unit]) -> int:
    """Return the rough seconds of several units."""
    return sum(unit.cost_s for unit in units)


def chosen_quarter(text: str) -> int:
    """Return the index of a quarter: `1` to `4`, or `commit` for the one that the hash of HEAD chooses.

    Raises:
        ValueError: The text is neither.
        subprocess.CalledProcessError: This is no git checkout.
    """
    if text == "commit":
        git = ["git", "rev-parse", "HEAD"]
        done = subprocess.run(git, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        return int(done.stdout, 16) % QUARTERS
    index = int(text) - 1
    if index not in range(QUARTERS):
        raise ValueError(f"no quarter {text}")
    return index


def run(units: Sequence[Unit]) -> list[Unit]:
    """Run the units one after the other, all of them, and return those that failed."""
    failed = []
    for unit in units:
        start = time.monotonic()
        print(f"\n=== make {unit.name} (about {unit.cost_s} s)", flush=True)
        if subprocess.run(["make", *unit.words], cwd=REPOSITORY, check=False).returncode != 0:
            failed.append(unit)
        print(f"=== {time.monotonic() - start:.0f} s", flush=True)
    return failed


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.long_tier",
        description="Run the long test tier or one quarter of it.",
        epilog="example:\n  python -m tests.long_tier --quarter commit --list",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choices = ["all", "commit", *(str(number + 1) for number in range(QUARTERS))]
    parser.add_argument(
        "--quarter",
        choices=choices,
        default="all",
        help="Part to run; commit is chosen by the hash of HEAD (default: all)",
    )
    parser.add_argument("--list", action="store_true", help="Print the units and exit (default: run them)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = parser().parse_args(argv)
    if args.quarter == "all":
        units = [unit for share in quarters() for unit in share]
        print(f"Long tier: all {len(units)} units, about {cost_s(units)} s")
    else:
        index = chosen_quarter(args.quarter)
        units = quarters()[index]
        print(f"Long tier: quarter {index + 1} of {QUARTERS} ({args.quarter}), about {cost_s(units)} s")
    for unit in units:
        print(f"  make {unit.name}")
    if args.list:
        return 0
    failed = run(units)
    for unit in failed:
        print(f"FAILED: make {unit.name}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
