"""Temperature scaling of a finished int8 file: fitted to its own logits, folded into its scales. TensorFlow, scipy.

After quantization, because rounding changes the logits a little and fine-tuning more: the temperature is fitted to the
file's own integer logits on the validation photos (Guo et al. 2017).

Into scales, because the softmax reads nothing but the scale of its integer logits. Dividing that scale, and with it
those of the last layer's weights and bias, leaves every integer before the softmax as it was, and so the top label;
only the confidence changes. A factor on the softmax itself (`beta`) would do the same on the CPU, but GPU delegates
refuse any but 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow.lite.python import schema_py_generated as schema
from tqdm import tqdm

from convert.tflite.embed import read_object, write_object
from edge_runtime.contract import ModelContract
from edge_runtime.errors import ConversionRefused
from edge_runtime.model.model_file import ModelFile
from edge_runtime.model.operator_names import operator_name
from edge_runtime.runner import Runner
from train.data.pixels import PixelArray

# Inputs and the output of a FULLY_CONNECTED: features, weights, bias, logits.
FEATURES, WEIGHTS, BIAS = range(3)


def read_logits(
    tflite: bytes, pixels_u8: PixelArray, contract: ModelContract, *, progress: str = ""
) -> tuple[npt.NDArray[np.int16], float]:
    """The integers that a quantized file passes to its softmax for pixels [n, height_px, width_px, 3].

    Returns:
        [n, labels] with the zero point taken off, and the scale: logit = scale * integer.

    Raises:
        ConversionRefused: The file does not end in a fully connected layer and a softmax.
    """
    integers = np.empty((len(pixels_u8), len(contract.labels)), np.int16)
    cut = ModelFile("the logits of the converted model", _without_softmax(tflite), contract, vouched=True)
    with Runner.open(cut, threads=2) as runner:
        output = runner.engine.output
        for i, photo in enumerate(tqdm(pixels_u8, desc=progress, unit="photo", disable=not progress)):
            raw_output = runner.run(runner.input_tensor(photo.tobytes()))
            integers[i] = np.subtract(runner.raw_values(raw_output), output.zero_point)
        return integers, output.scale


def fold_into_scales(tflite: bytes, temperature: float) -> bytes:
    """The same file, without a zip tail, with its logits divided by a temperature: three tensors have other scales.

    Raises:
        ConversionRefused: It does not end in a quantized fully connected layer and a softmax, or another operator reads
            one of the three tensors.
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
    model.signatureDefs = None  # They name outputs that are gone.
    return write_object(model)


def _last_layer(model: Any) -> tuple[Any, Any]:
    """The fully connected operator that makes the logits, and the softmax that reads them."""
    graph = model.subgraphs[0]
    codes = [operator_name(max(x.builtinCode, x.deprecatedBuiltinCode)) for x in model.operatorCodes]
    kinds = [codes[operator.opcodeIndex] for operator in graph.operators]
    if kinds.count("SOFTMAX") == 1:
        softmax = graph.operators[kinds.index("SOFTMAX")]
        for operator, kind in zip(graph.operators, kinds, strict=True):
            if kind == "FULLY_CONNECTED" and list(operator.outputs) == [softmax.inputs[0]]:
                int8 = graph.tensors[operator.outputs[0]].type == schema.TensorType.INT8
                if int8 and len(operator.inputs) > BIAS and operator.inputs[BIAS] >= 0:
                    return operator, softmax
    raise _unexpected(", ".join(kinds[-4:]))


def _unexpected(found: str) -> ConversionRefused:
    return ConversionRefused(
        "cannot fold the temperature into this file",
        found=found,
        expected="an int8 FULLY_CONNECTED with a bias at the end, then one SOFTMAX",
        fix="train with one of train/configs, or convert with recipe float32",
    )
