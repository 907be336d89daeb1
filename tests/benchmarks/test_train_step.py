"""The benchmark runs and prints both ratios. Their values depend on the machine and are not tested."""

from __future__ import annotations

import re

import pytest

from tests.benchmarks.train_step import main, measure

pytestmark = pytest.mark.tf


@pytest.mark.slow
def test_ratios_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--backbone", "small_cnn", "--size-px", "32", "--batch", "4", "--runs", "1"]) == 0
    assert len(re.findall(r"ratio \d+\.\d\d", capsys.readouterr().out)) == 3


def test_a_process_that_fails_is_no_measurement() -> None:
    with pytest.raises(SystemExit, match="process failed"):
        measure([], True)
