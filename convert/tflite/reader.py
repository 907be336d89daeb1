"""The one reader of .tflite files: tensors, operators, quantization, metadata. stdlib only, no TensorFlow.

`edge_runtime.model.model_file` walks the bytes first and refuses the first offset that leads outside the file; what is
read here lies behind those offsets. Field numbers are those of `schema.fbs`, version 3.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract import ModelContract
from edge_runtime.errors import (
    ContractInvalid,
    ContractMissing,
    ModelMismatch,
    ModelUnsupported,
    NotATfliteFile,
)
from edge_runtime.model.flatbuffer import TENSOR_TYPES, Limits, Malformed, Table, operator_number
from edge_runtime.model.model_file import parse_model, read_model
from edge_runtime.model.operator_names import operator_name

FLOAT_DTYPES = ("float16", "float32", "float64", "bfloat16")
METADATA_NAME = "TFLITE_METADATA"
CUSTOM = 32


@dataclass(frozen=True)
class Tensor:
    """One tensor of the first subgraph."""

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    """The shape with -1 for a free side; `shape` if there is none."""
    stored_bytes: int
    """Size of its constant data; 0 if it is computed."""
    scales: tuple[float, ...]
    """Empty: not quantized; one; or one for each entry of `axis`."""
    zero_points: tuple[int, ...]
    axis: int

    @property
    def constant(self) -> bool:
        """Whether its values are stored in the file."""
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
        return math.prod(self.shape)


@dataclass(frozen=True)
class Operator:
    """One operator of the first subgraph."""

    index: int
    kind: str
    """`CONV_2D`; `CUSTOM name`, or `OPERATOR_n` if the name is unknown."""
    version: int
    inputs: tuple[int, ...]
    """Tensor indices; -1 for an optional input that is absent."""
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class TfliteFile:
    """A .tflite and what it holds."""

    path: Path
    data: bytes
    contract: ModelContract | None
    """None if the file has none."""
    contract_problem: str
    """Why there is no contract; empty if there is one."""
    description: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int
    metadata: Mapping[str, bytes]
    """Name to content."""

    def used(self) -> list[Tensor]:
        """The tensors that an operator reads or writes."""
        indices = {i for operator in self.operators for i in (*operator.inputs, *operator.outputs)}
        return [tensor for tensor in self.tensors if tensor.index in indices]

    def operator_counts(self) -> dict[str, int]:
        """Kind to number, commonest first."""
        counts = Counter(operator.kind for operator in self.operators)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def dtype_counts(self, *, constant: bool) -> dict[str, int]:
        """Number of tensors by dtype, of the stored or of the computed ones."""
        return dict(sorted(Counter(x.dtype for x in self.used() if x.constant is constant).items()))


def read_tflite(path: Path, limits: Limits | None = None) -> TfliteFile:
    """Open any .tflite, with or without a contract; beyond `limits` it is one without.

    Raises:
        ModelNotFound, ModelTooLarge: It cannot be read.
        NotATfliteFile: It is not a well-formed .tflite.
    """
    data, contract, problem = read_model(path)[1], None, ""
    try:
        # Walks the whole structure before it looks for the contract.
        contract = parse_model(data, str(path), limits=limits or Limits()).contract
    except ContractMissing:
        problem = "no contract inside"
    except (ContractInvalid, ModelMismatch, ModelUnsupported) as error:
        problem = error.message
    return read_structure(data, path, contract, problem)


def read_structure(
    data: bytes, path: Path = Path("model"), contract: ModelContract | None = None, problem: str = ""
) -> TfliteFile:
    """What a .tflite holds, without looking for its contract: of bytes that were just made, or walked already.

    Raises:
        NotATfliteFile: Its structure is damaged.
    """
    try:
        root = Table(data, len(data), int(struct.unpack_from("<I", data, 0)[0]), "Model")
        buffers = root.children(4, "Buffer")
        graphs = root.children(2, "SubGraph")
        codes = [_kind(code) for code in root.children(1, "OperatorCode")]
        file = TfliteFile(
            path,
            data,
            contract,
            problem,
            _content(root, 3).decode("utf-8", "replace"),
            tuple(_tensor(i, table, buffers) for i, table in enumerate(graphs[0].children(0, "Tensor"))),
            tuple(_operator(i, table, codes) for i, table in enumerate(graphs[0].children(3, "Operator"))),
            graphs[0].numbers(1, "i"),
            graphs[0].numbers(2, "i"),
            len(graphs),
            {_text(x, 0): _content(buffers[x.scalar(1, "I")], 0) for x in root.children(6, "Metadata")},
        )
        ends = [*file.inputs, *file.outputs]
        for index in (*ends, *(i for x in file.operators for i in (*x.inputs, *x.outputs) if i != -1)):
            if not 0 <= index < len(file.tensors):
                raise IndexError(f"tensor {index} of {len(file.tensors)}")
    except (struct.error, IndexError, Malformed) as error:
        raise NotATfliteFile(
            f"{path}: the .tflite file is damaged", found=str(error), fix="convert the model again"
        ) from error
    return file


def _content(table: Table, number: int) -> bytes:
    start, count = table.vector(number, 1)
    return table.data[start : start + count]


def _text(table: Table, number: int) -> str:
    return table.text(number).decode("utf-8", "replace")


def _kind(code: Table) -> tuple[str, int]:
    number = operator_number(code)
    kind = f"CUSTOM {_text(code, 1)}" if number == CUSTOM else operator_name(number)
    return kind, code.scalar(2, "i", 1)


def _tensor(index: int, table: Table, buffers: list[Table]) -> Tensor:
    shape, signature = table.numbers(0, "i"), table.numbers(7, "i")
    quantization = table.child(4, "quantization")
    return Tensor(
        index,
        _text(table, 3),
        TENSOR_TYPES.get(table.scalar(1, "b"), ("unknown", 0))[0],
        shape,
        signature or shape,
        buffers[table.scalar(2, "I")].vector(0, 1)[1],
        tuple(map(float, quantization.numbers(2, "f"))) if quantization else (),
        quantization.numbers(3, "q") if quantization else (),
        quantization.scalar(6, "i") if quantization else 0,
    )


def _operator(index: int, table: Table, codes: list[tuple[str, int]]) -> Operator:
    kind, version = codes[table.scalar(0, "I")]
    return Operator(index, kind, version, table.numbers(1, "i"), table.numbers(2, "i"))
