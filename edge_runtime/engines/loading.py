"""Load a model into an inference library: the requested one, or the first that works."""

from __future__ import annotations

from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.engines.engine import EDGETPU_LIBRARY, LITERT_HARDWARE, check_options, engines_for
from edge_runtime.errors import InterpreterBroken, InterpreterError, NoInterpreter, UsageError

if TYPE_CHECKING:
    from typing import Any

    from edge_runtime.engines.engine import Engine


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
    """Load a model into an inference library.

    Args:
        model_bytes: A .tflite that `model_file` has checked.
        engine: A name of ENGINES; `auto` takes the first of the others that works.
        threads: CPU threads, 1 to MAX_THREADS.
        accelerator: `auto` and `cpu` take the library's default kernels. `xnnpack` requires XNNPACK to take nodes of
            the graph, which only an Interpreter reports; `gpu` and `npu` are LiteRT's own and need litert-c;
            `edgetpu` is the delegate EDGETPU_LIBRARY. No output is compared here: see `fallback`.
        delegate: Path of an external delegate library, with options `LIB:key=value,...`; needs an Interpreter.
        kernels: A kernel set by the name of LiteRT's OpResolverType, `BUILTIN_REF` or
            `BUILTIN_WITHOUT_DEFAULT_DELEGATES`; only with engine `litert`. Empty for the library's default kernels.
        keep_tensors: Keep inner tensors, which `InterpreterEngine.tensor` then reads; only with engine `litert`.

    Raises:
        UsageError: An unknown name, or options that cannot be combined.
        NoInterpreter: Nothing that could run the model is installed.
        InterpreterBroken: Something is installed, but nothing works; every attempt is named.
        DelegateUnusable: The requested accelerator or delegate cannot be used. Never replaced by another.
    """
    check_options(engine, threads, accelerator, delegate)
    if (kernels or keep_tensors) and engine != "litert":
        problem, found = "kernels and keep_tensors need an Interpreter", f"engine {engine}"
        raise UsageError(problem, found=found, expected="engine litert")
    if engine != "auto":
        inside = {"kernels": kernels, "keep_tensors": keep_tensors}
        return _open_one(engine, model_bytes, threads, accelerator, delegate, **inside)
    errors: list[tuple[str, InterpreterError]] = []
    for name in engines_for(accelerator, delegate):
        try:
            opened = _open_one(name, model_bytes, threads, accelerator, delegate)
        except (NoInterpreter, InterpreterBroken) as error:
            errors.append((name, error))
            continue
        opened.skipped = tuple(f"{tried}: {error.what}" for tried, error in errors)
        return opened
    raise _nothing_works(errors)


def _open_one(
    name: str, model_bytes: bytes, threads: int, accelerator: str, delegate: str | None, **inside: Any
) -> Engine:
    if name == "litert-c":
        from edge_runtime.engines.litert_c import LiteRtC

        hardware = accelerator if accelerator in LITERT_HARDWARE else "cpu"
        return LiteRtC(model_bytes, threads=threads, hardware=hardware)
    from edge_runtime.engines.interpreter import open_interpreter

    delegate = EDGETPU_LIBRARY if accelerator == "edgetpu" else delegate
    return open_interpreter(
        name, model_bytes, threads=threads, accelerator=accelerator, delegate=delegate, **inside
    )


def _nothing_works(errors: list[tuple[str, InterpreterError]]) -> InterpreterError:
    broken = [(name, error) for name, error in errors if not isinstance(error, NoInterpreter)]
    if not broken:
        problem = "no inference library is installed"
        found = "; ".join(f"{name}: {e.what}" for name, e in errors)
        expected = "ai-edge-litert, or tflite-runtime on Python 3.11 and below"
        return NoInterpreter(problem, found=found, expected=expected, fix="pip install ai-edge-litert")
    problem = "no installed inference library can run the model"
    found = "; ".join(f"{name}: {error.what} ({error.found})" for name, error in broken)
    fix = next((error.fix for _, error in broken if error.fix), "pip install --upgrade ai-edge-litert")
    return InterpreterBroken(problem, found=found, expected="one that works", fix=fix)
