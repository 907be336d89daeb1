"""The allow-list of operators: what is taken, what is refused, and that LiteRT computes the shapes that follow."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_runtime.engines import open_engine
from edge_runtime.errors import InterpreterError, ModelFileError, ModelUnsupported
from edge_runtime.model.flatbuffer import WALK_BUDGET, walk_model
from edge_runtime.model.model_file import bundled_model_path, parse_model
from edge_runtime.model.operators import RULES, check_node, kind_of
from edge_runtime.model.tensors import Operand, Unsupported
from tests.edge_runtime.graphs import GraphFile, graph_case, pack

GRAPHS = 400
SEED = 20261130
# Where the options are not named after the operator.
OPTIONS = {
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), "Pool2DOptions"),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX"), "ReducerOptions"),
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), "MaximumMinimumOptions"),
    "PADV2": "PadV2Options",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
}
TABLE = "edge_runtime/model/operators.txt"


def test_the_table_is_well_formed(repository: Path) -> None:
    lines = [line for line in (repository / TABLE).read_text(encoding="ascii").splitlines() if line[0] != "#"]
    assert len(lines) > 40
    numbers = [int(line.split()[0]) for line in lines]
    assert numbers == sorted(set(numbers))
    for line in lines:
        number, name, rule, *_ = line.split()
        kind = kind_of(int(number))
        assert kind is not None and kind.name == name and kind.rule is RULES[rule]
        assert kind.types and 1 <= kind.fewest <= kind.most
    assert {line.split()[2] for line in lines} == set(RULES)


def test_the_names_are_those_of_the_schema(repository: Path) -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    for number in range(256):
        kind = kind_of(number)
        if kind is not None:
            assert getattr(schema.BuiltinOperator, kind.name) == number
            options = kind.name.title().replace("_", "") + "Options"
            if kind.option_type:
                assert getattr(schema.BuiltinOptions, OPTIONS.get(kind.name, options)) == kind.option_type


def test_the_bundled_model_is_made_of_listed_operators() -> None:
    data = bundled_model_path().read_bytes()
    assert parse_model(data, "bundled").contract == parse_model(data, "bundled", trusted=True).contract


def one_more(**fields: object) -> bytes:
    """The tiny float model with one further operator whose output nobody reads."""
    return GraphFile("tiny_float32.tflite").with_operator(**fields)


@pytest.mark.parametrize(
    ("problem", "fields"),
    [
        ("a reshape", {"number": 22, "shape": [1], "numbers": [1] * 7}),
        ("numbers where", {"number": 22, "shape": [1, 192], "numbers": [1] * 64}),
        ("number of inputs is 1", {"number": 49, "shape": [1, 8, 8, 3], "option_type": 35}),
        ("number of inputs is 1", {"number": 126, "shape": [1, 8, 8, 3], "option_type": 101}),
        ("is FILL,", {"number": 94, "shape": [1]}),
        ("is WHILE,", {"number": 119, "shape": [1]}),
        ("is CUSTOM,", {"number": 32, "shape": [1]}),
        (
            "a resize to",
            {"number": 23, "shape": [1, 8, 8, 3], "numbers": [12000, 12000], "option_type": 15},
        ),
        ("its options are of type", {"number": 25, "shape": [1, 8, 8, 3], "option_type": 1}),
        ("follows from its inputs", {"number": 28, "shape": [1, 8, 8, 4]}),
    ],
)
def test_operators_that_native_code_runs_into_foreign_memory_are_refused(
    problem: str, fields: dict[str, object]
) -> None:
    with pytest.raises(ModelUnsupported) as caught:
        walk_model(one_more(**fields), where="m")
    assert re.search(problem, caught.value.found)


@pytest.mark.parametrize(("second", "fits"), [((2, 7, 4, 5), True), ((4, 1, 4, 5), False)])
def test_a_product_needs_outer_sides_that_go_together(second: tuple[int, ...], fits: bool) -> None:
    given: list[Operand | None] = [Operand(shape, "float32", None, 0) for shape in ((2, 1, 3, 4), second)]
    options: Any = SimpleNamespace(scalar=lambda number, code, default=0: default)
    output = [Operand((2, second[1], 3, 5), "float32", None, 0)]
    if fits:
        assert check_node("product", 126, given, output, options, 101) == 2 * 7 * 3 * 5 * 4
    else:
        with pytest.raises(Unsupported):
            check_node("product", 126, given, output, options, 101)


@pytest.mark.parametrize(
    ("dtype", "shape", "scales", "fits"),
    [
        ("int8", (4,), (0.5, 0.1, 0.1), True),
        ("int8", (4,), (0.5, 0.1, 0.0), False),
        ("int8", (4,), (1.0, 1.0, 1e-5), False),
        ("int16", (1,), (0.3, 0.25, 0.5), True),
        ("int16", (4,), (0.5, 0.25, 0.5), True),
        ("int16", (1,), (0.5, 0.25, 0.5), False),
        ("float32", (4,), (0.0, 0.0, 0.0), True),
    ],
)
def test_a_quantized_sum_needs_scales_that_go_together(
    dtype: str, shape: tuple[int, ...], scales: tuple[float, float, float], fits: bool
) -> None:
    """Scale 0 stands for none and for one a channel, by which no sum is computed."""
    given: list[Operand | None] = [
        Operand(one, dtype, None, 0, scale) for one, scale in zip(((4,), shape), scales, strict=False)
    ]
    options: Any = SimpleNamespace(scalar=lambda number, code, default=0: default)
    output = [Operand((4,), dtype, None, 0, scales[2])]
    if fits:
        assert check_node("sum", 0, given, output, options, 11) == 4
    else:
        with pytest.raises(Unsupported):
            check_node("sum", 0, given, output, options, 11)


@pytest.mark.parametrize(("scale", "fits"), [(25.0, True), (65.0, False)])
def test_a_squared_difference_needs_an_output_of_enough_scale(scale: float, fits: bool) -> None:
    given: list[Operand | None] = [Operand((4,), "int8", None, 0, one) for one in (scale, 1.0)]
    output = [Operand((4,), "int8", None, 0, 1.0)]
    if fits:
        assert check_node("square", 99, given, output, None, 0) == 4
    else:
        with pytest.raises(Unsupported):
            check_node("square", 99, given, output, None, 0)


@pytest.mark.parametrize("field", ["externalBufferGroups", "externalBuffers"])
def test_constants_outside_the_file_are_refused(field: str) -> None:
    """LiteRT 2.3.0 knows groups of buffers by the names of other files."""
    graph = GraphFile("tiny_float32.tflite")
    schema = graph.graph.schema
    made = schema.ExternalBufferGroupT() if field == "externalBufferGroups" else schema.ExternalBufferT()
    setattr(graph.model, field, [made])
    with pytest.raises(ModelUnsupported) as caught:
        walk_model(pack(graph.model), where="m")
    assert caught.value.code == "model-unsupported"


def test_a_fitting_operator_is_taken() -> None:
    graph = GraphFile("tiny_float32.tflite")
    walk_model(graph.with_operator(number=28, shape=graph.input_shape), where="m")


def test_shared_tables_cannot_keep_the_check_busy() -> None:
    """Vectors may point to one table a hundred thousand times: the walk counts what it reads."""
    graph = GraphFile("tiny_float32.tflite")
    data = graph.with_operators(shared=WALK_BUDGET)
    started = time.process_time()
    with pytest.raises(ModelFileError):
        walk_model(data, where="m")
    assert time.process_time() - started < 5


def test_what_is_accepted_runs_or_is_refused_by_the_library() -> None:
    """In this process: a wrong verdict would end it. `make fuzz` tries a hundred thousand in children."""
    accepted = ran = 0
    for index in range(GRAPHS):
        try:
            model = parse_model(graph_case(SEED, index), "m")
        except ModelFileError:
            continue
        accepted += 1
        try:
            engine = open_engine(model.data, engine="litert-c")
            engine.run(bytes(engine.input.nbytes))
            engine.close()
            ran += 1
        except InterpreterError:
            continue
    assert accepted > GRAPHS // 5
    assert ran > GRAPHS // 10
