"""From what was asked to what is used: an accelerator is taken only when it is proven here, on this model. stdlib only.

    asked --accelerator gpu       rungs: gpu, cpu
    asked --accelerator edgetpu   rungs: edgetpu, cpu
    asked --accelerator npu       rungs: npu, gpu, cpu
    asked --accelerator auto      rungs: npu, edgetpu, gpu, cpu
    asked --delegate LIB          rungs: LIB, cpu

A rung is accepted only if it loads and runs in a child process without dying, takes at least one operator, gives the
CPU's answers to the model's golden pictures within their tolerance, and is faster than the CPU. Else the next one is
tried, and the answer says what was asked, what is used and why. `probe.py` is the child.

Verdicts are kept in a file, by everything that could change them: model, delegate library and its options, versions,
machine, drivers asked for by the environment, threads. A machine without a place for it proves every time anew.
"""

# Importing pathlib costs 4 ms, and this file is on the road of who asks for an accelerator.
# ruff: noqa: PTH100, PTH103, PTH105, PTH108, PTH116, PTH118, PTH120, PTH123

from __future__ import annotations

import json
import os
import sys
from typing import Any

from edge_runtime import __version__
from edge_runtime._startup.records import dataclass
from edge_runtime.engines import EDGETPU_LIBRARY, LITERT_HARDWARE, Engine, open_engine
from edge_runtime.errors import EdgeError, InterpreterError
from edge_runtime.model.model_file import ModelFile

RUNGS = {
    "auto": ("npu", "edgetpu", "gpu"),
    "npu": ("npu", "gpu"),
    "gpu": ("gpu",),
    "edgetpu": ("edgetpu",),
}
"""What is tried before the CPU, by what was asked."""
PROBE_TIMEOUT_S = 120.0
# Below this a difference is noise, and a second library in the process costs memory and start-up for nothing.
MIN_SPEEDUP = 1.05
CACHE_VARIABLE = "DERMEDGE_CACHE"
# What decides which driver a GPU library finds.
_DRIVER_VARIABLES = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES", "LD_LIBRARY_PATH", "LD_PRELOAD")


@dataclass(frozen=True)
class Verdict:
    """What was found out about one rung."""

    rung: str
    """`gpu`, `npu`, `edgetpu`, or a delegate as it was asked for."""
    accepted: bool
    why: str
    """One sentence."""
    operators_taken: int
    operators: int
    largest_difference: float | None
    """Of any golden output, in the unit of the output tensor; None where it did not come so far, or where no number
    came out.
    """
    tolerance: float | None
    cpu_ms: float | None
    """Median inference of the CPU, in the same child."""
    rung_ms: float | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__match_args__}


def climb(
    model: ModelFile,
    *,
    asked: str,
    engine: str = "auto",
    threads: int = 1,
    delegate: str | None = None,
    again: bool = False,
) -> tuple[Engine, tuple[Verdict, ...]]:
    """The first engine on the ladder that holds.

    Args:
        model: A checked model with golden pictures.
        asked: A key of RUNGS; not looked at when there is a delegate.
        engine: `auto`, or `litert-c`: then only what it reaches is tried, and the CPU is its own too.
        threads: CPU threads.
        delegate: `LIB[:key=value,...]`.
        again: Prove anew, whatever was found before.

    Returns:
        An open engine, whose `skipped` tells why the rungs above it were left; and the verdicts.

    Raises:
        InterpreterError: Not even the CPU runs the model.
    """
    verdicts: list[Verdict] = []
    rungs = (delegate,) if delegate is not None else RUNGS[asked]
    if engine != "auto":
        rungs = tuple(rung for rung in rungs if rung in LITERT_HARDWARE)
    for rung in rungs:
        verdict = prove(model, rung, is_delegate=delegate is not None, threads=threads, again=again)
        if verdict.accepted:
            try:
                proven = open_rung(model.data, rung, delegate is not None, threads)
            except InterpreterError as error:
                verdict = _refused(rung, f"it was accepted before and now fails: {error.what}")
            else:
                return _tell(proven, verdicts), (*verdicts, verdict)
        verdicts.append(verdict)
    return _tell(open_engine(model.data, engine=engine, threads=threads), verdicts), tuple(verdicts)


