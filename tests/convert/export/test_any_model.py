"""Foreign models: SavedModel, .keras, .h5, with a contract; and refusals, which leave no file."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import convert
from convert.tflite.reader import read_tflite
from edge_runtime.contract import ModelContract
from edge_runtime.errors import (
    ConversionRefused,
    DataInvalid,
    EdgeError,
    ModelHoldsCode,
    RunInvalid,
    UsageError,
)
from edge_runtime.model.model_file import open_model
from tests.convert.synthetic_run import SIZE_PX, make_contract, write_manifest, write_photos

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("few_kernel_sets")]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """manifest.csv, contract.json (temperature 1) and photos beside them."""
    from edge_runtime.contract import Calibration

    folder = tmp_path_factory.mktemp("foreign")
    write_manifest(folder, write_photos(folder, 280))
    (folder / "contract.json").write_text(make_contract(calibration=Calibration("none", 1.0)).to_json())
    return folder


def _convert(model: Path, photos: Path, out: Path, recipe: str, **options: Any) -> dict[str, Any]:
    given = {"contract": photos / "contract.json", "manifest": photos / "manifest.csv", **options}
    return convert(model, recipe, out, **given)


def _network(keras: Any, head: Callable[[Any, Any], Any]) -> Any:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((SIZE_PX, SIZE_PX, 3), name="picture")
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(inputs, head(keras.layers, x), name="foreign")


HEADS: dict[str, Callable[[Any, Any], Any]] = {
    "linear": lambda layers, x: layers.Dense(3, name="predictions")(x),
    "softmax": lambda layers, x: layers.Dense(3, activation="softmax", name="predictions")(x),
    "layer": lambda layers, x: layers.Softmax(name="probs")(layers.Dense(3, use_bias=False, name="fc")(x)),
    # As tf_keras's MobileNetV3: operators that are no layers, and a head that is a convolution of one pixel.
    "operators": lambda layers, x: layers.Activation("softmax")(
        layers.Flatten()(layers.Conv2D(3, 1)(layers.Reshape((1, 1, 8))(x * layers.ReLU(6.0)(x + 3.0) * 0.5)))
    ),
}


@pytest.mark.parametrize(("head", "suffix"), [
    ("linear", ".keras"), ("softmax", ".h5"), ("layer", ".keras"), ("operators", ".keras"),
])  # fmt: skip
def test_a_keras_file_is_loaded_whatever_its_head(
    head: str, suffix: str, photos: Path, tmp_path: Path
) -> None:
    import tf_keras

    from convert.export.float_model import Predictor
    from convert.export.keras_export import load_float_model

    model = _network(tf_keras, HEADS[head])
    path = tmp_path / f"model{suffix}"
    with pytest.warns(UserWarning) if suffix == ".h5" else nullcontext():
        model.save(path)
    contract = ModelContract.from_json((photos / "contract.json").read_bytes())
    image = np.random.default_rng(0).integers(0, 256, (1, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    expected = model.predict((image.astype(np.float32) - 128) / 128, verbose=0)[0]
    if head == "linear":
        expected = np.exp(expected) / np.exp(expected).sum()
    found = Predictor(load_float_model(path, contract, any_head=True), contract)(image)[0]
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("head", "recipe"), [("operators", "int8_ptq"), pytest.param("linear", "float16", marks=pytest.mark.long)]
)
def test_a_keras_file_is_converted(head: str, recipe: str, photos: Path, tmp_path: Path) -> None:
    import tf_keras

    path, out = tmp_path / "model.keras", tmp_path / "m.tflite"
    # Somebody else's file of that name, which holds no predictions of this model's training.
    (tmp_path / "predictions_val.csv").write_text("photo_id,p_ash\nelsewhere,1\n")
    _network(tf_keras, HEADS[head]).save(path)
    report = _convert(path, photos, out, recipe)
    assert open_model(out).contract.provenance.recipe == recipe
    assert report["training_repeated"]["photos"] == 0 and report["training_repeated"]["note"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "m.json", "m.tflite", path.name, "predictions_val.csv",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that returns logits."""
    import tensorflow as tf
    import tf_keras

    folder = tmp_path_factory.mktemp("saved") / "saved"
    tf.saved_model.save(_network(tf_keras, HEADS["linear"]), str(folder))
    return folder


def test_a_saved_model_is_converted(saved_model: Path, photos: Path, tmp_path: Path) -> None:
    """Its free batch becomes a batch of one."""
    out = tmp_path / "m.tflite"
    report = _convert(saved_model, photos, out, "int8_ptq")
    assert report["check"]["agreement"] >= 0.88
    assert len(report["run"]["model_keras_sha256"]) == 64
    expected = ModelContract.from_json((photos / "contract.json").read_text()).labels
    assert open_model(out).contract.labels == expected
    file = read_tflite(out)
    assert [list(file.tensors[i].signature) for i in (*file.inputs, *file.outputs)] == [
        [1, SIZE_PX, SIZE_PX, 3], [1, 3],
    ]  # fmt: skip


