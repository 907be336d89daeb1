"""Which operators of a file an accelerator supports, and which clients can open it: rules, each with its source.

Edge TPU: coral.ai, "TensorFlow models on the Edge TPU": quantized to 8 bits, constant sizes, constant parameters, at
most three sides above 1, and a list of operators. Its compiler maps one connected part only: everything after the first
unsupported operator runs on the CPU. XNNPACK: the README of TensorFlow Lite's delegate, checked against what
LiteRT 2.3.0 delegates (tests). Clients: the guides of MediaPipe's ImageClassifier, ML Kit's custom models and Task
Library. stdlib only.
"""

from __future__ import annotations

from pathlib import Path

from convert.tflite.reader import FLOAT_DTYPES, METADATA_NAME, Operator, Tensor, TfliteFile
from edge_runtime.contract import LABELS_ENTRY
from edge_runtime.errors import ContractInvalid
from edge_runtime.model.model_file import read_entry

# One paragraph for each: 8-bit operators of the Edge TPU, float operators and 8-bit operators of XNNPACK.
_LISTS = Path(__file__).with_name("targets.txt").read_text(encoding="ascii").split("\n\n")
EDGE_TPU, XNNPACK_FLOAT, XNNPACK_INTEGER = (frozenset(listed.split()) for listed in _LISTS)
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
EIGHT_BITS = ("int8", "uint8")
MOST_EDGE_TPU_SIDES = 3
MOST_EDGE_TPU_SOFTMAX = 16_000


def _data(operator: Operator, file: TfliteFile) -> list[Tensor]:
    """Tensors with activations: computed inputs and all outputs."""
    inputs = [file.tensors[i] for i in operator.inputs if i >= 0 and not file.tensors[i].constant]
    return inputs + [file.tensors[i] for i in operator.outputs]


def xnnpack_problem(operator: Operator, file: TfliteFile) -> str:
    """Why XNNPACK does not support an operator; empty if it does."""
    tensors = _data(operator, file)
    dtypes = {tensor.dtype for tensor in tensors}
    if operator.kind.startswith("CUSTOM"):
        return "a custom operator"
    if any(tensor.free for tensor in tensors):
        return "a dynamic size"
    if operator.kind == "DEQUANTIZE" and all(file.tensors[i].constant for i in operator.inputs):
        return ""
    if not dtypes <= {"float32", *EIGHT_BITS}:
        return f"{', '.join(sorted(dtypes - {'float32', *EIGHT_BITS}))} tensors"
    if operator.kind == "QUANTIZE" and "float32" not in dtypes and len(dtypes) > 1:
        return f"no kernel from {tensors[0].dtype} to {tensors[-1].dtype}"
    known = XNNPACK_FLOAT if dtypes == {"float32"} else XNNPACK_INTEGER
    if operator.kind not in known:
        return f"no {'float' if known is XNNPACK_FLOAT else '8-bit'} kernel for {operator.kind}"
    return ""


def edge_tpu_report(file: TfliteFile) -> list[str]:
    """For each operator why the Edge TPU does not run it; empty if it does."""
    reasons: list[str] = []
    broken = ""
    for operator in file.operators:
        own = _edge_tpu_problem(operator, file)
        reasons.append(own or broken)
        if own and not broken:
            broken = f"after operator {operator.index}, which is unsupported"
    return reasons


def _edge_tpu_problem(operator: Operator, file: TfliteFile) -> str:
    if operator.kind not in EDGE_TPU:
        return f"no kernel for {operator.kind}"
    for tensor in _data(operator, file):
        if tensor.dtype not in EIGHT_BITS:
            return f"{tensor.dtype} tensors, not 8-bit ones"
        if not tensor.quantized:
            return "a tensor without scale"
        if tensor.free:
            return "a dynamic size"
        if (
            sum(side > 1 for side in tensor.shape) > MOST_EDGE_TPU_SIDES
            or max(tensor.shape[:-3], default=1) > 1
        ):
            return "more than three sides above 1"
        if operator.kind == "SOFTMAX" and tensor.size > MOST_EDGE_TPU_SOFTMAX:
            return f"a softmax of {tensor.size:,} values"
    if operator.kind in WEIGHTED and any(not file.tensors[i].constant for i in operator.inputs[1:] if i >= 0):
        return "weights that are not constant"
    return ""


def interchange_problems(file: TfliteFile) -> list[str]:
    """Why MediaPipe's ImageClassifier, ML Kit or Task Library cannot open the file; empty if they can."""
    problems = []
    if len(file.inputs) != 1 or len(file.outputs) != 1:
        return [f"{len(file.inputs)} inputs and {len(file.outputs)} outputs, expected one of each"]
    source, sink = file.tensors[file.inputs[0]], file.tensors[file.outputs[0]]
    if source.dtype not in ("uint8", "float32"):
        problems.append(f"input {source.dtype}, expected uint8 or float32")
    if sink.dtype not in ("uint8", "float32"):
        problems.append(f"output {sink.dtype}, expected uint8 or float32")
    if len(source.shape) != 4 or source.shape[0] != 1 or source.shape[3] != 3 or source.free:
        problems.append(f"input shape {list(source.signature)}, expected [1, height, width, 3]")
    if METADATA_NAME not in file.metadata:
        problems.append(
            "no TFLITE_METADATA: " + ("float input needs it" if source.dtype in FLOAT_DTYPES else "no labels")
        )
    try:
        # Refused too when it is deflated: Android reads stored entries only.
        read_entry(file.data, LABELS_ENTRY)
    except ContractInvalid as error:
        problems.append(error.what)
    return problems
