"""Each recipe from end to end on a synthetic run, and refusals that must leave no file."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.contract import ModelContract
from edge_runtime.images.preprocess import fit_pixels, input_bytes
from edge_runtime.model.model_file import open_model
from edge_runtime.runner import Runner
from tests.convert.conftest import RECIPE_NAMES, Conversion
from tests.convert.synthetic_run import LABELS, SIZE_PX, TEMPERATURE

pytestmark = pytest.mark.tf
QUANTIZED = ("int8_ptq", "int8_qat")
CALIBRATED = (*QUANTIZED, "int16x8")
# The temperature is folded into float32 weights: rounding of one division.
FOLDING_TOLERANCE = 1e-5


@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_contract_travels_unchanged_but_for_recipe_temperature_and_golden(
    name: str, conversions: dict[str, Conversion], trained_run: Path
) -> None:
    before = ModelContract.from_json((trained_run / "contract.json").read_bytes())
    after = open_model(conversions[name].tflite).contract
    assert after.provenance.recipe == name
    assert len(after.golden) == 3
    restored = dataclasses.replace(after.provenance, recipe="none")
    calibration = before.calibration if name in QUANTIZED else after.calibration
    assert dataclasses.replace(after, golden=(), provenance=restored, calibration=calibration) == before


@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_input_and_output(name: str, conversions: dict[str, Conversion]) -> None:
    tensors = conversions[name].report["tensors"]
    dtype = "uint8" if name in QUANTIZED else "float32"
    assert (tensors["input"]["dtype"], tensors["output"]["dtype"]) == (dtype, dtype)
    assert tensors["input"]["shape"] == [1, SIZE_PX, SIZE_PX, 3]
    assert tensors["output"]["shape"] == [1, len(LABELS)]
    if name in QUANTIZED:
        assert (tensors["input"]["scale"], tensors["input"]["zero_point"]) == (1 / 128, 128)
        assert (tensors["output"]["scale"], tensors["output"]["zero_point"]) == (1 / 256, 0)
        assert tensors["float_operators"] == [] and "float32" not in tensors["tensor_types"]
        assert tensors["operators"]["QUANTIZE"] == 2


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_pixel_maps_to_itself(name: str, conversions: dict[str, Conversion]) -> None:
    tensor = conversions[name].report["tensors"]["input"]
    contract = open_model(conversions[name].tflite).contract
    pixels_u8 = bytes(range(256))
    filled = input_bytes(pixels_u8, contract.normalization, "uint8", tensor["scale"], tensor["zero_point"])
    assert filled == pixels_u8


@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_zip_tail_is_stored_dated_and_ordered(name: str, conversions: dict[str, Conversion]) -> None:
    with zipfile.ZipFile(conversions[name].tflite) as archive:
        entries = archive.infolist()
        assert [entry.filename for entry in entries] == [
            "edge_contract.json",
            "labels.txt",
            "golden_0.png",
            "golden_1.png",
            "golden_2.png",
        ]
        assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
        assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.read("labels.txt") == b"ash\nbrick\ncyan\n"
        assert archive.testzip() is None


@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_report_names_inputs_and_outputs(
    name: str, conversions: dict[str, Conversion], trained_run: Path
) -> None:
    from train.artifacts.files import sha256_of

    report = conversions[name].report
    assert report["model"]["sha256"] == sha256_of(conversions[name].tflite)
    assert report["model"]["bytes"] == conversions[name].tflite.stat().st_size
    assert report["run"]["model_keras_sha256"] == sha256_of(trained_run / "model.keras")
    assert report["recipe"]["name"] == name
    assert report["versions"]["tensorflow"]
    assert report["check"]["photos"] == 200
    assert report["check"]["photos_by_split"] == {"train": 32, "val": 168, "test": 0}
    assert report["test"]["photos"] == 168
    assert (report["calibration"] is None) == (name not in CALIBRATED)
    assert (report["qat"] is None) == (name != "int8_qat")
    assert report["training_repeated"]["photos"] == 100
    assert report["training_repeated"]["mean_score_difference"] < 1e-4
    # A report that only Python can read is no report: NaN is not JSON.
    json.loads((conversions[name].tflite.with_suffix(".json")).read_text(), parse_constant=pytest.fail)


def test_calibration_read_train_photos_only(conversions: dict[str, Conversion], trained_run: Path) -> None:
    from convert.inputs import read_run

    train = {photo.photo_id for photo in read_run(trained_run).split("train")}
    for name in CALIBRATED:
        ids = conversions[name].report["calibration"]["ids"]
        assert len(ids) == 500 and set(ids) <= train


def test_the_model_is_trained_and_quantization_keeps_it(conversions: dict[str, Conversion]) -> None:
    """Guards the other tests: on an untrained model every agreement would be luck."""
    for name in RECIPE_NAMES:
        assert conversions[name].report["test"]["converted"]["balanced_accuracy"] > 0.6
        assert conversions[name].report["check"]["agreement"] > 0.95


def test_temperature_is_folded_in(conversions: dict[str, Conversion], trained_run: Path) -> None:
    import tf_keras

    from convert.export.gate import run_model

    converted = open_model(conversions["float32"].tflite)
    contract = converted.contract
    photo = (trained_run.parent / "data" / "brick_003.jpg").read_bytes()
    pixels_u8 = np.frombuffer(fit_pixels(photo, contract), np.uint8).reshape(1, SIZE_PX, SIZE_PX, 3)
    model = tf_keras.models.load_model(trained_run / "model.keras", compile=False)
    logits = model((pixels_u8.astype(np.float32) - 128) / 128).numpy()[0]
    logits = logits / contract.calibration.temperature
    expected = np.exp(logits) / np.exp(logits).sum()
    assert run_model(converted, pixels_u8)[0] == pytest.approx(expected, abs=FOLDING_TOLERANCE)


@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_golden_vectors_hold_and_notice_another_normalization(
    name: str, conversions: dict[str, Conversion]
) -> None:
    caught = 0
    with Runner.open(conversions[name].tflite) as runner:
        for vector in runner.contract.golden:
            pixels_u8 = runner.pixels_u8(runner.model.read_entry(vector.image))
            assert runner.raw_values(runner.run(runner.input_tensor(pixels_u8))) == vector.output
            wrong = runner.input_tensor(bytes(value // 2 for value in pixels_u8))
            difference = np.abs(np.subtract(runner.raw_values(runner.run(wrong)), vector.output)).max()
            caught += int(difference > vector.tolerance)
    assert caught > 0


def test_metadata_is_found_where_the_format_puts_it(conversions: dict[str, Conversion]) -> None:
    from convert.tflite.embed import read_object

    for name in RECIPE_NAMES:
        model = read_object(conversions[name].tflite.read_bytes())
        entries = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
        assert len(entries) == 1
        metadata = bytes(model.buffers[entries[0].buffer].data)
        assert metadata[4:8] == b"M001"
        texts = (
            b"synthetic-mobilenet-v2",
            b"labels.txt",
            b"CC0-1.0",
            b"Tests only.",
            b"1.0.0",
            name.encode(),
        )
        for text in texts:
            assert text in metadata
        assert struct.pack("<f", 128.0) in metadata


def test_converting_twice_gives_the_same_bytes_with_or_without_the_test_split(
    conversions: dict[str, Conversion], trained_run: Path, tmp_path: Path
) -> None:
    from convert.__main__ import main

    out = tmp_path / "again.tflite"
    assert main([str(trained_run), "--recipe", "int8_ptq", "--no-test-report", "--out", str(out)]) == 0
    assert out.read_bytes() == conversions["int8_ptq"].tflite.read_bytes()
    assert json.loads(out.with_suffix(".json").read_text())["test"] is None


def _convert(run: Path, out: Path, recipe: str = "float32") -> int:
    from convert.__main__ import main

    return main([str(run), "--recipe", recipe, "--out", str(out)])


def _swapped_labels(model: Any) -> Any:
    """The model with two outputs exchanged: what a wrong label order is."""
    layer = model.get_layer("logits")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel[:, [1, 0, 2]], bias[[1, 0, 2]]])
    return model


@pytest.mark.usefixtures("few_kernel_sets")
def test_a_broken_model_is_refused_and_nothing_written(
    run_copy: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import tf_keras

    from convert.export import keras_export as export

    original = export.to_tflite

    def break_it(model: Any, *arguments: Any) -> bytes:
        broken = tf_keras.models.clone_model(model)
        broken.set_weights(model.get_weights())
        return original(_swapped_labels(broken), *arguments)

    monkeypatch.setattr(export, "to_tflite", break_it)
    folder = tmp_path / "out"
    folder.mkdir()
    assert _convert(run_copy("broken"), folder / "m.tflite") == 2
    assert "top-1 agreement" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("few_kernel_sets")
def test_a_temperature_that_was_not_folded_in_is_refused(
    run_copy: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every label stays the same, so agreement does not show it; the scores have another temperature."""
    from convert.quantization import temperature

    fold = temperature.fold_into_scales
    monkeypatch.setattr(temperature, "fold_into_scales", lambda tflite, factor: fold(tflite, 1.4 * factor))
    out = tmp_path / "out"
    out.mkdir()
    assert _convert(run_copy("forgotten"), out / "m.tflite", "int8_ptq") == 2
    assert "another temperature" in capsys.readouterr().err
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("float16", {"float16"}),
        ("dynamic_int8", {"int8", "float32"}),
        ("int16x8", {"int8"}),
        ("int8_ptq", {"int8"}),
        ("int8_qat", {"int8"}),
        ("float32", {"float32"}),
    ],
)
def test_weights_are_of_the_type_that_the_name_says(
    name: str, kept: set[str], conversions: dict[str, Conversion]
) -> None:
    from convert.tflite.reader import read_tflite

    file = read_tflite(conversions[name].tflite)
    weights = {tensor.dtype for tensor in file.tensors if tensor.constant and len(tensor.shape) == 4}
    assert weights == kept


