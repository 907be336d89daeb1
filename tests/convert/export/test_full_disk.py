"""Conversion on a disk that is too small, and a second conversion of the same run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from convert import convert
from convert.__main__ import main
from edge_runtime.errors import DiskFull, RunBusy
from train.artifacts.writer import LOCK_FILE, sole_writer

pytestmark = [pytest.mark.tf, pytest.mark.slow]


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if "partial" in path.name or path.name == LOCK_FILE]


def test_pixels_that_do_not_fit_are_refused_before_anything_is_converted(
    small_disk: Callable[[int], Path], trained_run: Path
) -> None:
    disk = small_disk(1024)
    run = disk / "run"
    shutil.copytree(trained_run, run, ignore=shutil.ignore_patterns("convert", "checkpoints", "pixels"))
    (disk / "data").symlink_to(trained_run.parent / "data", target_is_directory=True)
    filler = disk / "others"
    filler.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - 300_000)))
    with pytest.raises(DiskFull) as caught:
        convert(run, "float32", disk / "model.tflite")
    assert caught.value.where == str(run / "convert" / "pixels") and "bytes free" in caught.value.found
    assert left(disk) == [] and not (disk / "model.tflite").exists()


def test_a_model_that_does_not_fit_is_not_written(
    small_disk: Callable[[int], Path], run_copy: Callable[[str], Path], few_kernel_sets: None
) -> None:
    out = small_disk(8) / "model.tflite"
    with pytest.raises(DiskFull) as caught:
        convert(run_copy("run"), "float32", out)
    assert caught.value.code == "disk-full" and list(out.parent.iterdir()) == []


def test_a_run_is_converted_by_one_process_at_a_time(
    run_without_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sole_writer(run_without_model), pytest.raises(RunBusy):
        convert(run_without_model, "float32", tmp_path / "model.tflite")
    with sole_writer(run_without_model):
        assert main([str(run_without_model), "--recipe", "float32", "--out", str(tmp_path / "m.tflite")]) == 2
    assert "another process writes" in capsys.readouterr().err
