"""What stands inside a .tflite: tensors, operators, quantization, metadata. stdlib only, no TensorFlow.

The bytes are walked first by `edge_runtime.model.model_file`, which follows every offset and refuses the first that
leads
outside the file; what is read here is what lies behind those offsets. Field numbers are those of `schema.fbs`,
version 3.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract import ModelContract
from edge_runtime.errors import ContractInvalid, ContractMissing, ModelMismatch, ModelNotFound, NotATfliteFile
from edge_runtime.model.model_file import MAX_MODEL_BYTES, parse_model

DTYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16",
    8: "complex64", 9: "int8", 10: "float64", 11: "complex128", 12: "uint64", 13: "resource", 14: "variant",
    15: "uint32", 16: "uint16", 17: "int4", 18: "bfloat16",
}  # fmt: skip
FLOAT_DTYPES = ("float16", "float32", "float64", "bfloat16")
METADATA_NAME = "TFLITE_METADATA"
CUSTOM = 32
# By number, from 0; `BuiltinOperator` of schema.fbs.
_OPERATOR_TEXT = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM
MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS
SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND
SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN
EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2
GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG
SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT
UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU
SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE
MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND
SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D
CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE
VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL
GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1
"""
OPERATORS = tuple(_OPERATOR_TEXT.split())


@dataclass(frozen=True)
class Tensor:
    """One tensor of the first subgraph."""

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    """The shape with -1 where a side is free; `shape` where none is."""
    stored_bytes: int
    """Of its constant data; 0 for what is computed."""
    scales: tuple[float, ...]
    """None: not quantized; one; or one for each entry of `axis`."""
    zero_points: tuple[int, ...]
    axis: int

    @property
    def constant(self) -> bool:
        """Whether its values stand in the file."""
        return self.stored_bytes > 0

    @property
    def quantized(self) -> bool:
        """Whether integers with a scale stand for real values."""
        return bool(self.scales)

    @property
    def free(self) -> bool:
        """Whether a side is not fixed."""
        return -1 in self.signature

    @property
    def size(self) -> int:
        """Number of elements."""
        count = 1
        for side in self.shape:
            count *= side
        return count


