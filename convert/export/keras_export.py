"""Keras model to .tflite bytes: temperature folded, softmax added, batch fixed to 1, tensors verified. TensorFlow.

The Keras model is flat and functional: [n, height_px, width_px, 3] float32 normalized pixels -> [n, labels] logits of
a Dense named `logits`. The file takes the contract's pixels: uint8 as they are, or float32 normalized.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras
from tensorflow.lite.python.convert import mlir_quantize
from tensorflow.lite.python.convert_phase import ConverterError
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from convert.export.any_model import refuse_keras_3
from convert.recipes import Recipe
from edge_runtime.contract import ModelContract
from edge_runtime.errors import ConversionRefused, RunInvalid
from train.artifacts.bounded import DAMAGED_ZIP
from train.artifacts.keras_file import load_keras
from train.data.pixels import PixelArray, normalize

LOGITS_LAYER = "logits"
INPUT_NAME = "image"
SAVED_MODEL_INSTEAD = (
    "export it with model.export(FOLDER), without its preprocessing layers, and convert that SavedModel, whose graph "
    "may have any form"
)
# Layers that tfmot cannot quantize or that would do the contract's work a second time.
REFUSED_LAYERS = ("Rescaling", "Normalization", "Resizing", "CenterCrop", "Lambda")


def load_float_model(path: Path, contract: ModelContract, *, any_head: bool = False) -> Any:
    """Load a Keras model with the input size fixed and the contract's temperature folded in.

    With `any_head` the last layer may have another name, and a softmax, which is then taken off.

    Returns:
        A flat functional tf_keras model whose softmax is the calibrated probability.

    Raises:
        ModelHoldsCode: It holds code.
        RunInvalid: Not loadable, nested, with a preprocessing layer, or of other shapes than the contract's.
    """
    refuse_keras_3(path)
    try:
        model = load_keras(path)
        if any_head:
            # Here, because a hidden layer that has the head's name already is a ValueError of Keras.
            model = _with_logits(model)
    except (OSError, ValueError, TypeError, LookupError, ImportError, AttributeError, *DAMAGED_ZIP) as error:
        raise RunInvalid(
            f"{path}: cannot load the tf_keras model",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            expected="a flat functional model saved by tf_keras (Keras 3 files differ)",
            fix="copy the file again, or save it again" if any_head else "train again",
        ) from error
    _require_flat(model, path, contract, foreign=any_head)
    model = _fix_input_size(model, contract)
    fold_temperature(model, contract.calibration.temperature)
    return model


def _with_logits(model: Any) -> Any:
    """The network up to the dense layer before its softmax, that layer named LOGITS_LAYER; else the model itself."""
    if not getattr(model, "_is_graph_network", False) or len(model.outputs) != 1:
        return model
    last, layers = _maker(model.outputs[0]), tf_keras.layers
    is_softmax = isinstance(last.layer, layers.Softmax) or (
        isinstance(last.layer, layers.Activation) and last.layer.activation is tf_keras.activations.softmax
    )
    found = _dense(_maker(last.input_tensors) if is_softmax else last)
    if found is None:
        return model
    inputs, kernel, bias = found
    head = layers.Dense(kernel.shape[1], name=LOGITS_LAYER)
    with_head = tf_keras.Model(model.input, head(inputs), name=model.name)
    head.set_weights([kernel, bias])
    return with_head


def _dense(node: Any) -> tuple[Any, npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
    """Input, kernel [features, units] and bias of a dense layer; None for any other.

    The heads of MobileNetV3 are 1 x 1 convolutions of a single pixel, flattened: dense layers under another name.
    """
    layers, activations = tf_keras.layers, tf_keras.activations
    layer, inputs = node.layer, node.input_tensors
    if isinstance(layer, layers.Flatten):
        # Its name is free again: the layer is dropped with the convolution.
        name, node = layer.name, _maker(inputs)
        layer, inputs = node.layer, node.input_tensors
        if type(layer) is not layers.Conv2D or layer.groups != 1 or tuple(inputs.shape[1:3]) != (1, 1):
            return None
        if layer.kernel_size != (1, 1) or layer.activation is not activations.linear:
            return None
        inputs = layers.Flatten(name=name)(inputs)
    elif not isinstance(layer, layers.Dense) or layer.activation not in (
        activations.linear,
        activations.softmax,
    ):
        return None
    kernel, *rest = layer.get_weights()
    units = kernel.shape[-1]
    # A bias of zeros where there was none: the temperature of an int8 file is folded into it.
    return inputs, kernel.reshape(-1, units), rest[0] if rest else np.zeros(units, np.float32)


def _maker(tensor: Any) -> Any:
    """The node that made a tensor: its layer and that call's inputs. A shared layer has several nodes."""
    history = tensor._keras_history
    return history.layer.inbound_nodes[history.node_index]


