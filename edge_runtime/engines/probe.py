"""The child of `ladder`: tries one accelerator on one model and says what came of it. It may die of it.

stdin: one JSON line (rung, is_delegate, threads), then the model's bytes. stdout: the verdict, the last line.
"""

from __future__ import annotations

import json
import math
import os
import sys
from statistics import median
from time import perf_counter
from typing import Any

from edge_runtime.engines import open_engine
from edge_runtime.engines.ladder import MIN_SPEEDUP, Verdict, open_rung
from edge_runtime.errors import EdgeError
from edge_runtime.model.model_file import ModelFile, parse_model
from edge_runtime.model.tensors import largest_difference
from edge_runtime.runner import Runner

# Enough for a median; a software driver that takes seconds an inference is done after the first few.
MAX_RUNS = 31
MIN_RUNS = 3
TIMING_BUDGET_S = 3.0


def probe(model: ModelFile, rung: str, *, is_delegate: bool, threads: int) -> Verdict:
    """Tries a rung in this process; see `ladder` for what is asked of it."""
    found: dict[str, Any] = {
        "rung": rung, "accepted": False, "why": "", "operators_taken": 0, "operators": 0,
        "largest_difference": None, "tolerance": None, "cpu_ms": None, "rung_ms": None,
    }  # fmt: skip
    try:
        engine = open_rung(model.data, rung, is_delegate, threads)
    except EdgeError as error:
        why = error.what + (f" ({error.found})" if error.found else "")
        return Verdict(**{**found, "why": why})
    found["operators_taken"], found["operators"] = engine.operators_taken or (0, 0)
    if not model.contract.golden:
        return Verdict(**{**found, "why": "the model has no golden pictures to try it with"})
    runner, cpu = Runner(model, engine), Runner(model, open_engine(model.data, threads=threads))
    try:
        inputs = golden_inputs(runner)
        largest, found["tolerance"], wrong = compare(cpu, runner, inputs)
        # JSON has no infinity.
        found["largest_difference"] = largest if math.isfinite(largest) else None
        if wrong:
            return Verdict(**{**found, "why": wrong})
        found["cpu_ms"], found["rung_ms"] = time_both(cpu, runner, inputs[0])
    except EdgeError as error:
        return Verdict(**{**found, "why": f"it fails to run the model: {error.what} ({error.found})"})
    speedup = found["cpu_ms"] / found["rung_ms"]
    timed = f"{found['rung_ms']:.3f} ms against the CPU's {found['cpu_ms']:.3f} ms"
    taken = f"{found['operators_taken']} of {found['operators']} operators"
    if speedup < MIN_SPEEDUP:
        return Verdict(**{**found, "why": f"it is not faster: {timed}, with {taken}"})
    return Verdict(**{**found, "accepted": True, "why": f"it takes {taken}: {timed}"})


def golden_inputs(runner: Runner) -> list[bytes]:
    """Return the input tensors of the model's self-test pictures."""
    pictures = [runner.model.read_entry(vector.image) for vector in runner.contract.golden]
    return [runner.input_tensor(runner.pixels_u8(picture)) for picture in pictures]


def compare(cpu: Runner, runner: Runner, inputs: list[bytes]) -> tuple[float, float, str]:
    """Largest difference to the CPU over all golden pictures (infinite: no number), the tolerance, what is wrong."""
    largest, tolerance, wrong = 0.0, 0.0, ""
    for vector, tensor in zip(runner.contract.golden, inputs, strict=True):
        here, there = (one.raw_values(one.run(tensor)) for one in (runner, cpu))
        difference = largest_difference(here, there)
        tolerance = max(tolerance, vector.tolerance)
        if difference > vector.tolerance:
            wrong = wrong or (
                f"it answers wrongly: {vector.image} differs from the CPU by {difference:g}, "
                f"tolerance {vector.tolerance:g}"
            )
        largest = max(largest, difference)
    return largest, tolerance, wrong


def time_both(cpu: Runner, runner: Runner, tensor: bytes) -> tuple[float, float]:
    """Median inference of both in milliseconds, taking turns so that a busy machine is busy for both."""
    laps: tuple[list[float], list[float]] = ([], [])
    started = perf_counter()
    while len(laps[0]) < MAX_RUNS:
        for lap, one in zip(laps, (cpu, runner), strict=True):
            before = perf_counter()
            one.run(tensor)
            lap.append((perf_counter() - before) * 1000)
        if len(laps[0]) >= MIN_RUNS and perf_counter() - started > TIMING_BUDGET_S:
            break
    return round(median(laps[0]), 4), round(median(laps[1]), 4)


def main() -> int:
    """Reads the question, answers, and ends without looking back: a library's destructors may not be sound."""
    question = json.loads(sys.stdin.buffer.readline())
    model = parse_model(sys.stdin.buffer.read(), "model")
    _no_core_file()
    verdict = probe(model, question["rung"], is_delegate=question["is_delegate"], threads=question["threads"])
    print(json.dumps(verdict.to_dict()), flush=True)
    os._exit(0)


def _no_core_file() -> None:
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(main())