@pytest.mark.long
def test_a_saved_model_with_a_softmax_is_converted(photos: Path, tmp_path: Path) -> None:
    import tensorflow as tf
    import tf_keras

    tf.saved_model.save(_network(tf_keras, HEADS["softmax"]), str(tmp_path / "saved"))
    report = _convert(tmp_path / "saved", photos, tmp_path / "m.tflite", "dynamic_int8")
    assert report["check"]["agreement"] >= 0.88


# ------------------------------------------------------------------- refused


def _refused(model: Path, photos: Path, tmp_path: Path, recipe: str = "float32", **options: Any) -> EdgeError:
    """The error of a conversion that leaves no file."""
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(EdgeError) as caught:
        _convert(model, photos, out / "m.tflite", recipe, **options)
    assert list(out.iterdir()) == []
    return caught.value


def test_a_saved_model_cannot_be_fine_tuned(saved_model: Path, photos: Path, tmp_path: Path) -> None:
    error = _refused(saved_model, photos, tmp_path, "int8_qat")
    assert isinstance(error, UsageError) and "int8_qat" in error.found


def test_a_saved_model_of_a_fixed_batch_is_refused(photos: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    class Four(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((4, SIZE_PX, SIZE_PX, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return {"scores": tf.reduce_mean(x, axis=(1, 2))}

    module = Four()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.__call__)
    error = _refused(tmp_path / "saved", photos, tmp_path)
    assert isinstance(error, RunInvalid) and f"[4, {SIZE_PX}, {SIZE_PX}, 3]" in error.found


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "string"])
def test_a_saved_model_with_other_outputs_is_refused(dtype: str, photos: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    class Other(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((None, SIZE_PX, SIZE_PX, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            scores = tf.reduce_mean(x, axis=(1, 2))
            return {"scores": tf.as_string(scores) if dtype == "string" else tf.cast(scores, dtype)}

    module = Other()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.__call__)
    error = _refused(tmp_path / "saved", photos, tmp_path)
    assert isinstance(error, RunInvalid) and f"outputs [('{dtype}'" in error.found


def test_a_saved_model_whose_variables_are_cut_off_is_refused(
    saved_model: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(saved_model, tmp_path / "saved")
    (variables,) = (tmp_path / "saved" / "variables").glob("*.data-*")
    variables.write_bytes(variables.read_bytes()[:100])
    error = _refused(tmp_path / "saved", photos, tmp_path)
    assert isinstance(error, RunInvalid) and str(tmp_path / "saved") in error.what


def test_a_tflite_of_a_free_batch_is_shown_and_refused(photos: Path, tmp_path: Path, capsys: Any) -> None:
    """`dermedge inspect` shows the dynamic size; `dermedge compare`, as a device does, refuses it."""
    import tensorflow as tf
    import tf_keras

    from convert.comparison import compare
    from convert.tflite import inspect
    from convert.tflite.embed import embed_entries

    contract = ModelContract.from_json((photos / "contract.json").read_text())
    free = tmp_path / "free.tflite"
    tflite = tf.lite.TFLiteConverter.from_keras_model(_network(tf_keras, HEADS["softmax"])).convert()
    free.write_bytes(embed_entries(tflite, contract, {}))
    assert inspect.main([str(free)]) == 0
    shown = capsys.readouterr().out
    assert f"float32 [-1, {SIZE_PX}, {SIZE_PX}, 3]" in shown
    assert "expected [1, height, width, 3]" in shown
    out = tmp_path / "out"
    arguments = [str(free), str(free), "--data", str(photos / "manifest.csv"), "--out", str(out)]
    assert compare.main(arguments) == 3
    assert f"input shape [-1, {SIZE_PX}, {SIZE_PX}, 3]" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_model_that_holds_code_is_refused_and_its_code_not_run(
    suffix: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tf_keras

    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = tmp_path / f"model{suffix}"
    model = _network(
        tf_keras,
        lambda layers, x: layers.Dense(3)(
            layers.Lambda(lambda y: (__import__("pathlib").Path("RUN").write_text(""), y)[1])(x)
        ),
    )
    with pytest.warns(UserWarning) if suffix == ".h5" else nullcontext():
        model.save(path)
    (folder / "RUN").unlink(missing_ok=True)
    error = _refused(path, photos, tmp_path)
    assert isinstance(error, ModelHoldsCode) and error.found == "Lambda"
    assert list(folder.iterdir()) == []


def test_a_keras_3_file_is_refused_by_name(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "three.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.12.0", "date_saved": "2026-01-01"}))
        archive.writestr("config.json", "{}")
    error = _refused(path, photos, tmp_path)
    assert isinstance(error, RunInvalid) and "Keras 3.12.0" in error.found and "model.export" in error.fix


def test_a_nested_model_is_refused(photos: Path, tmp_path: Path) -> None:
    import tf_keras

    inner = _network(tf_keras, lambda layers, x: x)
    outer = tf_keras.Input((SIZE_PX, SIZE_PX, 3))
    tf_keras.Model(outer, tf_keras.layers.Dense(3)(inner(outer))).save(tmp_path / "nested.keras")
    error = _refused(tmp_path / "nested.keras", photos, tmp_path)
    assert isinstance(error, RunInvalid) and "nested model" in error.found
    # It was not trained here.
    assert "model.export(FOLDER)" in error.fix and "train again" not in error.fix


def test_a_hidden_layer_with_the_name_of_our_head_is_refused(photos: Path, tmp_path: Path) -> None:
    import tf_keras

    model = _network(tf_keras, lambda layers, x: layers.Dense(3)(layers.Dense(4, name="logits")(x)))
    model.save(tmp_path / "m.keras")
    error = _refused(tmp_path / "m.keras", photos, tmp_path)
    assert isinstance(error, RunInvalid) and 'The name "logits" is used 2 times' in error.found


def test_a_network_of_operators_cannot_be_fine_tuned(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import tf_keras

    _network(tf_keras, HEADS["operators"]).save(tmp_path / "m.keras")
    error = _refused(tmp_path / "m.keras", photos, tmp_path, "int8_qat")
    assert isinstance(error, ConversionRefused) and "tf.math.multiply" in error.found
    # Before photos are read.
    assert "calibration photos" not in capsys.readouterr().err


@pytest.mark.parametrize("entry", ["metadata.json", "config.json", "model.weights.h5"])
def test_a_damaged_keras_file_is_refused(entry: str, photos: Path, tmp_path: Path) -> None:
    import tf_keras

    path = tmp_path / "m.keras"
    _network(tf_keras, HEADS["linear"]).save(path)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(entry)
    data = bytearray(path.read_bytes())
    # Behind the entry's local header: 30 bytes and its name.
    middle = info.header_offset + 30 + len(entry) + info.compress_size // 2
    data[middle] ^= 0x5A
    path.write_bytes(data)
    error = _refused(path, photos, tmp_path)
    assert isinstance(error, RunInvalid) and "Bad CRC-32 for file" in error.found


def test_a_subclassed_model_is_refused(photos: Path, tmp_path: Path) -> None:
    import tf_keras

    @tf_keras.utils.register_keras_serializable("tests")
    class Own(tf_keras.Model):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.dense = tf_keras.layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    model = Own()
    model(np.zeros((1, SIZE_PX, SIZE_PX, 3), np.float32))
    model.save(tmp_path / "own.keras")
    error = _refused(tmp_path / "own.keras", photos, tmp_path)
    assert isinstance(error, RunInvalid) and "Own" in error.found


def test_an_operator_that_tflite_does_not_have_is_refused(photos: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    class Odd(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((None, SIZE_PX, SIZE_PX, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return {"scores": tf.math.special.bessel_i0(tf.reduce_mean(x, axis=(1, 2)))}

    module = Odd()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.__call__)
    error = _refused(tmp_path / "saved", photos, tmp_path)
    assert isinstance(error, ConversionRefused) and "tf.BesselI0" in error.found


@pytest.mark.parametrize(
    ("edit", "recipe", "found"),
    [
        (lambda rows: [row for row in rows if ",train" not in row], "int8_ptq", "split train"),
        (lambda rows: [row for row in rows if ",val" not in row], "float32", "split val"),
        (
            lambda rows: [row for row in rows if not (row.startswith("cyan") and ",train" in row)],
            "int8_ptq",
            "class 2",
        ),
        (
            lambda rows: [row for i, row in enumerate(rows) if ",train" not in row or i > 10],
            "int8_ptq",
            "497",
        ),
    ],
)
def test_photos_that_cannot_calibrate_or_check_are_refused(
    edit: Callable[[list[str]], list[str]], recipe: str, found: str, photos: Path, tmp_path: Path
) -> None:
    import tf_keras

    _network(tf_keras, HEADS["linear"]).save(tmp_path / "m.keras")
    head, *rows = (photos / "manifest.csv").read_text().splitlines()
    table = tmp_path / "manifest.csv"
    table.write_text("\n".join([head, *edit(rows)]) + "\n")
    error = _refused(tmp_path / "m.keras", photos, tmp_path, recipe, manifest=table, data=photos)
    assert isinstance(error, DataInvalid) and found in error.found


def test_what_a_foreign_model_must_bring(photos: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "m.keras", tmp_path / "m.tflite"
    model.write_bytes(b"x")
    for given, missing in (({}, "--contract"), ({"contract": photos / "contract.json"}, "--manifest")):
        with pytest.raises(UsageError) as caught:
            convert(model, "float32", out, **given)  # type: ignore[arg-type]
        assert missing in caught.value.found
    with pytest.raises(RunInvalid) as refused:
        _convert(tmp_path / "absent.h5", photos, out, "float32")
    assert "absent.h5" in refused.value.what


def test_a_full_disk_leaves_no_file(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    import tf_keras

    _network(tf_keras, HEADS["linear"]).save(tmp_path / "m.keras")
    original, out = Path.write_bytes, tmp_path / "out"
    out.mkdir()

    def full(self: Path, data: bytes) -> int:
        if ".tflite" in self.name:
            original(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError) as caught:
        _convert(tmp_path / "m.keras", photos, out / "m.tflite", "float32")
    assert caught.value.errno == errno.ENOSPC and list(out.iterdir()) == []
