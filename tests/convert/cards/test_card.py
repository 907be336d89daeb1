from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from convert.cards.card import main
from tests.convert.conftest import Conversion
from train.artifacts.selection import choices_on

pytestmark = pytest.mark.tf


def test_card_says_what_the_files_say(
    conversions: dict[str, Conversion], trained_run: Path, tmp_path: Path
) -> None:
    converted = conversions["int8_qat"]
    out = tmp_path / "CARD.md"
    assert main([str(trained_run), str(converted.tflite), "--out", str(out)]) == 0
    card, test = out.read_text(), converted.report["test"]
    for side in ("keras", "converted"):
        low, high = test[side]["balanced_accuracy_interval"]
        assert f"{test[side]['balanced_accuracy']:.4f} ({low:.4f} to {high:.4f})" in card
    for text in (
        converted.report["model"]["sha256"],
        converted.report["run"]["model_keras_sha256"],
        "dermedge train train/configs/synthetic.toml --workdir runs/run",
        "dermedge convert runs/run --recipe int8_qat --epochs 1 --out int8_qat.tflite",
        "Intended use: ",
        "CC0-1.0",
        "| sex: female |",
        "| `brick` | 56 |",
        "(kept)",
    ):
        assert text in card
    trained, chosen = converted.report["selection"]
    assert f"| training split | {len(trained['photo_ids'])} | the weights |" in card
    assert "the epoch of fine-tuning" in chosen["chosen"]
    assert {*choices_on(trained_run, "val")} < {*chosen["chosen"]}
    assert f"| validation split | {len(chosen['photo_ids'])} | {', '.join(chosen['chosen'])} |" in card
    assert str(tmp_path) not in card and str(trained_run.parent) not in card


def test_card_of_averaged_weights_names_the_runs(
    conversions: dict[str, Conversion], trained_run: Path, tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "CARD.md"
    shutil.copytree(trained_run, run)
    state = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**state, "mean_of": ["first-1", "second-2"]}))
    assert main([str(run), str(conversions["int8_qat"].tflite), "--out", str(out)]) == 0
    card = out.read_text()
    assert (
        "dermedge experiment average train/configs/synthetic.toml runs/folds/fold* --workdir runs/run" in card
    )
    assert "Its weights are the mean of those of first-1, second-2." in card
    (run / "run.json").write_text(json.dumps({**state, "mean_of": ["old.tflite, sha256 00ff"]}))
    assert main([str(run), str(conversions["int8_qat"].tflite), "--out", str(out)]) == 0
    card = out.read_text()
    assert "experiment average RECORD/config.toml old.tflite --trained-on RECORD --workdir runs/run" in card
    assert "Its weights are those of old.tflite, sha256 00ff, with new batch-norm statistics" in card
    assert "dermedge crossval" not in card


def test_card_refuses_what_does_not_belong_together(
    conversions: dict[str, Conversion], trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = tmp_path / "m.tflite", tmp_path / "CARD.md"
    shutil.copy(conversions["float32"].tflite, model)
    assert main([str(trained_run), str(model), "--out", str(out)]) == 2
    assert "m.json" in capsys.readouterr().err
    report = conversions["int8_ptq"].report
    model.with_suffix(".json").write_text(json.dumps(report))
    assert main([str(trained_run), str(model), "--out", str(out)]) == 2
    assert "sha256 of the model" in capsys.readouterr().err
    assert not out.exists()


def test_limits_of_ham10000_are_on_file() -> None:
    from convert.cards.card import NOTES

    notes = (NOTES / "ham10000.md").read_text()
    for word in ("dermatoscopic", "skin", "CC BY-NC 4.0", "non-commercial"):
        assert word in notes
