"""Measured runs: what is counted, and what the system tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.classifier import Classifier
from edge_runtime.diagnostics.bench import measure, percentile, throttling
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p


def test_a_measurement_has_every_stage() -> None:
    with Classifier.open(FIXTURES / "tiny_uint8.tflite") as classifier:
        bench = measure(classifier, p.jpeg(), 20)
    reported = bench.to_dict()["bench"]
    stages = ["decode", "crop", "resize", "input", "inference", "total"]
    assert reported["runs"] == 20
    for field in ("median_ms", "p95_ms", "min_ms"):
        assert list(reported[field]) == stages
    for stage in stages:
        assert 0 <= reported["min_ms"][stage] <= reported["median_ms"][stage] <= reported["p95_ms"][stage]
    assert bench.to_text().count("\n") >= len(stages) + 1
    assert "p95 ms" in bench.to_text()


def test_the_first_run_does_not_count_and_heat_is_reported_before_and_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    class Laps:
        def __init__(self, total: float) -> None:
            self.elapsed_ms = {"read": 0.0, "total": total}

    def classify(self: Classifier, photo: bytes, *, name: str) -> Laps:
        done.append(name)
        return Laps(100.0 if len(done) == 1 else 1.0 + len(done))

    monkeypatch.setattr(Classifier, "classify", classify)
    monkeypatch.setattr("edge_runtime.diagnostics.bench.throttling", lambda: {"runs": len(done)})
    with Classifier.open(FIXTURES / "tiny_uint8.tflite") as classifier:
        bench = measure(classifier, b"", 3, name="x.jpg")
    assert done == ["x.jpg"] * 4
    assert (bench.min_ms, bench.median_ms, bench.p95_ms) == ({"total": 3.0}, {"total": 4.0}, {"total": 5.0})
    assert bench.throttling == {"before": {"runs": 1}, "after": {"runs": 4}}


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.95) == 95.0
    assert percentile([7.0], 0.95) == 7.0
    assert percentile([1.0, 9.0], 0.95) == 9.0


def test_throttling_is_read_where_it_is_reported(tmp_path: Path) -> None:
    assert throttling(str(tmp_path)) == {}
    firmware = tmp_path / "devices/platform/soc/soc:firmware"
    firmware.mkdir(parents=True)
    (firmware / "get_throttled").write_text("50005\n")
    zone = tmp_path / "class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("61234\n")
    core = tmp_path / "devices/system/cpu/cpu0/cpufreq"
    core.mkdir(parents=True)
    (core / "scaling_cur_freq").write_text("unknown\n")
    assert throttling(str(tmp_path)) == {"throttled": "0x50005", "temperature_c": 61.234}
