"""LiteRT by its C API: ctypes into the `libLiteRt.so` of the ai-edge-litert wheel, without its Python and numpy.

It saves the time and memory of `import numpy` (README.md, "Engines").

The C ABI is not stable: 2.2 put an environment argument first, and the 2.1.6 library crashes on this call sequence. A
library is accepted, whatever its version, if it exports every function below (2.1 and 2.2 lack one) and passes the
model's self-test: in a child process first, so that a crash costs nothing but a note, with the result cached. Releases
in TESTED_VERSIONS pass it in this project's own tests and need no child. Nightly builds are found too.
"""

# Importing pathlib costs 4 ms of start-up.
# ruff: noqa: PTH110, PTH116, PTH118, PTH120, PTH208

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_void_p

from edge_runtime import __version__
from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.engines.engine import Engine, require_input
from edge_runtime.errors import DelegateUnusable, EdgeError, InterpreterBroken, NoInterpreter
from edge_runtime.model.tensors import STRUCT_CODES, TensorSpec

if TYPE_CHECKING:
    from typing import Any

TESTED_VERSIONS = ("2.3.0",)
"""Releases of ai-edge-litert on which the tests compare this call sequence with the Interpreter."""
PACKAGE = "ai_edge_litert"
DISTRIBUTIONS = (PACKAGE, f"{PACKAGE}_nightly")
LIBRARY = "libLiteRt.so"

