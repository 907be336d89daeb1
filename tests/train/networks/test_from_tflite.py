"""A converted file as the start of a training: the same answers, batch norms that go on learning, others refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import ConfigInvalid, DataInvalid, SplitLeaks
from train.configs.loading import find_path
from train.configs.schema import ModelConfig

pytestmark = pytest.mark.tf

SIZE_PX, CLASSES = 32, 3
# Sums of float32 in another order.
SAME_LOGIT = 1e-4
# An int8 kernel is at most half a step of 1/127 of its largest weight off; what three layers make of that.
QUANTIZED_LOGIT = 0.05
# A batch norm's batch has the statistics that it was given, but for the average of the two halves of the photos.
SAME_IN_TRAINING = 0.1


def small_network(filters: int = 8) -> Any:
    """The layers of the backbones, one of each, with batch norms that do something."""
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(3)
    x = pixels = layers.Input((SIZE_PX, SIZE_PX, 3))
    for i, convolution in enumerate(
        (
            layers.Conv2D(filters, 3, 2, use_bias=False),
            layers.DepthwiseConv2D(3, use_bias=False),
            layers.Conv2D(2 * filters, 1, use_bias=False),
        )
    ):
        x = layers.ReLU(6.0)(layers.BatchNormalization(epsilon=1e-3, name=f"norm{i}")(convolution(x)))
    x = layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(pixels, layers.Dense(CLASSES, name="logits")(x))


def trained_network() -> Any:
    model, rng = small_network(), np.random.default_rng(5)
    for layer in model.layers:
        if layer.name.startswith("norm"):
            gamma, beta, mean, variance = layer.get_weights()
            draw = rng.uniform(0.5, 1.5, (4, len(gamma))).astype(np.float32)
            layer.set_weights([gamma * draw[0], beta + draw[1] - 1, mean + draw[2] - 1, variance * draw[3]])
    return model


def converted(model: Any, path: Path, *, int8_kernels: bool = False) -> Path:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if int8_kernels:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([photo[None]] for photo in photos(20))
    path.write_bytes(converter.convert())
    return path


def photos(count: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (count, SIZE_PX, SIZE_PX, 3)).astype(np.float32)


@pytest.mark.parametrize(("int8_kernels", "tolerance"), [(False, SAME_LOGIT), (True, QUANTIZED_LOGIT)])
def test_it_answers_as_the_file_and_can_go_on_learning(
    int8_kernels: bool, tolerance: float, tmp_path: Path
) -> None:
    from train.networks.from_tflite import start_from_tflite

    trained, started = trained_network(), small_network()
    path = converted(trained, tmp_path / "model.tflite", int8_kernels=int8_kernels)
    shown = photos(48)
    assert np.abs(trained(shown) - started(shown)).max() > 10 * QUANTIZED_LOGIT
    start_from_tflite(started, path, shown)
    np.testing.assert_allclose(started(shown), trained(shown), atol=tolerance)
    np.testing.assert_allclose(started(shown, training=True), trained(shown), atol=SAME_IN_TRAINING)


def test_another_network_is_refused_by_its_first_difference(tmp_path: Path) -> None:
    from train.networks.from_tflite import start_from_tflite

    path = converted(trained_network(), tmp_path / "model.tflite")
    with pytest.raises(ConfigInvalid, match=r"the one at 0 of shape \(8, 3, 3, 3\)"):
        start_from_tflite(small_network(filters=4), path, photos(2))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    from train.networks.from_tflite import read_folded

    (tmp_path / "model.tflite").write_bytes(b"TFL3 is not here")
    with pytest.raises(ConfigInvalid, match=r"model\.start"):
        read_folded(tmp_path / "model.tflite")
    with pytest.raises(ConfigInvalid, match=r"model\.start"):
        find_path(str(tmp_path / "absent.tflite"), "model.start", "a .tflite")


def test_a_file_trained_on_what_is_held_out_is_refused(tmp_path: Path) -> None:
    from train.training import run as experiment

    (tmp_path / "model.tflite").write_bytes(b"never read")
    manifest = tmp_path / "manifest.csv"
    given = ModelConfig(
        alpha=0.35,
        weights="none",
        start=str(tmp_path / "model.tflite"),
        start_trained_on=str(tmp_path),
    )
    assignment = {"a": "train", "b": "test"}
    inputs: Any = SimpleNamespace(
        config=SimpleNamespace(model=given), codes=("x", "y"), data=SimpleNamespace(assignment=assignment)
    )
    manifest.write_text("photo_id,split\na,train\nb,train\n", encoding="utf-8")
    with pytest.raises(SplitLeaks, match=r"model\.tflite"):
        experiment.first_model(inputs, tmp_path)
    manifest.unlink()
    with pytest.raises(DataInvalid, match=r"split\.csv\.gz"):
        experiment.first_model(inputs, tmp_path)
