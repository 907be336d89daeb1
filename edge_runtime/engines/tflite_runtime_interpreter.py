"""tflite-runtime 2.14, the predecessor of ai-edge-litert: Python 3.11 at most, numpy below 2."""

from __future__ import annotations

from edge_runtime.engines.interpreter import LIBRARY_ERRORS, InterpreterEngine, broken, construct
from edge_runtime.errors import InterpreterBroken, InterpreterError, NoInterpreter


def open_interpreter(
    model_bytes: bytes, threads: int, accelerator: str, delegate: str | None
) -> InterpreterEngine:
    """Load a model; arguments as `open_engine`.

    Raises:
        NoInterpreter: tflite-runtime or numpy is not installed.
        InterpreterBroken: They are, but they fail: with numpy 2 tflite-runtime imports, then dies when it is used.
        DelegateUnusable: As `construct`.
    """
    try:
        import tflite_runtime
        from tflite_runtime import interpreter as module
    except ImportError as error:
        if error.name and error.name.partition(".")[0] in ("tflite_runtime", "numpy"):
            raise NoInterpreter(
                "tflite-runtime is not installed",
                found=str(error),
                # Not the extra's name: no index has a package dermedge, so anybody may claim it.
                fix="pip install 'tflite-runtime==2.14.0' 'numpy<2' (Python 3.11 at most)",
            ) from error
        # numpy 2 makes the compiled wrapper fail with "numpy.core.multiarray failed to import".
        raise _explain(error) from error
    except LIBRARY_ERRORS as error:
        raise _explain(error) from error
    return construct(
        module,
        model_bytes,
        name=f"tflite-runtime {getattr(tflite_runtime, '__version__', 'of unknown version')}",
        threads=threads,
        accelerator=accelerator,
        delegate=delegate,
        explain=_explain,
    )


def _explain(error: BaseException) -> InterpreterError:
    """Name numpy 2 as the cause, which the library's own message does not."""
    import numpy

    if int(numpy.__version__.partition(".")[0]) < 2:
        return broken("tflite-runtime", "refuses the model", error)
    return InterpreterBroken(
        f"tflite-runtime does not work with numpy {numpy.__version__}",
        found=f"{type(error).__name__}: {' '.join(str(error).split())}",
        expected="numpy below 2",
        fix="pip install 'numpy<2', or pip install ai-edge-litert",
    )
