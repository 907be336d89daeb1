"""The benchmark runs and prints its ratios. Their values depend on the machine and are not tested."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from tests.benchmarks.train_step import main, measure

pytestmark = pytest.mark.tf


@pytest.fixture
def own_processors() -> Iterator[None]:
    """Give the process its processors back: the benchmark stays on one."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.long
@pytest.mark.usefixtures("own_processors")
def test_ratios_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--backbone", "small_cnn", "--size-px", "32", "--batch", "4", "--runs", "1"]) == 0
    assert len(re.findall(r"ratio (?:to a step )?\d+\.\d\d", capsys.readouterr().out)) == 3


def test_a_process_that_fails_is_no_measurement() -> None:
    with pytest.raises(SystemExit, match="process failed"):
        measure([], True)
