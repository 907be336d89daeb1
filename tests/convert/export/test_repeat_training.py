"""Whether the float model, through the contract, still predicts what training wrote down."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convert.inputs import Run, read_run
from edge_runtime.contract import Calibration, ModelContract
from edge_runtime.errors import RunInvalid

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def run(trained_run: Path) -> Run:
    return read_run(trained_run)


def _check(folder: Path, **changes: Any) -> dict[str, Any]:
    """The check of a run whose contract is changed first."""
    from convert.export.float_model import Predictor
    from convert.export.keras_export import load_float_model
    from convert.export.repeat_training import require_training_repeated

    contract = ModelContract.from_json((folder / "contract.json").read_bytes())
    (folder / "contract.json").write_text(
        dataclasses.replace(contract, **changes).to_json(), encoding="utf-8"
    )
    run = read_run(folder)
    predict = Predictor(load_float_model(run.model_path, run.contract), run.contract)
    return require_training_repeated(run, predict)


def test_an_unchanged_run_passes(run_copy: Callable[[str], Path]) -> None:
    report = _check(run_copy("run"))
    assert report["photos"] == 100 and report["agreement"] == 1
    assert report["mean_score_difference"] < 1e-4


@pytest.mark.parametrize("what", ["normalization", "labels", "crop", "temperature", "no temperature"])
def test_a_contract_that_was_changed_after_training_is_refused(
    what: str, run: Run, run_copy: Callable[[str], Path]
) -> None:
    """Float and converted would be wrong alike: only training's own predictions show it."""
    contract = run.contract
    changes: dict[str, Any] = {
        "normalization": {"normalization": dataclasses.replace(contract.normalization, mean=110.0)},
        "labels": {"labels": (contract.labels[1], contract.labels[0], contract.labels[2])},
        "crop": {"geometry": dataclasses.replace(contract.geometry, crop_fraction=0.7)},
        "temperature": {
            "calibration": Calibration("temperature", round(contract.calibration.temperature * 1.05, 4))
        },
        "no temperature": {"calibration": Calibration("none", 1.0)},
    }[what]
    with pytest.raises(RunInvalid) as caught:
        _check(run_copy("run"), **changes)
    assert ("temperature" in caught.value.what) == ("temperature" in what)


def test_a_run_without_trainings_predictions_passes_with_a_note(run: Run, tmp_path: Path) -> None:
    from convert.export.repeat_training import require_training_repeated

    def never(_: object) -> Any:
        raise AssertionError

    report = require_training_repeated(dataclasses.replace(run, folder=tmp_path), never)
    assert report["photos"] == 0 and "predictions_val.csv" in report["note"]


@pytest.mark.parametrize("content", ["photo_id,p_ash\na,1\n", "photo_id,p_ash,p_brick,p_cyan\nother,1,0,0\n"])
def test_predictions_that_do_not_fit_are_refused(content: str, run: Run, tmp_path: Path) -> None:
    from convert.export.repeat_training import require_training_repeated

    (tmp_path / "predictions_val.csv").write_text(content)
    with pytest.raises(RunInvalid) as caught:
        require_training_repeated(dataclasses.replace(run, folder=tmp_path), lambda _: pytest.fail())
    assert "predictions_val.csv" in caught.value.what
