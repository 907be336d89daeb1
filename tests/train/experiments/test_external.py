"""Float models on a data set that they never saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from train.experiments.external import main

pytestmark = [pytest.mark.tf, pytest.mark.slow]


def test_a_run_and_an_ensemble_on_further_photos(
    plain_run: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    further = str(phantom.with_name("further"))
    status = main(
        [
            str(plain_run),
            str(plain_run),
            "--reader",
            "csv",
            "--data",
            further,
            "--views",
            "2",
            "--out",
            str(out),
        ]
    )
    assert status == 0, capsys.readouterr().err
    figures = json.loads(out.read_text())
    alone, ensemble = figures[str(plain_run)], figures["ensemble"]
    assert alone["photos"] == 50
    assert alone["lesions"] == 25
    # The same run twice is an ensemble that answers as the run does.
    assert ensemble["confusion"] == alone["confusion"]
    # Two of the seven labels occur in no photo: leaving them out can only help.
    assert alone["balanced_accuracy_among_present"] >= alone["balanced_accuracy"]
    assert "ensemble: balanced accuracy" in capsys.readouterr().out


def test_photos_that_a_run_has_learnt_are_refused(
    plain_run: Path, phantom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(plain_run), "--reader", "ham10000", "--data", str(phantom)]) == 2
    assert "data leakage" in capsys.readouterr().err.lower()


def test_a_folder_without_a_run_is_refused(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--reader", "csv", "--data", str(phantom.with_name("further"))]) == 2
    assert "not a finished run" in capsys.readouterr().err
