"""What `child` answers of an accelerator (its verdict as JSON) and of an untested C API (`ok`, or what is wrong)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from statistics import median
from time import perf_counter
from typing import Any

from edge_runtime.diagnostics.self_check import check_vector
from edge_runtime.engines.fallback import Verdict, open_candidate
from edge_runtime.engines.litert_c import LiteRtC
from edge_runtime.engines.loading import open_engine
from edge_runtime.errors import EdgeError, ModelFileError
from edge_runtime.model.model_file import ModelFile, parse_model
from edge_runtime.model.tensors import largest_difference
from edge_runtime.runner import Runner

# Enough for a median; a software driver that takes seconds an inference is done after the first few.
MAX_RUNS = 31
MIN_RUNS = 3
TIMING_BUDGET_S = 3.0
# Below this a difference is noise, and a second library in the process costs memory and start-up for nothing.
MIN_SPEEDUP = 1.05


def probe_c_api(model_bytes: bytes) -> str:
    """Run a model's self-test on the C API; return `ok`, or what is wrong.

    A file without a contract is run once, on zeros.
    """
    engine = LiteRtC(model_bytes, validated=True)
    try:
        runner = Runner(parse_model(model_bytes, "model", trusted=True), engine)
    except ModelFileError:
        engine.run(bytes(engine.input.nbytes))
        return "ok"
    problems = [check_vector(runner, vector).problem for vector in runner.contract.golden]
    return "; ".join(filter(None, problems)) or "ok"


def probe(model: ModelFile, rung: str, *, is_delegate: bool, threads: int) -> Verdict:
    """Try an accelerator or delegate in this process; `fallback` says what it must do to be accepted."""
    found = Verdict(rung, False, "", 0, 0, None, None, None, None).to_dict()
    try:
        engine = open_candidate(model.data, rung, is_delegate, threads)
    except EdgeError as error:
        why = error.what + (f" ({error.found})" if error.found else "")
        return Verdict(**{**found, "why": why})
    found["operators_taken"], found["operators"] = engine.operators_taken or (0, 0)
    if not model.contract.golden:
        return Verdict(**{**found, "why": "the model has no self-test vectors to validate it with"})
    runner = Runner(model, engine)
    try:
        if model.needs_delegate:
            why = "; ".join(
                filter(None, (check_vector(runner, one).problem for one in model.contract.golden))
            )
            found["accepted"], found["why"] = not why, why or "it passes the model's self-test"
            return Verdict(**found)
        cpu = Runner(model, open_engine(model.data, threads=threads))
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
    timed = f"{found['rung_ms']:.3f} ms, CPU {found['cpu_ms']:.3f} ms"
    taken = f"{found['operators_taken']} of {found['operators']} operators"
    if speedup < MIN_SPEEDUP:
        return Verdict(**{**found, "why": f"it is not faster: {timed}, with {taken}"})
    return Verdict(**{**found, "accepted": True, "why": f"it takes {taken}: {timed}"})


def golden_inputs(runner: Runner) -> list[bytes]:
    """Return the input tensors of the model's self-test pictures."""
    pictures = [runner.model.read_entry(vector.image) for vector in runner.contract.golden]
    return [runner.input_tensor(runner.pixels_u8(picture)) for picture in pictures]


def compare(cpu: Runner, runner: Runner, inputs: list[bytes]) -> tuple[float, float, str]:
    """Return the largest difference from the CPU over all vectors (infinite: no number), the tolerance, the problem."""
    largest, tolerance, wrong = 0.0, 0.0, ""
    for vector, tensor in zip(runner.contract.golden, inputs, strict=True):
        here, there = (one.raw_values(one.run(tensor)) for one in (runner, cpu))
        difference = largest_difference(here, there)
        tolerance = max(tolerance, vector.tolerance)
        if difference > vector.tolerance:
            wrong = wrong or (
                f"wrong output: {vector.image} differs from the CPU by {difference:g}, "
                f"tolerance {vector.tolerance:g}"
            )
        largest = max(largest, difference)
    return largest, tolerance, wrong


def time_both(cpu: Runner, runner: Runner, tensor: bytes) -> tuple[float, float]:
    """Return the median inference of both in milliseconds; measured in turns, so that both see the same load."""
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


def answer(question: Mapping[str, Any], model_bytes: bytes) -> str:
    """Return the result of one of `child`'s questions about an accelerator or the C API."""
    if question["rung"] == "litert-c":
        try:
            return probe_c_api(model_bytes)
        except EdgeError as error:
            return error.what
    # The parent has checked the file.
    model = parse_model(model_bytes, "model", trusted=True)
    rung, is_delegate = question["rung"], question["is_delegate"]
    return json.dumps(probe(model, rung, is_delegate=is_delegate, threads=question["threads"]).to_dict())
