"""From the requested accelerator to the one that is used: validated on this machine and model first. stdlib only.

    --accelerator gpu       candidates: gpu, cpu
    --accelerator edgetpu   candidates: edgetpu, cpu
    --accelerator npu       candidates: npu, gpu, cpu
    --accelerator auto      candidates: npu, edgetpu, gpu, cpu
    --delegate LIB          candidates: LIB, cpu

A candidate is accepted only if it loads and runs in a child process without crashing, takes at least one operator,
gives the CPU's output for the model's self-test vectors within their tolerance, and is faster than the CPU. Else the
next one is tried, and the prediction reports what was requested, what is used and why. A model with operators that only
a delegate has (`flatbuffer.DELEGATED`) is compared with the outputs that it stores, and never falls back to the CPU.

Verdicts are cached by everything that could change them: model, delegate library and its options, versions, machine,
drivers selected by the environment, threads.
"""

# Importing pathlib costs 4 ms of start-up.
# ruff: noqa: PTH116

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any

from edge_runtime import __version__
from edge_runtime._startup.records import dataclass
from edge_runtime.engines import validation
from edge_runtime.engines.engine import EDGETPU_LIBRARY, LITERT_HARDWARE, Engine
from edge_runtime.engines.litert_c import library_state
from edge_runtime.engines.loading import open_engine
from edge_runtime.errors import DelegateUnusable, InterpreterError
from edge_runtime.model.model_file import ModelFile

CANDIDATES = {
    "auto": ("npu", "edgetpu", "gpu"),
    "npu": ("npu", "gpu"),
    "gpu": ("gpu",),
    "edgetpu": ("edgetpu",),
}
"""What is tried before the CPU, by what was requested."""
LOADER_LIST = "/etc/ld.so.cache"


