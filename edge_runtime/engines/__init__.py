"""The only place that touches an inference library, and where its failures become ours.

    litert_c.py                    LiteRT by its C API through ctypes: no numpy, the fast road
    litert_interpreter.py          LiteRT by `ai_edge_litert.interpreter`: numpy
    tflite_runtime_interpreter.py  its predecessor, Python 3.11 at most, numpy below 2

`open_engine` chooses and says what it passed over. Importing this package imports no inference library.
"""

from __future__ import annotations

from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.errors import EdgeError, InterpreterBroken, InterpreterError, NoInterpreter, UsageError
from edge_runtime.model.tensors import TensorSpec, check_tensors, dequantize, raw_values, softmax_values

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

__all__ = [
    "ACCELERATORS",
    "ENGINES",
    "Engine",
    "TensorSpec",
    "check_options",
    "check_tensors",
    "dequantize",
    "open_engine",
    "raw_values",
    "softmax_values",
]

ENGINES = ("auto", "litert-c", "litert", "tflite-runtime")
ACCELERATORS = ("auto", "cpu", "xnnpack", "edgetpu", "gpu", "npu")
EDGETPU_LIBRARY = "libedgetpu.so.1"
LITERT_HARDWARE = ("gpu", "npu")
MAX_THREADS = 64


class Engine(Protocol):
    """One model, loaded and ready to run. Not thread-safe: one engine a thread."""

    name: str
    """Library road and version: `litert-c 2.3.0`."""
    accelerator: str
    """What runs the operators, as far as it is proven: `cpu`, `xnnpack (4 of 7 operators)`, `gpu (...)`, a delegate's
    file name."""
    operators_taken: tuple[int, int] | None
    """How many operators left the plain CPU, of how many; None for the library's default kernels."""
    threads: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    skipped: tuple[str, ...]
    """What `open_engine` tried before, and why it was passed over."""

    @property
    def input(self) -> TensorSpec:
        """The first input tensor."""

    @property
    def output(self) -> TensorSpec:
        """The first output tensor."""

    def run(self, input_tensor: bytes) -> bytes:
        """One inference.

        Args:
            input_tensor: Exactly input.nbytes bytes, little-endian.

        Returns:
            output.nbytes bytes.

        Raises:
            InterpreterBroken: Wrong length, or the library failed.
        """

    def close(self) -> None:
        """Frees the native memory; a second call does nothing."""


def open_engine(
    model_bytes: bytes,
    *,
    engine: str = "auto",
    threads: int = 1,
    accelerator: str = "auto",
    delegate: str | None = None,
    kernels: str = "",
    keep_tensors: bool = False,
) -> Engine:
    """Loads a model into an inference library.

    Args:
        model_bytes: A .tflite that `model_file` has checked.
        engine: A name of ENGINES; `auto` takes the first of the others that works.
        threads: CPU threads, 1 to MAX_THREADS.
        accelerator: `auto` and `cpu` take the library's default kernels. `xnnpack` demands proof that XNNPACK took
            nodes of the graph, which only an Interpreter gives; `gpu` and `npu` are LiteRT's own and only litert-c
            reaches them; `edgetpu` is the delegate EDGETPU_LIBRARY. Nothing is compared here: see `ladder`.
        delegate: Path of an external delegate library, with options `LIB:key=value,...`; only an Interpreter can load
            one.
        kernels: A kernel set by the name of LiteRT's OpResolverType, `BUILTIN_REF` or
            `BUILTIN_WITHOUT_DEFAULT_DELEGATES`; only with engine `litert`. Empty for the library's default kernels.
        keep_tensors: Keep inner tensors, which `InterpreterEngine.tensor` then reads; only with engine `litert`.

    Raises:
        UsageError: An unknown name, or options that cannot be meant together.
        NoInterpreter: Nothing that could run the model is installed.
        InterpreterBroken: Something is installed, but nothing works; every attempt is named.
        DelegateUnusable: The requested accelerator or delegate cannot be used. Never replaced by another.
    """
    check_options(engine, threads, accelerator, delegate)
    if kernels or keep_tensors:
        if engine != "litert":
            raise UsageError("kernels and keep_tensors", found=f"engine {engine}", expected="engine litert")
        from edge_runtime.engines.litert_interpreter import open_interpreter

        return open_interpreter(model_bytes, threads, accelerator, delegate, kernels, keep_tensors)
    if engine != "auto":
        return _open_one(engine, model_bytes, threads, accelerator, delegate)
    errors: list[tuple[str, InterpreterError]] = []
    for name in _roads(accelerator, delegate):
        try:
            opened = _open_one(name, model_bytes, threads, accelerator, delegate)
        except (NoInterpreter, InterpreterBroken) as error:
            errors.append((name, error))
            continue
        opened.skipped = tuple(f"{tried}: {error.what}" for tried, error in errors)
        return opened
    raise _nothing_works(errors)


