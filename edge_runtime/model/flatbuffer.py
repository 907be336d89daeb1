"""A bounds-checked walk through the tables of a .tflite flatbuffer, before any native code sees the bytes. stdlib only.

The native loaders trust offsets: an 8-byte file has crashed one (tensorflow #115308). `walk_model` follows every offset
that they follow on their way to the operators and refuses the first one that leads outside the file or to something
that cannot be meant. It checks structure, not whether an operator's parameters make sense.

Field numbers are those of `schema.fbs`, version 3.
"""

from __future__ import annotations

import math
import struct

from edge_runtime._startup.records import dataclass
from edge_runtime.errors import ModelUnsupported, NotATfliteFile
from edge_runtime.model.tensors import Operand, TensorSpec, Unsupported

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
# Far beyond any classifier (MobileNetV2: 1 subgraph, 180 tensors, 70 operators); they bound the walk's time, because a
# hostile file can let a million vector entries point to one table.
MAX_ITEMS = 100_000
MAX_RANK = 8
MAX_SHAPE_BYTES = 64
WALK_BUDGET = 300_000
"""Tables that one walk reads, and numbers by NUMBERS_A_STEP: under a second. A MobileNetV2 takes 2,000."""
NUMBERS_A_STEP = 16
# The largest input that a contract allows, in float32, fits; a flipped bit in a shape can keep LiteRT busy for minutes.
MAX_TENSOR_BYTES = 256 * 1024 * 1024
MAX_NAME_BYTES = 4096
TENSOR_TYPES = {
    0: ("float32", 32), 1: ("float16", 16), 2: ("int32", 32), 3: ("uint8", 8), 4: ("int64", 64), 6: ("bool", 8),
    7: ("int16", 16), 8: ("complex64", 64), 9: ("int8", 8), 10: ("float64", 64), 11: ("complex128", 128),
    12: ("uint64", 64), 15: ("uint32", 32), 16: ("uint16", 16), 17: ("int4", 4), 18: ("bfloat16", 16),
}  # fmt: skip
"""dtype and bits by number; 5 string, 13 resource and 14 variant have no fixed size and no place in a classifier."""

