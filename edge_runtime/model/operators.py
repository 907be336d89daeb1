"""Which operators a model file may hold, and what each may be given: an allow-list, checked before native code runs.

LiteRT's kernels trust their operands: a RESHAPE to 64 sides overruns a stack array, a SPLIT without its second operand
reads a null pointer. `operators.txt` lists the operators that image classifiers are made of, with arity and types; the
rules below derive the output's shape from inputs and options and refuse a file that says something else. stdlib only.

A rule gets the operator's operands and options and returns the output shape that must follow and the number of
multiply-adds. `Unsupported` carries the reason to `walk_model`.
"""

from __future__ import annotations

import math
import os

from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.model.operator_names import operator_name
from edge_runtime.model.tensors import MAX_OPERATOR_RANK, Operand, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_runtime.model.flatbuffer import Table

    Shape = tuple[int, ...]
    Rule = Callable[["Operator"], tuple[Shape, int]]

SHORT = {
    "f32": "float32", "f16": "float16", "i4": "int4", "i8": "int8", "u8": "uint8", "i16": "int16", "i32": "int32",
    "i64": "int64",
}  # fmt: skip
ONE_TYPE = ("f32", "u8", "i8", "i16")
QUANTIZED = ("uint8", "int8", "int16")
FILTERS = (
    ("CONV_2D", 1), ("DEPTHWISE_CONV_2D", 1), ("FULLY_CONNECTED", 1), ("BATCH_MATMUL", 1), ("DEQUANTIZE", 0),
)  # fmt: skip
"""Operators and the number of the input that may have a scale for each channel."""
SUMS = ("ADD", "SUB", "SQUARED_DIFFERENCE")
MAX_SCALE_RATIO = 8192
MAX_SQUARE_RATIO = 4096
VALID = 1
"""The padding that adds nothing; 0 is SAME."""


class Operator:
    """One node of the graph: operands (None for one that is left out), declared output shapes, options."""

    __slots__ = ("inputs", "kind", "options", "outputs")

    def __init__(
        self, kind: Kind, inputs: list[Operand | None], outputs: list[Operand], options: Table | None
    ) -> None:
        self.kind, self.inputs, self.outputs, self.options = kind, inputs, outputs, options

    def input(self, index: int) -> Operand:
        """An operand that must be there."""
        given = self.inputs[index] if index < len(self.inputs) else None
        if given is None:
            raise Unsupported(f"input {index} is missing")
        return given

    def shape(self, index: int = 0, rank: int | None = None) -> Shape:
        """The shape of an operand, of `rank` sides."""
        shape = self.input(index).shape
        if rank is not None and len(shape) != rank:
            raise Unsupported(f"input {index} has {len(shape)} sides, not {rank}")
        return shape

    def option(self, number: int, code: str, default: int = 0, *, low: int = 0, high: int = 1) -> int:
        """A number among the options, within bounds."""
        value = default if self.options is None else self.options.scalar(number, code, default)
        if not low <= value <= high:
            raise Unsupported(f"option {number} is {value}, not {low} to {high}")
        return value


class Kind:
    """A line of operators.txt."""

    __slots__ = ("fewest", "most", "most_outputs", "name", "option_type", "options_optional", "rule", "types")

    def __init__(
        self, name: str, rule: Rule, options: str, inputs: str, outputs: str, types: list[str]
    ) -> None:
        self.name, self.rule = name, rule
        self.options_optional = options == "-" or options.endswith("?")
        self.option_type = 0 if options == "-" else int(options.removesuffix("?"))
        low, _, high = inputs.partition("..")
        self.fewest, self.most = int(low), int(high or low)
        self.most_outputs = int(outputs.rpartition("..")[2])
        self.types = _alternatives(types)


def _alternatives(types: list[str]) -> frozenset[tuple[tuple[str, ...], str]]:
    found = set()
    for text in types:
        for one in ONE_TYPE if "T" in text else ("",):
            ends = text.replace("T", one).split(">")
            found.add((tuple(SHORT[name] for name in ends[0].split(",")), SHORT[ends[1]]))
    return frozenset(found)


def check_node(
    name: str,
    number: int,
    inputs: list[Operand | None],
    outputs: list[Operand],
    options: Table | None,
    option_type: int,
) -> int:
    """Checks one node of the graph, `name` in errors, and returns its multiply-adds.

    The number is the operator's in schema.fbs, the option type what the file gives its options. An input is None where
    it is left out; outputs are as the file declares them.

    Raises:
        Unsupported: An operator that is not in operators.txt; arity, types, options or shapes that do not fit.
    """
    kind = kind_of(number)
    if kind is None:
        raise Unsupported(f"{name} is {operator_name(number)}, which image classifiers do not have")
    try:
        return _check(Operator(kind, inputs, outputs, options), option_type)
    except Unsupported as problem:
        raise Unsupported(f"{name}, {kind.name}: {problem}") from problem


