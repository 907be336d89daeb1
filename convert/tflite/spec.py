"""Whether a .tflite holds the numbers that its recipe stands for; refuses it if not. No TensorFlow."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from convert.recipes import Recipe
from convert.tflite.reader import FLOAT_DTYPES, Tensor, TfliteFile, read_structure
from edge_runtime.contract import ModelContract
from edge_runtime.errors import ConversionRefused
from edge_runtime.model.tensors import TensorSpec

# A quantized softmax has this scale and zero point by the TFLite quantization specification.
SOFTMAX_SCALE, SOFTMAX_ZERO_POINT = 1 / 256, 0
# TensorFlow's converter: `kWeightsMinNumElementsDefaultValue`.
DYNAMIC_LEAST_WEIGHTS = 1024
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def require_as_specified(
    tflite: bytes, recipe: Recipe, contract: ModelContract, *, mixed: bool = False
) -> dict[str, Any]:
    """Refuse a file whose tensors are not what recipe and contract say; of a mixed one some layers are meant as float.

    Returns:
        What model.json records of the file's content.

    Raises:
        ConversionRefused: Wrong type, shape, scale or zero point; or float tensors in an integer model.
    """
    file = read_structure(tflite)
    source, sink = _info(file.tensors[file.inputs[0]]), _info(file.tensors[file.outputs[0]])
    types = _counts(tensor.dtype for tensor in file.tensors)
    floating = _float_operators(file)
    ends = [(0.0, 0), (0.0, 0)]
    problems: list[str] = []
    if not recipe.quantized:
        problems += _weight_problems(file, recipe)
    else:
        ends = [pixel_quantization(contract), (SOFTMAX_SCALE, SOFTMAX_ZERO_POINT)]
        if floating and not mixed:
            problems.append(f"float operators remain ({'; '.join(floating[:8])})")
        elif not types.keys().isdisjoint(FLOAT_DTYPES) and not mixed:
            problems.append(f"float tensors remain ({types})")
    shapes = (1, contract.input.height_px, contract.input.width_px, 3), (1, len(contract.labels))
    for role, found, shape, end in zip(("input", "output"), (source, sink), shapes, ends, strict=True):
        expected = TensorSpec(shape, recipe.tensor_dtype, *end)
        if found != expected:
            problems.append(f"{role} {found}, not {expected}")
    if problems:
        raise ConversionRefused(
            f"recipe {recipe.name}: the converted file does not meet its specification; nothing was written",
            found="; ".join(problems),
            fix="convert with recipe float32, or change the layers named above",
        )
    return {
        "input": asdict(source),
        "output": asdict(sink),
        "operators": _counts(operator.kind for operator in file.operators),
        "tensor_types": types,
        "float_operators": floating,
    }


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _float_operators(file: TfliteFile) -> list[str]:
    """Operators that read or write a float tensor, as `NAME tensor`."""
    return [
        f"{operator.kind} {file.tensors[operator.outputs[0]].name}"
        for operator in file.operators
        if any(file.tensors[i].dtype in FLOAT_DTYPES for i in (*operator.inputs, *operator.outputs) if i >= 0)
    ]


def _info(tensor: Tensor) -> TensorSpec:
    scale, zero_point = (*tensor.scales[:1], 0.0)[0], (*tensor.zero_points[:1], 0)[0]
    return TensorSpec(tensor.shape, tensor.dtype, scale, zero_point if tensor.quantized else 0)


def _weight_problems(file: TfliteFile, recipe: Recipe) -> list[str]:
    """Layers of a recipe with float input whose weights or activations have another type than its name says."""
    made_by = {index: operator for operator in file.operators for index in operator.outputs}
    wrong: list[str] = []
    for operator in file.operators:
        if operator.kind not in WEIGHTED:
            continue
        weights, source = file.tensors[operator.inputs[1]], made_by.get(operator.inputs[1])
        if source is not None and source.kind == "DEQUANTIZE":
            weights = file.tensors[source.inputs[0]]
        found = weights.dtype, file.tensors[operator.inputs[0]].dtype
        # The converter leaves small tensors of a dynamic recipe float: there is nothing to save.
        small = found == ("float32", "float32") and weights.size < DYNAMIC_LEAST_WEIGHTS
        if found != (recipe.weights, recipe.activations) and not (recipe.dynamic and small):
            name = file.tensors[operator.outputs[0]].name
            wrong.append(f"{name}: weights {found[0]}, input {found[1]}")
    return [f"{len(wrong)} layers of other types ({'; '.join(wrong[:3])})"] if wrong else []


def pixel_quantization(contract: ModelContract) -> tuple[float, int]:
    """Scale and zero point by which a pixel maps to itself, as stored in float32.

    Raises:
        ConversionRefused: The mean is not a whole number, so no zero point does that.
    """
    mean, std = contract.normalization.mean, contract.normalization.std
    if mean != round(mean) or not 0 <= mean <= 255:
        problem = "a uint8 tensor cannot hold these pixels unchanged"
        fix = "train with input.mean = 128 and input.std = 128"
        raise ConversionRefused(problem, found=f"mean {mean}", expected="a whole mean from 0 to 255", fix=fix)
    return float(struct.unpack("<f", struct.pack("<f", 1 / std))[0]), round(mean)
