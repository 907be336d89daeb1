"""Model files with generated operators: valid flatbuffers whose graph may be nonsense, for the fuzzer.

A tiny fixture model gets one to three further operators, each drawn from operators.txt (with the options that belong
to it) or, now and then, from all that LiteRT knows. Operands are tensors of the graph and new constants; the declared
output shape is mostly the one that follows, sometimes another. Unlike a mutated file, such a graph passes every check
of structure: only what the operators themselves mean can stop it.
"""

from __future__ import annotations

import random
import struct
from functools import cache
from typing import Any

from edge_runtime.model.flatbuffer import Table
from edge_runtime.model.operators import RULES, SHORT, Kind, Operator, kind_of
from edge_runtime.model.tensors import Operand, Unsupported
from tests.fixtures.bad_models import flatbuffer_of, good

TYPE_NUMBERS = {
    "float32": 0,
    "float16": 1,
    "int32": 2,
    "uint8": 3,
    "int64": 4,
    "int16": 7,
    "int8": 9,
    "int4": 17,
}
TYPE_NAMES = {number: name for name, number in TYPE_NUMBERS.items()}
BITS = {"float32": 32, "float16": 16, "int32": 32, "uint8": 8, "int64": 64, "int16": 16, "int8": 8, "int4": 4}
BASES = ("tiny_float32.tflite", "tiny_int8.tflite", "tiny_uint8.tflite")
ANY_OPERATOR = 206
CUSTOM = 32
ODD = (-2147483648, -7, -2, -1, 0, 1, 2, 3, 5, 64, 4097, 2147483647)


@cache
def _schema() -> Any:
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


@cache
def _option_classes() -> dict[int, str]:
    schema = _schema()
    return {number: name for name, number in vars(schema.BuiltinOptions).items() if not name.startswith("_")}


@cache
def _listed() -> list[int]:
    return [number for number in range(ANY_OPERATOR) if kind_of(number) is not None]


class GraphFile:
    """A fixture model to which operators are added by hand.

    Args:
        base: Its name.
    """

    def __init__(self, base: str) -> None:
        body = flatbuffer_of(good(base))
        self.tail = good(base)[len(body) :]
        self.model = _schema().ModelT.InitFromObj(_schema().Model.GetRootAs(body, 0))
        self.graph = Graph(self.model, random.Random(0))

    @property
    def input_shape(self) -> list[int]:
        """Of the model's input."""
        graph = self.model.subgraphs[0]
        return [int(side) for side in graph.tensors[graph.inputs[0]].shape]

    def with_operator(
        self, number: int, shape: list[int], numbers: list[int] | None = None, option_type: int = 0
    ) -> bytes:
        """The flatbuffer with one operator on the model's input, and int32 constants as its second operand."""
        graph, schema = self.model.subgraphs[0], _schema()
        operator = schema.OperatorT()
        operator.opcodeIndex = self.graph.code(number)
        operator.inputs = [graph.inputs[0]] + ([] if numbers is None else [self.graph.constant_ints(numbers)])
        name = _option_classes().get(option_type, "NONE")
        operator.builtinOptionsType = option_type
        operator.builtinOptions = None if name == "NONE" else getattr(schema, f"{name}T")()
        operator.outputs = [self.graph.tensor(shape, "float32", constant=False)]
        graph.operators.append(operator)
        return pack(self.model)

    def with_last_as_custom(self, name: bytes) -> bytes:
        """The whole file, its last operator replaced by a custom one, as a compiler for an accelerator does."""
        last = self.model.subgraphs[0].operators[-1]
        last.opcodeIndex = self.graph.code(CUSTOM)
        self.model.operatorCodes[-1].customCode = name
        last.builtinOptionsType, last.builtinOptions, last.customOptions = 0, None, [1, 2, 3]
        return pack(self.model) + self.tail

    def with_operators(self, shared: int) -> bytes:
        """The flatbuffer with a vector of operators that all point to one table."""
        data = bytearray(pack(self.model))
        at = len(data)
        root = struct.unpack_from("<I", data, 0)[0]
        table = Table(bytes(data), at, root, "Model").children(2, "SubGraph")[0]
        first = table.children(3, "Operator")[0].position
        place = table.field(3, 4)
        assert place is not None
        struct.pack_into("<I", data, place, at - place)
        data += struct.pack("<I", shared)
        for _ in range(shared):
            data += struct.pack("<I", (first - len(data)) & 0xFFFFFFFF)
        return bytes(data)