MAX_SCALE = 1e18
"""Of a tensor's scales together: twice as much, and its square, are still finite."""
MIN_SCALE = 1e-20
"""Of a tensor with one scale; LiteRT 2.3.0 overflows and crashes on quotients of scales near 1e-40."""
ZERO_POINTS = {"int4": (-8, 7), "int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
"""Lowest and highest zero point; 0 for all other dtypes."""
CUSTOM, ON_DELEGATE = 32, -1
DELEGATED = (b"edgetpu-custom-op",)
"""Custom operators that only a delegate has; others may have kernels in the library, which nothing here checks."""


@dataclass(frozen=True)
class Limits:
    """What one inference may take."""

    memory_mib: int = 2048
    """Of all computed tensors together, more than an arena takes, which reuses memory: EfficientNet-Lite4 has 500."""
    gigamacs: int = 100
    """Billions of multiply-adds; the largest mobile classifiers take a tenth."""
    delegated: bool = False
    """Whether operators of DELEGATED may occur: the user named a delegate."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class ModelStructure:
    """What the walk saw."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operator_count: int
    needs_delegate: bool


class Malformed(Exception):
    """Carries the reason from deep inside the walk to `walk_model`."""


# Compiled once: a model has 600 tables with 7,000 numbers, and the walk is 3 ms of an edge-classify that takes 60.
_READERS = {code: (struct.Struct("<" + code).unpack_from, struct.calcsize(code)) for code in "bBHIiQ"}
_read_u32 = _READERS["I"][0]
_read_i32 = _READERS["i"][0]
_read_vtable_head = struct.Struct("<HH").unpack_from


class Table:
    """One flatbuffer table whose vtable and body lie inside the file."""

    __slots__ = ("body_bytes", "budget", "data", "end", "name", "offsets", "position")

    def __init__(
        self, data: bytes, end: int, position: int, name: str, budget: list[int] | None = None
    ) -> None:
        self.data, self.end, self.position, self.name = data, end, position, name
        self.budget = [WALK_BUDGET] if budget is None else budget
        self.spend(1)
        if not 4 <= position <= end - 4:
            raise Malformed(f"table {name} at {position} lies outside the file")
        vtable = position - _read_i32(data, position)[0]
        if not 0 <= vtable <= end - 4 or vtable % 2:
            raise Malformed(f"table {name} has its vtable at {vtable}")
        vtable_bytes, self.body_bytes = _read_vtable_head(data, vtable)
        if vtable_bytes < 4 or vtable_bytes % 2 or vtable + vtable_bytes > end:
            raise Malformed(f"table {name} has a vtable of {vtable_bytes} bytes")
        if self.body_bytes < 4 or position + self.body_bytes > end:
            raise Malformed(f"table {name} has a body of {self.body_bytes} bytes")
        self.offsets: tuple[int, ...] = struct.unpack_from(f"<{vtable_bytes // 2 - 2}H", data, vtable + 4)

    def spend(self, steps: int) -> None:
        """Counts what the walk reads: tables may be shared, so a small file can hold a walk of hours."""
        self.budget[0] -= steps
        if self.budget[0] < 0:
            raise Malformed(f"more than {WALK_BUDGET:,} parts; read up to {self.name}")

    def field(self, number: int, width: int) -> int | None:
        """Position of a field of `width` bytes, None when absent."""
        offset = self.offsets[number] if number < len(self.offsets) else 0
        if offset == 0:
            return None
        if offset < 4 or offset + width > self.body_bytes:
            raise Malformed(f"field {number} of table {self.name} lies outside its table")
        return self.position + offset

    def scalar(self, number: int, code: str, default: int = 0) -> int:
        """An integer field, by its struct code."""
        read, width = _READERS[code]
        position = self.field(number, width)
        return default if position is None else int(read(self.data, position)[0])

    def target(self, number: int) -> int | None:
        """Where an offset field points to, None when absent."""
        position = self.field(number, 4)
        return None if position is None else position + int(_read_u32(self.data, position)[0])

    def child(self, number: int, what: str) -> Table | None:
        """The table in an offset field, `what` its parent calls it."""
        position = self.target(number)
        if position is None:
            return None
        return Table(self.data, self.end, position, f"{self.name} {what}", self.budget)

    def vector(self, number: int, item_bytes: int) -> tuple[int, int]:
        """First position and count of a vector field; (0, 0) when absent."""
        position = self.target(number)
        if position is None:
            return 0, 0
        if position > self.end - 4:
            raise Malformed(f"vector {number} of table {self.name} lies outside the file")
        count = int(_read_u32(self.data, position)[0])
        if position + 4 + count * item_bytes > self.end:
            raise Malformed(
                f"vector {number} of table {self.name} has {count} items, more than the file holds"
            )
        return position + 4, count

    def numbers(self, number: int, code: str) -> tuple[int, ...]:
        """A vector of scalars."""
        start, count = self.vector(number, struct.calcsize(code))
        if count > MAX_ITEMS:
            raise Malformed(f"vector {number} of table {self.name} has {count} items")
        self.spend(count // NUMBERS_A_STEP)
        return struct.unpack_from(f"<{count}{code}", self.data, start)

    def children(self, number: int, name: str) -> list[Table]:
        """A vector of tables."""
        start, count = self.vector(number, 4)
        if count > MAX_ITEMS:
            raise Malformed(f"{count} items in the vector of {name}")
        offsets = struct.unpack_from(f"<{count}I", self.data, start)
        return [
            Table(self.data, self.end, start + 4 * i + offset, f"{name} {i}", self.budget)
            for i, offset in enumerate(offsets)
        ]

    def text(self, number: int, *, required: bool = False) -> bytes:
        """A string field. Of a signature it is required: LiteRT 2.3.0 ends the process where a name is missing."""
        start, count = self.vector(number, 1)
        if required and not start:
            raise Malformed(f"string {number} of table {self.name} is missing")
        if count > MAX_NAME_BYTES or (start and (start + count >= self.end or self.data[start + count] != 0)):
            raise Malformed(f"string {number} of table {self.name} is too long or does not end")
        return self.data[start : start + count]


def walk_model(
    data: bytes, *, where: str, end: int | None = None, trusted: bool = False, limits: Limits = DEFAULT_LIMITS
) -> ModelStructure:
    """Checks the structure of a .tflite.

    Args:
        data: The whole file.
        where: Named in errors.
        end: Where the flatbuffer must have ended: the start of the zip tail, or the end of the file.
        trusted: The file comes with this package, or was checked: its operators are not looked at, which takes 1 ms.
        limits: Of what is not trusted.

    Raises:
        ModelUnsupported: An operator that is not in operators.txt, or what it is given; more than one subgraph; more
            than `limits`.
        NotATfliteFile: No TFL3 identifier, an offset that leads outside, an index without its object, constant data
            of the wrong size.
    """
    end = len(data) if end is None else end
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        found = f"{len(data)} bytes, identifier {data[4:8]!r}"
        expected = f"the identifier {IDENTIFIER!r} at byte 4"
        fix = "give a .tflite file made by dermedge convert"
        raise NotATfliteFile("not a .tflite file", where=where, found=found, expected=expected, fix=fix)
    try:
        root = Table(data, end, int(struct.unpack_from("<I", data, 0)[0]), "Model")
        return _walk_root(root, None if trusted else limits)
    except Unsupported as error:
        problem = "the model is not supported"
        expected = "one graph of the operators in edge_runtime/model/operators.txt"
        fix = "convert the network with a fixed batch and size and standard layers, or name its operators' delegate"
        raise ModelUnsupported(problem, where=where, found=str(error), expected=expected, fix=fix) from error
    except Malformed as error:
        problem = "the .tflite file is damaged or incomplete"
        expected = "a well-formed TensorFlow Lite flatbuffer"
        fix = "copy the file again, or convert the model again"
        raise NotATfliteFile(problem, where=where, found=str(error), expected=expected, fix=fix) from error


def _walk_root(root: Table, limits: Limits | None) -> ModelStructure:
    version = root.scalar(0, "I")
    if version != SCHEMA_VERSION:
        raise Malformed(f"flatbuffer schema version {version}, not {SCHEMA_VERSION}")
    codes = root.children(1, "OperatorCode")
    named = [code.text(1) in DELEGATED and (limits is None or limits.delegated) for code in codes]
    code_numbers = [operator_number(code) for code in codes]
    code_numbers = [
        ON_DELEGATE if known and number == CUSTOM else number
        for known, number in zip(named, code_numbers, strict=True)
    ]
    buffers = [_buffer(table) for table in root.children(4, "Buffer")]
    for metadata in root.children(6, "Metadata"):
        metadata.text(0)
        _require_index(metadata.scalar(1, "I"), len(buffers), metadata.name, "buffer")
    if root.vector(8, 4)[1] or root.vector(9, 4)[1]:
        raise Unsupported("constants outside the file, in external buffers")
    subgraphs = root.children(2, "SubGraph")
    if not subgraphs:
        raise Malformed("the model has no subgraph")
    if len(subgraphs) > 1:
        # Control flow: nothing bounds how long or in how much memory it runs.
        raise Unsupported(f"{len(subgraphs)} subgraphs, not one")
    structure = _walk_subgraph(subgraphs[0], buffers, code_numbers, limits)
    for signature in root.children(7, "SignatureDef"):
        index = signature.scalar(4, "I")
        _require_index(index, len(subgraphs), signature.name, "subgraph")
        signature.text(2, required=True)
        # Subgraph and signature number inputs 1 and 0, outputs 2 and 1.
        for number in (0, 1):
            ends = subgraphs[index].numbers(number + 1, "i")
            for entry in signature.children(number, "TensorMap"):
                entry.text(0, required=True)
                if entry.scalar(1, "I") not in ends:
                    raise Malformed(f"{entry.name} of {signature.name} is no input or output of its subgraph")
    return structure


def operator_number(code: Table) -> int:
    """Which operator it is. It has two numbers: an old one of a byte and a new one, and readers take the larger.

    Writers give the same in both, 127 in the old one where it is larger, or the old one alone. Where they differ the
    operator's options are those of another one, and LiteRT 2.3.0 reads them without looking.
    """
    old, new = code.scalar(0, "b"), code.scalar(3, "i")
    if old < 0 or new < 0 or (new not in (0, old) and not (old in (0, 127) and new >= 127)):
        raise Malformed(f"{code.name} has the operator numbers {old} and {new}")
    return max(old, new)


def _buffer(table: Table) -> tuple[int, int]:
    """First position and size of a buffer's bytes."""
    if table.scalar(1, "Q") > 1:
        raise Malformed(
            f"{table.name} keeps its data outside the flatbuffer, which only models above 2 GB do"
        )
    return table.vector(0, 1)


def _walk_subgraph(
    subgraph: Table, buffers: list[tuple[int, int]], code_numbers: list[int], limits: Limits | None
) -> ModelStructure:
    tables = subgraph.children(0, "Tensor")
    walked = [_walk_tensor(table, buffers) for table in tables]
    tensors, operands = [spec for spec, _ in walked], [operand for _, operand in walked]
    known = {i for i, operand in enumerate(operands) if operand.content is not None}
    ends: list[tuple[TensorSpec, ...]] = []
    for number, role in ((1, "input"), (2, "output")):
        indices = subgraph.numbers(number, "i")
        for index in indices:
            _require_index(index, len(tensors), subgraph.name, role)
        ends.append(tuple(tensors[index] for index in indices))
    known.update(subgraph.numbers(1, "i"))
    operators = subgraph.children(3, "Operator")
    work = 0
    for operator in operators:
        inputs, outputs, multiply_adds = _walk_operator(operator, operands, code_numbers, limits is None)
        # Each tensor is made once, before it is used: LiteRT 2.3.0 runs other graphs into memory that is not theirs.
        for index in inputs:
            if index not in known:
                raise Malformed(f"{operator.name} reads tensor {index} before anything made it")
        for index in outputs:
            if index in known:
                raise Malformed(f"{operator.name} writes tensor {index}, which has a value already")
        known.update(outputs)
        work += multiply_adds
    for index in subgraph.numbers(2, "i"):
        if index not in known:
            raise Malformed(f"{subgraph.name} gives tensor {index} out, which nothing makes")
    computed = sum(operands[index].size_bytes for index in known if operands[index].content is None)
    if limits and (work > limits.gigamacs * 10**9 or computed > limits.memory_mib << 20):
        raise Unsupported(
            f"{work:,} multiply-adds and {computed:,} bytes of computed tensors, not at most {limits.gigamacs} "
            f"billion (--max-model-work) and {limits.memory_mib} MiB (--max-model-memory)"
        )
    return ModelStructure(ends[0], ends[1], len(operators), ON_DELEGATE in code_numbers)


def _walk_operator(
    operator: Table, operands: list[Operand], code_numbers: list[int], trusted: bool
) -> tuple[list[int], tuple[int, ...], int]:
    """Returns the tensors that it reads, those that it makes, and its multiply-adds."""
    code = operator.scalar(0, "I")
    _require_index(code, len(code_numbers), operator.name, "operator code")
    inputs, outputs = operator.numbers(1, "i"), operator.numbers(2, "i")
    if operator.numbers(8, "i"):
        raise Unsupported(f"{operator.name} has intermediate tensors")
    # -1 stands for an optional input that is left out: a bias.
    present = [index for index in inputs if index != -1]
    for index in (*present, *outputs):
        _require_index(index, len(operands), operator.name, "tensor")
    operator.vector(5, 1)
    operator.vector(7, 1)
    operator.child(12, "options 2")
    options, option_type = operator.child(4, "options"), operator.scalar(3, "B")
    if trusted or code_numbers[code] == ON_DELEGATE:
        return present, outputs, 0
    from edge_runtime.model.operators import check_node

    given = [None if index == -1 else operands[index] for index in inputs]
    made = [operands[index] for index in outputs]
    return present, outputs, check_node(operator.name, code_numbers[code], given, made, options, option_type)


def _walk_tensor(table: Table, buffers: list[tuple[int, int]]) -> tuple[TensorSpec, Operand]:
    shape = table.numbers(0, "i")
    if len(shape) > MAX_RANK or any(side < 0 for side in shape):
        raise Malformed(f"{table.name} has the shape {list(shape[: MAX_RANK + 1])}")
    signature = table.numbers(7, "i")
    if signature and (len(signature) != len(shape) or any(side < -1 for side in signature)):
        raise Malformed(f"{table.name} has the shape signature {list(signature[: MAX_RANK + 1])}")
    type_number = table.scalar(1, "b")
    if type_number not in TENSOR_TYPES:
        raise Malformed(f"{table.name} has the type number {type_number}")
    dtype, bits = TENSOR_TYPES[type_number]
    table.text(3)
    buffer_index = table.scalar(2, "I")
    _require_index(buffer_index, len(buffers), table.name, "buffer")
    start, stored_bytes = buffers[buffer_index]
    wanted_bytes = (math.prod(shape) * bits + 7) // 8
    if wanted_bytes > MAX_TENSOR_BYTES:
        raise Malformed(f"{table.name} {dtype} {list(shape)} has {wanted_bytes:,} bytes")
    if table.child(6, "sparsity") is not None or table.scalar(5, "b"):
        # A sparse constant's bytes say nothing about its size, and a variable lives on between photos.
        raise Unsupported(f"{table.name} is sparse or a variable")
    if stored_bytes and stored_bytes != wanted_bytes:
        raise Malformed(f"{table.name} {dtype} {list(shape)} has {stored_bytes} bytes, not {wanted_bytes}")
    scale, zero_point = _quantization(table, shape, dtype)
    # Only what shapes are made of is looked at: a few numbers.
    content = table.data[start : start + min(stored_bytes, MAX_SHAPE_BYTES)] if stored_bytes else None
    return TensorSpec(signature or shape, dtype, scale, zero_point), Operand(
        shape, dtype, content, wanted_bytes, scale
    )


def _quantization(table: Table, shape: tuple[int, ...], dtype: str) -> tuple[float, int]:
    """Scale and zero point of a tensor with one of each; (0.0, 0) when it has none or one per channel."""
    quantization = table.child(4, "quantization")
    if quantization is None:
        return 0.0, 0
    for number in (0, 1):
        quantization.vector(number, 4)
    scales = quantization.numbers(2, "f")
    # Weights have a zero for each of up to 1280 channels, which need not become Python integers.
    first, count = quantization.vector(3, 8)
    zeros = table.data.count(0, first, first + 8 * count) == 8 * count
    zero_points = (0,) * min(count, MAX_ITEMS) if zeros else quantization.numbers(3, "q")
    quantization.child(5, "details")
    if len(zero_points) not in (0, 1, len(scales)):
        raise Malformed(f"{table.name} has {len(scales)} scales and {len(zero_points)} zero points")
    # By sum and min, at C speed: a MobileNetV2 has 17,000 scales. A NaN or an infinity survives the sum.
    # A dead channel may have the scale 0; a whole tensor may not.
    least = MIN_SCALE if len(scales) == 1 else 0.0
    total = sum(scales)
    if scales and (not math.isfinite(total) or min(scales) < least or total > MAX_SCALE):
        raise Malformed(f"{table.name} has a scale that is too small, too large, negative or not finite")
    low, high = ZERO_POINTS.get(dtype, (0, 0))
    if not zeros and (min(zero_points) < low or max(zero_points) > high):
        # Not pedantry: LiteRT 2.3.0 indexes tables with them and crashes.
        raise Malformed(f"{table.name} has a zero point that {dtype} does not have")
    if len(scales) > 1:
        axis = quantization.scalar(6, "i")
        if not 0 <= axis < len(shape) or shape[axis] != len(scales):
            raise Malformed(f"{table.name} has {len(scales)} scales for axis {axis} of {list(shape)}")
        return 0.0, 0
    return (float(scales[0]), int(zero_points[0]) if zero_points else 0) if scales else (0.0, 0)


def _require_index(index: int, count: int, name: str, what: str) -> None:
    if not 0 <= index < count:
        raise Malformed(f"{name} names {what} {index} of {count}")
