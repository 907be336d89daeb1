"""The benchmark runs and prints both ratios. Their values depend on the machine and are not tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.benchmarks.compare_cost import bare_seconds, main
from tests.convert.compared import draw_table
from tests.fixtures import FIXTURES

MODELS = [str(FIXTURES / f"tiny_{name}.tflite") for name in ("uint8", "int8")]


@pytest.mark.slow
def test_both_ratios_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = draw_table(tmp_path / "photos", 8)
    assert main([*MODELS, "--data", str(table), "--runs", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("  24 photos, ")
    assert len([float(ratio) for ratio in re.findall(r"ratio (\d+\.\d\d)", said)]) == 4


def test_a_process_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="bare inference failed"):
        bare_seconds(MODELS, [tmp_path / "absent.jpg"], 1)
