"""LiteRT by `ai_edge_litert.interpreter`: any version of the package, and delegates. numpy."""

from __future__ import annotations

from edge_runtime.engines.interpreter import LIBRARY_ERRORS, InterpreterEngine, broken, construct
from edge_runtime.errors import NoInterpreter


def open_interpreter(
    model_bytes: bytes,
    threads: int,
    accelerator: str,
    delegate: str | None,
    kernels: str = "",
    keep_tensors: bool = False,
) -> InterpreterEngine:
    """Load a model; arguments as `open_engine`.

    Raises:
        NoInterpreter: ai-edge-litert or numpy is not installed.
        InterpreterBroken: They are, but they fail.
        DelegateUnusable: As `construct`.
    """
    try:
        import ai_edge_litert
        from ai_edge_litert import interpreter as module
    except ImportError as error:
        if error.name and error.name.partition(".")[0] in ("ai_edge_litert", "numpy"):
            raise NoInterpreter(
                "ai-edge-litert is not installed" if error.name != "numpy" else "numpy is not installed",
                found=str(error),
                fix="pip install ai-edge-litert numpy",
            ) from error
        raise broken("litert", "cannot be imported", error) from error
    except LIBRARY_ERRORS as error:
        raise broken("litert", "cannot be imported", error) from error
    name = f"litert {getattr(ai_edge_litert, '__version__', 'of unknown version')}"
    return construct(
        module,
        model_bytes,
        name=name,
        threads=threads,
        accelerator=accelerator,
        delegate=delegate,
        kernels=kernels,
        keep_tensors=keep_tensors,
        explain=lambda error: broken(name, "refuses the model", error),
    )
