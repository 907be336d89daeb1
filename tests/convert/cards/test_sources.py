"""What a card says of tests not made, of folds, of float layers; and files that are none of its. No TensorFlow."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convert.cards.card import _figures, _kept_float, _per_class, main
from convert.cards.sources import REPORT_NEEDS, Sources, _require_same_options
from edge_runtime.errors import RunInvalid
from tests.convert.synthetic_run import LABELS, make_contract
from tests.fixtures import FIXTURES

RECALL = {label.code: 0.5 for label in LABELS}
TEST = {
    "photos_per_class": {label.code: 4 for label in LABELS},
    "keras": {"recall": RECALL},
    "converted": {"recall": RECALL},
}
KEPT = {
    "kept": ["stem", "logits"],
    "layers": 50,
    "limit": 0.02,
    "loss": 0.015,
    "loss_of_whole": 0.04,
    "bytes": {"whole": 2_000_000, "mixed": 2_004_096, "float": 8_000_000},
}


def _sources(**changes: Any) -> Sources:
    split = {"drawn": {"sizes": {"train": {"ash": 9}, "test": {"ash": 40, "brick": 2}}}}
    whole = Sources(Path("run"), "m.tflite", make_contract(), {}, {}, split, {}, {"test": None})
    return replace(whole, **changes)


def test_a_test_split_that_was_not_asked_is_not_denied() -> None:
    said = _figures(_sources())
    assert "42 photos of the test split were not asked" in said and "convert.comparison.compare" in said
    none = {"drawn": {"sizes": {"train": {"ash": 9}, "test": {}}}}
    assert _figures(_sources(split=none)).endswith("The run has no test split.")


def test_figures_of_folds_are_not_called_those_of_this_file() -> None:
    assert "recall, converted" in _per_class(_sources(crossval=TEST))
    assert "this file" not in _per_class(_sources(crossval=TEST))
    assert "recall, this file" in _per_class(_sources(report={"test": TEST}))


def test_float_layers_are_told() -> None:
    said = _kept_float(KEPT)
    for words in ("2 of 50 layers", "`stem`, `logits`", "at most 2.0 %", "4,096 bytes"):
        assert words in said
    none = _kept_float({**KEPT, "kept": [], "loss": 0.01})
    assert "Every layer is integer" in none and "none of the 50 layers" in none


def test_folds_that_were_converted_in_another_way_are_refused() -> None:
    own = ["--recipe", "int8_qat", "--epochs", "8"]
    _require_same_options(own, own, Path("cv"))
    _require_same_options(own, None, Path("cv"))
    with pytest.raises(RunInvalid, match="converted in another way") as caught:
        _require_same_options(own, ["--recipe", "int8_qat"], Path("cv"))
    assert "--epochs 8" in caught.value.message


@pytest.mark.parametrize("content", ["{}", '{"model": 3, "run": null}', "[]", "no JSON"])
def test_a_file_that_is_no_report_is_refused(content: str, tmp_path: Path, capsys: Any) -> None:
    model = tmp_path / "m.tflite"
    shutil.copy(FIXTURES / "tiny_int8.tflite", model)
    model.with_suffix(".json").write_text(content)
    assert main([str(tmp_path), str(model), "--out", str(tmp_path / "CARD.md")]) == 2
    assert f"error: {model.with_suffix('.json')}: not " in capsys.readouterr().err
    assert not (tmp_path / "CARD.md").exists()


def test_an_empty_config_is_refused(tmp_path: Path, capsys: Any) -> None:
    from convert.files import sha256_of
    from edge_runtime.model.model_file import open_model

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
    assert (
        "config.json: not what this command reads; found: no name, no model.backbone"
        in capsys.readouterr().err
    )
