"""The end of a classifier's graph: which tensor is averaged into the scores, and by which weights. stdlib only.

    feature map [1, h, w, k] -> MEAN over h and w -> FULLY_CONNECTED [labels, k] -> SOFTMAX -> scores

A network that ends so shows where in the photo its prediction comes from (Zhou et al. 2016, class activation mapping):
the logit of a label is the mean over all places of that label's weights times the features of the place. Decided: the
map is made by the shipped file, with nothing added to it. `with_feature_map_as_output` changes, in a copy in memory,
the one tensor number that selects the output, so the same kernels compute the same features from the same bytes. The
alternatives: a second output written by `convert`, which older and foreign files lack and every user would pay for; and
occlusion, which costs 49 inferences at 7 x 7 places.

Between these operators QUANTIZE, DEQUANTIZE and RESHAPE may stand; they move no evidence.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

from edge_runtime.errors import ModelNotExplainable, ModelUnsupported, NotATfliteFile
from edge_runtime.model.flatbuffer import TENSOR_TYPES, Malformed, Table, operator_number, walk_model
from edge_runtime.model.model_file import ModelFile
from edge_runtime.model.tensors import STRUCT_CODES, Unsupported
from edge_runtime.model.zip_tail import ZipTail

DEQUANTIZE, FULLY_CONNECTED, RESHAPE, SOFTMAX, MEAN, QUANTIZE = 6, 9, 22, 25, 40, 114
PASSED_OVER = (DEQUANTIZE, RESHAPE, QUANTIZE)
NAMES = {
    DEQUANTIZE: "DEQUANTIZE", FULLY_CONNECTED: "FULLY_CONNECTED", RESHAPE: "RESHAPE", SOFTMAX: "SOFTMAX", MEAN: "MEAN",
    QUANTIZE: "QUANTIZE", 1: "AVERAGE_POOL_2D", 3: "CONV_2D", 14: "LOGISTIC",
}  # fmt: skip
FORM = "feature map -> MEAN over its height and width -> FULLY_CONNECTED -> SOFTMAX"
# struct codes of what the constants may be stored as.
WEIGHT_CODES = {"float32": "f", "int8": "b", "float16": "e"}
AXIS_CODES = {"int32": "i"}
FIX = "leave out --explain, or take a model that ends in this form, as all of `python -m train` do"


class GraphEnd(NamedTuple):
    """What stands behind the last feature map."""

    feature_map: int
    """Tensor number of the map that is averaged."""
    shape: tuple[int, int, int]
    """Its height, width and channels."""
    weights: tuple[tuple[float, ...], ...]
    """[labels][channels], real values."""


def read_graph_end(model: ModelFile) -> GraphEnd:
    """Find the feature map and read the weights behind it; the model's structure was checked by `model_file`.

    Raises:
        ModelNotExplainable: The graph ends in another form.
    """
    try:
        return _Reader(model).read()
    except (Malformed, Unsupported) as problem:
        raise _refusal(model.path, str(problem)) from problem


def with_feature_map_as_output(model: ModelFile, end: GraphEnd) -> bytes:
    """Return a copy of the model's bytes that outputs the feature map instead of the scores.

    Raises:
        ModelNotExplainable: The number of the output stands where other parts of the file read it too.
    """
    root = _root(model.data, model.path)
    graph = root.children(2, "SubGraph")[0]
    place, _ = graph.vector(2, 4)
    (output,) = graph.numbers(2, "i")
    changed = bytearray(model.data)
    struct.pack_into("<i", changed, place, end.feature_map)
    for signature in root.children(7, "SignatureDef"):
        # A signature names the output a second time, and LiteRT believes the signature.
        for entry in signature.children(1, "TensorMap") if signature.scalar(4, "I") == 0 else ():
            place_in_signature = entry.field(1, 4)
            if place_in_signature is not None and entry.scalar(1, "I") == output:
                struct.pack_into("<I", changed, place_in_signature, end.feature_map)
    data = bytes(changed)
    if not _is_meant(data, model, root, end):
        raise _refusal(model.path, "an output number that shares its bytes with other parts of the file")
    return data


def _is_meant(data: bytes, model: ModelFile, root: Table, end: GraphEnd) -> bool:
    """Return whether only the output was changed.

    In a made-up file the same bytes may belong to other vectors too. Native code must not see what became of them.
    """
    try:
        structure = walk_model(data, where=model.path, end=root.end, limits=model.limits)
    except (NotATfliteFile, ModelUnsupported):
        return False
    after, before = ([one[:3] for one in _operators(x)] for x in (_root(data, model.path), root))
    return after == before and [spec.shape for spec in structure.outputs] == [(1, *end.shape)]


class _Operator(NamedTuple):
    kind: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    table: Table


def _refusal(where: str, found: str) -> ModelNotExplainable:
    return ModelNotExplainable(
        "heat maps are not supported for this model", where=where, found=found, expected=FORM, fix=FIX
    )


def _root(data: bytes, where: str) -> Table:
    return Table(data, ZipTail(data, where).start, int(struct.unpack_from("<I", data, 0)[0]), "Model")


def _operators(root: Table) -> list[_Operator]:
    """Of the first subgraph."""
    kinds = [operator_number(code) for code in root.children(1, "OperatorCode")]
    return [
        _Operator(kinds[entry.scalar(0, "I")], entry.numbers(1, "i"), entry.numbers(2, "i"), entry)
        for entry in root.children(2, "SubGraph")[0].children(3, "Operator")
    ]


class _Reader:
    """Walks from the output backwards."""

    def __init__(self, model: ModelFile) -> None:
        root = _root(model.data, model.path)
        graph = root.children(2, "SubGraph")[0]
        self.data = model.data
        self.labels = len(model.contract.labels)
        self.buffers = root.children(4, "Buffer")
        self.tensors = graph.children(0, "Tensor")
        self.makers = {tensor: one for one in _operators(root) for tensor in one.outputs}
        (self.output,) = graph.numbers(2, "i")

    def read(self) -> GraphEnd:
        softmax = self._maker(self.output, SOFTMAX)
        head = self._maker(self._input(softmax, 0), FULLY_CONNECTED)
        options = head.table.child(4, "FullyConnectedOptions")
        if options is not None and options.scalar(0, "b"):
            raise Unsupported("a FULLY_CONNECTED with an activation of its own")
        mean = self._maker(self._input(head, 0), MEAN)
        feature_map = self._input(mean, 0)
        shape = self._shape(feature_map)
        axes = [int(axis) for axis in self._constant(self._input(mean, 1), AXIS_CODES)]
        if len(shape) != 4 or shape[0] != 1 or sorted(axis % 4 for axis in axes) != [1, 2]:
            raise Unsupported(f"a MEAN over the axes {axes} of {list(shape)}")
        dtype = self._dtype(feature_map)
        if dtype not in STRUCT_CODES:
            raise Unsupported(f"a feature map of {dtype}, not of {', '.join(STRUCT_CODES)}")
        return GraphEnd(feature_map, shape[1:], self._weights(self._input(head, 1), shape[3]))

    def _input(self, operator: _Operator, number: int) -> int:
        if len(operator.inputs) <= number:
            raise Unsupported(f"{NAMES[operator.kind]} with {len(operator.inputs)} inputs")
        return operator.inputs[number]

    def _maker(self, tensor: int, wanted: int) -> _Operator:
        """What makes a tensor, past the operators that only repack it; refuses all but the wanted kind."""
        while tensor in self.makers:
            maker = self.makers[tensor]
            if maker.kind == wanted:
                return maker
            if maker.kind not in PASSED_OVER:
                found = NAMES.get(maker.kind, f"operator {maker.kind}")
                raise Unsupported(f"{found} instead of {NAMES[wanted]}")
            tensor = self._input(maker, 0)
        raise Unsupported(f"no {NAMES[wanted]} between the model's input and its output")

    def _weights(self, tensor: int, channels: int) -> tuple[tuple[float, ...], ...]:
        maker = self.makers.get(tensor)
        if maker is not None and maker.kind == DEQUANTIZE:
            # A float16 file widens its weights at run time.
            tensor = self._input(maker, 0)
        if self._shape(tensor) != (self.labels, channels):
            shape = list(self._shape(tensor))
            raise Unsupported(f"weights {shape} for {self.labels} labels x {channels} channels")
        stored = self._constant(tensor, WEIGHT_CODES)
        quantization = self.tensors[tensor].child(4, "quantization")
        scales = (quantization.numbers(2, "f") if quantization else ()) or (1.0,)
        zeros = (quantization.numbers(3, "q") if quantization else ()) or (0,)
        if len(scales) > 1 and quantization is not None and quantization.scalar(6, "i") != 0:
            raise Unsupported("weights with a scale for each channel, not for each label")

        def row(label: int) -> tuple[float, ...]:
            scale, zero = scales[label % len(scales)], zeros[label % len(zeros)]
            return tuple(scale * (x - zero) for x in stored[label * channels : (label + 1) * channels])

        return tuple(map(row, range(self.labels)))

    def _shape(self, tensor: int) -> tuple[int, ...]:
        return self.tensors[tensor].numbers(7, "i") or self.tensors[tensor].numbers(0, "i")

    def _dtype(self, tensor: int) -> str:
        return TENSOR_TYPES[self.tensors[tensor].scalar(1, "b")][0]

    def _constant(self, tensor: int, codes: dict[str, str]) -> tuple[float, ...]:
        """The values of a tensor that stands in the file."""
        dtype = self._dtype(tensor)
        start, count = self.buffers[self.tensors[tensor].scalar(2, "I")].vector(0, 1)
        if dtype not in codes or not count:
            where = "stand in the file" if count else "are computed at run time"
            raise Unsupported(f"{dtype} values that {where}")
        size = math.prod(self._shape(tensor))
        if count != size * struct.calcsize(codes[dtype]):
            raise Unsupported(f"{count} bytes for {size} values of {dtype}")
        return struct.unpack_from(f"<{size}{codes[dtype]}", self.data, start)