def test_a_recipe_that_did_not_do_its_work_is_refused(conversions: dict[str, Conversion]) -> None:
    from convert.recipes import RECIPES
    from convert.tflite.spec import require_as_specified
    from edge_runtime.errors import ConversionRefused

    contract = open_model(conversions["float32"].tflite).contract
    for name in ("float16", "dynamic_int8", "int16x8"):
        with pytest.raises(ConversionRefused) as caught:
            require_as_specified(conversions["float32"].tflite.read_bytes(), RECIPES[name], contract)
        assert "weights float32, input float32" in caught.value.found and name in caught.value.what


@pytest.mark.usefixtures("few_kernel_sets")
def test_a_refusal_leaves_the_older_model_alone(
    run_copy: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convert import recipes

    impossible = dataclasses.replace(recipes.RECIPES["float32"].limits, min_agreement=1.1)
    recipe = dataclasses.replace(recipes.RECIPES["float32"], limits=impossible)
    monkeypatch.setattr(recipes, "RECIPES", {"float32": recipe})
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "m.tflite").write_bytes(b"older model")
    (folder / "m.json").write_text("older report")
    assert _convert(run_copy("copy"), folder / "m.tflite") == 2
    assert (folder / "m.tflite").read_bytes() == b"older model"
    assert (folder / "m.json").read_text() == "older report"
    assert len(list(folder.iterdir())) == 2


