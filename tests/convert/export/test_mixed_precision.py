"""The search for layers that must stay float: its steps on made-up losses, and the whole on a synthetic run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.convert.conftest import Conversion

pytestmark = pytest.mark.tf
RANKED = [f"layer{i}" for i in range(20)]


def _loss(needed: set[str]) -> Any:
    """Each needed layer that is not kept costs 0.05."""

    def loss_of(kept: Sequence[str]) -> float:
        return 0.05 * len(needed - set(kept))

    return loss_of


@pytest.mark.parametrize("last", [0, 1, 4, 10, 19])
def test_the_shortest_beginning_is_found(last: int) -> None:
    from convert.export.mixed_precision import smallest_prefix

    assert smallest_prefix(RANKED, _loss({RANKED[last]}), 0.01) == RANKED[: last + 1]


def test_layers_that_are_not_needed_go_back() -> None:
    from convert.export.mixed_precision import smallest_prefix, without_the_needless

    loss_of = _loss({"layer2", "layer9"})
    kept = smallest_prefix(RANKED, loss_of, 0.01)
    assert kept == RANKED[:10]
    assert without_the_needless(kept, loss_of, 0.01) == ["layer2", "layer9"]


def test_a_limit_that_nothing_holds() -> None:
    from convert.export.mixed_precision import smallest_prefix

    assert smallest_prefix(RANKED, lambda kept: 0.5, 0.01) is None
    assert smallest_prefix([], lambda kept: 0.5, 0.01) is None


def test_layers_are_counted_also_where_none_has_to_be_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    from convert.export import keras_export as export
    from convert.export import mixed_precision as keep_float
    from tests.fixtures import FIXTURES

    floating, whole = ((FIXTURES / f"tiny_{name}.tflite").read_bytes() for name in ("float32", "uint8"))
    monkeypatch.setattr(export, "to_tflite", lambda *_: floating)
    monkeypatch.setattr(export, "to_calibrated", lambda *_: b"")
    monkeypatch.setattr(export, "quantize_calibrated", lambda *_: whole)

    def never(*_: object) -> list[str]:
        raise AssertionError("the whole file holds the limit")

    made: Any = None
    found, report = keep_float.search(
        lambda kept: None, None, made, None, rank=never, loss_of=lambda file: 0.01, max_loss=0.02
    )
    assert found == whole
    # Convolution, depthwise convolution, mean, dense layer and softmax.
    assert (report["kept"], report["layers"]) == ([], 5)


@pytest.mark.usefixtures("few_kernel_sets")
def test_a_mixed_file_holds_its_limit(
    trained_run: Path, conversions: dict[str, Conversion], tmp_path: Path, capsys: Any
) -> None:
    from convert.__main__ import main
    from convert.tflite.reader import read_tflite

    out = tmp_path / "mixed.tflite"
    whole_loss = 1 - conversions["int8_ptq"].report["check"]["agreement"]
    options = ["--recipe", "int8_ptq", "--keep-float", "auto", "--max-loss", "0.012"]
    assert main([str(trained_run), *options, "--out", str(out)]) == 0
    kept = json.loads(out.with_suffix(".json").read_text())["kept_float"]
    assert kept["loss"] <= 0.012
    assert kept["loss_of_whole"] == pytest.approx(whole_loss, abs=0.011)
    assert kept["layers"] >= max(1, len(kept["kept"]))
    file = read_tflite(out)
    if kept["kept"]:
        assert "float32" in file.dtype_counts(constant=False)
        assert kept["bytes"]["mixed"] > 0 and kept["ms_per_photo"]["mixed"] > 0
    assert file.tensors[file.inputs[0]].dtype == file.tensors[file.outputs[0]].dtype == "uint8"
    assert f"{len(kept['kept'])} of {kept['layers']} layers" in capsys.readouterr().out
