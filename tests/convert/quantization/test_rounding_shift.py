"""What rounding shifts is absorbed by batch normalization, layer by layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytestmark = pytest.mark.tf

pytest.importorskip("tensorflow", exc_type=ImportError)
import tensorflow as tf  # noqa: E402 - after the skip
import tf_keras  # noqa: E402

from convert.quantization.rounding_shift import _walk, absorb_rounding_shift, prepare_for_rounding  # noqa: E402

# Coarse enough that rounding shifts channels visibly: 3 bits.
STEPS = 3
# The absorbed network must be at least this much nearer to the float one.
NEARER = 0.6
# What 8-bit kernels may move an output, relative to the largest.
EIGHT_BITS = 0.02


def network() -> tf_keras.Model:
    rng = np.random.default_rng(0)
    image = tf_keras.Input((12, 12, 3))
    x = image
    for width in (8, 12, 16):
        branch = tf_keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        branch = tf_keras.layers.BatchNormalization()(branch)
        x = tf_keras.layers.ReLU(6.0)(branch)
    y = tf_keras.layers.BatchNormalization()(tf_keras.layers.Conv2D(16, 1, use_bias=False)(x))
    x = tf_keras.layers.Add()([x, y])
    model = tf_keras.Model(image, tf_keras.layers.GlobalAveragePooling2D()(x))
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.Conv2D):
            (kernel,) = layer.get_weights()
            layer.set_weights([rng.normal(size=kernel.shape, scale=0.4)])
        elif isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.set_weights(
                [
                    rng.uniform(low, high, w.shape)
                    for w, (low, high) in zip(
                        layer.get_weights(), [(0.5, 1.5), (0, 1), (-0.3, 0.3), (0.5, 1.5)], strict=True
                    )
                ]
            )
    return model  # fmt: skip


def rounded(model: tf_keras.Model) -> tf_keras.Model:
    copy = tf_keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for layer in copy.layers:
        if isinstance(layer, tf_keras.layers.Conv2D):
            (kernel,) = layer.get_weights()
            step = np.abs(kernel).max(axis=(0, 1, 2)) / STEPS
            layer.set_weights([np.round(kernel / step) * step])
    return copy


def images(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (48, 12, 12, 3)).astype(np.float32) + 0.3


def test_the_rounded_network_comes_nearer_on_other_photos() -> None:
    model = network()
    coarse = rounded(model)
    expected = model(images(2)).numpy()
    before = np.abs(coarse(images(2)).numpy() - expected).mean()
    absorb_rounding_shift(coarse, model, images(1))
    after = np.abs(coarse(images(2)).numpy() - expected).mean()
    assert before > 0.01
    assert after < NEARER * before


def test_an_unrounded_network_stays_as_it_is() -> None:
    model = network()
    same = tf_keras.models.clone_model(model)
    same.set_weights(model.get_weights())
    absorb_rounding_shift(same, model, images(1))
    np.testing.assert_allclose(same(images(2)).numpy(), model(images(2)).numpy(), atol=1e-4)


def test_the_float_network_and_the_kernels_are_not_touched() -> None:
    model = network()
    coarse = rounded(model)
    weights, kernels = model.get_weights(), coarse.layers[1].get_weights()
    absorb_rounding_shift(coarse, model, images(1))
    for now, then in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)
    np.testing.assert_array_equal(coarse.layers[1].get_weights()[0], kernels[0])


def test_preparing_for_8_bits_changes_statistics_only_and_little() -> None:
    model = network()
    prepared = prepare_for_rounding(model, images(1))
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.Conv2D):
            np.testing.assert_array_equal(
                layer.get_weights()[0], prepared.get_layer(layer.name).get_weights()[0]
            )
    expected = model(images(2)).numpy()
    difference = np.abs(prepared(images(2)).numpy() - expected).max() / np.abs(expected).max()
    assert 0 < difference < EIGHT_BITS


def test_a_layer_that_stays_float_is_not_prepared() -> None:
    model = network()
    convolutions = [layer.name for layer in model.layers if isinstance(layer, tf_keras.layers.Conv2D)]
    kept = [f"classifier/relu/Relu6;classifier/{name}/Conv2D1" for name in convolutions]
    prepared = prepare_for_rounding(model, images(1), kept)
    # Equal but for the last bits of the statistics, which are measured again.
    np.testing.assert_allclose(prepared(images(2)).numpy(), model(images(2)).numpy(), rtol=1e-4, atol=1e-5)
    one_kept = prepare_for_rounding(model, images(1), kept[:1])(images(2)).numpy()
    assert np.abs(one_kept - prepare_for_rounding(model, images(1))(images(2)).numpy()).max() > 1e-4


def test_a_kernel_of_zeros_is_no_division_by_zero() -> None:
    model = network()
    kernel = model.layers[1].get_weights()[0]
    kernel[..., 2] = 0
    model.layers[1].set_weights([kernel])
    assert np.isfinite(prepare_for_rounding(model, images(1))(images(2)).numpy()).all()


def operators(x: tf_keras.KerasTensor, layers: tf_keras.layers) -> tf_keras.KerasTensor:
    """As tf_keras's MobileNetV3 writes its activations: constants on both sides, a slice, a keyword."""
    x = layers.BatchNormalization()(inputs=layers.Conv2D(8, 3, use_bias=False)(x))
    x = x * layers.ReLU(6.0)(3.0 + x) * (1.0 / 6.0)
    return tf.concat([x[:, 1:], x[:, :1]], axis=1)


def shared(x: tf_keras.KerasTensor, layers: tf_keras.layers) -> tf_keras.KerasTensor:
    """One convolution twice, one normalization twice, and one of its own behind them."""
    convolution, normalization = layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization()
    x = normalization(convolution(normalization(convolution(x))))
    return layers.BatchNormalization(name="own")(layers.Conv2D(8, 1, use_bias=False)(x))


@pytest.mark.parametrize("body", [operators, shared])
def test_operators_and_shared_layers_are_replayed(body: Callable[..., tf_keras.KerasTensor]) -> None:
    tf_keras.utils.set_random_seed(0)
    image = tf_keras.Input((12, 12, 3))
    x = tf_keras.layers.GlobalAveragePooling2D()(body(image, tf_keras.layers))
    model = tf_keras.Model(image, tf_keras.layers.Dense(3)(x))
    seen: dict[str, np.ndarray] = {}
    _walk(model, images(1), lambda layer, inputs: seen.update({layer.name: inputs.numpy()}))
    (name,) = seen
    reference = tf_keras.Model(image, model.get_layer(name).input)(images(1), training=False)
    np.testing.assert_allclose(seen[name], reference, atol=1e-5)
    expected = model(images(2)).numpy()
    difference = np.abs(prepare_for_rounding(model, images(1))(images(2)).numpy() - expected).max()
    assert 0 < difference < EIGHT_BITS * np.abs(expected).max()