def prove(model: ModelFile, rung: str, *, is_delegate: bool, threads: int, again: bool = False) -> Verdict:
    """The verdict on one rung, from the cache or from a child process."""
    kept = _cache_file(model, rung, is_delegate, threads)
    if not again:
        known = _read_verdict(kept)
        if known is not None:
            return known
    verdict = _ask_child(model, rung, is_delegate, threads)
    _write_verdict(kept, verdict)
    return verdict


def _tell(engine: Engine, verdicts: list[Verdict]) -> Engine:
    engine.skipped = (*(f"{verdict.rung}: {verdict.why}" for verdict in verdicts), *engine.skipped)
    return engine


def open_rung(model_bytes: bytes, rung: str, is_delegate: bool, threads: int) -> Engine:
    """An engine on a rung, unproven; errors as `open_engine`."""
    if is_delegate:
        return open_engine(model_bytes, delegate=rung, threads=threads)
    return open_engine(model_bytes, accelerator=rung, threads=threads)


def _refused(rung: str, why: str) -> Verdict:
    return Verdict(rung, False, why, 0, 0, None, None, None, None)


def _ask_child(model: ModelFile, rung: str, is_delegate: bool, threads: int) -> Verdict:
    """Runs `edge_runtime.engines.probe`; its death is an answer too."""
    import signal
    import subprocess

    question = json.dumps({"rung": rung, "is_delegate": is_delegate, "threads": threads})
    command = [sys.executable, "-P", "-m", "edge_runtime.engines.probe"]
    package_folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(filter(None, (package_folder, os.environ.get("PYTHONPATH"))))
    try:
        child = subprocess.run(
            command,
            input=question.encode() + b"\n" + model.data,
            capture_output=True,
            check=False,
            timeout=PROBE_TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        return _refused(rung, f"it did not answer within {PROBE_TIMEOUT_S:g} s")
    except OSError as error:
        return _refused(rung, f"it could not be tried: {error.strerror or error}")
    if child.returncode < 0:
        return _refused(
            rung,
            f"it ended its process by signal {signal.Signals(-child.returncode).name} while it was tried",
        )
    try:
        # Native code may have written to stdout too; the answer is the last line.
        answer = json.loads(child.stdout.splitlines()[-1])
        return Verdict(**answer)
    except (IndexError, ValueError, TypeError):
        last = child.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        return _refused(rung, f"its process ended with status {child.returncode}: {' '.join(last)[:200]}")


def _cache_file(model: ModelFile, rung: str, is_delegate: bool, threads: int) -> str | None:
    """Where this verdict is kept; None where there is no place."""
    import hashlib
    import platform

    folder = os.environ.get(CACHE_VARIABLE) or os.environ.get("XDG_CACHE_HOME")
    if not folder:
        home = os.environ.get("HOME")
        if not home:
            return None
        folder = os.path.join(home, ".cache")
    library = rung if is_delegate else EDGETPU_LIBRARY if rung == "edgetpu" else ""
    known = {
        "dermedge": __version__,
        "model": model.sha256,
        "rung": rung,
        "library": _library_state(library),
        "threads": threads,
        "litert": _litert_state(),
        "machine": [platform.machine(), platform.release(), platform.node(), sys.version],
        "drivers": {name: os.environ.get(name, "") for name in _DRIVER_VARIABLES},
    }
    key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    return os.path.join(folder, "dermedge", f"verdict-{key[:32]}.json")


def _library_state(library: str) -> list[Any]:
    """Name, size and time of a delegate's file: a new build is another delegate."""
    from edge_runtime.engines.interpreter import split_delegate

    path = split_delegate(library)[0] if library else ""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return [path]
    return [os.path.abspath(path), status.st_size, status.st_mtime_ns]


def _litert_state() -> list[Any]:
    from edge_runtime.engines.litert_c import find_library

    try:
        path, version = find_library()
        return [path, version, os.stat(path).st_mtime_ns]
    except (EdgeError, OSError) as error:
        return [str(error)]


def _read_verdict(path: str | None) -> Verdict | None:
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return Verdict(**json.load(file))
    except (OSError, ValueError, TypeError):
        # Not there, or not ours: it is found out again.
        return None


def _write_verdict(path: str | None, verdict: Verdict) -> None:
    if path is None:
        return
    temporary = f"{path}.{os.getpid()}.partial"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(verdict.to_dict(), file)
        os.replace(temporary, path)
    except OSError:
        # A read-only file system: the next process proves it again.
        try:
            os.unlink(temporary)
        except OSError:
            return
