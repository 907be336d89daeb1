"""What a tensor looks like from outside, and how its raw bytes become numbers. stdlib only."""

from __future__ import annotations

import math
import struct

from edge_runtime._startup.records import TYPE_CHECKING, dataclass
from edge_runtime.contract import CONVERT_AGAIN, ModelContract
from edge_runtime.errors import InterpreterBroken, ModelMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable

# struct codes of the dtypes that an input or output may have.
STRUCT_CODES = {"uint8": "B", "int8": "b", "float32": "f"}
ZERO_POINT_LOW = {"uint8": 0, "int8": -128}
# A float softmax sums to 1 within rounding. A quantized one is off by up to half a step a label, and LiteRT's
# fixed-point softmax by about as much again, so it may be off by one step a label.
FLOAT_SUM_TOLERANCE = 1e-3
MAX_OPERATOR_RANK = 6


@dataclass(frozen=True)
class TensorSpec:
    """Shape, dtype and quantization of an input or output tensor."""

    shape: tuple[int, ...]
    dtype: str
    """`uint8`, `int8`, `float32`; others are named but refused by `check_tensors`."""
    scale: float
    """real = scale * (raw - zero_point); 0.0 when the tensor is not quantized."""
    zero_point: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor; only for the dtypes that are accepted."""
        return self.size * struct.calcsize(STRUCT_CODES[self.dtype])

    @property
    def quantized(self) -> bool:
        """Whether raw values are integers with a scale."""
        return self.dtype != "float32"

    def __str__(self) -> str:
        text = f"{self.dtype} {list(self.shape)}"
        return f"{text} with scale {self.scale:.9g} and zero point {self.zero_point}" if self.scale else text


def raw_values(raw: bytes, spec: TensorSpec) -> tuple[float, ...]:
    """The elements of a tensor as they stand, integers of a quantized one, from spec.nbytes bytes, little-endian."""
    return struct.unpack(f"<{spec.size}{STRUCT_CODES[spec.dtype]}", raw)


def dequantize(raw: bytes, spec: TensorSpec) -> list[float]:
    """The real values of a tensor: scale * (raw - zero_point), or the floats themselves."""
    values = raw_values(raw, spec)
    if not spec.quantized:
        return [float(value) for value in values]
    return [spec.scale * (value - spec.zero_point) for value in values]


def largest_difference(one: Iterable[float], other: Iterable[float]) -> float:
    """The largest absolute difference of two tensors' elements; infinite where there is no number.

    `max` would pass over a NaN that is not the first, and what is no number would agree with everything.
    """
    differences = [abs(a - b) for a, b in zip(one, other, strict=True)]
    return math.inf if any(map(math.isnan, differences)) else max(differences, default=0.0)


def softmax_values(raw: bytes, spec: TensorSpec) -> list[float]:
    """The real values of an output tensor, as they are, if they are a softmax's.

    Raises:
        InterpreterBroken: A value outside [0, 1], not finite, or a sum too far from 1.
    """
    values = dequantize(raw, spec)
    total = math.fsum(values)
    tolerance = spec.scale * len(values) if spec.quantized else FLOAT_SUM_TOLERANCE
    in_range = all(-tolerance <= value <= 1 + tolerance for value in values)
    # Written so that a NaN fails.
    if not (in_range and abs(total - 1) <= max(tolerance, FLOAT_SUM_TOLERANCE) and total > 0):
        problem, expected = "the model's output is not a softmax", "values in [0, 1] that sum to 1"
        found = f"sum {total:.6g}, smallest {min(values):.6g}, largest {max(values):.6g}"
        fix = "convert the model again; if it was not altered, report the runtime and its version"
        raise InterpreterBroken(problem, found=found, expected=expected, fix=fix)
    return values


def check_tensors(
    contract: ModelContract, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], where: str
) -> None:
    """Hold all input and output tensors of a model against its contract; `where` is named in errors.

    Raises:
        ModelMismatch: Not one input [1, height_px, width_px, 3] and one output [1, labels] of an accepted dtype, or a
            quantized tensor without a positive scale. All problems are listed.
    """
    problems: list[str] = []
    wanted = (
        ("input", inputs, (1, contract.input.height_px, contract.input.width_px, 3)),
        ("output", outputs, (1, len(contract.labels))),
    )
    for role, specs, shape in wanted:
        if len(specs) != 1:
            problems.append(f"{len(specs)} {role} tensors, the contract knows one")
            continue
        spec = specs[0]
        if spec.shape != shape:
            problems.append(f"{role} shape {list(spec.shape)}, the contract says {list(shape)}")
        if spec.dtype not in STRUCT_CODES:
            problems.append(f"{role} dtype {spec.dtype}, not one of {', '.join(STRUCT_CODES)}")
        elif spec.quantized and not (0 < spec.scale < math.inf):
            problems.append(f"{role} is {spec.dtype} with scale {spec.scale}")
        elif spec.quantized and not 0 <= spec.zero_point - ZERO_POINT_LOW[spec.dtype] <= 255:
            problems.append(f"{role} is {spec.dtype} with zero point {spec.zero_point}")
    if problems:
        problem, found = "the contract and the tensors of the model disagree", "; ".join(problems)
        expected = "tensors as the contract describes them"
        raise ModelMismatch(problem, where=where, found=found, expected=expected, fix=CONVERT_AGAIN)


class Unsupported(Exception):
    """What no image classifier of this toolkit has; the reason, without the operator's name."""


class Operand:
    """A tensor as an operator sees it."""

    __slots__ = ("content", "dtype", "scale", "shape", "size_bytes")

    def __init__(
        self, shape: tuple[int, ...], dtype: str, content: bytes | None, size_bytes: int, scale: float = 0.0
    ) -> None:
        self.shape, self.dtype, self.size_bytes, self.scale = shape, dtype, size_bytes, scale
        self.content = content
        """A constant's first bytes, enough for a shape; None of what an operator computes."""

    def integers(self, count: int | None = None) -> tuple[int, ...]:
        """The values of an int32 constant of at most one side; `count` is how many there must be."""
        if self.content is None:
            raise Unsupported("a shape or an axis is computed, not constant")
        values = struct.unpack(f"<{len(self.content) // 4}i", self.content)
        if self.size_bytes > 8 * MAX_OPERATOR_RANK or (count is not None and len(values) != count):
            raise Unsupported(
                f"{len(values)} numbers where {count or f'at most {2 * MAX_OPERATOR_RANK}'} belong"
            )
        return values