def _require_flat(model: Any, path: Path, contract: ModelContract, *, foreign: bool) -> None:
    problems = []
    if not isinstance(model, tf_keras.Model) or not getattr(model, "_is_graph_network", False):
        problems.append(f"a {type(model).__name__}, not a functional model")
    layers = getattr(model, "layers", [])
    problems += [f"nested model {x.name}" for x in layers if isinstance(x, tf_keras.Model)]
    problems += [f"layer {x.name} ({type(x).__name__})" for x in layers if type(x).__name__ in REFUSED_LAYERS]
    if not problems:
        last = layers[-1]
        if not (isinstance(last, tf_keras.layers.Dense) and last.name == LOGITS_LAYER):
            problems.append(f"last layer {last.name} ({type(last).__name__})")
        elif last.activation is not tf_keras.activations.linear:
            problems.append(f"activation {last.activation.__name__} on {LOGITS_LAYER}")
        expected = (None, contract.input.height_px, contract.input.width_px, 3)
        if len(model.inputs) != 1 or not model.inputs[0].shape.is_compatible_with(expected):
            problems.append(f"inputs {[tuple(x.shape) for x in model.inputs]}")
        if tuple(model.output_shape) != (None, len(contract.labels)):
            problems.append(f"output {model.output_shape}")
    if problems:
        raise RunInvalid(
            f"{path}: unsupported model",
            found="; ".join(problems),
            expected=f"a flat functional model from {contract.input.height_px} x {contract.input.width_px} normalized "
            f"RGB to {len(contract.labels)} linear outputs of a Dense named {LOGITS_LAYER!r}",
            fix=SAVED_MODEL_INSTEAD if foreign else "train again with one of train/configs",
        )


def _fix_input_size(model: Any, contract: ModelContract) -> Any:
    """The same model with the contract's input size; a dynamic size would leave reshapes in the file."""
    shape = (contract.input.height_px, contract.input.width_px, 3)
    if tuple(model.input_shape) == (None, *shape):
        return model
    config = model.get_config()
    config["layers"][0]["config"]["batch_input_shape"] = (None, *shape)
    fixed = tf_keras.Model.from_config(config)
    fixed.set_weights(model.get_weights())
    return fixed


def fold_temperature(model: Any, temperature: float) -> None:
    """Divide the logits by the temperature, in place, by scaling the last layer's weights.

    Softmax of the result is then the calibrated probability (Guo et al. 2017) for every client, at no cost.
    """
    layer = model.get_layer(LOGITS_LAYER)
    layer.set_weights([weights / np.float32(temperature) for weights in layer.get_weights()])


def with_softmax(model: Any) -> Any:
    """The model with a softmax after its logits, sharing its weights."""
    if hasattr(model, "scores"):
        return model.scores
    # Named, since an automatic name counts up within a process and would end in the file's tensor names.
    return tf_keras.Model(
        model.input, tf_keras.layers.Softmax(name="scores")(model.output), name="classifier"
    )


