"""What an inference engine is, and the names of engines and accelerators."""

from __future__ import annotations

from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.errors import InterpreterBroken, UsageError

if TYPE_CHECKING:
    from typing import Protocol

    from edge_runtime.model.tensors import TensorSpec
else:
    Protocol = object

ENGINES = ("auto", "litert-c", "litert", "tflite-runtime")
ACCELERATORS = ("auto", "cpu", "xnnpack", "edgetpu", "gpu", "npu")
EDGETPU_LIBRARY = "libedgetpu.so.1"
LITERT_HARDWARE = ("gpu", "npu")
MAX_THREADS = 64


class Engine(Protocol):
    """One model, loaded and ready to run. Not thread-safe: one engine a thread."""

    name: str
    """Binding and version: `litert-c 2.3.0`."""
    accelerator: str
    """What runs the operators, as far as it is known: `cpu`, `xnnpack (4 of 7 operators)`, `gpu (...)`, a delegate's
    file name."""
    operators_taken: tuple[int, int] | None
    """How many operators left the plain CPU, of how many; None for the library's default kernels."""
    threads: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    skipped: tuple[str, ...]
    """Engines and accelerators that were tried before, with the reason why they were skipped."""

    @property
    def input(self) -> TensorSpec:
        """The first input tensor."""
        return self.inputs[0]

    @property
    def output(self) -> TensorSpec:
        """The first output tensor."""
        return self.outputs[0]

    def run(self, input_tensor: bytes) -> bytes:
        """Run one inference.

        Args:
            input_tensor: Exactly input.nbytes bytes, little-endian.

        Returns:
            output.nbytes bytes.

        Raises:
            InterpreterBroken: Wrong length, or the library failed.
        """

    def close(self) -> None:
        """Free the native memory; a second call does nothing."""


def require_input(input_tensor: bytes, spec: TensorSpec, *, is_open: bool) -> None:
    """Refuse, as `Engine.run` says, an input of the wrong length, or any once the engine is closed."""
    if not is_open:
        raise InterpreterBroken("the engine is closed", expected="an open engine")
    if len(input_tensor) != spec.nbytes:
        found, expected = f"{len(input_tensor)} bytes", f"{spec.nbytes} bytes: {spec}"
        raise InterpreterBroken("the input tensor cannot be filled", found=found, expected=expected)


def engines_for(accelerator: str, delegate: str | None) -> tuple[str, ...]:
    """Return the engines that support an accelerator or delegate, in order of preference."""
    if accelerator in LITERT_HARDWARE:
        return ("litert-c",)
    return ENGINES[2:] if delegate is not None or accelerator in ("xnnpack", "edgetpu") else ENGINES[1:]


def check_options(engine: str, threads: int, accelerator: str, delegate: str | None) -> None:
    """Check the options of `loading.open_engine`, with its UsageError."""
    for what, value, known in (("engine", engine, ENGINES), ("accelerator", accelerator, ACCELERATORS)):
        if value not in known:
            raise UsageError(f"unknown {what}", found=value, expected=f"one of {', '.join(known)}")
    if not 1 <= threads <= MAX_THREADS:
        raise UsageError("invalid number of threads", found=str(threads), expected=f"1 to {MAX_THREADS}")
    if delegate is not None and accelerator not in ("auto", "cpu"):
        problem = "--delegate and --accelerator cannot be combined"
        found = f"accelerator {accelerator}, delegate {delegate}"
        raise UsageError(problem, found=found, expected="one of them")
    supporting = engines_for(accelerator, delegate)
    if engine not in ("auto", *supporting):
        what = f"delegate '{delegate}'" if delegate else f"accelerator '{accelerator}'"
        expected = f"engine {' or '.join(supporting)}"
        raise UsageError(f"engine '{engine}' does not support {what}", expected=expected)