def test_float_operators_are_refused(conversions: dict[str, Conversion]) -> None:
    from convert.recipes import RECIPES
    from convert.tflite.spec import require_as_specified
    from edge_runtime.errors import ConversionRefused

    contract = open_model(conversions["float32"].tflite).contract
    with pytest.raises(ConversionRefused) as caught:
        require_as_specified(conversions["float32"].tflite.read_bytes(), RECIPES["int8_qat"], contract)
    assert "CONV_2D" in caught.value.found and "input float32 [1, " in caught.value.found


def test_a_normalization_that_no_uint8_tensor_holds_is_refused() -> None:
    from convert.tflite.spec import pixel_quantization
    from edge_runtime.contract import Normalization
    from edge_runtime.errors import ConversionRefused
    from tests.convert.synthetic_run import make_contract

    assert pixel_quantization(make_contract()) == (1 / 128, 128)
    with pytest.raises(ConversionRefused) as caught:
        pixel_quantization(make_contract(normalization=Normalization(127.5, 127.5)))
    assert "127.5" in caught.value.found


def _dense_only(keras: Any) -> Any:
    inputs = keras.Input((SIZE_PX, SIZE_PX, 3))
    return inputs, keras.layers.GlobalAveragePooling2D()(inputs)


def _softmaxed(keras: Any) -> Any:
    inputs, pooled = _dense_only(keras)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="logits")(pooled))


