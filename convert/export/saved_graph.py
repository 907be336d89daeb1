"""The graph of a SavedModel, read before TensorFlow loads it: operators of networks, and nothing else. TensorFlow.

Loading a SavedModel runs its initializers, and an operator can read and write files or call Python. Allowed are the
operators that image classifiers are made of (saved_operators.txt), in inference and training; another one is refused by
name, whoever made it. Functions of TensorFlow's own saver, which only saving calls, may save and restore.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry
from tensorflow.python.saved_model.loader_impl import message

from train.artifacts.bounded import require_arrays
from train.artifacts.keras_file import unsafe

GRAPH = "saved_model.pb"
# TensorFlow would read these instead, or as well.
OTHER_GRAPHS = ("saved_model.pbtxt", "saved_model.cpb")
MAX_GRAPH_BYTES = 256 * 1024**2
NAMED_PROBLEMS = 5
# Bytes by a type's number; what has none holds numbers elsewhere, or is no type.
SIZES = {
    kind.as_datatype_enum: kind.size or 1 for kind in vars(tf.dtypes).values() if isinstance(kind, tf.DType)
}
ALLOWED = frozenset(Path(__file__).with_name("saved_operators.txt").read_text(encoding="utf-8").split())
# Of the functions that TensorFlow's saver writes; loading uses none of them.
SAVER = ALLOWED | {
    "MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename", "StaticRegexFullMatch", "StringJoin",
}  # fmt: skip


def require_plain_graph(folder: Path) -> None:
    """Refuse a SavedModel whose graph does more than compute. Nothing of it is run, and no other file is read.

    Raises:
        ModelHoldsCode: An operator that is not ALLOWED, a file beside the graph that the graph reads, or a SavedModel
            of TensorFlow 1, which has to be run to be loaded.
        OSError, ValueError: It cannot be read, or it is too large.
    """
    for name in OTHER_GRAPHS:
        if (folder / name).exists():
            raise unsafe(folder, f"a second graph, {name}")
    with (folder / GRAPH).open("rb") as stream:
        content = stream.read(MAX_GRAPH_BYTES + 1)
    if len(content) > MAX_GRAPH_BYTES:
        raise ValueError(f"{GRAPH}: more than {MAX_GRAPH_BYTES:,} bytes")
    saved = SavedModel()
    try:
        saved.ParseFromString(content)
    except message.DecodeError as error:
        raise ValueError(f"{GRAPH}: {error}") from error
    if len(saved.meta_graphs) != 1 or not saved.meta_graphs[0].object_graph_def.nodes:
        found = f"{len(saved.meta_graphs)} graphs, as TensorFlow 1 writes them: loading one runs it"
        raise unsafe(folder, found, "where you trust it, load it and save it again with TensorFlow 2")
    (graph,) = saved.meta_graphs
    if problems := dict.fromkeys(islice(_problems(graph), NAMED_PROBLEMS)):
        raise unsafe(folder, "; ".join(problems))
    require_arrays(_declared_bytes(graph))


def _problems(graph: Any) -> Iterator[str]:
    if graph.asset_file_def or any(node.HasField("asset") for node in graph.object_graph_def.nodes):
        yield "files that the graph reads (assets)"
    functions = {one.signature.name: one for one in graph.graph_def.library.function}
    if len(functions) < len(graph.graph_def.library.function) or any(map(op_def_registry.get, functions)):
        yield "two functions of one name, or one that is named as an operator"
    only_saving = _only_saving(graph, functions)
    known = functions.keys() | ALLOWED
    for nodes, where in [(graph.graph_def.node, "the graph")] + [
        (one.node_def, name) for name, one in functions.items()
    ]:
        allowed = known | SAVER if where in only_saving else known
        for node in nodes:
            if node.op not in allowed:
                yield f"the operator {node.op} in {where}"


def _only_saving(graph: Any, functions: dict[str, Any]) -> set[str]:
    """The functions that the saver's nodes reach, and neither an object of the model nor another function does."""
    saver = {graph.saver_def.save_tensor_name.partition(":")[0], graph.saver_def.restore_op_name}
    called = [name for node in graph.graph_def.node if node.name in saver for name in _called(node)]
    objects = graph.object_graph_def
    others = [name for node in graph.graph_def.node if node.name not in saver for name in _called(node)]
    others += objects.concrete_functions
    library = graph.graph_def.library
    others += [one.gradient_func for one in (*library.gradient, *library.registered_gradients)]
    for node in objects.nodes:
        others += [node.bare_concrete_function.concrete_function_name, *node.function.concrete_functions]
    of_saver = _reached(called, functions)
    return of_saver - _reached([*others, *(functions.keys() - of_saver)], functions)


def _reached(names: Iterable[str], functions: dict[str, Any]) -> set[str]:
    reached, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name in functions and name not in reached:
            reached.add(name)
            waiting += [called for node in functions[name].node_def for called in _called(node)]
    return reached


def _called(node: Any) -> Iterator[str]:
    """The functions that a node names, or a function's own attributes; protobuf reads no more than 100 levels."""
    yield node.op if hasattr(node, "op") else node.name
    for value in node.attr.values():
        for function in (value.func, *value.list.func):
            yield from _called(function)


def _declared_bytes(graph: Any) -> int:
    """The bytes of all constants and variables, as their shapes say."""
    functions = (one.node_def for one in graph.graph_def.library.function)
    constants = (
        node.attr["value"].tensor
        for nodes in (graph.graph_def.node, *functions)
        for node in nodes
        if node.op == "Const"
    )
    shapes = [(one.tensor_shape, one.dtype) for one in constants]
    shapes += [
        (node.variable.shape, node.variable.dtype)
        for node in graph.object_graph_def.nodes
        if node.HasField("variable")
    ]
    return sum(
        int(np.prod([max(0, dim.size) for dim in shape.dim], dtype=object)) * SIZES.get(kind, 1)
        for shape, kind in shapes
    )
