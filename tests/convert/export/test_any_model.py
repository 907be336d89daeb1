"""Models of other people: SavedModel, .keras, .h5, with a contract; and those that must be refused, leaving no file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.__main__ import main
from edge_runtime.contract import ModelContract
from edge_runtime.model.model_file import open_model
from tests.convert.synthetic_run import SIZE_PX, make_contract, write_manifest, write_photos

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """manifest.csv, contract.json (temperature 1) and photos beside them."""
    from edge_runtime.contract import Calibration

    folder = tmp_path_factory.mktemp("foreign")
    write_manifest(folder, write_photos(folder, 280))
    (folder / "contract.json").write_text(make_contract(calibration=Calibration("none", 1.0)).to_json())
    return folder


def _convert(model: Path, photos: Path, out: Path, recipe: str, *options: str) -> int:
    given = [
        "--contract",
        str(photos / "contract.json"),
        "--manifest",
        str(photos / "manifest.csv"),
        *options,
    ]
    return main([str(model), *given, "--recipe", recipe, "--out", str(out)])


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


@pytest.mark.parametrize(("head", "suffix", "recipe"), [
    ("linear", ".keras", "float16"), ("softmax", ".h5", "int8_ptq"), ("layer", ".keras", "float32"),
    ("operators", ".keras", "int8_ptq"),
])  # fmt: skip
def test_a_keras_file_is_converted_whatever_its_head(
    head: str, suffix: str, recipe: str, photos: Path, tmp_path: Path
) -> None:
    import tf_keras

    from convert.export.gate import run_file

    model = _network(tf_keras, HEADS[head])
    path, out = tmp_path / f"model{suffix}", tmp_path / "m.tflite"
    # Somebody else's file of that name, which is no answer of this model's training.
    (tmp_path / "predictions_val.csv").write_text("photo_id,p_ash\nelsewhere,1\n")
    with pytest.warns(UserWarning) if suffix == ".h5" else _nothing():
        model.save(path)
    assert _convert(path, photos, out, recipe) == 0
    image = np.random.default_rng(0).integers(0, 256, (1, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    expected = model.predict((image.astype(np.float32) - 128) / 128, verbose=0)[0]
    if head == "linear":
        expected = np.exp(expected) / np.exp(expected).sum()
    if recipe != "int8_ptq":
        assert run_file(out, image)[0] == pytest.approx(expected, abs=2e-3)
    assert open_model(out).contract.provenance.recipe == recipe
    repeated = json.loads(out.with_suffix(".json").read_text())["training_repeated"]
    assert repeated["photos"] == 0 and "a model of its own" in repeated["note"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "m.json", "m.tflite", path.name, "predictions_val.csv",
    ]  # fmt: skip


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize(("head", "recipe"), [("linear", "int8_ptq"), ("softmax", "dynamic_int8")])
def test_a_saved_model_is_converted(head: str, recipe: str, photos: Path, tmp_path: Path) -> None:
    import tensorflow as tf
    import tf_keras

    tf.saved_model.save(_network(tf_keras, HEADS[head]), str(tmp_path / "saved"))
    out = tmp_path / "m.tflite"
    assert _convert(tmp_path / "saved", photos, out, recipe) == 0
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["check"]["agreement"] >= 0.88
    assert len(report["run"]["model_keras_sha256"]) == 64
    assert (
        open_model(out).contract.labels
        == ModelContract.from_json((photos / "contract.json").read_text()).labels
    )


# ------------------------------------------------------------------- refused


def _refused(model: Path, photos: Path, tmp_path: Path, capsys: Any, recipe: str = "float32") -> str:
    out = tmp_path / "out"
    out.mkdir()
    assert _convert(model, photos, out / "m.tflite", recipe) == 2
    assert list(out.iterdir()) == []
    said: str = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("error: ")
    return said


def test_a_saved_model_cannot_be_fine_tuned(photos: Path, tmp_path: Path, capsys: Any) -> None:
    import tensorflow as tf
    import tf_keras

    tf.saved_model.save(_network(tf_keras, HEADS["linear"]), str(tmp_path / "saved"))
    assert "cannot be fine-tuned" in _refused(tmp_path / "saved", photos, tmp_path, capsys, "int8_qat")


def test_a_saved_model_of_a_fixed_batch_is_refused(photos: Path, tmp_path: Path, capsys: Any) -> None:
    import tensorflow as tf

    class Four(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((4, SIZE_PX, SIZE_PX, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return {"scores": tf.reduce_mean(x, axis=(1, 2))}

    module = Four()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.__call__)
    assert "batch free or 1" in _refused(tmp_path / "saved", photos, tmp_path, capsys)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "string"])
def test_a_saved_model_of_other_answers_is_refused(
    dtype: str, photos: Path, tmp_path: Path, capsys: Any
) -> None:
    import tensorflow as tf

    class Other(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((None, SIZE_PX, SIZE_PX, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            scores = tf.reduce_mean(x, axis=(1, 2))
            return {"scores": tf.as_string(scores) if dtype == "string" else tf.cast(scores, dtype)}

    module = Other()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.__call__)
    said = _refused(tmp_path / "saved", photos, tmp_path, capsys)
    assert f"outputs [('{dtype}'" in said and "one float32 [batch, 3]" in said


def test_a_saved_model_whose_variables_are_cut_off_is_refused(
    photos: Path, tmp_path: Path, capsys: Any
) -> None:
    import tensorflow as tf
    import tf_keras

    tf.saved_model.save(_network(tf_keras, HEADS["linear"]), str(tmp_path / "saved"))
    (variables,) = (tmp_path / "saved" / "variables").glob("*.data-*")
    variables.write_bytes(variables.read_bytes()[:100])
    assert "not a SavedModel that can be called" in _refused(tmp_path / "saved", photos, tmp_path, capsys)


def test_a_tflite_of_a_free_batch_is_shown_and_refused(photos: Path, tmp_path: Path, capsys: Any) -> None:
    """`python -m convert.tflite.inspect` says what is free; `convert.comparison.compare`, as a device does, does not take it."""  # noqa: E501
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
    assert "they want [1, height, width, 3]" in shown
    out = tmp_path / "out"
    arguments = [str(free), str(free), "--data", str(photos / "manifest.csv"), "--out", str(out)]
    assert compare.main(arguments) == 3
    said = capsys.readouterr().err
    assert f"input shape [-1, {SIZE_PX}, {SIZE_PX}, 3]" in said
    assert not out.exists()


def test_a_saved_model_of_a_free_batch_gets_a_batch_of_one(photos: Path, tmp_path: Path) -> None:
    import tensorflow as tf
    import tf_keras

    from convert.tflite.reader import read_tflite

    tf.saved_model.save(_network(tf_keras, HEADS["linear"]), str(tmp_path / "saved"))
    out = tmp_path / "m.tflite"
    assert _convert(tmp_path / "saved", photos, out, "float32") == 0
    file = read_tflite(out)
    assert [list(file.tensors[i].signature) for i in (*file.inputs, *file.outputs)] == [
        [1, SIZE_PX, SIZE_PX, 3], [1, 3],
    ]  # fmt: skip


def test_a_keras_3_file_is_refused_by_name(photos: Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "three.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.12.0", "date_saved": "2026-01-01"}))
        archive.writestr("config.json", "{}")
    said = _refused(path, photos, tmp_path, capsys)
    assert "Keras 3.12.0" in said and "model.export" in said


def test_a_nested_model_is_refused(photos: Path, tmp_path: Path, capsys: Any) -> None:
    import tf_keras

    inner = _network(tf_keras, lambda layers, x: x)
    outer = tf_keras.Input((SIZE_PX, SIZE_PX, 3))
    tf_keras.Model(outer, tf_keras.layers.Dense(3)(inner(outer))).save(tmp_path / "nested.keras")
    said = _refused(tmp_path / "nested.keras", photos, tmp_path, capsys)
    assert "nested model" in said and "model.export(FOLDER)" in said and "train again" not in said


def test_a_hidden_layer_with_the_name_of_our_head_is_refused(
    photos: Path, tmp_path: Path, capsys: Any
) -> None:
    import tf_keras

    model = _network(tf_keras, lambda layers, x: layers.Dense(3)(layers.Dense(4, name="logits")(x)))
    model.save(tmp_path / "m.keras")
    assert 'The name "logits" is used 2 times' in _refused(tmp_path / "m.keras", photos, tmp_path, capsys)


def test_a_network_of_operators_cannot_be_fine_tuned(photos: Path, tmp_path: Path, capsys: Any) -> None:
    import tf_keras

    _network(tf_keras, HEADS["operators"]).save(tmp_path / "m.keras")
    said = _refused(tmp_path / "m.keras", photos, tmp_path, capsys, "int8_qat")
    assert "operators that are no layers: " in said and "recipe int8_ptq" in said
    assert "calibration photos" not in said


@pytest.mark.parametrize("entry", ["metadata.json", "config.json", "model.weights.h5"])
def test_a_damaged_keras_file_is_refused(entry: str, photos: Path, tmp_path: Path, capsys: Any) -> None:
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
    assert "BadZipFile: Bad CRC-32 for file" in _refused(path, photos, tmp_path, capsys)


def test_a_subclassed_model_is_refused(photos: Path, tmp_path: Path, capsys: Any) -> None:
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
    assert "not a functional model" in _refused(tmp_path / "own.keras", photos, tmp_path, capsys)


def test_an_operator_that_tflite_does_not_have_is_refused(photos: Path, tmp_path: Path, capsys: Any) -> None:
    import tensorflow as tf

    class Odd(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((None, SIZE_PX, SIZE_PX, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return {"scores": tf.math.special.bessel_i0(tf.reduce_mean(x, axis=(1, 2)))}

    module = Odd()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.__call__)
    said = _refused(tmp_path / "saved", photos, tmp_path, capsys)
    assert "could not convert" in said and "tf.BesselI0: no TFLite operator" in said


@pytest.mark.parametrize(
    ("edit", "recipe", "words"),
    [
        (lambda rows: [row for row in rows if ",train" not in row], "int8_ptq", "no photo that calibrates"),
        (lambda rows: [row for row in rows if ",val" not in row], "float32", "no photo that guards"),
        (
            lambda rows: [row for row in rows if not (row.startswith("cyan") and ",train" in row)],
            "int8_ptq",
            "photos of every class",
        ),
        (
            lambda rows: [row for i, row in enumerate(rows) if ",train" not in row or i > 10],
            "int8_ptq",
            "too few photos",
        ),
    ],
)
def test_calibration_data_that_are_none(
    edit: Callable[[list[str]], list[str]], recipe: str, words: str, photos: Path, tmp_path: Path, capsys: Any
) -> None:
    import tf_keras

    _network(tf_keras, HEADS["linear"]).save(tmp_path / "m.keras")
    head, *rows = (photos / "manifest.csv").read_text().splitlines()
    other = tmp_path / "table"
    other.mkdir()
    (other / "contract.json").write_text((photos / "contract.json").read_text())
    (other / "manifest.csv").write_text("\n".join([head, *edit(rows)]) + "\n")
    out = tmp_path / "out"
    out.mkdir()
    assert _convert(tmp_path / "m.keras", other, out / "m.tflite", recipe, "--data", str(photos)) == 2
    assert words in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_what_a_foreign_model_must_bring(photos: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "m.keras").write_bytes(b"x")
    arguments = [str(tmp_path / "m.keras"), "--recipe", "float32", "--out", str(tmp_path / "m.tflite")]
    assert main(arguments) == 2
    assert "needs --contract" in capsys.readouterr().err
    assert main([*arguments, "--contract", str(photos / "contract.json")]) == 2
    assert "needs --manifest" in capsys.readouterr().err
    assert _convert(tmp_path / "absent.h5", photos, tmp_path / "m.tflite", "float32") == 2
    assert "no such model" in capsys.readouterr().err


def test_a_full_disk_leaves_no_file(photos: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    import errno

    import tf_keras

    _network(tf_keras, HEADS["linear"]).save(tmp_path / "m.keras")
    original = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if ".tflite" in self.name:
            original(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    said = _refused(tmp_path / "m.keras", photos, tmp_path, capsys)
    assert "No space left on device" in said and "nothing was written" in said
