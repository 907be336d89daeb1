"""Keras files that would run code, call other modules or open other files: refused, and nothing of it happens."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_keras
from tf_keras.src.saving.legacy.hdf5_format import h5py

from edge_runtime.errors import ModelHoldsCode
from train.artifacts.keras_file import load_keras, require_no_code

MARK = "CODE_WAS_RUN"
Config = dict[str, Any]


def network(*further: Any) -> Any:
    layers = tf_keras.layers
    return tf_keras.Sequential(
        [layers.Input((8, 8, 3)), layers.Conv2D(2, 3, activation="relu", kernel_regularizer="l2"), *further]
    )


def saved(model: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras calls HDF5 legacy.
        model.save(path)
    return path


def code_layer() -> Any:
    return tf_keras.layers.Lambda(lambda x: (__import__("pathlib").Path("CODE_WAS_RUN").write_text(""), x)[1])


def models_with_code() -> dict[str, Callable[[], Any]]:
    layers = tf_keras.layers
    return {
        "layer": lambda: network(code_layer()),
        "submodel": lambda: network(tf_keras.Sequential([layers.Input((6, 6, 2)), code_layer()])),
        "wrapper": lambda: network(layers.TimeDistributed(code_layer())),
    }


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the current one: where the code would leave its mark."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_refused(path: Path, found: str = "") -> None:
    (path.parent / MARK).unlink(missing_ok=True)
    with pytest.raises(ModelHoldsCode) as caught:
        load_keras(path)
    assert caught.value.code == "model-holds-code" and caught.value.exit_status == 2
    assert caught.value.where == str(path) and found in caught.value.found
    assert not (path.parent / MARK).exists()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("where", ["layer", "submodel", "wrapper"])
def test_code_is_not_run(where: str, suffix: str, inside: Path) -> None:
    assert_refused(saved(models_with_code()[where](), inside / f"model{suffix}"), "Lambda")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_an_ordinary_model_is_itself(suffix: str, inside: Path) -> None:
    layers = tf_keras.layers
    image = layers.Input((8, 8, 3))
    inner = network(layers.BatchNormalization(), layers.ReLU(6.0))
    hidden = tf_keras.activations.relu(inner(image) + 3.0) * 0.5
    model = tf_keras.Model(
        image, layers.Dense(3, "softmax")(layers.Bidirectional(layers.LSTM(2))(hidden[:, 0]))
    )
    model.compile("adam", loss="categorical_crossentropy", metrics=["accuracy"])
    loaded = load_keras(saved(model, inside / f"model{suffix}"))
    photos = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(loaded(photos).numpy(), model(photos).numpy())


def rewritten(path: Path, change: Callable[[Config], None]) -> Path:
    """The same file with another configuration."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config["config"]["layers"][1])
            file.attrs["model_config"] = json.dumps(config)
        return path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config["config"]["layers"][1])
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def set_to(key: str, value: Any) -> Callable[[Config], None]:
    return lambda layer: layer["config"].update({key: value})


def function(module: str, name: str, registered: str | None = None) -> Config:
    return {"module": module, "class_name": "function", "config": name, "registered_name": registered or name}


CHANGES: dict[str, Callable[[Config], None]] = {
    "lambda_activation": set_to("activation", {"class_name": "__lambda__", "config": {"value": ["4wE=", None, None]}}),
    "function_of_os": set_to("activation", function("os", "system")),
    "function_of_keras": set_to("activation", function("keras.utils", "get_file")),
    "function_by_path": set_to("activation", function("builtins", "utils.get_file")),
    "class_of_a_module": lambda layer: layer.update({"module": "tf_keras.src.utils", "class_name": "os.system"}),
    "module_of_a_known_class": lambda layer: layer.update({"module": "subprocess"}),
    "custom_initializer": set_to(
        "kernel_initializer",
        {"module": "os", "class_name": "Zeros", "config": {}, "registered_name": "Custom>Zeros"},
    ),
    "registered": lambda layer: layer.update({"registered_name": "Custom>Conv2D"}),
    "tensorflow_function": lambda layer: layer.update(
        {"class_name": "TFOpLambda", "config": {"name": "x", "function": "io.write_file"}}
    ),
    "tensorflow_python": lambda layer: layer.update(
        {"class_name": "TFOpLambda", "config": {"name": "x", "function": "py_function"}}
    ),
    "method": lambda layer: layer.update({"class_name": "InstanceMethod", "config": {"attr_name": "__class__"}}),
    "vocabulary": lambda layer: layer.update({"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}),
    "nested": set_to("bias_constraint", [{"x": {"class_name": "Lambda", "config": {}}}]),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", CHANGES)
def test_what_a_configuration_may_not_name(name: str, suffix: str, inside: Path) -> None:
    assert_refused(rewritten(saved(network(), inside / f"model{suffix}"), CHANGES[name]))


def test_arrays_in_other_files(inside: Path) -> None:
    path = saved(network(), inside / "model.h5")
    with h5py.File(path, "r+") as file:
        file["model_weights/elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
    assert_refused(path, "elsewhere")
    path = saved(network(), inside / "again.h5")
    with h5py.File(path, "r+") as file:
        file.create_dataset("model_weights/outside", (8,), "u1", external=[("/etc/passwd", 0, 8)])
    assert_refused(path, "outside")


def test_arrays_that_unpack_to_gigabytes(inside: Path) -> None:
    path = saved(network(), inside / "model.h5")
    with h5py.File(path, "r+") as file:
        file.create_dataset("big", (1 << 31,), "u1", chunks=(1 << 20,), compression="gzip")
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ValueError, match="bytes of arrays"):
        require_no_code(path)


def test_a_file_that_is_two_at_once_and_a_folder(inside: Path) -> None:
    path = saved(network(), inside / "model.h5")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
    (inside / "folder.keras").mkdir()
    for name in ("model.h5", "folder.keras"):
        with pytest.raises(ValueError, match="not a|two files"):
            require_no_code(inside / name)
