"""Generated SavedModels, written as protobufs without TensorFlow's tracing, for the fuzzer.

A valid graph of functions that call each other, with variables, signatures and a saver, into which most cases put one
or two things that must not be loaded: an operator that reaches files, Python or another process, in the graph or in a
function at any depth (one that nothing calls, one that only the saver calls, one that hides behind another's name); a
second graph; assets; a graph of TensorFlow 1; a broken file. A case is a zip archive of the folder's files.
"""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edge_runtime.errors import ModelHoldsCode, RunInvalid
from tests.edge_runtime.mutations import mutate

PLAIN = (
    "Add", "AddV2", "Const", "Conv2D", "BiasAdd", "FusedBatchNormV3", "Identity", "MatMul", "MaxPool", "Mean", "NoOp",
    "Pad", "Placeholder", "ReadVariableOp", "Relu", "Relu6", "Reshape", "ResizeBilinear", "Softmax", "VarHandleOp",
)  # fmt: skip
CALLS = ("PartitionedCall", "StatefulPartitionedCall", "If", "While", "StatelessIf", "StatelessWhile")
REACHING = (
    "ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc", "PrintV2", "Print",
    "Save", "SaveV2", "SaveSlices", "Restore", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename",
    "DebugIdentity", "DebugIdentityV3", "ImmutableConst", "TFRecordReaderV2", "WholeFileReaderV2", "ReaderReadV2",
    "FixedLengthRecordReader", "TFRecordDataset", "TextLineDataset", "CSVDataset", "GeneratorDataset",
    "SnapshotDataset", "LoadDataset", "SaveDataset", "SqlDataset", "CacheDataset", "CacheDatasetV2",
    "InitializeTableFromTextFile", "InitializeTableFromTextFileV2", "HashTableV2", "LookupTableExportV2",
    "WriteSummary", "CreateSummaryFileWriter", "WriteScalarSummary", "WriteGraphSummary", "ImportEvent",
    "RemoteCall", "SymbolicGradient", "_Send", "_Recv", "_HostSend", "StageV2", "Stage", "QueueEnqueueV2",
    "RpcCall", "FileSystemSetConfiguration", "XlaLaunch", "TPUExecute", "ConfigureDistributedTPU",
    "CollectiveReduceV2", "DistributedSave", "RegisterDataset", "Abort", "GetSessionHandle", "BatchFunction",
    "FakeQueue", "StatefulStandardNormal", "DeleteSessionTensor", "Timestamp", "MyKernel", "FlexRead", "",
    "\N{LATIN SMALL LETTER E WITH ACUTE}", "add", "const", "WriteFile ", "Identity\n",
)  # fmt: skip
"""Must be refused wherever they stand; SAVING may stand in functions that only the saver calls."""
SAVING = {"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"}
BREAKS = 12


def saved_case(seed: int, index: int) -> bytes:
    """The bytes of a case."""
    chance = random.Random(f"saved {seed} {index}")
    model = _Model(chance)
    harm = chance.random() < 0.7
    for _ in range(chance.choice((1, 1, 2)) if harm else 0):
        model.harm()
    content: bytes = model.saved.SerializeToString()
    files = {"saved_model.pb": content, "variables/variables.index": b"", **model.files}
    if chance.randrange(BREAKS) == 0:
        files["saved_model.pb"] = mutate(content, chance, len(content))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.comment = b"harm" if model.harmed else b""
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return packed.getvalue()


