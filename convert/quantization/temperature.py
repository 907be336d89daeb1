"""Temperature scaling of a finished int8 file: fitted to its own logits, folded into its own scales. TensorFlow, scipy.

Why after quantization: rounding changes the logits a little and fine-tuning more, so a temperature that was fitted to
the float model's answers calibrates another model's. The validation photos are put through the file itself, up to its
integer logits, and the temperature is fitted to those (Guo et al. 2017).

Why into scales: logits stand in the file as integers with a scale, and the softmax is told only that scale. Dividing
the scale of the logits, and with it those of the last layer's weights and bias, divides the logits that the softmax
sees and leaves every weight, and the ratio by which the kernel rescales its sums, as they were. So the integers before
the softmax stay, and with them the answer; only how sure it is changes. A factor on the softmax itself (`beta`) would
do the same on the CPU, but delegates for GPUs refuse any but 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow.lite.python import schema_py_generated as schema
from tqdm import tqdm

from convert.tflite.golden import closing_engine, fill
from convert.tflite.spec import operator_name, read_object, write_object
from edge_runtime.contract import ModelContract
from edge_runtime.engines import raw_values
from edge_runtime.errors import ConversionRefused
from train.data.pixels import PixelArray

# Inputs and the output of a FULLY_CONNECTED: features, weights, bias, logits.
FEATURES, WEIGHTS, BIAS = range(3)


def read_logits(
    tflite: bytes, pixels_u8: PixelArray, contract: ModelContract, *, progress: str = ""
) -> tuple[npt.NDArray[np.int16], float]:
    """The integers that a quantized file gives to its softmax.

    Args:
        tflite: A flatbuffer; its zip tail, if any, is not needed.
        pixels_u8: [n, height_px, width_px, 3], the contract's pixels.
        contract: Says how pixels become the input tensor.
        progress: Title of a progress bar; none if empty.

    Returns:
        [n, labels] with the zero point taken off, and the scale: logit = scale * integer.

    Raises:
        ConversionRefused: The file does not end in a fully connected layer and a softmax.
    """
    integers = np.empty((len(pixels_u8), len(contract.labels)), np.int16)
    with closing_engine(_without_softmax(tflite), threads=2) as engine:
        zero_point = engine.output.zero_point
        for i, photo in enumerate(tqdm(pixels_u8, desc=progress, unit="photo", disable=not progress)):
            raw = engine.run(fill(engine, photo.tobytes(), contract))
            integers[i] = np.subtract(raw_values(raw, engine.output), zero_point)
        return integers, engine.output.scale


def fold_into_scales(tflite: bytes, temperature: float) -> bytes:
    """The same file with its logits divided by a temperature: three tensors have other scales, nothing else differs.

    Args:
        tflite: A quantized flatbuffer that ends in a fully connected layer and a softmax, without a zip tail.
        temperature: Above 0.

    Raises:
        ConversionRefused: It ends otherwise, or another operator reads one of the three tensors.
    """
    model = read_object(tflite)
    graph = model.subgraphs[0]
    layer, reader = _last_layer(model)
    tensors = [layer.inputs[WEIGHTS], layer.inputs[BIAS], layer.outputs[0]]
    for index in tensors:
        others = [x for x in graph.operators if index in x.inputs and x is not layer and x is not reader]
        if others or graph.tensors[index].quantization is None:
            raise _unexpected(f"tensor {graph.tensors[index].name!r} has other readers, or no scale")
    for index in tensors:
        quantization = graph.tensors[index].quantization
        quantization.scale = [float(np.float32(scale / temperature)) for scale in quantization.scale]
    return write_object(model)


def _without_softmax(tflite: bytes) -> bytes:
    """The file cut off before its softmax, so that the logits are its output."""
    model = read_object(tflite)
    graph = model.subgraphs[0]
    layer, _ = _last_layer(model)
    graph.operators = graph.operators[: graph.operators.index(layer) + 1]
    graph.outputs = [layer.outputs[0]]
    model.signatureDefs = None  # They name the outputs that are no more.
    return write_object(model)


def _last_layer(model: Any) -> tuple[Any, Any]:
    """The fully connected operator that makes the logits, and the softmax that reads them."""
    graph = model.subgraphs[0]

    def kind(operator: Any) -> str:
        return operator_name(model, operator)

    found = [x for x in graph.operators if kind(x) == "SOFTMAX"]
    if len(found) == 1:
        for operator in graph.operators:
            if list(operator.outputs) == [found[0].inputs[0]] and kind(operator) == "FULLY_CONNECTED":
                int8 = graph.tensors[operator.outputs[0]].type == schema.TensorType.INT8
                if int8 and len(operator.inputs) > BIAS and operator.inputs[BIAS] >= 0:
                    return operator, found[0]
    raise _unexpected(", ".join(kind(x) for x in graph.operators[-4:]))


def _unexpected(found: str) -> ConversionRefused:
    return ConversionRefused(
        "the temperature cannot be folded into this file",
        found=found,
        expected="at the end an int8 FULLY_CONNECTED with a bias, then one SOFTMAX",
        fix="train with one of train/configs, or convert with recipe float32",
    )
