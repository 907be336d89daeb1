"""The two Interpreter classes, LiteRT's and that of its predecessor tflite-runtime. numpy, imported on first use.

LiteRT's supports delegates, kernel sets and inner tensors. tflite-runtime 2.14 needs Python 3.11 at most and numpy
below 2.
"""

# ruff: noqa: PTH113, PTH118, PTH120

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple

from edge_runtime.engines.engine import Engine, require_input
from edge_runtime.errors import DelegateUnusable, InterpreterBroken, NoInterpreter, UsageError
from edge_runtime.model.tensors import STRUCT_CODES, TensorSpec

# What either library raises when a model, a delegate or numpy does not suit it; SystemError: tflite-runtime, numpy 2.
LIBRARY_ERRORS = (RuntimeError, ValueError, TypeError, SystemError, OSError, AttributeError, MemoryError)
SYSTEM_FOLDERS = ("/lib", "/usr/lib", "/usr/local/lib")
PLUGIN_SYMBOLS = ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate")


class Taken(NamedTuple):
    """How many operators of a graph delegates run."""

    operators: int
    of: int

    def __str__(self) -> str:
        return f"{self.operators} of {self.of} operators"


class InterpreterEngine(Engine):
    """An `Engine` over an Interpreter whose tensors are allocated; see there for the public members.

    `taken` says how many operators a delegate runs, where it runs any.

    Raises:
        InterpreterBroken: Not one input and one output, or of a dtype that is not accepted.
    """

    def __init__(
        self, interpreter: Any, *, name: str, accelerator: str, threads: int, taken: Taken | None = None
    ) -> None:
        self.name, self.accelerator, self.threads = name, accelerator, threads
        self.operators_taken, self.skipped = taken, ()
        self._interpreter = interpreter
        sources, sinks = interpreter.get_input_details(), interpreter.get_output_details()
        self.inputs = tuple(map(_spec, sources))
        self.outputs = tuple(map(_spec, sinks))
        dtypes = [spec.dtype for spec in (*self.inputs, *self.outputs)]
        if len(sources) != 1 or len(sinks) != 1 or not STRUCT_CODES.keys() >= set(dtypes):
            found = f"{len(sources)} inputs and {len(sinks)} outputs of {', '.join(dtypes)}"
            expected = f"one of each, of {', '.join(STRUCT_CODES)}"
            raise InterpreterBroken("the model cannot be run by this binding", found=found, expected=expected)
        self._source, self._sink = sources[0]["index"], sinks[0]["index"]

    @cached_property
    def _scales(self) -> dict[int, tuple[float, int]]:
        details = self._interpreter.get_tensor_details()
        return {detail["index"]: detail["quantization"] for detail in details}

    def run(self, input_tensor: bytes) -> bytes:
        """Run one inference; see `Engine.run`."""
        import numpy as np

        require_input(input_tensor, self.input, is_open=self._interpreter is not None)
        try:
            values = np.frombuffer(input_tensor, self.input.dtype).reshape(self.input.shape)
            self._interpreter.set_tensor(self._source, values)
            self._interpreter.invoke()
            raw_output = bytes(self._interpreter.get_tensor(self._sink).tobytes())
        except LIBRARY_ERRORS as error:
            raise broken(self.name, "fails to run the model", error) from error
        if len(raw_output) != self.output.nbytes:
            problem = (
                f"output size mismatch: declared {self.output.nbytes} bytes, computed {len(raw_output)} bytes"
            )
            fix = "copy the model again, or convert it again"
            raise InterpreterBroken(problem, expected=str(self.output), fix=fix)
        return raw_output

    def tensor(self, index: int) -> Any:
        """Return the real values of a tensor of the first subgraph after `run`, a flat float64 array.

        `index` is its number. Other than the output's, it must have been kept.
        """
        import numpy as np

        raw = self._interpreter.get_tensor(index)
        scale, zero_point = self._scales[index]
        values = raw.astype(np.float64).ravel()
        return values if raw.dtype.kind == "f" or scale == 0 else scale * (values - zero_point)

    def close(self) -> None:
        """Free the Interpreter; a second call does nothing."""
        self._interpreter = None