def pack(model: Any) -> bytes:
    """The flatbuffer of a model."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _quantize_oddly(tensor: Any, shape: list[int], chance: random.Random) -> None:
    """A scale for each channel of any side, none, or one that hardly any network has."""
    given = tensor.quantization
    kind = chance.randrange(5)
    if kind == 0:
        tensor.quantization = None
    elif kind == 1:
        given.scale, given.zeroPoint = (
            [chance.choice((1e-19, 1e-9, 1e-4, 300.0, 65536.0, 1e17, 3e38, float("nan")))],
            [0],
        )
    elif kind == 2:
        given.zeroPoint = [chance.choice((-128, -1, 1, 127, 255, 32767))]
    else:
        given.quantizedDimension = chance.randrange(max(len(shape), 1))
        count = min(shape[given.quantizedDimension], 4096) if shape else 2
        given.scale = [chance.choice((0.0, 0.01, 1.0, 1e15))] * (count + (chance.random() < 0.1))
        given.zeroPoint = [chance.choice((0, 0, 1))] * chance.choice((0, 1, count))


def _packs(options: Any) -> bool:
    """Whether every number fits its field."""
    import flatbuffers

    try:
        options.Pack(flatbuffers.Builder(256))
    except TypeError:
        return False
    return True


def graph_case(seed: int, index: int) -> bytes:
    """The bytes of a model with generated operators; the same on every machine."""
    chance = random.Random(f"graph {seed} {index}")
    base = good(chance.choice(BASES))
    body = flatbuffer_of(base)
    schema = _schema()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(body, 0))
    graph = Graph(model, chance)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        graph.add_operator()
    if chance.random() < 0.01:
        outside = schema.ExternalBufferGroupT()
        outside.name = b"/etc/hostname"
        model.externalBufferGroups = [outside]
    # The zip tail is read from its end: offsets count from the start of the archive, or are corrected for.
    return pack(model) + base[len(body) :]


class Graph:
    """A model under construction."""

    def __init__(self, model: Any, chance: random.Random) -> None:
        self.model, self.chance = model, chance
        self.graph = model.subgraphs[0]
        self.schema = _schema()

    def add_operator(self) -> None:
        """Puts an operator behind one that is there; what it makes is used further on, or nowhere."""
        chance, graph = self.chance, self.graph
        number = chance.choice(_listed()) if chance.random() < 0.9 else chance.randrange(ANY_OPERATOR)
        kind = kind_of(number)
        at = chance.randrange(len(graph.operators) + 1)
        computed = [*graph.inputs, *(i for one in graph.operators[:at] for i in one.outputs)]
        operator = self.schema.OperatorT()
        operator.opcodeIndex = self.code(number)
        inputs, dtype = self._operands(kind, computed)
        operator.inputs = inputs
        option_type = kind.option_type if kind is not None else chance.randrange(120)
        if chance.random() < 0.04:
            option_type = chance.randrange(120)
        operator.builtinOptionsType, operator.builtinOptions = self._options(option_type)
        count = chance.choice((1, 1, 1, 2)) if kind is None or kind.most_outputs > 1 else 1
        if chance.random() < 0.03:
            count = chance.choice((0, 2, 5))
        shape = self._shape_that_follows(kind, operator, inputs, count)
        operator.outputs = [self.tensor(shape, dtype, constant=False) for _ in range(count)]
        graph.operators.insert(at, operator)
        if operator.outputs and chance.random() < 0.3:
            self._use(operator.outputs[0], inputs[0] if inputs else -1, at + 1)

    def _use(self, made: int, instead_of: int, first: int) -> None:
        """Later operators read `made` where they read another tensor."""
        for one in self.graph.operators[first:]:
            one.inputs = [made if i == instead_of else i for i in one.inputs]

    def code(self, number: int) -> int:
        code = self.schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = (
            number,
            min(number, 127),
            self.chance.choice((1, 1, 2, 4)),
        )
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def _operands(self, kind: Kind | None, computed: list[int]) -> tuple[list[int], str]:
        """Indices of operands, mostly of types that go together, and the output's type."""
        chance = self.chance
        types, output = (
            chance.choice(sorted(kind.types))
            if kind is not None
            else (("float32",) * chance.randrange(4), "float32")
        )
        count = len(types)
        if kind is not None and kind.most > kind.fewest:
            count = chance.randrange(kind.fewest, min(kind.most, 4) + 1)
        if chance.random() < 0.05:
            count = chance.randrange(6)
        found = []
        for i in range(count):
            dtype = types[min(i, len(types) - 1)] if types else "float32"
            if chance.random() < 0.03:
                dtype = chance.choice(list(SHORT.values()))
            found.append(self._operand(kind, i, dtype, computed, found))
            if i > 1 and chance.random() < 0.05:
                found[-1] = -1
        if chance.random() < 0.02:
            found.append(chance.choice((-1, -2, 99999)))
        return found, output if chance.random() > 0.02 else chance.choice(list(SHORT.values()))

    def _operand(
        self, kind: Kind | None, index: int, dtype: str, computed: list[int], before: list[int]
    ) -> int:
        chance, tensors = self.chance, self.graph.tensors
        fitting = [i for i in computed if TYPE_NAMES.get(tensors[i].type) == dtype]
        rule = next((name for name, rule in RULES.items() if kind is not None and rule is kind.rule), "")
        data = list(tensors[before[0]].shape) if before and before[0] >= 0 else [1, 4, 4, 3]
        if rule == "split":
            return (
                self.constant_ints([chance.choice((0, 1, 2, 3, -1))])
                if index == 0
                else self._any(dtype, fitting)
            )
        if index == 0:
            return self._any(dtype, fitting)
        if rule in ("convolution", "depthwise", "fully_connected"):
            return self._weights(rule, index, dtype, data, before)
        if dtype == "int32" and index > 0:
            return self.constant_ints(self._numbers(rule, index, data), two_sided=rule == "pad")
        if rule in ("broadcast", "concatenation") and chance.random() < 0.8:
            shape = [side if chance.random() < 0.8 else 1 for side in data] if rule == "broadcast" else data
            return self.tensor(shape, dtype, constant=True)
        return self._any(dtype, fitting)

    def _any(self, dtype: str, fitting: list[int]) -> int:
        if fitting and self.chance.random() < 0.8:
            return self.chance.choice(fitting)
        return self.tensor(self._random_shape(), dtype, constant=True)

    def _weights(self, rule: str, index: int, dtype: str, data: list[int], before: list[int]) -> int:
        chance = self.chance
        depth = data[-1] if data else 1
        units = chance.choice((1, 2, 3, 8))
        if index == 2:
            filters = self.graph.tensors[before[1]].shape if len(before) > 1 and before[1] >= 0 else [units]
            size = filters[-1] if rule == "depthwise" else filters[0] if len(filters) else 1
            return self.tensor(
                [int(size)] if chance.random() < 0.95 else [chance.choice((1, 7, 900))], dtype, constant=True
            )
        side = chance.choice((1, 1, 2, 3))
        shape = {
            "convolution": [units, side, side, depth],
            "depthwise": [1, side, side, depth * chance.choice((1, 1, 2))],
            "fully_connected": [units, depth],
        }[rule]
        if chance.random() < 0.08:
            shape[chance.randrange(len(shape))] = chance.choice((1, 2, 5, 1000))
        return self.tensor([int(one) for one in shape], dtype, constant=True)

    def _numbers(self, rule: str, index: int, data: list[int]) -> list[int]:
        """Values of a shape, axis or padding operand that may well be right."""
        chance, rank = self.chance, len(data)
        if chance.random() < 0.12:
            return [chance.choice(ODD) for _ in range(chance.choice((0, 1, 2, 3, 4, 8, 9, 12, 30, 64)))]
        size = 1
        for side in data:
            size *= int(side)
        made = {
            "reshape": chance.choice(([1, size], [size], [-1], [1, -1, 1], [int(s) for s in data])),
            "pad": [chance.choice((0, 0, 0, 0, 1, 1, 2, 2, 200)) for _ in range(2 * rank)],
            "transpose": chance.sample(range(rank), rank),
            "reduce": chance.choice(([1, 2], [0], [-1], [rank - 1], [1, 2, 3])),
            "expand_dims": [chance.choice((0, 1, rank, -1))],
            "resize": [chance.choice((1, 2, 7, 16, 16, 500)), chance.choice((1, 2, 7, 16, 16, 500))],
            "slice": [0] * rank if index == 1 else [chance.choice((1, -1, int(side))) for side in data],
            "strided_slice": {
                1: [0] * rank,
                2: [int(side) for side in data],
                3: [chance.choice((1, 2))] * rank,
            }.get(index, [0]),
        }
        return made.get(rule, [chance.choice(ODD) for _ in range(max(rank, 1))])

    def constant_ints(self, values: list[int], *, two_sided: bool = False) -> int:
        shape = [len(values) // 2, 2] if two_sided and len(values) % 2 == 0 else [len(values)]
        if len(values) == 1 and self.chance.random() < 0.5:
            shape = []
        content = b"".join((value & 0xFFFFFFFF).to_bytes(4, "little") for value in values)
        return self.tensor(shape, "int32", constant=True, content=content)

    def _random_shape(self) -> list[int]:
        return [
            self.chance.choice((1, 1, 2, 3, 4, 7))
            for _ in range(self.chance.choice((0, 1, 2, 4, 4, 4, 5, 7)))
        ]

    def tensor(self, shape: list[int], dtype: str, *, constant: bool, content: bytes | None = None) -> int:
        chance, schema = self.chance, self.schema
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = (
            shape,
            TYPE_NUMBERS[dtype],
            f"t{len(self.graph.tensors)}".encode(),
        )
        odd = chance.random() < 0.06
        if odd or dtype in ("int8", "uint8", "int16", "int4"):
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [chance.choice((0.00390625, 0.1, 1.0))]
            tensor.quantization.zeroPoint = [0 if dtype != "uint8" else chance.choice((0, 128))]
        if odd:
            _quantize_oddly(tensor, shape, chance)
        if constant:
            size = 1
            for side in shape:
                size *= side
            stored = schema.BufferT()
            bits = (size * BITS[dtype] + 7) // 8
            stored.data = list(
                content
                if content is not None
                else bytes(chance.randrange(256) for _ in range(min(bits, 65536)))
            )
            if dtype == "float32" and content is None:
                stored.data = list(b"\x00\x00\x80\x3f" * size)[: 4 * 65536]
            self.model.buffers.append(stored)
            tensor.buffer = len(self.model.buffers) - 1
        if chance.random() < 0.005:
            tensor.externalBuffer = 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _options(self, option_type: int) -> tuple[int, Any]:
        name = _option_classes().get(option_type, "NONE")
        if name == "NONE":
            return 0, None
        made = getattr(self.schema, f"{name}T")()
        chance = self.chance
        for field, value in vars(made).items():
            wild = chance.random() < 0.03
            if isinstance(value, bool):
                setattr(made, field, chance.random() < 0.4)
            elif isinstance(value, float):
                setattr(made, field, chance.choice((1.0, 1.0, 0.1, 0.0, -1.0, 1e-30, 1e30, float("nan"))))
            elif isinstance(value, int):
                plausible = (
                    (0, 1)
                    if "adding" in field
                    else (1, 1, 2, 3)
                    if "tride" in field or "ilter" in field or "actor" in field
                    else (0, 0, 1, 2)
                )
                low = (
                    0
                    if "ctivation" in field
                    or "adding" in field
                    or "ormat" in field
                    or "ype" in field.lower()
                    or field == "mode"
                    else -1
                )
                odd = [one for one in ODD if one >= low and (low < 0 or one < 100)]
                setattr(made, field, chance.choice(odd) if wild else chance.choice(plausible))
                if wild and not _packs(made):
                    setattr(made, field, 0)
        return option_type, made

    def _shape_that_follows(
        self, kind: Kind | None, operator: Any, inputs: list[int], count: int
    ) -> list[int]:
        """The output shape by the rules themselves, so that many graphs run; another one now and then."""
        chance = self.chance
        if kind is None or chance.random() < 0.06:
            return self._random_shape()
        operands: list[Operand | None] = []
        for i in inputs:
            if not 0 <= i < len(self.graph.tensors):
                operands.append(None)
                continue
            tensor = self.graph.tensors[i]
            stored = self.model.buffers[tensor.buffer].data if tensor.buffer else None
            content = bytes(stored)[:64] if stored is not None and len(stored) else None
            shape = () if tensor.shape is None else tuple(int(side) for side in tensor.shape)
            operands.append(Operand(shape, TYPE_NAMES.get(tensor.type, "float32"), content, 0))
        try:
            outputs = [Operand((), "float32", None, 0)] * count
            return list(kind.rule(Operator(kind, operands, outputs, _Fields(operator)))[0])
        except (Unsupported, ValueError, IndexError, TypeError, ZeroDivisionError, struct.error):
            return self._random_shape()


class _Fields:
    """Options as a table of numbered fields, from the schema's object: their order is that of the numbers."""

    def __init__(self, operator: Any) -> None:
        made = operator.builtinOptions
        self.values = list(vars(made).values()) if made is not None else []

    def scalar(self, number: int, code: str, default: int = 0) -> int:
        """As `Table.scalar`."""
        return (
            int(self.values[number])
            if number < len(self.values) and self.values[number] is not None
            else default
        )

    def numbers(self, number: int, code: str) -> tuple[int, ...]:
        """As `Table.numbers`."""
        return tuple(self.values[number] or ()) if number < len(self.values) else ()