CPU, GPU, NPU = 1, 2, 4
HARDWARE = {"cpu": CPU, "gpu": GPU, "npu": NPU}
LOG_ERRORS_ONLY = 3
TAG_AUTO_REGISTER_ACCELERATORS = 24
TAG_MIN_LOGGER_SEVERITY = 25
TAG_RUNTIME_LIBRARY_DIR = 22
ANY_INT, ANY_STRING = 2, 8
LOCK_READ, LOCK_WRITE = 0, 1
# TFLite and XNNPACK read constants in place and expect the flatbuffer's own 16-byte alignment to hold in memory.
MODEL_ALIGNMENT = 16
ELEMENT_TYPES = {1: "float32", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8", 10: "float16"}
PER_TENSOR = 1
# The payload's name in 2.3 and in nightly builds of 2.4; each ignores the other's.
CPU_OPTIONS = (b"xnnpack", b"cpu_options")
STATUS_NAMES = {
    1: "invalid argument",
    2: "memory allocation failure",
    3: "runtime failure",
    504: "compilation",
}
CPU_FIX = "leave out --accelerator to run on the CPU"


class _Any(ctypes.Structure):
    _fields_ = [("type", c_int), ("value", c_int64)]


class _EnvironmentOption(ctypes.Structure):
    _fields_ = [("tag", c_int), ("value", _Any)]


class _RankedTensorType(ctypes.Structure):
    # rank_and_strides: 7 bits of rank, then one bit that says whether strides are given.
    _fields_ = [
        ("element_type", c_int),
        ("rank_and_strides", ctypes.c_uint32),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    ]


class _Layout(ctypes.Structure):
    _fields_ = _RankedTensorType._fields_[1:]


class _PerTensorQuantization(ctypes.Structure):
    _fields_ = [("scale", ctypes.c_float), ("zero_point", c_int64)]


# Argument types by function; every one returns a status, 0 for success, except the destroyers.
_HANDLE_OUT = POINTER(c_void_p)
_FUNCTIONS: dict[str, list[Any]] = {
    "LiteRtCreateEnvironment": [c_int, c_void_p, _HANDLE_OUT],
    "LiteRtCreateModelFromBuffer": [c_void_p, c_void_p, c_size_t, _HANDLE_OUT],
    "LiteRtCreateOptions": [_HANDLE_OUT],
    "LiteRtSetOptionsHardwareAccelerators": [c_void_p, c_int],
    "LiteRtCreateOpaqueOptions": [c_char_p, c_void_p, c_void_p, _HANDLE_OUT],
    "LiteRtAddOpaqueOptions": [c_void_p, c_void_p],
    "LiteRtCreateCompiledModel": [c_void_p, c_void_p, c_void_p, _HANDLE_OUT],
    "LiteRtGetModelSignature": [c_void_p, c_size_t, _HANDLE_OUT],
    "LiteRtGetNumSignatureInputs": [c_void_p, POINTER(c_size_t)],
    "LiteRtGetNumSignatureOutputs": [c_void_p, POINTER(c_size_t)],
    "LiteRtGetSignatureInputTensorByIndex": [c_void_p, c_size_t, _HANDLE_OUT],
    "LiteRtGetSignatureOutputTensorByIndex": [c_void_p, c_size_t, _HANDLE_OUT],
    "LiteRtGetRankedTensorType": [c_void_p, POINTER(_RankedTensorType)],
    "LiteRtGetQuantizationTypeId": [c_void_p, POINTER(c_int)],
    "LiteRtGetPerTensorQuantization": [c_void_p, POINTER(_PerTensorQuantization)],
    "LiteRtCompiledModelIsNonCpuFullyAccelerated": [c_void_p, POINTER(ctypes.c_bool)],
    "LiteRtGetCompiledModelOutputTensorLayouts": [c_void_p, c_size_t, c_size_t, POINTER(_Layout), ctypes.c_bool],
    "LiteRtGetCompiledModelInputBufferRequirements": [c_void_p, c_size_t, c_size_t, _HANDLE_OUT],
    "LiteRtGetCompiledModelOutputBufferRequirements": [c_void_p, c_size_t, c_size_t, _HANDLE_OUT],
    "LiteRtCreateManagedTensorBufferFromRequirements": [c_void_p, POINTER(_RankedTensorType), c_void_p, _HANDLE_OUT],
    "LiteRtGetTensorBufferPackedSize": [c_void_p, POINTER(c_size_t)],
    "LiteRtLockTensorBuffer": [c_void_p, _HANDLE_OUT, c_int],
    "LiteRtUnlockTensorBuffer": [c_void_p],
    "LiteRtRunCompiledModel": [c_void_p, c_size_t, c_size_t, c_void_p, c_size_t, c_void_p],
}  # fmt: skip
_DESTROYERS = ("TensorBuffer", "CompiledModel", "Options", "Model", "Environment")


def find_library() -> tuple[str, str]:
    """Find the C library without importing its package.

    Returns:
        Its path, and the version of the distribution that holds it; "" if unknown.

    Raises:
        NoInterpreter: The package is not installed, or has no such library on this platform.
    """
    folder = _package_folder()
    if folder is None:
        raise NoInterpreter("ai-edge-litert is not installed", fix="pip install ai-edge-litert")
    library = os.path.join(folder, LIBRARY)
    if not os.path.exists(library):
        raise NoInterpreter(f"this ai-edge-litert has no {LIBRARY}", found=sys.platform, expected=library)
    return library, _installed_version(folder)


def _package_folder() -> str | None:
    """As `importlib.util.find_spec`, which is 5 ms of imports away; None where there is no such package."""
    try:
        # Something else may stand in sys.modules under its name.
        if PACKAGE in sys.modules:
            found = sys.modules[PACKAGE].__spec__
        else:
            finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
            found = next(filter(None, (finder.find_spec(PACKAGE, None) for finder in finders)), None)
    except (ImportError, AttributeError):
        # An import hook forbids it.
        return None
    return next(iter(found.submodule_search_locations or ()), None) if found else None


def _installed_version(folder: str) -> str:
    """From the name of the dist-info folder beside the package; `importlib.metadata` costs 20 ms to import."""
    beside = (name.partition("-") for name in os.listdir(os.path.dirname(folder)))
    found = [
        rest.removesuffix(".dist-info")
        for name, _, rest in beside
        if name in DISTRIBUTIONS and rest.endswith(".dist-info")
    ]
    # Two of them: a broken upgrade, and the library may belong to either.
    return found[0] if len(found) == 1 else ""


def _load(path: str) -> Any:
    try:
        library = ctypes.CDLL(path)
        for name, argument_types in _FUNCTIONS.items():
            function = getattr(library, name)
            function.argtypes, function.restype = argument_types, c_int
        for thing in _DESTROYERS:
            function = getattr(library, f"LiteRtDestroy{thing}")
            function.argtypes, function.restype = [c_void_p], None
    except (AttributeError, OSError) as error:
        problem, expected = "the LiteRT C library cannot be loaded", f"{LIBRARY} of ai-edge-litert"
        fix = "pip install --force-reinstall ai-edge-litert"
        if isinstance(error, AttributeError):
            problem = "this LiteRT library lacks a function of the C API"
            expected = f"the C API of ai-edge-litert {TESTED_VERSIONS[-1]}"
            fix = "pip install --upgrade ai-edge-litert"
        raise InterpreterBroken(problem, found=str(error), expected=expected, fix=fix) from error
    return library


def library_state() -> list[str | int]:
    """Return what changes with the library: real path, version, size and time; why there is none."""
    try:
        path, version = find_library()
        status = os.stat(path)
    except (EdgeError, OSError) as error:
        return [str(error)]
    return [os.path.realpath(path), version, status.st_size, status.st_mtime_ns]


def _require_valid(model_bytes: bytes, version: str) -> None:
    """Refuse a library that fails the model's self-test in a child process, or failed it before."""
    import hashlib

    from edge_runtime.engines import validation

    def ask() -> tuple[str, bool]:
        limits = validation.probe_limits(model_bytes)
        try:
            line, problem = validation.run_probe({"rung": "litert-c"}, model_bytes, limits)
        except OSError as error:
            return str(error), False
        return problem or line, True

    state = repr((__version__, sys.version, library_state())).encode()
    key = hashlib.sha256(state + hashlib.sha256(model_bytes).digest()).hexdigest()[:32]
    result = validation.known_result(f"litert-c-{key}", ask, [])
    if result != "ok":
        raise InterpreterBroken(
            f"the C API of ai-edge-litert {version or 'of unknown version'} fails the model's self-test",
            found=result,
            expected="the outputs in the model's contract",
            fix=f"pip install ai-edge-litert=={TESTED_VERSIONS[-1]}",
        )


class LiteRtC(Engine):
    """An `Engine` over the C API; see there for the public members.

    Args:
        model_bytes: A checked .tflite. Kept, because LiteRT reads constants from it in place.
        threads: CPU threads for XNNPACK.
        hardware: A name of HARDWARE. LiteRT may leave operators to the CPU: `operators_taken` says whether it did.
        validated: Use the library without the self-test of untested releases.

    Raises:
        NoInterpreter: As `find_library`.
        InterpreterBroken: The library lacks a function or fails the self-test, or LiteRT refused the model.
    """

    def __init__(
        self, model_bytes: bytes, *, threads: int = 1, hardware: str = "cpu", validated: bool = False
    ) -> None:
        path, version = find_library()
        self._library = _load(path)
        if version not in TESTED_VERSIONS and not validated:
            _require_valid(model_bytes, version)
        self.name = f"litert-c {version or 'of unknown version'}"
        self.accelerator, self._hardware, self.threads = hardware, HARDWARE[hardware], threads
        self.operators_taken: tuple[int, int] | None = None
        self.skipped = ()
        # Destroyed from last to first: LiteRT wants buffers gone before models, models before the environment.
        self._owned: list[tuple[str, c_void_p]] = []
        self._model_memory = _aligned(model_bytes)
        if hardware != "cpu":
            from edge_runtime.model.flatbuffer import walk_model

            self._operator_count = walk_model(model_bytes, where="model", trusted=True).operator_count
        try:
            self._open()
        except BaseException as error:
            self.close()
            if hardware == "cpu" or not isinstance(error, InterpreterBroken):
                raise
            problem = f"LiteRT cannot run the model on the {hardware}"
            expected = f"a {hardware} and its driver"
            raise DelegateUnusable(problem, found=error.found, expected=expected, fix=CPU_FIX) from error

    def run(self, input_tensor: bytes) -> bytes:
        """Run one inference; see `Engine.run`."""
        require_input(input_tensor, self.input, is_open=bool(self._owned))
        address = c_void_p()
        self._call("LiteRtLockTensorBuffer", self._input, byref(address), LOCK_WRITE)
        ctypes.memmove(address, input_tensor, self._input_bytes)
        self._call("LiteRtUnlockTensorBuffer", self._input)
        self._call("LiteRtRunCompiledModel", self._compiled, 0, 1, byref(self._input), 1, byref(self._output))
        self._call("LiteRtLockTensorBuffer", self._output, byref(address), LOCK_READ)
        output_tensor = ctypes.string_at(address, self._output_bytes)
        self._call("LiteRtUnlockTensorBuffer", self._output)
        return output_tensor

    def close(self) -> None:
        """Free everything; a second call does nothing."""
        while self._owned:
            thing, handle = self._owned.pop()
            getattr(self._library, f"LiteRtDestroy{thing}")(handle)
        self._model_memory = None

    def __del__(self) -> None:
        if hasattr(self, "_owned"):
            self.close()

    def _open(self) -> None:
        self._environment = self._create_environment()
        memory, length, _ = self._model_memory
        model = self._own("Model", "LiteRtCreateModelFromBuffer", self._environment, memory, length)
        self.inputs, input_types = self._describe(model, "Input")
        self.outputs, output_types = self._describe(model, "Output")
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            problem = "the model cannot be run by this binding"
            found = f"{len(self.inputs)} inputs and {len(self.outputs)} outputs"
            raise InterpreterBroken(problem, found=found, expected="one of each")
        create, options = "LiteRtCreateCompiledModel", self._create_options()
        self._compiled = self._own("CompiledModel", create, self._environment, model, options)
        if self._hardware != CPU:
            self._require_hardware()
        self._check_output_shape()
        self._input, self._input_bytes = self._create_buffer("Input", input_types[0], self.input)
        self._output, self._output_bytes = self._create_buffer("Output", output_types[0], self.output)

    def _require_hardware(self) -> None:
        """Refuse a model that does not run on the accelerator as a whole."""
        whole = ctypes.c_bool()
        self._call("LiteRtCompiledModelIsNonCpuFullyAccelerated", self._compiled, byref(whole))
        if not whole.value:
            problem = f"LiteRT does not run all of this model on the {self.accelerator}"
            found = "operators that would run on the CPU"
            expected = "all operators: LiteRT does not report which part it took"
            raise DelegateUnusable(problem, found=found, expected=expected, fix=CPU_FIX)
        operators = self._operator_count
        self.operators_taken = (operators, operators)
        self.accelerator = f"{self.accelerator} ({operators} of {operators} operators)"

    def _check_output_shape(self) -> None:
        """Refuse a model whose operators compute another output shape than its output tensor declares.

        LiteRT 2.3.0 writes the computed output into a buffer of the declared size, past its end.
        """
        layout = _Layout()
        self._call("LiteRtGetCompiledModelOutputTensorLayouts", self._compiled, 0, 1, byref(layout), True)
        shape = tuple(layout.dimensions[: layout.rank_and_strides & 0x7F])
        if shape != self.output.shape:
            problem = f"output shape mismatch: declared {list(self.output.shape)}, computed {list(shape)}"
            raise InterpreterBroken(problem, fix="copy the model again, or convert it again")

    def _create_environment(self) -> c_void_p:
        # Only the CPU is registered: by default LiteRT also loads its 20 MB GPU library. No INFO lines.
        options = [
            _EnvironmentOption(TAG_AUTO_REGISTER_ACCELERATORS, _Any(ANY_INT, CPU | self._hardware)),
            _EnvironmentOption(TAG_MIN_LOGGER_SEVERITY, _Any(ANY_INT, LOG_ERRORS_ONLY)),
        ]
        if self._hardware != CPU:
            # Where the accelerators' own libraries lie: beside this one. LiteRT keeps the pointer.
            self._library_folder = c_char_p(os.path.dirname(self._library._name).encode())
            address = ctypes.cast(self._library_folder, c_void_p).value
            options.append(_EnvironmentOption(TAG_RUNTIME_LIBRARY_DIR, _Any(ANY_STRING, address)))
        array = (_EnvironmentOption * len(options))(*options)
        return self._own("Environment", "LiteRtCreateEnvironment", len(options), array)

    def _create_options(self) -> c_void_p:
        options = self._own("Options", "LiteRtCreateOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, self._hardware)
        if self._hardware != CPU:
            return options
        # The payload is the text that LrtGetOpaqueCpuOptionsData makes, which the library does not export. LiteRT
        # frees it. Both functions by name: another allocator that was preloaded need not be that of `strdup`.
        c_library = ctypes.CDLL(None)
        c_library.malloc.restype, c_library.malloc.argtypes = c_void_p, [c_size_t]
        free = ctypes.cast(c_library.free, c_void_p)
        text = b"num_threads = %d\n\0" % self.threads
        for name in CPU_OPTIONS:
            payload = c_library.malloc(len(text))
            ctypes.memmove(payload, text, len(text))
            cpu_options = c_void_p()
            self._call("LiteRtCreateOpaqueOptions", name, payload, free, byref(cpu_options))
            self._call("LiteRtAddOpaqueOptions", options, cpu_options)
        return options

    def _describe(self, model: c_void_p, role: str) -> tuple[tuple[TensorSpec, ...], list[_RankedTensorType]]:
        """Specs and C types of all inputs or outputs of the first signature."""
        signature, count = c_void_p(), c_size_t()
        self._call("LiteRtGetModelSignature", model, 0, byref(signature))
        self._call(f"LiteRtGetNumSignature{role}s", signature, byref(count))
        specs, types = [], []
        for index in range(count.value):
            tensor, tensor_type, kind = c_void_p(), _RankedTensorType(), c_int()
            self._call(f"LiteRtGetSignature{role}TensorByIndex", signature, index, byref(tensor))
            self._call("LiteRtGetRankedTensorType", tensor, byref(tensor_type))
            self._call("LiteRtGetQuantizationTypeId", tensor, byref(kind))
            quantization = _PerTensorQuantization(0.0, 0)
            if kind.value == PER_TENSOR:
                self._call("LiteRtGetPerTensorQuantization", tensor, byref(quantization))
            rank = tensor_type.rank_and_strides & 0x7F
            dtype = ELEMENT_TYPES.get(tensor_type.element_type, f"type {tensor_type.element_type}")
            shape = tuple(int(side) for side in tensor_type.dimensions[:rank])
            specs.append(TensorSpec(shape, dtype, float(quantization.scale), int(quantization.zero_point)))
            types.append(tensor_type)
        return tuple(specs), types

    def _create_buffer(self, role: str, tensor_type: Any, spec: TensorSpec) -> tuple[c_void_p, int]:
        requirements, size = c_void_p(), c_size_t()
        require = f"LiteRtGetCompiledModel{role}BufferRequirements"
        self._call(require, self._compiled, 0, 0, byref(requirements))
        create = "LiteRtCreateManagedTensorBufferFromRequirements"
        buffer = self._own("TensorBuffer", create, self._environment, byref(tensor_type), requirements)
        self._call("LiteRtGetTensorBufferPackedSize", buffer, byref(size))
        if spec.dtype not in STRUCT_CODES or size.value != spec.nbytes:
            problem = f"LiteRT's {role.lower()} buffer does not fit its tensor"
            expected = "the bytes of one tensor of uint8, int8 or float32"
            raise InterpreterBroken(problem, found=f"{size.value} bytes for {spec}", expected=expected)
        return buffer, size.value

    def _own(self, thing: str, function: str, *arguments: Any) -> c_void_p:
        """Calls a creating function, whose last argument is the handle, and remembers to destroy what it made."""
        handle = c_void_p()
        self._call(function, *arguments, byref(handle))
        self._owned.append((thing, handle))
        return handle

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            problem = f"LiteRT cannot run the model: {function} failed"
            found = f"status {status} ({STATUS_NAMES.get(status, 'see litert_common.h')})"
            fix = "convert the model again, or pass engine='litert' to Classifier"
            raise InterpreterBroken(problem, found=found, expected="status 0", fix=fix)


def _aligned(model_bytes: bytes) -> Any:
    """The address of the bytes (or of an aligned copy), their length, and what keeps them alive."""
    address = ctypes.cast(c_char_p(model_bytes), c_void_p).value or 0
    if address % MODEL_ALIGNMENT == 0:
        return c_void_p(address), len(model_bytes), model_bytes
    copy = ctypes.create_string_buffer(len(model_bytes) + MODEL_ALIGNMENT)
    first = ctypes.addressof(copy)
    first += -first % MODEL_ALIGNMENT
    ctypes.memmove(first, model_bytes, len(model_bytes))
    return c_void_p(first), len(model_bytes), copy