def _roads(accelerator: str, delegate: str | None) -> tuple[str, ...]:
    """The engines that can do what is asked."""
    if accelerator in LITERT_HARDWARE:
        return ("litert-c",)
    return ENGINES[2:] if delegate is not None or accelerator in ("xnnpack", "edgetpu") else ENGINES[1:]


def check_options(engine: str, threads: int, accelerator: str, delegate: str | None) -> None:
    """Refuses what cannot be meant; arguments and UsageError as `open_engine`."""
    for what, value, known in (("engine", engine, ENGINES), ("accelerator", accelerator, ACCELERATORS)):
        if value not in known:
            raise UsageError(f"unknown {what}", found=value, expected=f"one of {', '.join(known)}")
    if not 1 <= threads <= MAX_THREADS:
        raise UsageError("the number of threads", found=str(threads), expected=f"1 to {MAX_THREADS}")
    if delegate is not None and accelerator not in ("auto", "cpu"):
        raise UsageError(
            "a delegate and an accelerator exclude each other",
            found=f"accelerator {accelerator}, delegate {delegate}",
            expected="one of them",
        )
    roads = _roads(accelerator, delegate)
    if engine not in ("auto", *roads):
        raise UsageError(
            f"{engine} cannot prove what ran, or does not reach it",
            found=f"accelerator {accelerator}, delegate {delegate or 'none'}",
            expected=f"engine {' or '.join(roads)}",
        )


def _open_one(name: str, model_bytes: bytes, threads: int, accelerator: str, delegate: str | None) -> Engine:
    if name == "litert-c":
        from edge_runtime.engines.litert_c import LiteRtC

        hardware = accelerator if accelerator in LITERT_HARDWARE else "cpu"
        return LiteRtC(model_bytes, threads=threads, hardware=hardware)
    if accelerator == "edgetpu":
        delegate = EDGETPU_LIBRARY
    if name == "litert":
        from edge_runtime.engines import litert_interpreter

        return litert_interpreter.open_interpreter(model_bytes, threads, accelerator, delegate)
    from edge_runtime.engines import tflite_runtime_interpreter

    return tflite_runtime_interpreter.open_interpreter(model_bytes, threads, accelerator, delegate)


def _nothing_works(errors: list[tuple[str, InterpreterError]]) -> EdgeError:
    if all(isinstance(error, NoInterpreter) for _, error in errors):
        return NoInterpreter(
            "no inference library is installed",
            found="; ".join(f"{name}: {error.what}" for name, error in errors),
            expected="ai-edge-litert, or tflite-runtime on Python 3.11 and below",
            fix="pip install ai-edge-litert",
        )
    broken = [(name, error) for name, error in errors if not isinstance(error, NoInterpreter)]
    return InterpreterBroken(
        "no installed inference library can run the model",
        found="; ".join(f"{name}: {error.what} ({error.found})" for name, error in broken),
        expected="one that works",
        fix=next((error.fix for _, error in broken if error.fix), "pip install --upgrade ai-edge-litert"),
    )
