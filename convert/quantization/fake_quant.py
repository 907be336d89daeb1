"""A float model with simulated rounding: wrapped, ranges set, shifts absorbed, nothing trained. TensorFlow, tfmot.

tfmot's 8-bit scheme wraps every layer; weights per channel, but those of depthwise layers and activations per tensor.
Depthwise kernels are therefore equalized first (equalize.py), and batch normalization absorbs what rounding still
shifts (rounding_shift.py). Activation ranges are set on the calibration photos: tfmot starts them at -6..6 and moves
them by a thousandth a step, so after the few hundred steps of a fine-tuning two thirds of that guess would be left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

from convert.quantization.equalize import equalized_copy
from convert.quantization.rounding_shift import PHOTOS, absorb_rounding_shift
from edge_runtime.contract import ModelContract
from edge_runtime.errors import ConversionRefused
from train.data.pixels import PixelArray, normalize

# Passes until every layer has inputs from its predecessors' final ranges. The last pass decides and takes all
# calibration photos; those before it only bring the ranges near, for which every fourth photo is enough.
FIRST_PASSES = 3
FEWER_STEP = 4
RANGE_BATCHES = 8
# Of the activations' moving-average ranges; those of weights follow the weights at every step.
RANGE_ENDS = ("output_min:0", "output_max:0", "activation_min:0", "activation_max:0")
TRAINED_WEIGHTS = ("kernel:0", "bias:0", "gamma:0", "beta:0")


def quantize(float_model: Any, contract: ModelContract, calibration_u8: PixelArray) -> Any:
    """Wrap a copy of a flat, functional float model that ends in logits for quantization-aware training.

    The contract's normalization fixes the input's range, the pixels [n, height_px, width_px, 3] the activations'.

    Raises:
        ConversionRefused: tfmot cannot quantize a layer.
    """
    # tfmot names its input layer by a counter, which would end in the file's tensor names.
    tf_keras.backend.reset_uids()
    equalized = equalized_copy(float_model)
    try:
        model = tfmot.quantization.keras.quantize_model(equalized)
    # tfmot rebuilds the network and calls unknown layers in its own ways: any of these may be raised.
    except (ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise ConversionRefused(
            "quantization-aware training does not support this model",
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            fix="use recipe int8_ptq, or layers that tensorflow-model-optimization knows",
        ) from error
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if isinstance(inner, tf_keras.layers.BatchNormalization):
            inner.trainable = False  # Keras: it then uses its moving statistics and leaves them alone
        elif isinstance(inner, tf_keras.layers.Dropout):
            inner.rate = 0.0  # The distillation target drops nothing
    _set_input_range(model, contract)
    fewer = calibration_u8[::FEWER_STEP]
    _set_activation_ranges(model, [fewer] * FIRST_PASSES, contract)
    absorb_rounding_shift(model, equalized, normalize(_spread_out(calibration_u8), contract.normalization))
    _set_activation_ranges(model, [fewer, calibration_u8], contract)
    return model


def require_wrappable(model: Any) -> None:
    """Refuse a flat, functional network with operators that are no layers, which tfmot cannot wrap.

    Raises:
        ConversionRefused: Python operators or TensorFlow functions were called on its tensors (`x * 2.0`).
    """
    operators = [layer.name for layer in model.layers if type(layer).__name__.endswith("OpLambda")]
    if operators:
        raise ConversionRefused(
            "quantization-aware training does not support this model",
            found=f"{len(operators)} operators that are no layers: {', '.join(operators[:3])}",
            expected="a network of layers only",
            fix="use recipe int8_ptq",
        )


def _spread_out(pixels_u8: PixelArray) -> PixelArray:
    """PHOTOS of the photos, evenly spread. The bundled model was made with this choice."""
    chosen = np.unique(np.linspace(0, len(pixels_u8) - 1, PHOTOS).round().astype(int))
    return np.asarray(pixels_u8[chosen])


def trained_variables(model: Any) -> list[Any]:
    """Kernels, biases, and batch normalization's scale and offset, each once, in the model's order."""
    unique = {id(w): w for layer in model.layers for w in layer.weights}
    return [w for w in unique.values() if w.name.split("/")[-1].endswith(TRAINED_WEIGHTS)]


def _set_input_range(model: Any, contract: ModelContract) -> None:
    """Pixels 0 to 255: their 256 values are the tensor's 256 steps."""
    normalization = contract.normalization
    for variable in model.layers[1].weights:
        for ending, pixel in (("_min:0", 0), ("_max:0", 255)):
            if variable.name.endswith(ending):
                variable.assign((pixel - normalization.mean) / normalization.std)


def _set_activation_ranges(model: Any, passes: Sequence[PixelArray], contract: ModelContract) -> None:
    """Run the photos of each pass and replace each range by the mean of its batches' ends.

    tfmot's averages start at a constant s and after n batches hold d**n * s + (1 - d**n) * mean, d = 0.999; the mean is
    solved from that.
    """
    decayed = 0.999**RANGE_BATCHES
    variables = [v for v in model.non_trainable_variables if v.name.endswith(RANGE_ENDS)]
    forward = tf.function(lambda x: model(x, training=True), reduce_retracing=True)
    for photos in passes:
        batches = np.array_split(photos, min(RANGE_BATCHES, len(photos)))
        start = [variable.numpy() for variable in variables]
        for i in range(RANGE_BATCHES):
            forward(tf.constant(normalize(batches[i % len(batches)], contract.normalization)))
        for variable, before in zip(variables, start, strict=True):
            variable.assign((variable.numpy() - decayed * before) / (1 - decayed))
