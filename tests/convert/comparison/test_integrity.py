"""The integrity check: a model whose contract does not describe it is found."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from convert.comparison import compare
from convert.comparison.integrity import VECTOR_PROBLEMS, golden_problems
from edge_runtime.contract import Calibration, Normalization
from edge_runtime.model.model_file import open_model
from tests.convert.compared import draw_table, with_contract
from tests.convert.comparison.test_compare import INT8, UINT8, _read, _run


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_table(tmp_path_factory.mktemp("photos"))


def _caught(table: Path, altered: Path, tmp_path: Path) -> str:
    assert _run([INT8, altered], table, tmp_path / "out", "--no-layers") == compare.EXIT_DOUBTFUL
    report = _read(tmp_path / "out")
    assert report["models"][0]["caught"] == []
    failed = f"{report['models'][1]['name']} failed its integrity check"
    assert report["pairs"][0]["verdict"].startswith(failed)
    assert failed in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    return "; ".join(report["models"][1]["caught"])


def test_another_crop_is_caught(table: Path, tmp_path: Path) -> None:
    geometry = dataclasses.replace(open_model(INT8).contract.geometry, crop_fraction=0.6)
    said = _caught(table, with_contract(INT8, tmp_path / "altered.tflite", geometry=geometry), tmp_path)
    assert "other pixels than at conversion" in said
    assert "geometry.crop_fraction is 0.6, not 0.9" in said


def test_another_normalization_is_caught(table: Path, tmp_path: Path) -> None:
    normalization = Normalization(20.0, 128.0)
    said = _caught(
        table, with_contract(INT8, tmp_path / "altered.tflite", normalization=normalization), tmp_path
    )
    assert "another normalization" in said
    assert "normalization.mean is 20.0" in said


def test_another_temperature_in_the_contract_is_caught(table: Path, tmp_path: Path) -> None:
    stated = open_model(INT8).contract.calibration.temperature
    for factor in (0.5, 2.0):
        calibration = Calibration("temperature", stated * factor)
        said = _caught(
            table, with_contract(INT8, tmp_path / "altered.tflite", calibration=calibration), tmp_path
        )
        assert f"contract states temperature {stated * factor:g}" in said
        assert "scores imply temperature" in said


def test_another_order_of_labels_is_caught(table: Path, tmp_path: Path) -> None:
    labels = open_model(INT8).contract.labels
    turned = (labels[1], labels[2], labels[0])
    said = _caught(table, with_contract(INT8, tmp_path / "altered.tflite", labels=turned), tmp_path)
    assert "label order is brick, cyan, ash" in said
    assert "with labels exchanged" in said


def test_weights_with_exchanged_outputs_are_caught_though_the_contract_is_right(
    table: Path, tmp_path: Path
) -> None:
    # The contract of the same run and self-test vectors of its own: only the predictions show it.
    labels = open_model(INT8).contract.labels
    renamed = (labels[1], labels[0], labels[2])
    altered = with_contract(INT8, tmp_path / "altered.tflite", labels=renamed)
    assert "top-1 agreement is" in _caught(table, altered, tmp_path)


def test_a_file_without_self_test_vectors_fails(table: Path, tmp_path: Path) -> None:
    assert "no self-test vectors" in _caught(
        table, with_contract(INT8, tmp_path / "m.tflite", golden=()), tmp_path
    )


# ------------------------------------------------------------------- bad input


def test_self_test_vectors_have_a_tolerance_and_pictures_a_hash(tmp_path: Path) -> None:
    first, *rest = open_model(UINT8).contract.golden

    def problems(**changes: Any) -> list[str]:
        golden = (dataclasses.replace(first, **changes), *rest)
        return golden_problems(open_model(with_contract(UINT8, tmp_path / "changed.tflite", golden=golden)))

    def moved(steps: float) -> tuple[float, ...]:
        return (first.output[0] + steps, *first.output[1:])

    assert problems() == problems(output=moved(first.tolerance)) == []
    (said,) = problems(output=moved(first.tolerance + 1))
    assert said.startswith(f"{first.image}: output differs by {first.tolerance + 1:g} ")
    (said,) = problems(image_sha256="0" * 64)
    assert said == f"{first.image}: {VECTOR_PROBLEMS['picture']}"