def _check(operator: Operator, option_type: int) -> int:
    kind, inputs, outputs = operator.kind, operator.inputs, operator.outputs
    if not kind.fewest <= len(inputs) <= kind.most or None in inputs[: min(kind.fewest, 2)]:
        counts = kind.fewest if kind.fewest == kind.most else f"{kind.fewest} to {kind.most}"
        raise Unsupported(f"its number of inputs is {len(inputs)}, not {counts}")
    if not 1 <= len(outputs) <= kind.most_outputs:
        raise Unsupported(f"it has {len(outputs)} outputs, not 1 to {kind.most_outputs}")
    if option_type != kind.option_type and not (kind.options_optional and option_type == 0):
        raise Unsupported(f"its options are of type {option_type}, not {kind.option_type}")
    if operator.options is None and not kind.options_optional:
        raise Unsupported("its options are missing")
    for operand in (*inputs, *outputs):
        if operand is not None and (len(operand.shape) > MAX_OPERATOR_RANK or 0 in operand.shape):
            raise Unsupported(f"a tensor has the shape {list(operand.shape[: MAX_OPERATOR_RANK + 1])}")
    for i, operand in enumerate((*inputs, *outputs)):
        # Kernels divide by the one scale of a tensor; only filters have one for each channel.
        if (
            operand is not None
            and operand.dtype in QUANTIZED
            and not operand.scale
            and (kind.name, i) not in FILTERS
        ):
            raise Unsupported("a quantized tensor has not one scale")
    if not _types_fit(operator):
        given = ", ".join("none" if one is None else one.dtype for one in inputs[:4])
        raise Unsupported(f"the types {given} -> {outputs[0].dtype} do not go together")
    shape, work = kind.rule(operator)
    for output in outputs:
        if output.shape != shape:
            raise Unsupported(
                f"the output is {list(output.shape)}, and {list(shape)} follows from its inputs"
            )
    return work


def _types_fit(operator: Operator) -> bool:
    given, outputs = operator.inputs, operator.outputs
    for types, output in operator.kind.types:
        # A type for each operand, the last for all that follow (CONCATENATION); one that is left out fits.
        fits = all(one is None or one.dtype == types[min(i, len(types) - 1)] for i, one in enumerate(given))
        if fits and all(one.dtype == output for one in outputs):
            return True
    return False


# ------------------------------------------------------------------ rules


def _same(operator: Operator) -> tuple[Shape, int]:
    return operator.shape(), math.prod(operator.shape())


def _softmax(operator: Operator) -> tuple[Shape, int]:
    shape = operator.shape()
    if not 1 <= len(shape) <= 4:
        raise Unsupported(f"a softmax over {len(shape)} sides")
    return shape, math.prod(shape)


def _broadcast(operator: Operator) -> tuple[Shape, int]:
    first, second = operator.shape(0), operator.shape(1)
    if operator.kind.option_type in (11, 21, 28, 29):
        operator.option(0, "b", high=3)
    rank = max(len(first), len(second))
    # LiteRT 2.3.0 aborts on int16 of five sides.
    if rank > 4 and first != second:
        raise Unsupported(f"broadcasting over {rank} sides")
    if operator.kind.name in SUMS and operator.input(0).dtype in QUANTIZED:
        _require_fitting_scales(operator)
    shape = _together(first, second)
    return shape, math.prod(shape)


def _require_fitting_scales(operator: Operator) -> None:
    """Refuse where LiteRT 2.3.0 aborts: an output's scale far below an input's; int16 of scales that are powers of two.

    Their kernel does not broadcast.
    """
    scales = [one.scale for one in (operator.input(0), operator.input(1), operator.outputs[0])]
    squared, larger = operator.kind.name == "SQUARED_DIFFERENCE", max(scales[:2])
    if (larger**2 >= MAX_SQUARE_RATIO * scales[2]) if squared else (larger > MAX_SCALE_RATIO * scales[2]):
        raise Unsupported("the output's scale is far below an input's")
    powers = all(abs(math.log2(scale) - round(math.log2(scale))) < 0.002 for scale in scales)
    if operator.input(0).dtype == "int16" and operator.shape(0) != operator.shape(1) and powers:
        raise Unsupported("int16 is broadcast with scales that are powers of two")