@dataclass(frozen=True)
class Operator:
    """One operator of the first subgraph."""

    index: int
    kind: str
    """`CONV_2D`; `CUSTOM name` for a custom one; `OPERATOR_n` for one that this table does not know."""
    version: int
    inputs: tuple[int, ...]
    """Tensor indices; -1 for an optional one that is left out."""
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class TfliteFile:
    """A .tflite, opened and looked into."""

    path: Path
    data: bytes
    contract: ModelContract | None
    """None where the file has none."""
    contract_problem: str
    """Why there is no contract; empty where there is one."""
    description: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int
    metadata: Mapping[str, bytes]
    """Name to content."""

    @property
    def bytes(self) -> int:
        """Of the whole file."""
        return len(self.data)

    def operator_counts(self) -> dict[str, int]:
        """Kind to number, commonest first."""
        counts: dict[str, int] = {}
        for operator in self.operators:
            counts[operator.kind] = counts.get(operator.kind, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def dtype_counts(self, *, constant: bool) -> dict[str, int]:
        """Number of tensors by dtype, of those that stand in the file or of those that are computed."""
        used = {i for operator in self.operators for i in (*operator.inputs, *operator.outputs) if i >= 0}
        counts: dict[str, int] = {}
        for tensor in self.tensors:
            if tensor.index in used and tensor.constant is constant:
                counts[tensor.dtype] = counts.get(tensor.dtype, 0) + 1
        return dict(sorted(counts.items()))


def read_tflite(path: Path) -> TfliteFile:
    """Opens any .tflite, with or without a contract.

    Raises:
        ModelNotFound: It cannot be read, or is larger than the runtime's cap.
        NotATfliteFile: It is not a well-formed .tflite.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_MODEL_BYTES + 1)
    except OSError as error:
        raise ModelNotFound(
            f"{path}: the model cannot be read", found=error.strerror or str(error), expected="a .tflite file",
            fix="check the path",
        ) from error  # fmt: skip
    return parse_tflite(path, data)


def parse_tflite(path: Path, data: bytes) -> TfliteFile:
    """As `read_tflite`, of a file that has been read: `data` is all of it."""
    contract, problem = None, ""
    try:
        # Walks the whole structure before it looks for the contract.
        contract = parse_model(data, str(path)).contract
    except ContractMissing:
        problem = "no contract inside"
    except (ContractInvalid, ModelMismatch) as error:
        problem = error.message
    try:
        return _read(path, data, contract, problem)
    except (struct.error, IndexError) as error:
        raise NotATfliteFile(
            f"{path}: the .tflite file is damaged", found=str(error), fix="convert the model again"
        ) from error


class _Table:
    """A flatbuffer table that the runtime's walk has accepted."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.vtable = position - int(struct.unpack_from("<i", data, position)[0])
        self.vtable_bytes = int(struct.unpack_from("<H", data, self.vtable)[0])

    def _field(self, number: int) -> int | None:
        entry = 4 + 2 * number
        if entry + 2 > self.vtable_bytes:
            return None
        offset = int(struct.unpack_from("<H", self.data, self.vtable + entry)[0])
        return self.position + offset if offset else None

    def scalar(self, number: int, code: str, default: int = 0) -> int:
        position = self._field(number)
        return default if position is None else int(struct.unpack_from("<" + code, self.data, position)[0])

    def _target(self, number: int) -> int | None:
        position = self._field(number)
        return None if position is None else position + int(struct.unpack_from("<I", self.data, position)[0])

    def child(self, number: int) -> _Table | None:
        target = self._target(number)
        return None if target is None else _Table(self.data, target)

    def _vector(self, number: int) -> tuple[int, int]:
        target = self._target(number)
        if target is None:
            return 0, 0
        return target + 4, int(struct.unpack_from("<I", self.data, target)[0])

    def numbers(self, number: int, code: str) -> tuple[int, ...]:
        start, count = self._vector(number)
        return struct.unpack_from(f"<{count}{code}", self.data, start)

    def floats(self, number: int) -> tuple[float, ...]:
        start, count = self._vector(number)
        return struct.unpack_from(f"<{count}f", self.data, start)

    def children(self, number: int) -> list[_Table]:
        start, count = self._vector(number)
        offsets = struct.unpack_from(f"<{count}I", self.data, start)
        return [_Table(self.data, start + 4 * i + offset) for i, offset in enumerate(offsets)]

    def content(self, number: int) -> bytes:
        start, count = self._vector(number)
        return self.data[start : start + count]

    def text(self, number: int) -> str:
        return self.content(number).decode("utf-8", "replace")


def _read(path: Path, data: bytes, contract: ModelContract | None, problem: str) -> TfliteFile:
    root = _Table(data, int(struct.unpack_from("<I", data, 0)[0]))
    buffers = root.children(4)
    graphs = root.children(2)
    graph = graphs[0]
    codes = [_kind(code) for code in root.children(1)]
    return TfliteFile(
        path,
        data,
        contract,
        problem,
        root.text(3),
        tuple(_tensor(i, table, buffers) for i, table in enumerate(graph.children(0))),
        tuple(_operator(i, table, codes) for i, table in enumerate(graph.children(3))),
        graph.numbers(1, "i"),
        graph.numbers(2, "i"),
        len(graphs),
        {entry.text(0): buffers[entry.scalar(1, "I")].content(0) for entry in root.children(6)},
    )


def _kind(code: _Table) -> tuple[str, int]:
    # The old field is a byte; numbers beyond 126 stand in the new one.
    number = max(code.scalar(0, "b"), code.scalar(3, "i"))
    if number == CUSTOM:
        kind = f"CUSTOM {code.text(1)}"
    else:
        kind = OPERATORS[number] if 0 <= number < len(OPERATORS) else f"OPERATOR_{number}"
    return kind, code.scalar(2, "i", 1)


def _tensor(index: int, table: _Table, buffers: list[_Table]) -> Tensor:
    shape, signature = table.numbers(0, "i"), table.numbers(7, "i")
    quantization = table.child(4)
    return Tensor(
        index,
        table.text(3),
        DTYPES.get(table.scalar(1, "b"), "unknown"),
        shape,
        signature or shape,
        len(buffers[table.scalar(2, "I")].content(0)),
        quantization.floats(2) if quantization else (),
        quantization.numbers(3, "q") if quantization else (),
        quantization.scalar(6, "i") if quantization else 0,
    )


def _operator(index: int, table: _Table, codes: list[tuple[str, int]]) -> Operator:
    kind, version = codes[table.scalar(0, "I")]
    return Operator(index, kind, version, table.numbers(1, "i"), table.numbers(2, "i"))