def representative_dataset(
    pixels_u8: PixelArray, contract: ModelContract
) -> Callable[[], Iterator[list[Any]]]:
    """The calibration photos, [n, height_px, width_px, 3], plus one picture that holds every pixel value.

    That picture fixes the input's range at (0 - mean) / std to (255 - mean) / std whatever the photos hold, so that
    with mean and std 128 its scale is 1/128 and its zero point 128: a pixel maps to itself. It is a smooth grey ramp,
    so that it does not widen other ranges as noise would.

    Returns:
        For TFLiteConverter.representative_dataset: calls yield [[1, height_px, width_px, 3] float32].
    """

    def batches() -> Iterator[list[Any]]:
        for photo in (*pixels_u8, full_range_picture(contract)):
            yield [normalize(photo[np.newaxis], contract.normalization)]

    return batches


def full_range_picture(contract: ModelContract) -> npt.NDArray[np.uint8]:
    """A grey ramp from 0 to 255, [height_px, width_px, 3] uint8."""
    shape = (contract.input.height_px, contract.input.width_px, 3)
    ramp = np.linspace(0, 255, shape[0] * shape[1]).round().astype(np.uint8)
    return np.broadcast_to(ramp.reshape(shape[0], shape[1], 1), shape).copy()


def to_tflite(model: Any, recipe: Recipe, contract: ModelContract, dataset: Any = None) -> bytes:
    """Convert a Keras model that ends in softmax: float, or quantization-aware for a QAT recipe.

    A recipe that calibrates after training needs a dataset, see `representative_dataset`.

    Returns:
        A .tflite with batch size 1, without contract and metadata.

    Raises:
        ConversionRefused: TensorFlow cannot convert the model.
    """
    converter = _converter(model, contract)
    _configure(converter, recipe, dataset)
    return _converted(converter, f"with recipe {recipe.name}")


def to_calibrated(model: Any, contract: ModelContract, dataset: Any) -> bytes:
    """As `to_tflite`, but still float, with calibrated ranges: for `quantize_calibrated`."""
    converter = _converter(model, contract)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = dataset
    # What tf.lite.experimental.QuantizationDebugger sets, to quantize once more with other lists.
    converter._experimental_calibrate_only = True
    return _converted(converter, "up to its ranges")


def quantize_calibrated(calibrated: bytes, kept: Sequence[str]) -> bytes:
    """Quantize `to_calibrated`'s file from uint8 to uint8; operators that make the `kept` tensors stay float."""
    quantized: bytes = mlir_quantize(
        calibrated, input_data_type=tf.uint8, output_data_type=tf.uint8, denylisted_nodes=list(kept)
    )
    return quantized


def _converter(model: Any, contract: ModelContract) -> Any:
    shape = (1, contract.input.height_px, contract.input.width_px, 3)
    function = tf.function(lambda image: model(image, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec(shape, tf.float32, name=INPUT_NAME))
    # Frozen first: given the model itself, the converter saves every Keras layer as a function of its own, which
    # took nine tenths of the time (MobileNetV2, two cores: 50 s against 5 s) and changes nothing.
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module())


def _converted(converter: Any, how: str) -> bytes:
    try:
        converted: bytes = converter.convert()
    except (ConverterError, ValueError, RuntimeError, tf.errors.OpError) as error:
        found = _reason(str(error)) or type(error).__name__
        fix = "use layers that TFLite supports, or recipe float32"
        raise ConversionRefused(f"TensorFlow cannot convert the model {how}", found=found, fix=fix) from error
    return converted


def _reason(text: str) -> str:
    """The operators that TFLite lacks, from TensorFlow's message; else its first line."""
    if lacking := sorted(set(re.findall(r"'(tf\.\w+)' op", text))):
        return f"no TFLite operator for {', '.join(lacking)}"
    return text.splitlines()[0] if text else ""


def _configure(converter: Any, recipe: Recipe, dataset: Any) -> None:
    """Set the recipe's types on TensorFlow's converter."""
    if recipe.weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if recipe.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if recipe.quantized:
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.uint8
    if dataset is not None:
        int16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        int8 = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        converter.target_spec.supported_ops = [int16 if recipe.activations == "int16" else int8]
        converter.representative_dataset = dataset
