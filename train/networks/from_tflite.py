"""A converted `.tflite` as the start of a training: `model.start` of a config. TensorFlow.

A file that was shipped before is closer to its subject than ImageNet's weights, and stays when run folders are gone.
Conversion has folded each batch norm into the convolution before it. Here the kernels are dequantized, and each batch
norm is given the statistics that its convolution has on views as training shows them, with the scale and offset under
which it does nothing but add the folded bias. So the network predicts as the file does but for the rounding of
activations, and continues training with batch statistics as if it had never been converted.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras

from edge_runtime.errors import ConfigInvalid

FloatArray = npt.NDArray[np.float32]
OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
STATISTICS_BATCH = 32


@dataclass(frozen=True)
class Folded:
    """A layer of the file, dequantized."""

    kernel: FloatArray
    """As TFLite orders it: [out, height, width, in], [1, height, width, channels] if depthwise, [out, in] if dense."""
    bias: FloatArray
    """[out]."""


def start_from_tflite(model: Any, path: Path, pixels: FloatArray) -> None:
    """Set every weight of a network from a converted file of the same network.

    Args:
        model: As `build_model` makes it: convolutions, each with a batch norm behind it, then one dense layer.
        path: A `.tflite` that `convert` wrote, of any recipe that keeps convolutions as such.
        pixels: [n, size_px, size_px, 3] normalized views, some hundreds: what the batch norms' statistics are taken
            from, so disturbed and of the size as in the training that made the file.

    Raises:
        ConfigInvalid: Not readable, or of another network or number of labels; the first difference is named.
    """
    folded = read_folded(path)
    kinds = (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D, tf_keras.layers.Dense)
    layers = [layer for layer in model.layers if isinstance(layer, kinds)]
    found = [layer.kernel.shape for layer in folded]
    # TFLite's first axis of a kernel is Keras' last one.
    expected = [np.moveaxis(layer.get_weights()[0], -1, 0).shape for layer in layers]
    if found != expected:
        there, wanted = f"{path}: {len(found)} layers with kernels", f"{len(expected)}"
        if differing := [i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b]:
            place = differing[0]
            there += f", the one at {place} of shape {found[place]}"
            wanted += f", that one of shape {expected[place]}"
        problem = f"model.start does not fit {model.name}"
        fix = "name a file of this config's network and labels, or leave model.start out"
        raise ConfigInvalid(problem, found=there, expected=wanted, fix=fix)
    norms = []
    for layer, given in zip(layers, folded, strict=True):
        kernel = np.moveaxis(given.kernel, 0, -1)
        if layer is layers[-1]:
            layer.set_weights([kernel, given.bias])
            continue
        layer.set_weights([kernel])
        norm = layer.outbound_nodes[0].layer
        norm.set_weights(_unfolded(given.bias, np.zeros_like(given.bias), 1 - norm.epsilon, norm.epsilon))
        norms.append((layer, norm, given.bias))
    means, variances = _statistics(model, [layer for layer, _, _ in norms], pixels)
    for (_, norm, bias), mean, variance in zip(norms, means, variances, strict=True):
        norm.set_weights(_unfolded(bias, mean, variance, norm.epsilon))


def read_folded(path: Path) -> list[Folded]:
    """The layers with kernels, in the order in which the file runs them.

    Raises:
        ConfigInvalid: No such file, or none that TensorFlow Lite reads.
    """
    try:
        with warnings.catch_warnings():
            # Its successor is no dependency of this package, and constants are all that is read here.
            warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
            interpreter = tf.lite.Interpreter(model_content=path.read_bytes())
    except (OSError, ValueError, RuntimeError) as error:
        text, expected = f"{path}: {str(error).splitlines()[0]}", "a .tflite that convert wrote"
        raise ConfigInvalid("model.start cannot be read", found=text, expected=expected) from error
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    found = []
    # The only list of a file's operators that TensorFlow gives.
    for operator in interpreter._get_ops_details():
        if operator["op_name"] not in OPERATORS:
            continue
        inputs = [tensors[i] for i in operator["inputs"][1:] if i in tensors]
        kernel, *bias = [_dequantized(interpreter, tensor) for tensor in inputs]
        channels = kernel.shape[-1 if operator["op_name"] == "DEPTHWISE_CONV_2D" else 0]
        # The converter leaves a bias out that is zero.
        found.append(Folded(kernel, bias[0] if bias else np.zeros(channels, np.float32)))
    return found


def _dequantized(interpreter: Any, tensor: dict[str, Any]) -> FloatArray:
    values = np.asarray(interpreter.get_tensor(tensor["index"]), np.float32)
    quantization = tensor["quantization_parameters"]
    scales = np.asarray(quantization["scales"], np.float32)
    if not len(scales):
        return values
    shape = [1] * values.ndim
    shape[quantization["quantized_dimension"] if len(scales) > 1 else 0] = len(scales)
    # Kernels and biases are quantized symmetrically: their zero points are 0.
    return values * scales.reshape(shape)


def _unfolded(
    bias: FloatArray, mean: FloatArray, variance: FloatArray | float, epsilon: float
) -> list[FloatArray]:
    """Scale, offset, mean and variance of a batch norm that adds the bias to what has this mean and variance."""
    variances = np.broadcast_to(np.asarray(variance, np.float32), bias.shape)
    return [np.sqrt(variances + epsilon), bias + mean, mean, variances]


def _statistics(
    model: Any, layers: Sequence[Any], pixels: FloatArray
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Mean and variance of every channel of each layer's output over photos and places."""
    outputs = tf_keras.Model(model.input, [layer.output for layer in layers])

    @tf.function(reduce_retracing=True)
    def moments(batch: tf.Tensor) -> list[tf.Tensor]:
        both = [(out, tf.square(out)) for out in outputs(batch, training=False)]
        return [tf.stack([tf.reduce_mean(x, [0, 1, 2]) for x in pair]) for pair in both]

    sums: list[Any] = [0.0] * len(layers)
    for start in range(0, len(pixels), STATISTICS_BATCH):
        batch = pixels[start : start + STATISTICS_BATCH]
        for i, pair in enumerate(moments(tf.constant(batch))):
            sums[i] = sums[i] + pair.numpy().astype(np.float64) * len(batch)
    means = [(mean / len(pixels)).astype(np.float32) for mean, _ in sums]
    squares = [square / len(pixels) - means[i].astype(np.float64) ** 2 for i, (_, square) in enumerate(sums)]
    return means, [np.maximum(square, 0).astype(np.float32) for square in squares]
