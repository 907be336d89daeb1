"""Equalizing depthwise kernels: the same function, every channel with the full range of the one scale."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.tf

pytest.importorskip("tensorflow", exc_type=ImportError)
import tf_keras  # noqa: E402 - after the skip

from convert.quantization.equalize import equalized_copy  # noqa: E402

# Float32 products in another order; outputs are of size 1.
SAME_FUNCTION = 1e-4


def network(multiplier: int = 1, *, normalized: bool = True) -> tf_keras.Model:
    rng = np.random.default_rng(0)
    image = tf_keras.Input((8, 8, 3))
    x = tf_keras.layers.DepthwiseConv2D(3, depth_multiplier=multiplier, use_bias=not normalized)(image)
    if normalized:
        x = tf_keras.layers.BatchNormalization()(x)
    x = tf_keras.layers.ReLU(6.0)(x)
    model = tf_keras.Model(image, tf_keras.layers.GlobalAveragePooling2D()(x))
    for layer in model.layers:
        layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    kernel, *rest = model.layers[1].get_weights()
    spread = np.geomspace(0.01, 30, kernel.shape[2]).reshape(1, 1, -1, 1)
    model.layers[1].set_weights([kernel * spread, *rest])
    return model


@pytest.mark.parametrize("multiplier", [1, 2])
def test_the_function_stays_and_every_channel_uses_the_scale(multiplier: int) -> None:
    model = network(multiplier)
    before = [weights.copy() for weights in model.get_weights()]
    copy = equalized_copy(model)
    photos = np.random.default_rng(1).uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)
    expected = model(photos).numpy()
    assert expected.std() > 0.01
    np.testing.assert_allclose(copy(photos).numpy(), expected, atol=SAME_FUNCTION)
    np.testing.assert_allclose(np.abs(copy.layers[1].get_weights()[0]).max(axis=(0, 1)), 1, rtol=1e-6)
    assert np.abs(before[0]).max(axis=(0, 1)).std() > 1
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_dead_channel_stays_dead() -> None:
    model = network()
    kernel, *rest = model.layers[1].get_weights()
    kernel[:, :, 1] = 0
    model.layers[1].set_weights([kernel, *rest])
    copied = equalized_copy(model)
    assert (copied.layers[1].get_weights()[0][:, :, 1] == 0).all()
    assert all(np.isfinite(weights).all() for weights in copied.get_weights())


def test_without_a_normalization_nothing_is_touched() -> None:
    model = network(normalized=False)
    for now, then in zip(equalized_copy(model).get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_normalization_that_others_use_too_is_left_alone() -> None:
    image = tf_keras.Input((8, 8, 3))
    depthwise = tf_keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)
    normalization = tf_keras.layers.BatchNormalization()
    x = tf_keras.layers.Add()([normalization(depthwise(image)), normalization(image)])
    model = tf_keras.Model(image, x)
    photos = np.random.default_rng(1).uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(equalized_copy(model)(photos), model(photos), atol=SAME_FUNCTION)