@dataclass(frozen=True)
class Verdict:
    """The validation of one candidate; its fields are keys of the JSON output."""

    rung: str
    """The candidate: `gpu`, `npu`, `edgetpu`, or a delegate as it was requested."""
    accepted: bool
    why: str
    """One sentence."""
    operators_taken: int
    operators: int
    largest_difference: float | None
    """Of any self-test output, in the unit of the output tensor; None if it did not get so far, or gave no number."""
    tolerance: float | None
    cpu_ms: float | None
    """Median inference of the CPU, in the same child."""
    rung_ms: float | None
    """Median inference of the candidate."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {name: getattr(self, name) for name in self.__match_args__}


def first_accepted(
    model: ModelFile,
    *,
    asked: str,
    engine: str = "auto",
    threads: int = 1,
    delegate: str | None = None,
    again: bool = False,
    notes: list[str] | None = None,
) -> tuple[Engine, tuple[Verdict, ...]]:
    """Return an engine on the first candidate that is accepted, or on the CPU.

    The candidates are those of `asked`, a key of CANDIDATES, or `delegate` alone, `LIB[:key=value,...]`. With `engine`
    litert-c instead of auto only what it supports is tried, and the CPU is its own too. `again` validates even if a
    verdict is cached; remarks on the cache are appended to `notes`.

    Returns:
        An open engine, whose `skipped` says why the candidates before it were refused; and the verdicts.

    Raises:
        InterpreterError: Not even the CPU runs the model.
    """
    verdicts: list[Verdict] = []
    notes = [] if notes is None else notes
    candidates = (delegate,) if delegate is not None else CANDIDATES[asked]
    if engine != "auto":
        candidates = tuple(name for name in candidates if name in LITERT_HARDWARE)
    for name in candidates:
        verdict = validate(
            model, name, is_delegate=delegate is not None, threads=threads, again=again, notes=notes
        )
        if verdict.accepted:
            try:
                accepted = open_candidate(model.data, name, delegate is not None, threads)
            except InterpreterError as error:
                verdict = _refused(name, f"it was accepted before and now fails: {error.what}")
            else:
                return _with_skipped(accepted, verdicts), (*verdicts, verdict)
        verdicts.append(verdict)
    if model.needs_delegate:
        problem, found = "no delegate runs the model", "; ".join(f"{one.rung}: {one.why}" for one in verdicts)
        expected, fix = "one that passes its self-test", "run the model as it was before it was compiled"
        raise DelegateUnusable(problem, where=model.path, found=found, expected=expected, fix=fix)
    cpu = open_engine(model.data, engine=engine, threads=threads)
    return _with_skipped(cpu, verdicts), tuple(verdicts)


def validate(
    model: ModelFile, name: str, *, is_delegate: bool, threads: int, again: bool, notes: list[str]
) -> Verdict:
    """Return the verdict on one candidate, from the cache or from a child process."""
    library = _library_state(name if is_delegate else EDGETPU_LIBRARY if name == "edgetpu" else "")
    path = _cache_file(model, name, library, threads)
    known = None if again else _parsed(validation.read_cached(path, notes))
    if known is not None:
        return known
    verdict = _probe(model, name, is_delegate, threads)
    # Of a file that only the loader finds nobody could say later that it is still the same.
    if not (verdict.accepted and None in library):
        validation.write_cached(path, json.dumps(verdict.to_dict()))
    return verdict


def _probe(model: ModelFile, name: str, is_delegate: bool, threads: int) -> Verdict:
    question = {"rung": name, "is_delegate": is_delegate, "threads": threads}
    try:
        line, problem = validation.run_probe(question, model.data, validation.probe_limits(model.data))
    except OSError as error:
        problem = f"its validation could not be started: {error.strerror or error}"
    if problem:
        return _refused(name, problem)
    return _parsed(line) or _refused(name, f"its validation printed no verdict: {line:.200}")


def open_candidate(model_bytes: bytes, name: str, is_delegate: bool, threads: int) -> Engine:
    """Open an engine on a candidate without validation; errors as `open_engine`."""
    if is_delegate:
        return open_engine(model_bytes, delegate=name, threads=threads)
    return open_engine(model_bytes, accelerator=name, threads=threads)


def _with_skipped(engine: Engine, verdicts: list[Verdict]) -> Engine:
    engine.skipped = (*(f"{verdict.rung}: {verdict.why}" for verdict in verdicts), *engine.skipped)
    return engine


def _refused(name: str, why: str) -> Verdict:
    return Verdict(name, False, why, 0, 0, None, None, None, None)


def _parsed(text: str | None) -> Verdict | None:
    """Return a verdict that a child or the cache has as JSON; None of what is none."""
    try:
        verdict = Verdict(**json.loads(text or ""))
    except (ValueError, TypeError, RecursionError):
        return None
    rung, accepted, why, *numbers = verdict.to_dict().values()
    if not (isinstance(rung, str) and isinstance(accepted, bool) and isinstance(why, str)):
        return None
    # Python reads numbers that JSON does not have.
    finite = (isinstance(one, int | float) and abs(one) < math.inf for one in numbers if one is not None)
    return verdict if all(finite) else None


def _cache_file(model: ModelFile, name: str, library: list[Any], threads: int) -> str | None:
    import hashlib
    import platform

    machine = platform.machine(), platform.release(), platform.node(), sys.version
    drivers = sorted(item for item in os.environ.items() if item[0].startswith(validation.DRIVER_PREFIXES))
    state = (__version__, model.sha256, name, library, threads, library_state(), machine, drivers)
    key = hashlib.sha256(repr(state).encode()).hexdigest()
    return validation.cache_file(f"verdict-{key[:32]}.json")


def _library_state(library: str) -> list[Any]:
    """Return a delegate's real path, size and time, since a new build is another delegate.

    Of one that is not found it is None with the time of the loader's list; empty without a delegate.
    """
    from edge_runtime.engines.interpreter import find_delegate, split_delegate

    if not library:
        return []
    path = find_delegate(split_delegate(library)[0])
    for known, place in ((path, path), (None, LOADER_LIST)):
        try:
            status = os.stat(place or "")
        except (OSError, ValueError):
            continue
        return [known, status.st_size, status.st_mtime_ns]
    return [None]