def open_interpreter(library: str, model_bytes: bytes, **options: Any) -> InterpreterEngine:
    """Load a checked .tflite into the Interpreter of `litert` or `tflite-runtime`; options as `construct`.

    Raises:
        NoInterpreter: The library or numpy is not installed.
        InterpreterBroken: They are, but they fail: with numpy 2 tflite-runtime imports, then dies when it is used.
        DelegateUnusable: As `construct`.
    """

    def explain(error: BaseException) -> InterpreterBroken:
        return _explained(library, name, error)

    name = library
    try:
        if library == "litert":
            import ai_edge_litert as package
            from ai_edge_litert import interpreter as module
        else:
            import tflite_runtime as package
            from tflite_runtime import interpreter as module
        name = f"{library} {getattr(package, '__version__', 'of unknown version')}"
    except ImportError as error:
        # No extra's name in the fix: no index has a package dermedge, so anybody may claim it.
        missing = (error.name or "").partition(".")[0]
        absent, fix = "tflite-runtime", "pip install 'tflite-runtime==2.14.0' 'numpy<2' (Python 3.11 at most)"
        if library == "litert":
            absent = "numpy" if missing == "numpy" else "ai-edge-litert"
            fix = "pip install ai-edge-litert numpy"
        if missing not in ("numpy", absent.replace("-", "_")):
            raise explain(error) from error
        raise NoInterpreter(f"{absent} is not installed", found=str(error), fix=fix) from error
    except LIBRARY_ERRORS as error:
        raise explain(error) from error
    return construct(module, model_bytes, name=name, explain=explain, **options)


def _explained(library: str, name: str, error: BaseException) -> InterpreterBroken:
    """Return a library's error as ours; name numpy 2 as the cause, which tflite-runtime's own message does not."""
    ours = broken(name, "cannot be imported" if name == library else "refuses the model", error)
    if library == "tflite-runtime":
        import numpy

        if int(numpy.__version__.partition(".")[0]) >= 2:
            problem = f"tflite-runtime does not work with numpy {numpy.__version__}"
            fix = "pip install 'numpy<2', or pip install ai-edge-litert"
            return InterpreterBroken(problem, found=ours.found, expected="numpy below 2", fix=fix)
    return ours


def construct(
    module: ModuleType,
    model_bytes: bytes,
    *,
    name: str,
    explain: Callable[[BaseException], InterpreterBroken],
    threads: int,
    accelerator: str,
    delegate: str | None,
    kernels: str = "",
    keep_tensors: bool = False,
) -> InterpreterEngine:
    """Build an engine from a library's `interpreter` module; options as `loading.open_engine`.

    `name` is the library's, with its version; `explain` turns an error of its constructor into ours.

    Raises:
        InterpreterBroken: What `explain` makes of a failure.
        DelegateUnusable: The delegate does not load or takes nothing; or XNNPACK was requested and took nothing.
    """
    options: dict[str, Any] = {"model_content": model_bytes, "num_threads": threads}
    if delegate is not None:
        options["experimental_delegates"] = [_load_delegate(module, delegate)]
        # Else XNNPACK takes what the delegate leaves, and its DELEGATE nodes look the same.
        kernels = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"
    if kernels:
        options["experimental_op_resolver_type"] = module.OpResolverType[kernels]
    if keep_tensors:
        options["experimental_preserve_all_tensors"] = True
    try:
        interpreter = module.Interpreter(**options)
        interpreter.allocate_tensors()
    except LIBRARY_ERRORS as error:
        if delegate is not None:
            raise _unusable(f"the delegate {delegate} fails on this model", str(error)) from error
        raise explain(error) from error
    if delegate is None and accelerator != "xnnpack":
        return InterpreterEngine(interpreter, name=name, accelerator="cpu", threads=threads)
    what = "xnnpack" if delegate is None else split_delegate(delegate)[0].rpartition("/")[2]
    taken = count_taken(interpreter._get_ops_details())
    if taken.operators == 0:
        problem = f"{what} took no node of the model in {name}: everything would run on plain CPU kernels"
        raise _unusable(problem, "0 nodes")
    used = f"{what} ({taken})"
    return InterpreterEngine(interpreter, name=name, accelerator=used, threads=threads, taken=taken)


