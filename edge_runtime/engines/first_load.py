"""The first load of a model file of unknown origin: in a child process, whose result is cached by the file's hash.

The checks of `edge_runtime.model` refuse what is known to harm the library. What they miss ends a child.
"""

from __future__ import annotations

import os
import sys

from edge_runtime import __version__
from edge_runtime.engines.engine import check_options
from edge_runtime.engines.litert_c import library_state
from edge_runtime.engines.validation import CRASHED, known_result, run_probe
from edge_runtime.errors import InterpreterBroken, InterpreterError, ModelUnsafe, NoInterpreter
from edge_runtime.model.model_file import ModelFile

CPU_S = 30
"""Of one load and one inference on one thread; an EfficientNet-Lite4 needs 1 s of a Raspberry Pi 4."""
BASE_MIB = 512
"""Address space of Python and LiteRT, numpy included: 160 with the Interpreter."""
MODEL_COPIES = 4
"""Of the file: as it was read, aligned, and packed weights."""
# What TensorFlow Lite says where an allocation fails; XNNPACK has no other reason at these places.
MEMORY_SIGNS = ("memory", "failed to reshape runtime", "failed to setup xnnpack runtime")


def require_safe(
    model: ModelFile, *, engine: str = "auto", again: bool = False, notes: list[str] | None = None
) -> None:
    """Refuse a model that ends the child process which loads it first and runs one inference on a drawn picture.

    A model that is vouched for passes. `again` tries again one that failed before; remarks on the cache are appended
    to `notes`.

    Raises:
        ModelUnsafe: It crashed, took too much time or memory, or no child can be started here.
        InterpreterError: No inference library here runs it.
        UsageError: An unknown engine.
    """
    if model.vouched:
        return
    check_options(engine, 1, "cpu", None)
    # The first of `auto`, and what further engines of one classifier are opened by.
    engine = "auto" if engine == "litert-c" else engine
    import hashlib

    memory_mib = BASE_MIB + MODEL_COPIES * (len(model.data) >> 20) + model.limits.memory_mib
    limits = {"CORE": 0, "AS": memory_mib << 20, "CPU": CPU_S, "FSIZE": 1 << 20, "NOFILE": 64}

    def ask() -> tuple[str, bool]:
        try:
            line, problem = run_probe({"rung": "cpu", "engine": engine}, model.data, limits)
        except OSError as error:
            return f"no child process could be started: {error.strerror or error}", False
        return line or problem, line == "ok" or problem.startswith(CRASHED)

    state = repr((__version__, engine, library_state(), sys.version, getattr(os, "uname", str)()))
    name = f"model-{model.sha256}-{hashlib.sha256(state.encode()).hexdigest()[:16]}"
    result = known_result(name, ask, [] if notes is None else notes, again=again)
    if result == "ok":
        return
    problem = "the model is not safe to load: the child process that tried it first failed"
    expected = f"one inference within {CPU_S} s of processor time and {memory_mib} MiB of memory"
    fix = "do not use this file; if you made it yourself, pass --trust (trust=True)"
    unsafe = ModelUnsafe(problem, where=model.path, found=result, expected=expected, fix=fix)
    raise _refusal(result) or unsafe


def _refusal(result: str) -> InterpreterError | None:
    """Return the library's error that the child reports; None of one that a limit of memory explains."""
    import json

    try:
        name, what, *texts = map(str, json.loads(result))
        found, expected, fix = texts
    except (ValueError, TypeError, RecursionError):
        return None
    if any(sign in result.lower() for sign in MEMORY_SIGNS):
        return None
    kind = NoInterpreter if name == NoInterpreter.__name__ else InterpreterBroken
    return kind(what, found=found, expected=expected, fix=fix)