def _together(first: Shape, second: Shape) -> Shape:
    """The shape to which both are broadcast."""
    rank = max(len(first), len(second))
    a, b = (1,) * (rank - len(first)) + first, (1,) * (rank - len(second)) + second
    if any(x != y and 1 not in (x, y) for x, y in zip(a, b, strict=True)):
        raise Unsupported(f"{list(first)} and {list(second)} do not go together")
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))


def _window(operator: Operator, size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    """Output pixels along one side."""
    reach = (kernel - 1) * dilation + 1
    if padding == VALID and reach > size:
        raise Unsupported(f"a window of {reach} pixels on {size}")
    return (size - reach) // stride + 1 if padding == VALID else -(-size // stride)


def _sides(
    operator: Operator, kernel: tuple[int, int], numbers: tuple[int, int, int, int]
) -> tuple[int, int]:
    """Height and width of a window's output; `numbers` of the options: stride width and height, dilation likewise."""
    _, height, width, _ = operator.shape(0, 4)
    padding = operator.option(0, "b")
    stride_w, stride_h = (operator.option(n, "i", low=1, high=1024) for n in numbers[:2])
    dilation_w, dilation_h = (
        operator.option(n, "i", 1, low=1, high=1024) if n >= 0 else 1 for n in numbers[2:]
    )
    return (
        _window(operator, height, kernel[0], stride_h, dilation_h, padding),
        _window(operator, width, kernel[1], stride_w, dilation_w, padding),
    )


def _require_bias(operator: Operator, channels: int) -> None:
    bias = operator.inputs[2] if len(operator.inputs) > 2 else None
    if bias is not None and math.prod(bias.shape) != channels:
        raise Unsupported(f"a bias of {math.prod(bias.shape)} for {channels} channels")


def _convolution(operator: Operator) -> tuple[Shape, int]:
    batch, _, _, depth = operator.shape(0, 4)
    channels, kernel_h, kernel_w, of_group = operator.shape(1, 4)
    if depth % of_group or channels % (depth // of_group):
        raise Unsupported(f"filters of {of_group} channels on {depth}, {channels} of them")
    operator.option(3, "b", high=3)
    _require_bias(operator, channels)
    height, width = _sides(operator, (kernel_h, kernel_w), (1, 2, 4, 5))
    shape = (batch, height, width, channels)
    return shape, math.prod(shape) * kernel_h * kernel_w * of_group


def _depthwise(operator: Operator) -> tuple[Shape, int]:
    batch, _, _, depth = operator.shape(0, 4)
    one, kernel_h, kernel_w, channels = operator.shape(1, 4)
    multiplier = channels // depth
    # Some writers leave the multiplier 0 and LiteRT computes it; any other value must be the right one.
    if one != 1 or channels % depth or operator.option(3, "i", high=4096) not in (0, multiplier):
        raise Unsupported(f"filters {list(operator.shape(1))} on {depth} channels")
    operator.option(4, "b", high=3)
    _require_bias(operator, channels)
    height, width = _sides(operator, (kernel_h, kernel_w), (1, 2, 5, 6))
    shape = (batch, height, width, channels)
    return shape, math.prod(shape) * kernel_h * kernel_w


def _pool(operator: Operator) -> tuple[Shape, int]:
    batch, _, _, depth = operator.shape(0, 4)
    width, height = (operator.option(n, "i", low=1, high=4096) for n in (3, 4))
    operator.option(5, "b", high=3)
    shape = (batch, *_sides(operator, (height, width), (1, 2, -1, -1)), depth)
    return shape, math.prod(shape) * height * width


def _fully_connected(operator: Operator) -> tuple[Shape, int]:
    given = operator.shape(0)
    units, depth = operator.shape(1, 2)
    operator.option(0, "b", high=3)
    operator.option(1, "b", high=0)
    keep = operator.option(2, "b")
    size = math.prod(given)
    if not given or size % depth or (keep and given[-1] != depth):
        raise Unsupported(f"weights for {depth} numbers on {list(given)}")
    _require_bias(operator, units)
    shape = (*given[:-1], units) if keep else (size // depth, units)
    return shape, size * units


def _concatenation(operator: Operator) -> tuple[Shape, int]:
    shapes = [operator.shape(i) for i in range(len(operator.inputs))]
    rank = len(shapes[0])
    axis = operator.option(0, "i", low=-rank, high=rank - 1) % max(rank, 1)
    operator.option(1, "b", high=3)
    rest = {(len(shape), shape[:axis], shape[axis + 1 :]) for shape in shapes}
    if not rank or len(rest) != 1:
        raise Unsupported(f"{[list(shape) for shape in shapes[:4]]} do not go together")
    shape = (*shapes[0][:axis], sum(one[axis] for one in shapes), *shapes[0][axis + 1 :])
    return shape, math.prod(shape)


def _reshape(operator: Operator) -> tuple[Shape, int]:
    size, wanted = math.prod(operator.shape()), list(operator.input(1).integers())
    if (
        len(wanted) > MAX_OPERATOR_RANK
        or wanted.count(-1) > 1
        or any(side < -1 or side == 0 for side in wanted)
    ):
        raise Unsupported(f"a reshape to {wanted[: MAX_OPERATOR_RANK + 1]}")
    if -1 in wanted:
        wanted[wanted.index(-1)] = size // -math.prod(wanted)
    if math.prod(wanted) != size:
        raise Unsupported(f"a reshape of {list(operator.shape())} to {wanted}")
    return tuple(wanted), size


def _resize(operator: Operator) -> tuple[Shape, int]:
    batch, _, _, depth = operator.shape(0, 4)
    height, width = operator.input(1).integers(2)
    if not (0 < height <= 4096 and 0 < width <= 4096):
        raise Unsupported(f"a resize to {height} x {width}")
    first = 2 if operator.kind.name == "RESIZE_BILINEAR" else 0
    if operator.option(first, "b") and operator.option(first + 1, "b"):
        raise Unsupported("aligned corners and half pixels at once")
    shape = (batch, height, width, depth)
    return shape, 4 * math.prod(shape)


def _pad(operator: Operator) -> tuple[Shape, int]:
    given = operator.shape()
    if not 1 <= len(given) <= 4 or operator.shape(1, 2) != (len(given), 2):
        raise Unsupported(f"padding {list(operator.shape(1))} of {len(given)} sides")
    amounts = operator.input(1).integers(2 * len(given))
    if len(operator.inputs) > 2 and math.prod(operator.shape(2)) != 1:
        raise Unsupported(f"padding with {list(operator.shape(2))}")
    reflect = operator.kind.name == "MIRROR_PAD"
    mode = operator.option(0, "b") if reflect else 0
    for side, amount in zip((side for side in given for _ in (0, 1)), amounts, strict=True):
        if not 0 <= amount <= (side - 1 + mode if reflect else 4096):
            raise Unsupported(f"padding of {amount} pixels on {side}")
    shape = tuple(side + amounts[2 * i] + amounts[2 * i + 1] for i, side in enumerate(given))
    return shape, math.prod(shape)


def _transpose(operator: Operator) -> tuple[Shape, int]:
    given = operator.shape()
    order = operator.input(1).integers(len(given))
    if sorted(order) != list(range(len(given))):
        raise Unsupported(f"a transposition by {list(order)}")
    return tuple(given[i] for i in order), math.prod(given)


def _axes(operator: Operator, index: int) -> frozenset[int]:
    rank = len(operator.shape())
    axes = operator.input(index).integers()
    if not axes or any(not -rank <= axis < rank for axis in axes):
        raise Unsupported(f"axes {list(axes)} of {rank} sides")
    return frozenset(axis % rank for axis in axes)


def _reduce(operator: Operator) -> tuple[Shape, int]:
    given, axes, keep = operator.shape(), _axes(operator, 1), operator.option(0, "b")
    if len(given) > 4:
        raise Unsupported(f"a reduction over {len(given)} sides")
    shape = tuple(1 if i in axes else side for i, side in enumerate(given) if keep or i not in axes)
    return shape, math.prod(given)


def _squeeze(operator: Operator) -> tuple[Shape, int]:
    given = operator.shape()
    axes = operator.options.numbers(0, "i") if operator.options is not None else ()
    if len(axes) > len(given) or any(not -len(given) <= axis < len(given) for axis in axes):
        raise Unsupported(f"axes {list(axes[:8])} of {len(given)} sides")
    chosen = {axis % len(given) for axis in axes} or {i for i, side in enumerate(given) if side == 1}
    if any(given[axis] != 1 for axis in chosen):
        raise Unsupported(f"axes {sorted(chosen)} of {list(given)} are not all 1")
    return tuple(side for i, side in enumerate(given) if i not in chosen), 0


def _expand_dims(operator: Operator) -> tuple[Shape, int]:
    given = operator.shape()
    (axis,) = operator.input(1).integers(1)
    if not -len(given) - 1 <= axis <= len(given):
        raise Unsupported(f"axis {axis} of {len(given)} sides")
    axis %= len(given) + 1
    return (*given[:axis], 1, *given[axis:]), 0


def _split(operator: Operator) -> tuple[Shape, int]:
    given = operator.shape(1)
    (axis,) = operator.input(0).integers(1)
    parts = operator.option(0, "i", low=1, high=64)
    if (
        not given
        or not -len(given) <= axis < len(given)
        or given[axis] % parts
        or parts != len(operator.outputs)
    ):
        raise Unsupported(f"{list(given)} in {parts} parts along {axis} into {len(operator.outputs)} outputs")
    axis %= len(given)
    return (*given[:axis], given[axis] // parts, *given[axis + 1 :]), math.prod(given)


def _slice(operator: Operator) -> tuple[Shape, int]:
    given = operator.shape()
    begins, sizes = (operator.input(i).integers(len(given)) for i in (1, 2))
    shape = []
    for side, begin, size in zip(given, begins, sizes, strict=True):
        length = side - begin if size == -1 else size
        if begin < 0 or length < 1 or begin + length > side:
            raise Unsupported(f"a slice of {size} from {begin} of {side}")
        shape.append(length)
    if len(given) > 5:
        raise Unsupported(f"a slice of {len(given)} sides")
    return tuple(shape), math.prod(shape)


def _strided_slice(operator: Operator) -> tuple[Shape, int]:
    given = operator.shape()
    begins, ends, strides = (operator.input(i).integers(len(given)) for i in (1, 2, 3))
    every = (1 << len(given)) - 1
    begin_mask, end_mask, shrink = (operator.option(n, "i", high=every) for n in (0, 1, 4))
    for number in (2, 3, 5):  # Ellipsis, new axes, offsets.
        operator.option(number, "i" if number < 5 else "b", high=0)
    if len(given) > 5:
        raise Unsupported(f"a slice of {len(given)} sides")
    shape = []
    for i, (side, begin, end, stride) in enumerate(zip(given, begins, ends, strides, strict=True)):
        if stride < 1:
            raise Unsupported(f"a stride of {stride}")
        start, stop, _ = slice(
            None if begin_mask >> i & 1 else begin, None if end_mask >> i & 1 else end, stride
        ).indices(side)
        if shrink >> i & 1:
            if not -side <= begin < side:
                raise Unsupported(f"element {begin} of {side}")
            continue
        if stop <= start:
            raise Unsupported(f"an empty slice from {begin} to {end} of {side}")
        shape.append(-(-(stop - start) // stride))
    return tuple(shape), math.prod(shape)


def _batch_matmul(operator: Operator) -> tuple[Shape, int]:
    first, second = operator.shape(0), operator.shape(1)
    if not 2 <= len(first) <= 5 or not 2 <= len(second) <= 5:
        raise Unsupported(f"a product of {list(first)} and {list(second)}")
    rows, inner = (first[-1], first[-2]) if operator.option(0, "b") else (first[-2], first[-1])
    depth, columns = (second[-1], second[-2]) if operator.option(1, "b") else (second[-2], second[-1])
    if inner != depth:
        raise Unsupported(f"a product of {list(first)} and {list(second)}")
    shape = (*_together(first[:-2], second[:-2]), rows, columns)
    return shape, math.prod(shape) * inner


RULES: Mapping[str, Rule] = {
    "same": _same, "softmax": _softmax, "broadcast": _broadcast, "convolution": _convolution, "depthwise": _depthwise,
    "pool": _pool, "fully_connected": _fully_connected, "concatenation": _concatenation, "reshape": _reshape,
    "resize": _resize, "pad": _pad, "transpose": _transpose, "reduce": _reduce, "squeeze": _squeeze,
    "expand_dims": _expand_dims, "split": _split, "slice": _slice, "strided_slice": _strided_slice,
    "batch_matmul": _batch_matmul,
}  # fmt: skip
_lines: dict[int, list[str]] = {}
_kinds: dict[int, Kind] = {}


def kind_of(number: int) -> Kind | None:
    """The line of operators.txt for an operator's number; None of one that is not in it."""
    if number not in _kinds:
        if not _lines:
            with open(os.path.join(os.path.dirname(__file__), "operators.txt"), encoding="ascii") as file:  # noqa: PTH118, PTH120, PTH123
                for line in file:
                    if line[0] != "#":
                        words = line.split()
                        _lines[int(words[0])] = words
        words = _lines.get(number, [])
        if not words:
            return None
        _kinds[number] = Kind(words[1], RULES[words[2]], words[3], words[4], words[5], words[6:])
    return _kinds[number]