class _Model:
    """A SavedModel under construction."""

    def __init__(self, chance: random.Random) -> None:
        from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

        self.chance, self.files, self.harmed = chance, dict[str, bytes](), False
        self.saved: Any = SavedModel(saved_model_schema_version=1)
        self.graph = self.saved.meta_graphs.add()
        self.graph.meta_info_def.tags.append("serve")
        self.library, self.objects = self.graph.graph_def.library, self.graph.object_graph_def
        self.objects.nodes.add().user_object.identifier = "_generic_user_object"
        for i in range(chance.randrange(4)):
            variable = self.objects.nodes.add().variable
            variable.dtype, variable.name = 1, f"weight_{i}"
            variable.shape.dim.add(size=chance.choice((1, 8, 1000)))
        names = [f"__inference_f{i}_{i}" for i in range(chance.randrange(1, 8))]
        for i, name in enumerate(names):
            self.function(name, names[:i])
        top = self.objects.nodes.add().bare_concrete_function
        top.concrete_function_name = names[-1]
        self.objects.concrete_functions[names[-1]].bound_inputs.append(0)
        self.graph.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
        self.call(self.graph.graph_def.node.add(name="serve"), names[-1])
        self.saver()

    def function(self, name: str, callees: list[str]) -> Any:
        """A function that computes and calls some of the others."""
        made = self.library.function.add()
        made.signature.name = name
        for i in range(self.chance.randrange(1, 9)):
            self.node(made.node_def.add(name=f"n{i}"))
        for i, callee in enumerate(self.chance.sample(callees, min(len(callees), self.chance.randrange(3)))):
            self.call(made.node_def.add(name=f"call{i}"), callee)
        return made

    def node(self, node: Any) -> None:
        node.op = self.chance.choice(PLAIN)
        if node.op == "Const":
            tensor = node.attr["value"].tensor
            tensor.dtype = 1
            tensor.tensor_shape.dim.add(size=self.chance.choice((0, 1, 3)))
            tensor.float_val.append(1.0)
        if self.chance.random() < 0.2:
            node.attr["T"].type = 1
            node.input.append(f"n{self.chance.randrange(4)}:out:0")

    def call(self, node: Any, callee: str) -> None:
        """By a function attribute, a list of them, or the function's name as the operator."""
        how = self.chance.randrange(3)
        node.op = callee if how == 0 else self.chance.choice(CALLS)
        if how == 1:
            node.attr["f"].func.name = callee
        elif how == 2:
            node.attr["branches"].list.func.add(name=callee)

    def saver(self) -> None:
        """What TensorFlow writes: two functions that save and restore, and nodes that call them."""
        for role, op in (("save", "SaveV2"), ("restore", "RestoreV2")):
            made = self.function(f"__inference__traced_{role}_99", [])
            made.node_def.add(name=role, op=op)
            made.node_def.add(name="prefix", op="StringJoin")
            node = self.graph.graph_def.node.add(name=f"Stateful_{role}", op="StatefulPartitionedCall")
            node.attr["f"].func.name = made.signature.name
        self.graph.saver_def.save_tensor_name = "Stateful_save:0"
        self.graph.saver_def.restore_op_name = "Stateful_restore"

    def harm(self) -> None:
        """Add one thing that must be refused."""
        self.harmed = True
        self.chance.choice(
            (
                *(self.reach,) * 6, self.reach_beside, self.reach_from_the_saver, self.call_the_saver,
                self.call_the_saver_deeply, self.second_definition, self.second_graph, self.no_objects, self.asset,
                self.text_graph, self.large, self.as_gradient, self.operator_as_function,
            )
        )()  # fmt: skip

    def some_function(self, *, saving: bool = False) -> Any:
        return self.chance.choice(
            [one for one in self.library.function if saving or "traced" not in one.signature.name]
        )

    def reach(self) -> None:
        function = self.some_function()
        nodes = self.chance.choice((self.graph.graph_def.node, function.node_def, function.node_def))
        nodes.add(name="harm", op=self.chance.choice(REACHING))

    def reach_beside(self) -> None:
        """In a function that nothing calls."""
        self.function("__inference_beside_7", []).node_def.add(name="harm", op=self.chance.choice(REACHING))

    def reach_from_the_saver(self) -> None:
        """More than saving."""
        ops = [op for op in REACHING if op not in SAVING]
        self.some_function(saving=True).node_def.add(name="harm", op=self.chance.choice(ops))

    def call_the_saver(self) -> None:
        """The model saves, directly or through a function of its own."""
        node = self.some_function().node_def.add(name="harm")
        self.call(node, "__inference__traced_save_99")

    def call_the_saver_deeply(self) -> None:
        """By the attribute of a function that an attribute names, or as a plain signature."""
        how = self.chance.randrange(3)
        if how == 0:
            node = self.some_function().node_def.add(name="harm", op="PartitionedCall")
            func = node.attr["f"].func
            func.name = "__inference_f0_0"
            func.attr["body"].func.name = "__inference__traced_save_99"
        elif how == 1:
            self.objects.nodes.add().function.concrete_functions.append("__inference__traced_save_99")
        else:
            self.objects.concrete_functions["__inference__traced_save_99"].bound_inputs.append(0)

    def second_definition(self) -> None:
        """Of a function's name; which of them is called is TensorFlow's affair."""
        function = self.some_function()
        other = self.library.function.add()
        other.CopyFrom(function)
        self.chance.choice((function, other)).node_def.add(name="harm", op=self.chance.choice(REACHING))

    def second_graph(self) -> None:
        """TensorFlow loads several graphs as TensorFlow 1 does: it runs the saver."""
        other = self.saved.meta_graphs.add()
        other.CopyFrom(self.graph)
        other.meta_info_def.tags.append("gpu")

    def no_objects(self) -> None:
        """As TensorFlow 1 writes: loading it runs its initializers."""
        if self.chance.random() < 0.5:
            self.graph.ClearField("object_graph_def")
        else:
            del self.objects.nodes[:]

    def asset(self) -> None:
        if self.chance.random() < 0.5:
            self.graph.asset_file_def.add(filename="../../../etc/passwd").tensor_info.name = "Const:0"
        else:
            self.objects.nodes.add().asset.asset_file_def_index = 0

    def text_graph(self) -> None:
        self.files[self.chance.choice(("saved_model.pbtxt", "saved_model.cpb"))] = b""

    def large(self) -> None:
        """More declared bytes than a device opens."""
        tensor = self.some_function().node_def.add(name="harm", op="Const").attr["value"].tensor
        tensor.dtype = 1
        for _ in range(self.chance.choice((2, 4, 40))):
            tensor.tensor_shape.dim.add(size=self.chance.choice((1 << 20, 1 << 40, (1 << 63) - 1)))

    def as_gradient(self) -> None:
        """The saver's function as the gradient of another."""
        if self.chance.random() < 0.5:
            made = self.library.registered_gradients.add(registered_op_type="x")
            made.gradient_func = "__inference__traced_save_99"
        else:
            made = self.library.gradient.add(function_name="__inference_f0_0")
            made.gradient_func = "__inference__traced_save_99"

    def operator_as_function(self) -> None:
        """A function that has an operator's name: one of them would be called for the other."""
        name = self.chance.choice(("WriteFile", "ReadFile", "PyFunc", "AddV2"))
        self.function(name, [])
        self.some_function().node_def.add(name="harm", op=name)


def try_saved(data: bytes) -> str:
    """Reads a SavedModel's graph as `convert` does, and loads it where it may be; returns how that ended."""
    from convert.export.saved_graph import require_plain_graph
    from convert.export.saved_model import SavedNetwork
    from tests.convert.synthetic_run import make_contract

    with TemporaryDirectory() as place, zipfile.ZipFile(io.BytesIO(data)) as archive:
        folder = Path(place) / "saved"
        archive.extractall(folder)
        before = set(_seen(Path(place)))
        try:
            require_plain_graph(folder)
            outcome = "WRONG accepted" if archive.comment == b"harm" else "answered"
            with suppress(RunInvalid):
                # Its nodes are no network, so TensorFlow refuses nearly all.
                SavedNetwork(folder, make_contract())
        except ModelHoldsCode as error:
            outcome = (
                error.code if error.found and error.expected and error.fix else f"WRONG silent {error.code}"
            )
        except (OSError, ValueError):
            # What SavedNetwork turns into a RunInvalid.
            outcome = "run-invalid"
        return outcome if set(_seen(Path(place))) == before else "WRONG files"


def _seen(place: Path) -> Iterator[tuple[str, int]]:
    for path in place.rglob("*"):
        yield str(path), path.stat().st_mtime_ns
