"""Looks into a .tflite: input, output, which tensors are not integers; refuses what the recipe does not allow.

Uses TensorFlow's generated flatbuffer classes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from convert.recipes import Recipe
from edge_runtime.contract import ModelContract
from edge_runtime.errors import ConversionRefused

# A quantized softmax has this scale and zero point by the TFLite quantization specification.
SOFTMAX_SCALE, SOFTMAX_ZERO_POINT = 1 / 256, 0
# TensorFlow's converter: `kWeightsMinNumElementsDefaultValue`.
DYNAMIC_LEAST_WEIGHTS = 1024
TYPE_NAMES = {
    value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")
}
OPERATOR_NAMES = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}
FLOAT_TYPES = ("float16", "float32", "float64")


@dataclass(frozen=True)
class TensorInfo:
    """An input or output tensor."""

    dtype: str
    shape: tuple[int, ...]
    scale: float
    """0 if the tensor is not quantized."""
    zero_point: int


@dataclass(frozen=True)
class FileInfo:
    """What model.json says of the file's inside."""

    input: TensorInfo
    output: TensorInfo
    operators: dict[str, int]
    """Operator name to count."""
    tensor_types: dict[str, int]
    """Type name to count."""
    float_operators: tuple[str, ...]
    """Operators that read or write a float tensor, as `NAME tensor`."""


def read_object(tflite: bytes) -> Any:
    """The model as TensorFlow's generated, mutable object."""
    return flatbuffer_utils.convert_bytearray_to_object(bytearray(tflite))


def write_object(model: Any) -> bytes:
    """The inverse of `read_object`."""
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def operator_name(model: Any, operator: Any) -> str:
    """`CONV_2D` and the like, of an operator of an object of `read_object`."""
    code = model.operatorCodes[operator.opcodeIndex]
    name: str = OPERATOR_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
    return name


def inspect(tflite: bytes) -> FileInfo:
    """Reads the first subgraph's inputs, outputs, operators and types."""
    model = read_object(tflite)
    graph = model.subgraphs[0]
    types = [TYPE_NAMES[tensor.type] for tensor in graph.tensors]
    names: list[str] = []
    float_operators: list[str] = []
    for operator in graph.operators:
        name = operator_name(model, operator)
        names.append(name)
        touched = [index for index in (*operator.inputs, *operator.outputs) if index >= 0]
        if any(types[index] in FLOAT_TYPES for index in touched):
            float_operators.append(f"{name} {_text(graph.tensors[operator.outputs[0]].name)}")
    return FileInfo(
        _info(graph.tensors[graph.inputs[0]]),
        _info(graph.tensors[graph.outputs[0]]),
        dict(sorted(Counter(names).items())),
        dict(sorted(Counter(types).items())),
        tuple(float_operators),
    )


def _text(name: bytes | None) -> str:
    return name.decode(errors="replace") if name else ""


def _info(tensor: Any) -> TensorInfo:
    quantization = tensor.quantization
    quantized = quantization is not None and quantization.scale is not None and len(quantization.scale) > 0
    return TensorInfo(
        TYPE_NAMES[tensor.type],
        tuple(int(side) for side in tensor.shape),
        float(quantization.scale[0]) if quantized else 0.0,
        int(quantization.zeroPoint[0]) if quantized else 0,
    )


def require_as_specified(
    tflite: bytes, recipe: Recipe, contract: ModelContract, *, mixed: bool = False
) -> FileInfo:
    """Refuses a file whose tensors are not what the recipe and the contract say.

    Args:
        tflite: The file.
        recipe: What it should be.
        contract: Of the model.
        mixed: Whether some layers were left float on purpose.

    Returns:
        What was found.

    Raises:
        ConversionRefused: Wrong type, shape, scale or zero point; or float tensors in an integer model.
    """
    found = inspect(tflite)
    shape = (1, contract.input.height_px, contract.input.width_px, 3)
    problems: list[str] = []
    if recipe.quantized:
        scale, zero_point = pixel_quantization(contract)
        expected_input = TensorInfo(recipe.tensor_dtype, shape, scale, zero_point)
        expected_output = TensorInfo(
            recipe.tensor_dtype, (1, len(contract.labels)), SOFTMAX_SCALE, SOFTMAX_ZERO_POINT
        )
        if mixed:
            pass
        elif found.float_operators:
            problems.append(
                f"{len(found.float_operators)} float operators: {'; '.join(found.float_operators[:8])}"
            )
        elif any(name in FLOAT_TYPES for name in found.tensor_types):
            problems.append(f"float tensors: {found.tensor_types}")
    else:
        expected_input = TensorInfo(recipe.tensor_dtype, shape, 0.0, 0)
        expected_output = TensorInfo(recipe.tensor_dtype, (1, len(contract.labels)), 0.0, 0)
        problems += _weight_problems(tflite, recipe)
    if found.input != expected_input:
        problems.append(f"input {found.input}, not {expected_input}")
    if found.output != expected_output:
        problems.append(f"output {found.output}, not {expected_output}")
    if problems:
        raise ConversionRefused(
            f"the converted model is not what recipe {recipe.name} stands for; nothing was written",
            found="; ".join(problems),
            fix="convert with recipe float32, or change the layers named above",
        )
    return found


def _weight_problems(tflite: bytes, recipe: Recipe) -> list[str]:
    """Convolutions of a recipe with float input whose weights or activations have another type than its name says."""
    model = read_object(tflite)
    graph = model.subgraphs[0]
    made_by = {index: operator for operator in graph.operators for index in operator.outputs}
    wrong: list[str] = []
    for operator in graph.operators:
        if operator_name(model, operator) not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            continue
        inputs = [graph.tensors[index] for index in operator.inputs]
        weights = inputs[1]
        source = made_by.get(operator.inputs[1])
        if source is not None and operator_name(model, source) == "DEQUANTIZE":
            weights = graph.tensors[source.inputs[0]]
        found = TYPE_NAMES[weights.type], TYPE_NAMES[inputs[0].type]
        # The converter leaves small tensors of a dynamic recipe float: there is nothing to save.
        small = (
            recipe.name == "dynamic_int8" and found[0] == "float32" and _size(weights) < DYNAMIC_LEAST_WEIGHTS
        )
        if found != (recipe.weights, recipe.activations) and not small:
            wrong.append(
                f"{_text(graph.tensors[operator.outputs[0]].name)}: weights {found[0]}, input {found[1]}"
            )
    return [f"{len(wrong)} layers of other types: {'; '.join(wrong[:3])}"] if wrong else []


def _size(tensor: Any) -> int:
    return int(np.prod(tensor.shape))


def pixel_quantization(contract: ModelContract) -> tuple[float, int]:
    """Scale and zero point by which a pixel maps to itself, as stored in float32.

    Raises:
        ConversionRefused: The mean is not a whole number, so no zero point does that.
    """
    normalization = contract.normalization
    if normalization.mean != round(normalization.mean) or not 0 <= normalization.mean <= 255:
        raise ConversionRefused(
            "no uint8 tensor can hold these pixels unchanged",
            found=f"mean {normalization.mean}",
            expected="a whole mean from 0 to 255",
            fix="train with input.mean = 128 and input.std = 128",
        )
    return float(np.float32(1 / normalization.std)), round(normalization.mean)
