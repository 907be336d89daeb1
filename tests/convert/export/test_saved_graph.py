"""SavedModels whose graphs read or write files, or call Python: refused, and nothing of it happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import ModelHoldsCode
from tests.convert.synthetic_run import SIZE_PX

pytestmark = pytest.mark.tf
Body = Callable[[Any], Any]
SEED, GENERATED = 20261130, 300


def bodies(mark: Path) -> dict[str, Body]:
    """What a signature adds to its answer."""
    import tensorflow as tf

    def written(x: Any) -> Any:
        tf.io.write_file(str(mark), "written")
        return x

    def nested(x: Any) -> Any:
        return tf.function(lambda y: tf.map_fn(tf.function(written), y))(x)

    def in_a_branch(x: Any) -> Any:
        return tf.cond(tf.reduce_sum(x) > 0, lambda: written(x), lambda: x)

    def printed(x: Any) -> Any:
        tf.print(x, output_stream=f"file://{mark}")
        return x

    raw = tf.raw_ops
    return {
        "write": written,
        "write_nested": nested,
        "write_in_a_branch": in_a_branch,
        "print": printed,
        "read": lambda x: x + tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32),
        "list": lambda x: x + tf.cast(tf.size(tf.io.matching_files("/etc/*")), tf.float32),
        "python": lambda x: tf.ensure_shape(tf.py_function(lambda y: y, [x], tf.float32), x.shape),
        "numpy": lambda x: tf.ensure_shape(tf.numpy_function(lambda y: y, [x], tf.float32), x.shape),
        "stateless_python": lambda x: x * raw.PyFuncStateless(input=[x], token="t", Tout=[tf.float32])[0],
        "debug": lambda x: raw.DebugIdentity(input=x, debug_urls=[f"file://{mark}"]),
        "memory_region": lambda x: x + raw.ImmutableConst(dtype=tf.float32, shape=[], memory_region_name=str(mark)),
        "checkpoint": lambda x: x + raw.RestoreV2(
            prefix=str(mark), tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
        )[0],
        "save": lambda x: (raw.SaveV2(prefix=str(mark), tensor_names=["a"], shape_and_slices=[""], tensors=[x]), x)[1],
        "records": lambda x: x + raw.ReaderNumRecordsProducedV2(reader_handle=raw.TFRecordReaderV2()).dtype.size,
    }  # fmt: skip


def save(folder: Path, body: Body, **further: Any) -> Path:
    import tensorflow as tf

    class Module(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((None, SIZE_PX, SIZE_PX, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return {"scores": tf.reduce_mean(body(x), axis=(1, 2))}

    module = Module()
    for name, value in further.items():
        setattr(module, name, value)
    tf.saved_model.save(module, str(folder), signatures=module.__call__)
    return folder


def assert_refused(folder: Path, mark: Path, found: str = "") -> None:
    from convert.export.saved_model import SavedNetwork
    from tests.convert.synthetic_run import make_contract

    assert not mark.exists()
    with pytest.raises(ModelHoldsCode) as caught:
        SavedNetwork(folder, make_contract())
    assert caught.value.code == "model-holds-code" and caught.value.where == str(folder)
    assert found in caught.value.found
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("write", "WriteFile"), ("write_nested", "WriteFile"), ("write_in_a_branch", "WriteFile"), ("print", "PrintV2"),
        ("read", "ReadFile"), ("list", "MatchingFiles"), ("python", "EagerPyFunc"), ("numpy", "PyFunc"),
        ("stateless_python", "PyFuncStateless"), ("debug", "DebugIdentity"), ("memory_region", "ImmutableConst"),
        ("checkpoint", "RestoreV2"), ("save", "SaveV2"), ("records", "TFRecordReaderV2"),
    ],
)  # fmt: skip
def test_operators_that_reach_outside(name: str, operator: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    folder = save(tmp_path / "saved", bodies(mark)[name])
    mark.unlink(missing_ok=True)
    assert_refused(folder, mark, f"the operator {operator} in ")


def test_initializers_and_assets(tmp_path: Path) -> None:
    import tensorflow as tf

    class Resource(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]
        """Loading it runs `_initialize`."""

        def _create_resource(self) -> Any:
            return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

        def _initialize(self) -> None:
            tf.io.write_file(str(tmp_path / "mark"), "written")

    folder = save(tmp_path / "resource", lambda x: x, resource=Resource())
    (tmp_path / "mark").unlink(missing_ok=True)
    assert_refused(folder, tmp_path / "mark", "WriteFile")
    (tmp_path / "words.txt").write_text("a\nb\n")
    words = tf.lookup.TextFileInitializer(
        str(tmp_path / "words.txt"), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )  # fmt: skip
    table = tf.lookup.StaticHashTable(words, -1)
    assert_refused(save(tmp_path / "table", lambda x: x, table=table), tmp_path / "mark")


def graph_of(folder: Path) -> Any:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    return saved


def test_the_savers_functions_may_save_unless_the_model_calls_them(tmp_path: Path) -> None:
    import tensorflow as tf

    from convert.export.saved_graph import require_plain_graph

    folder = save(tmp_path / "saved", lambda x: x, weight=tf.Variable(1.0))
    require_plain_graph(folder)
    saved = graph_of(folder)
    functions = saved.meta_graphs[0].graph_def.library.function
    (name,) = (one.signature.name for one in functions if "traced_save" in one.signature.name)
    other = next(one for one in functions if one.signature.name != name and "signature" in one.signature.name)
    call = other.node_def.add(name="call", op="StatefulPartitionedCall")
    call.attr["f"].func.name = name
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    assert_refused(folder, tmp_path / "mark", f"in {name}")


def test_custom_operators_further_graphs_and_tensorflow_1(tmp_path: Path) -> None:
    folder = save(tmp_path / "saved", lambda x: x)
    good = (folder / "saved_model.pb").read_bytes()
    (folder / "saved_model.pbtxt").write_text("")
    assert_refused(folder, tmp_path / "mark", "pbtxt")
    (folder / "saved_model.pbtxt").unlink()
    saved = graph_of(folder)
    saved.meta_graphs[0].graph_def.node.add(name="x", op="MyKernel")
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    assert_refused(folder, tmp_path / "mark", "MyKernel")
    saved.ParseFromString(good)
    saved.meta_graphs.add().CopyFrom(saved.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    assert_refused(folder, tmp_path / "mark", "2 graphs")


def test_a_saved_model_of_tensorflow_1_can_be_saved_again(tmp_path: Path) -> None:
    """As its error advises."""
    import tensorflow as tf

    from convert.export.saved_graph import require_plain_graph

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        pixels = v1.placeholder(tf.float32, (None, SIZE_PX, SIZE_PX, 3))
        weight = v1.get_variable("weight", initializer=1.0, use_resource=True)
        scores = tf.reduce_mean(pixels * weight, axis=(1, 2))
        session.run(v1.global_variables_initializer())
        info = v1.saved_model.build_tensor_info
        signature = v1.saved_model.build_signature_def({"x": info(pixels)}, {"y": info(scores)})
        builder = v1.saved_model.Builder(str(tmp_path / "old"))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    with pytest.raises(ModelHoldsCode) as caught:
        require_plain_graph(tmp_path / "old")
    assert "TensorFlow 1" in caught.value.found and "TensorFlow 2" in caught.value.fix
    loaded = tf.saved_model.load(str(tmp_path / "old"))
    tf.saved_model.save(loaded, str(tmp_path / "new"), signatures=loaded.signatures)
    require_plain_graph(tmp_path / "new")
    again = tf.saved_model.load(str(tmp_path / "new")).signatures["serving_default"]
    assert again(x=tf.ones((1, SIZE_PX, SIZE_PX, 3)))["y"].numpy().tolist() == [[1.0, 1.0, 1.0]]


def test_generated_graphs_with_something_in_them_are_refused() -> None:
    from tests.edge_runtime import fuzz

    outcomes, wrong = fuzz.run("saved", SEED, GENERATED)
    assert wrong == {}
    assert 0.1 * GENERATED < outcomes["answered"] < 0.5 * GENERATED < outcomes["model-holds-code"]


def test_what_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convert.export import saved_graph

    folder = save(tmp_path / "saved", lambda x: x + np.float32(1))
    saved = graph_of(folder)
    constant = saved.meta_graphs[0].graph_def.node.add(name="big", op="Const").attr["value"].tensor
    constant.dtype = 1
    constant.tensor_shape.dim.add(size=1 << 20)
    constant.tensor_shape.dim.add(size=1 << 20)
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(ValueError, match="bytes of arrays"):
        saved_graph.require_plain_graph(folder)
    monkeypatch.setattr(saved_graph, "MAX_GRAPH_BYTES", 100)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        saved_graph.require_plain_graph(folder)