def split_delegate(text: str) -> tuple[str, dict[str, str]]:
    """Split `LIB[:key=value,...]` into the library's path and its options.

    Raises:
        UsageError: Options that are no key=value pairs.
    """
    library, colon, options = text.rpartition(":")
    if not colon or "=" not in options:
        return text, {}
    pairs = [pair.partition("=") for pair in options.split(",")]
    if not library or any(not key or not equals for key, equals, _ in pairs):
        problem, expected = "the delegate's options cannot be read", "LIB or LIB:key=value,key=value"
        raise UsageError(problem, found=text, expected=expected)
    return library, {key: value for key, _, value in pairs}


def find_delegate(library: str) -> str | None:
    """Return the real path of a delegate library, also of a bare name, which is looked for as the loader does.

    None of a bare name that is in none of the usual folders, or in several of the system's: only the loader knows.
    """
    if os.path.dirname(library):
        return os.path.realpath(library)
    named = os.environ.get("LD_LIBRARY_PATH", "")
    for folder in named.split(":") if named else ():
        if os.path.isfile(path := os.path.join(folder or ".", library)):
            return os.path.realpath(path)
    triplet = getattr(sys.implementation, "_multiarch", ".")
    paths = (f"{root}{x}/{library}" for root in SYSTEM_FOLDERS for x in ("", f"/{triplet}", "64"))
    found = {os.path.realpath(path) for path in paths if os.path.isfile(path)}
    return found.pop() if len(found) == 1 else None


def broken(name: str, what: str, error: BaseException) -> InterpreterBroken:
    """Return a library's error as ours."""
    return InterpreterBroken(
        f"{name} {what}",
        found=f"{type(error).__name__}: {' '.join(str(error).split())}",
        expected="a model that this library can run",
        fix="pip install --upgrade ai-edge-litert, or convert the model again",
    )


def _load_delegate(module: ModuleType, path: str) -> Any:
    """Load a delegate library, after checking its entry points: a failing loader prints at exit."""
    path, options = split_delegate(path)
    path = find_delegate(path) or path
    try:
        library = ctypes.CDLL(path)
        for symbol in PLUGIN_SYMBOLS:
            getattr(library, symbol)
        return module.load_delegate(path, options)
    except LIBRARY_ERRORS as error:
        raise _unusable(f"the delegate {path} cannot be loaded", str(error)) from error


def count_taken(nodes: list[dict[str, Any]]) -> Taken:
    """Count the operators behind DELEGATE nodes: those between a delegate's inputs and its outputs.

    The list holds the graph's original operators, and a DELEGATE node for each part that a delegate took.
    """
    originals = [node for node in nodes if node["op_name"] != "DELEGATE"]
    makers = {int(tensor): node for node in originals for tensor in node["outputs"]}
    taken: set[int] = set()
    for delegate in nodes:
        if delegate["op_name"] != "DELEGATE":
            continue
        given = set(map(int, delegate["inputs"]))
        wanted = [int(tensor) for tensor in delegate["outputs"]]
        while wanted:
            maker = makers.get(wanted.pop())
            if maker is not None and maker["index"] not in taken:
                taken.add(maker["index"])
                wanted += [int(tensor) for tensor in maker["inputs"] if int(tensor) not in given]
    return Taken(len(taken), len(originals))


def _unusable(what: str, found: str) -> DelegateUnusable:
    return DelegateUnusable(
        what,
        found=" ".join(found.split()),
        expected="a delegate that loads and takes part of the model",
        fix="leave out --delegate and --accelerator to run on the CPU",
    )


def _spec(details: dict[str, Any]) -> TensorSpec:
    import numpy as np

    scale, zero_point = details["quantization"]
    shape = details["shape_signature"] if len(details["shape_signature"]) else details["shape"]
    return TensorSpec(
        tuple(int(side) for side in shape), np.dtype(details["dtype"]).name, float(scale), int(zero_point)
    )
