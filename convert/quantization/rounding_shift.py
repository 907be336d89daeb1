"""Correct the shift of every channel's mean and spread that rounding the weights causes. TensorFlow.

Rounding a kernel shifts and stretches the outputs of its channel, and the shifts add up over fifty layers. Batch
normalization follows each convolution, so its statistics can absorb both: layer by layer, from the input on, they are
set so that the quantized network's normalized outputs have the mean and the spread that the float network's have.

All layers at once, instead of one after the other, diverges. The idea is bias correction (Nagel et al. 2019, arXiv
1906.04721), here of mean and spread, with photos.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras

from train.evaluation.metrics import FloatArray

# A channel whose estimated spread changes by more was nearly constant on the photos: its spread is no estimate.
SPREAD_LIMITS = (0.8, 1.25)
# Activations of all photos are held at once: 96 photos of 224 px need 0.5 GB for the widest layer.
PHOTOS = 96


def absorb_rounding_shift(model: Any, float_model: Any, images: npt.NDArray[np.float32]) -> None:
    """Set the batch-normalization statistics and gammas of a quantization-aware model, in place.

    tfmot made it of the flat, functional `float_model`, and its ranges are set. Of the images, [n, height_px, width_px,
    3] normalized, the first PHOTOS are used.
    """
    wanted: dict[str, tuple[FloatArray, FloatArray]] = {}

    def remember(normalization: Any, inputs: Any) -> None:
        wanted[normalization.name] = _mean_and_spread(inputs)

    def match(normalization: Any, inputs: Any) -> None:
        mean, spread = _mean_and_spread(inputs)
        float_mean, float_spread = wanted[normalization.name]
        ratio = np.clip(spread / float_spread, *SPREAD_LIMITS)
        gamma, beta, moving_mean, moving_variance = normalization.get_weights()
        # gamma / ratio * (x - shifted) is, for x with this mean and spread, what gamma * (x - moving_mean) was.
        shifted = mean - (float_mean - moving_mean) * ratio
        normalization.set_weights([gamma / ratio, beta, shifted, moving_variance])

    _walk(float_model, images[:PHOTOS], remember)
    _walk(model, images[:PHOTOS], match)


def prepare_for_rounding(
    float_model: Any, images: npt.NDArray[np.float32], kept_float: Sequence[str] = ()
) -> Any:
    """A float copy whose batch normalization absorbs beforehand what rounding its kernels to 8 bits will shift.

    For post-training quantization: the converter then rounds these kernels, on the same grid, since folding batch
    normalization scales a channel's kernel and its step alike. The float model is flat and functional; of the images,
    [n, height_px, width_px, 3] normalized, the first PHOTOS are used. Kernels of the operators that make the output
    tensors `kept_float`, as the converter names them, will not be rounded.
    """
    prepared, rounded = (tf_keras.models.clone_model(float_model) for _ in range(2))
    for copy in (prepared, rounded):
        copy.set_weights(float_model.get_weights())
    for layer in rounded.layers:
        if isinstance(layer, tf_keras.layers.Conv2D | tf_keras.layers.DepthwiseConv2D) and not any(
            # `classifier/expand_relu/Relu6;classifier/expand_BN/FusedBatchNormV3;classifier/expand/Conv2D1`
            f"/{layer.name}/" in name
            for name in kept_float
        ):
            kernel, *rest = layer.get_weights()
            layer.set_weights(
                [_rounded(kernel, depthwise=isinstance(layer, tf_keras.layers.DepthwiseConv2D)), *rest]
            )
    absorb_rounding_shift(rounded, float_model, images)
    for layer in prepared.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.set_weights(rounded.get_layer(layer.name).get_weights())
    return prepared


def _rounded(kernel: npt.NDArray[np.float32], *, depthwise: bool) -> npt.NDArray[np.float32]:
    """To 8 bits, symmetric, one step per output channel, as the converter does; a kernel of zeros stays."""
    largest = np.abs(kernel).max(axis=(0, 1) if depthwise else (0, 1, 2), keepdims=True)
    step = np.where(largest > 0, largest, 1) / 127
    rounded: npt.NDArray[np.float32] = (np.round(kernel / step) * step).astype(np.float32)
    return rounded


def _mean_and_spread(outputs: Any) -> tuple[FloatArray, FloatArray]:
    """Of each channel, over photos and positions: [channels] each."""
    mean, variance = tf.nn.moments(outputs, axes=list(range(len(outputs.shape) - 1)))
    return mean.numpy().astype(np.float64), np.sqrt(variance.numpy().astype(np.float64) + 1e-12)


def _walk(model: Any, images: npt.NDArray[np.float32], visit: Callable[[Any, Any], None]) -> None:
    """Run a functional model node by node; `visit` sees every scaled batch normalization before it runs.

    A node is one use of a layer, with all arguments of that call: operators (`x * 2.0`) have constants among them, and
    a layer that is shared has several nodes. A shared batch normalization is not visited: one set of statistics cannot
    absorb the shifts of two places.
    """
    by_depth = model._nodes_by_depth
    # Each after those that it reads from.
    nodes = [
        node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input
    ]
    uses = Counter(id(x) for node in nodes for x in node.keras_inputs)
    calls = Counter(id(node.layer) for node in nodes)
    values = {str(id(x)): [tf.constant(images)] * uses[id(x)] for x in model.inputs}
    for node in nodes:
        # As Keras itself calls a functional model: every use takes its value away, so the last one frees it.
        args, kwargs = node.map_arguments(values)
        inner = getattr(node.layer, "layer", node.layer)
        is_normalization = isinstance(inner, tf_keras.layers.BatchNormalization)
        if is_normalization and inner.scale and inner.center and calls[id(node.layer)] == 1:
            visit(inner, args[0] if args else kwargs["inputs"])
        outputs = node.layer(*args, **{**kwargs, "training": False})
        for x, value in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(outputs), strict=True):
            values[str(id(x))] = [value] * uses[id(x)]
