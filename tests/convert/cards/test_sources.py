"""Cards without a test split, of folds, of mixed precision; and files that are refused. No TensorFlow."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convert.cards.card import main, write_card
from convert.cards.sources import REPORT_NEEDS, Sources, _require_same_options
from edge_runtime.errors import RunInvalid
from tests.convert.synthetic_run import LABELS, make_contract
from tests.fixtures import FIXTURES

RECALL = {label.code: 0.5 for label in LABELS}
SIDE = {
    "balanced_accuracy": 0.5,
    "balanced_accuracy_interval": [0.4, 0.6],
    "accuracy": 0.55,
    "expected_calibration_error": 0.1,
    "recall": RECALL,
}
TEST = {
    "photos": 12,
    "lesions": 6,
    "folds": [0, 1],
    "photos_per_class": {label.code: 4 for label in LABELS},
    "keras": SIDE,
    "converted": SIDE,
    "balanced_accuracy_loss": 0.0,
    "balanced_accuracy_loss_interval": [-0.1, 0.1],
    "answers_changed": 2,
    "right_to_wrong": 1,
    "wrong_to_right": 1,
    "agreement": 0.8,
    "subgroups": {},
}
REPORT: dict[str, Any] = {
    "model": {"sha256": "00ff", "bytes": 1000},
    "options": ["--recipe", "int8_qat"],
    "run": {"run_id": "r", "model_keras_sha256": "ff00"},
    "versions": {"numpy": "1"},
    "tensors": {"input": {"dtype": "uint8"}, "operators": {"ADD": 9}},
    "calibration": None,
    "qat": None,
    "golden": {"runtime": "litert-c", "largest_difference_by_kernel_set": {"litert": 1.0}},
    "check": {
        "photos": 200,
        "photos_by_split": {"val": 200, "train": 0},
        "agreement": 0.97,
        "mean_score_difference": 0.01,
        "limits": {"min_agreement": 0.9, "max_mean_score_difference": 0.05},
    },
    "test": None,
}
KEPT = {
    "kept": ["stem", "logits"],
    "layers": 50,
    "limit": 0.02,
    "loss": 0.015,
    "loss_of_whole": 0.04,
    "bytes": {"whole": 2_000_000, "mixed": 2_004_096, "float": 8_000_000},
}


def _split(test: dict[str, int]) -> dict[str, Any]:
    leak = {"near_duplicate_bits": 4, "random_leak": 0.4, "random_leak_of_class": {"ash": 0.5, "brick": None}}
    return {"drawn": {"sizes": {"train": {"ash": 9}, "test": test}, **leak}}


def _card(report: dict[str, Any] | None = None, **changes: Any) -> str:
    config = {"name": "synthetic", "model": {"backbone": "mobilenet_v2", "alpha": 0.35}}
    split = _split({"ash": 40, "brick": 2})
    whole = Sources(Path("run"), "m.tflite", make_contract(), {}, config, split, {}, REPORT | (report or {}))
    return write_card(replace(whole, **changes))


def test_a_test_split_that_was_not_evaluated_is_not_denied() -> None:
    card = _card()
    assert "42 photos of the test split were not evaluated" in card and "dermedge compare" in card
    assert "### By class" not in card and "\n\n\n" not in card
    assert "| drawn | photos | groups | ash | brick | cyan |" in card
    assert "40.0 % of the test photos, 50.0 % of the `ash` ones" in card
    assert "mobilenet_v2, width 0.35" in card
    assert "The run has no test split." in _card(split=_split({}))


def test_metrics_of_folds_are_not_called_those_of_this_file() -> None:
    by_class = _card(crossval=TEST).partition("### By class")[2].partition("## Conversion")[0]
    assert "recall, converted" in by_class and "this file" not in by_class
    assert "2 folds" in _card(crossval=TEST)
    row = {"photos": 9, "classes": 3, "keras_balanced_accuracy": 0.4, "converted_balanced_accuracy": 0.5}
    by_truth = {"dx_type": {"histo": row | {"agreement": 0.9}}}
    card = _card(crossval=TEST | {"subgroups": by_truth})
    assert "| ground truth: histo | 9 | 3 | 0.400 | 0.500 | 0.900 |" in card
    assert "recall, this file" in _card({"test": TEST})


def test_data_sets_have_their_own_metrics() -> None:
    assert "### phone\n\n12 photos.\n" in _card(crossval={**TEST, "sources": {"phone": TEST}})


def test_float_layers_are_named() -> None:
    card = _card({"kept_float": KEPT})
    for words in ("2 of 50 layers", "`stem`, `logits`", "at most 2.0 %", "4,096 bytes"):
        assert words in card
    none = _card({"kept_float": {**KEPT, "kept": [], "loss": 0.01}})
    assert "Every layer is integer" in none and "none of the 50 layers" in none


def test_folds_that_were_converted_in_another_way_are_refused() -> None:
    own = ["--recipe", "int8_qat", "--epochs", "8"]
    _require_same_options(own, own, Path("cv"))
    _require_same_options(own, None, Path("cv"))
    with pytest.raises(RunInvalid) as caught:
        _require_same_options(own, ["--recipe", "int8_qat"], Path("cv"))
    assert caught.value.expected == "--recipe int8_qat --epochs 8"


@pytest.mark.parametrize("content", ["{}", '{"model": 3, "run": null}', "[]", "no JSON"])
def test_a_file_that_is_no_report_is_refused(content: str, tmp_path: Path, capsys: Any) -> None:
    model = tmp_path / "m.tflite"
    shutil.copy(FIXTURES / "tiny_int8.tflite", model)
    model.with_suffix(".json").write_text(content)
    assert main([str(tmp_path), str(model), "--out", str(tmp_path / "CARD.md")]) == 2
    assert f"error: {model.with_suffix('.json')}: " in capsys.readouterr().err
    assert not (tmp_path / "CARD.md").exists()


def test_an_empty_config_is_refused(tmp_path: Path, capsys: Any) -> None:
    from edge_runtime.model.model_file import open_model
    from train.artifacts.files import sha256_of

    model = tmp_path / "m.tflite"
    shutil.copy(FIXTURES / "tiny_int8.tflite", model)
    (tmp_path / "model.keras").write_bytes(b"weights")
    report: dict[str, Any] = {}
    for name in REPORT_NEEDS:
        *above, last = name.split(".")
        inner = report
        for part in above:
            inner = inner.setdefault(part, {})
        inner.setdefault(last, {})
    report["model"]["sha256"] = sha256_of(model)
    report["run"]["run_id"] = open_model(model).contract.provenance.run_id
    report["run"]["model_keras_sha256"] = sha256_of(tmp_path / "model.keras")
    model.with_suffix(".json").write_text(json.dumps(report))
    for name in ("run", "config", "split", "metrics"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert main([str(tmp_path), str(model), "--out", str(tmp_path / "CARD.md")]) == 2
    said = capsys.readouterr().err
    assert "config.json: " in said and "no name, no model.backbone" in said