def _too_wide(keras: Any) -> Any:
    inputs, pooled = _dense_only(keras)
    return keras.Model(inputs, keras.layers.Dense(4, name="logits")(pooled))


def _nested(keras: Any) -> Any:
    inputs, pooled = _dense_only(keras)
    inner = keras.Model(inputs, pooled, name="backbone")
    outer = keras.Input((SIZE_PX, SIZE_PX, 3))
    return keras.Model(outer, keras.layers.Dense(3, name="logits")(inner(outer)))


def _rescaling(keras: Any) -> Any:
    inputs = keras.Input((SIZE_PX, SIZE_PX, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(pooled))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (_softmaxed, "activation softmax"),
        (_too_wide, "output (None, 4)"),
        (_nested, "nested model backbone"),
        (_rescaling, "Rescaling"),
    ],
)
def test_models_of_another_kind_are_refused(build: Callable[[Any], Any], words: str, tmp_path: Path) -> None:
    import tf_keras

    from convert.export.keras_export import load_float_model
    from edge_runtime.errors import RunInvalid
    from tests.convert.synthetic_run import make_contract

    build(tf_keras).save(tmp_path / "model.keras")
    with pytest.raises(RunInvalid) as caught:
        load_float_model(tmp_path / "model.keras", make_contract())
    assert words in caught.value.message


def test_a_model_of_free_size_gets_the_contract_size(tmp_path: Path) -> None:
    import tf_keras

    from convert.export.keras_export import load_float_model
    from tests.convert.synthetic_run import make_contract

    inputs = tf_keras.Input((None, None, 3))
    hidden = tf_keras.layers.Conv2D(4, 3, name="conv")(inputs)
    pooled = tf_keras.layers.GlobalAveragePooling2D()(hidden)
    free = tf_keras.Model(inputs, tf_keras.layers.Dense(3, name="logits")(pooled))
    free.save(tmp_path / "model.keras")
    fixed = load_float_model(tmp_path / "model.keras", make_contract())
    assert fixed.input_shape == (None, SIZE_PX, SIZE_PX, 3)
    image = np.random.default_rng(0).normal(size=(1, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
    assert fixed(image).numpy() == pytest.approx(free(image).numpy() / TEMPERATURE, abs=FOLDING_TOLERANCE)


def test_no_model_file(run_without_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    assert _convert(run_without_model, tmp_path / "out" / "m.tflite") == 2
    assert "model.keras" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_golden_pictures_are_small_varied_and_repeatable() -> None:
    from PIL import Image

    from convert.tflite.golden import PICTURE_SIZES_PX, draw_picture

    pictures = [draw_picture(i) for i in range(12)]
    assert len(set(pictures)) == 12
    assert pictures == [draw_picture(i) for i in range(12)]
    for i, picture in enumerate(pictures):
        assert len(picture) < 16_000
        with Image.open(io.BytesIO(picture)) as image:
            assert (
                image.size == PICTURE_SIZES_PX[i % 3] and image.width != image.height and image.mode == "RGB"
            )
