"""Temperature after quantization: fitted to the file's own logits, folded into scales, every integer as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import ConversionRefused
from edge_runtime.model.model_file import ModelFile, open_model
from tests.convert.conftest import Conversion

pytestmark = pytest.mark.tf

pytest.importorskip("tensorflow", exc_type=ImportError)

from convert.export import gate as check  # noqa: E402 - after the skip
from convert.inputs import read_run  # noqa: E402
from convert.pixels import read_pixels  # noqa: E402
from convert.quantization import temperature  # noqa: E402 - after the skip
from convert.tflite.embed import read_object  # noqa: E402
from train.evaluation.decisions import fit_temperature  # noqa: E402
from train.evaluation.metrics import softmax  # noqa: E402

QUANTIZED = ("int8_ptq", "int8_qat")
# A quantized softmax is a table of steps of 1/256, and LiteRT's is off by up to another.
SOFTMAX_STEPS = 2 / 256
# Minimum of a smooth function to the minimizer's tolerance.
FIT_TOLERANCE = 0.02


def test_the_fit_finds_the_temperature_by_which_logits_were_multiplied() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 5)) * 2
    drawn = np.array([rng.choice(5, p=p) for p in softmax(logits)])
    once = fit_temperature(drawn, logits)
    assert once == pytest.approx(1, abs=0.1)
    assert fit_temperature(drawn, logits * 1.7) == pytest.approx(1.7 * once, rel=FIT_TOLERANCE)


@pytest.mark.parametrize("name", QUANTIZED)
@pytest.mark.parametrize("factor", [0.37, 1.9])
def test_integer_logits_stay_and_the_softmax_changes(
    name: str, factor: float, conversions: dict[str, Conversion], trained_run: Path
) -> None:
    run = read_run(trained_run)
    contract = open_model(conversions[name].tflite).contract
    pixels_u8 = read_pixels(run.split("test"), contract)
    before = conversions[name].tflite.read_bytes()
    after = temperature.fold_into_scales(before, factor)
    integers, scale = temperature.read_logits(before, pixels_u8, contract)
    same, other_scale = temperature.read_logits(after, pixels_u8, contract)
    assert len(integers) == 168 and len(np.unique(integers)) > 20
    np.testing.assert_array_equal(same, integers)
    assert other_scale == pytest.approx(scale / factor)
    # What a device reads is the softmax of these logits.
    scores = check.run_model(ModelFile("folded", after, contract), pixels_u8)
    assert np.abs(scores - softmax(integers * other_scale)).max() <= SOFTMAX_STEPS
    assert np.abs(scores - softmax(integers * scale)).max() > 5 * SOFTMAX_STEPS


def test_three_tensors_differ_in_scale_and_nothing_else(conversions: dict[str, Conversion]) -> None:
    before = read_object(conversions["int8_qat"].tflite.read_bytes())
    folded = temperature.fold_into_scales(conversions["int8_qat"].tflite.read_bytes(), 2.0)
    after = read_object(folded)
    changed = []
    pairs = list(zip(before.subgraphs[0].tensors, after.subgraphs[0].tensors, strict=True))
    assert len(pairs) > 20
    for old, new in pairs:
        scales = [None if x.quantization is None else x.quantization.scale for x in (old, new)]
        if scales[0] is not None and not np.array_equal(scales[0], scales[1]):
            np.testing.assert_array_equal(np.asarray(scales[0]) / 2, scales[1])
            changed.append(old.name)
        assert (old.name, old.type, list(old.shape)) == (new.name, new.type, list(new.shape))
    assert len(changed) == 3
    contents = [
        [b"" if b.data is None else bytes(b.data) for b in model.buffers] for model in (before, after)
    ]
    assert contents[0] == contents[1]


@pytest.mark.parametrize("name", QUANTIZED)
def test_the_file_is_calibrated_on_its_own_logits(
    name: str, conversions: dict[str, Conversion], trained_run: Path
) -> None:
    """The reported temperature is the one that fits the file's validation logits: nothing is left to scale."""
    run = read_run(trained_run)
    model = open_model(conversions[name].tflite)
    report = conversions[name].report["temperature"]
    val = run.split("val")
    integers, scale = temperature.read_logits(model.data, read_pixels(val, model.contract), model.contract)
    assert len(val) == report["photos"] == 168
    labels = check.labels_of(val)
    unscaled = integers * scale * report["after_quantization"]
    assert fit_temperature(labels, unscaled) == pytest.approx(report["after_quantization"], rel=1e-3)
    assert model.contract.calibration.method == "temperature"
    total = run.contract.calibration.temperature * report["after_quantization"]
    assert model.contract.calibration.temperature == pytest.approx(total, abs=1e-4)
    assert model.contract.calibration.temperature == report["total"]


def test_the_float_recipe_keeps_the_float_temperature(
    conversions: dict[str, Conversion], trained_run: Path
) -> None:
    assert conversions["float32"].report["temperature"] is None
    contract = open_model(conversions["float32"].tflite).contract
    assert contract.calibration == read_run(trained_run).contract.calibration


def test_a_file_without_an_int8_ending_is_refused(conversions: dict[str, Conversion]) -> None:
    with pytest.raises(ConversionRefused) as caught:
        temperature.fold_into_scales(conversions["float32"].tflite.read_bytes(), 2.0)
    assert "FULLY_CONNECTED, SOFTMAX" in caught.value.found
