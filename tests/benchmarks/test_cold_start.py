"""The benchmark runs, and what does not depend on a busy machine holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.cold_start import FIXTURE_MODEL, MEMORY_LIMIT, compare
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p

# The goal is half (see cold_start.py), for a quiet machine and `make bench`. Above this, something heavy is imported.
BUSY_TIME_LIMIT = 0.75
RUNS = 5


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs wait4")
def test_edge_classify_is_lighter_than_ten_lines(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(p.jpeg(600, 450))
    # In a process of its own, as `make bench` runs it: pytest's memory would count as the children's.
    command = [sys.executable, "-m", "tests.benchmarks.cold_start", "--model", str(FIXTURE_MODEL)]
    arguments = ["--photo", str(photo), "--runs", str(RUNS)]
    ran = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=True, cwd=FIXTURES.parents[1]
    )
    ratio = ran.stdout.splitlines()[-1].split()
    assert ratio[:2] == ["ratio", "time"] and "memory" in ratio
    assert 0 < float(ratio[2]) < BUSY_TIME_LIMIT
    assert 0 < float(ratio[ratio.index("memory") + 1]) < MEMORY_LIMIT


def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="failed with status"):
        compare(FIXTURE_MODEL, tmp_path / "none.jpg", 1)
