"""Seeded fuzzers: mutated and generated files through runtime and conversion, in a process that may die.

    python -m tests.edge_runtime.fuzz models --count 100000 --seed 1
    python -m tests.edge_runtime.fuzz photos --count 20000 --seed 1 [--save FOLDER]
    python -m tests.edge_runtime.fuzz runs --count 500 --seed 1     (configs, verdicts: what people and commands write)

A case is wrong when it ends the process by a signal, works for longer than HANG_S, takes its process above
MAX_MEMORY_BYTES, raises anything but an error of ours, or is refused without saying what was found and expected. Exit
status: 0 nothing was wrong, 1 something was; --save keeps the files of wrong cases. Case I of seed S is the same bytes
on every machine.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from edge_runtime.contract import ModelContract
from edge_runtime.engines import open_engine
from edge_runtime.errors import EdgeError, ImageError, InterpreterError, ModelFileError
from edge_runtime.images.preprocess import fit_pixels
from edge_runtime.model.model_file import bundled_model_path, open_model, parse_model
from tests.convert.saved_models import saved_case, try_saved
from tests.edge_runtime.contracts import contract_case
from tests.edge_runtime.damaged_documents import (
    config_case,
    run_case,
    try_config,
    try_run,
    try_verdict,
    verdict_case,
)
from tests.edge_runtime.graphs import graph_case
from tests.edge_runtime.mutations import mutate
from tests.edge_runtime.zip_tails import tail_case
from tests.fixtures import FIXTURES, MODEL_NAMES
from tests.fixtures import pictures as p
from tests.fixtures.bad_models import flatbuffer_of, good
from tests.fixtures.make_models import draw_photo

HANG_S = 5.0
"""Of processor time: a long run is a polite one, and beside other work seconds pass in which its child does not run."""
SLOW_S = {"runs": 60.0, "configs": 30.0}
"""The same of kinds whose first case imports the scientific stack and draws photos."""
WAITING_S = 120.0
"""By the clock, of a case that neither works nor answers."""
MAX_MEMORY_BYTES = 2**30
"""Resident, of the whole process with Python, Pillow and LiteRT in it."""
# A fresh process now and then, so that what one case leaves behind does not hide the next one's fault.
CASES_A_PROCESS = 2000
# One model in so many is the bundled one: 180 tensors and 70 operators, but a hundred times slower than the fixtures.
BUNDLED_ONE_IN = 50
ROOT = FIXTURES.parents[1]


def model_case(seed: int, index: int) -> bytes:
    """The bytes of a mutated model."""
    chance = random.Random(f"model {seed} {index}")
    if index % BUNDLED_ONE_IN == 0 and bundled_model_path().exists():
        base = _cached("bundled", bundled_model_path().read_bytes)
    else:
        name = chance.choice(MODEL_NAMES)
        base = _cached(name, lambda: good(name))
    # The zip tail has its checksums: nearly all of its mutations end at once. One in ten is enough.
    end = len(base) if chance.randrange(10) == 0 else len(flatbuffer_of(base))
    return mutate(base, chance, end)


def try_model(data: bytes) -> str:
    """Opens and runs a model; returns how that ended."""
    try:
        model = parse_model(data, "mutated")
    except ModelFileError as error:
        return _refusal(error)
    try:
        engine = open_engine(model.data, engine="litert-c")
        engine.run(bytes(engine.input.nbytes))
        engine.close()
    except InterpreterError as error:
        return _refusal(error)
    return "answered"


def photo_bases() -> list[bytes]:
    """Photos of every kind."""
    image = draw_photo(5, 60, 44)
    profile = p.icc_profile(p.DISPLAY_P3, 2.2)
    bases = [
        p.jpeg(),
        p.jpeg(progressive=True),
        p.with_orientation(6, "JPEG"),
        p.with_orientation(3, "WEBP"),
        p.grey_16_png(),
        p.saved(image, "JPEG", icc_profile=profile),
        p.saved(image, "PNG", icc_profile=profile),
        p.saved(image, "TIFF", icc_profile=profile),
        p.saved(image.convert("CMYK"), "JPEG"),
        p.saved(image.convert("L"), "JPEG"),
        p.saved(image, "PNG"),
        p.saved(image.convert("P"), "PNG", transparency=3),
        p.saved(image.convert("RGBA"), "PNG"),
        p.saved(image, "WEBP"),
        p.saved(image.convert("RGBA"), "WEBP", lossless=True),
        p.saved(image, "BMP"),
        p.saved(image.convert("P"), "BMP"),
        p.saved(image, "TIFF", save_all=True, append_images=[image]),
        p.saved(image, "PNG", save_all=True, append_images=[image.rotate(90)]),
    ]
    bases += [
        p.saved(image, "TIFF", compression=name)
        for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "tiff_adobe_deflate")
    ]
    bases.append(p.saved(image.convert("1"), "TIFF", compression="group4"))
    return bases


def photo_case(seed: int, index: int) -> bytes:
    """The bytes of a mutated photo."""
    chance = random.Random(f"photo {seed} {index}")
    base = chance.choice(_cached("photos", photo_bases))
    return mutate(base, chance, len(base))


def try_photo(data: bytes) -> str:
    """Brings a photo to pixels; returns how that ended."""
    contract = _cached("contract", lambda: open_model(FIXTURES / MODEL_NAMES[0]).contract)
    assert isinstance(contract, ModelContract)
    try:
        pixels_u8 = fit_pixels(data, contract, name="mutated")
    except ImageError as error:
        return _refusal(error)
    size = contract.input.height_px * contract.input.width_px * 3
    return "answered" if len(pixels_u8) == size else f"WRONG {len(pixels_u8)} bytes of pixels"


T = TypeVar("T")
_kept: dict[str, object] = {}


def _cached(name: str, make: Callable[[], T]) -> T:
    if name not in _kept:
        _kept[name] = make()
    return _kept[name]  # type: ignore[return-value]


def _refusal(error: EdgeError) -> str:
    return error.code if error.problem and error.found else f"WRONG silent {error.code}"


def try_crime(data: bytes) -> str:
    """What a case must not do, one crime after the other: the fuzzer's own test."""
    crime = int.from_bytes(data, "little") % 7
    if crime == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if crime == 2:
        raise KeyError("no error of ours")
    if crime == 3:
        time.sleep(60)
    while crime == 5:
        pass
    if crime == 6:
        bytes(b"x" * MAX_MEMORY_BYTES)
    return _refusal(ImageError("silent")) if crime == 4 else "answered"


KINDS: dict[str, tuple[Callable[[int, int], bytes], Callable[[bytes], str]]] = {
    "models": (model_case, try_model),
    "graphs": (graph_case, try_model),
    "contracts": (contract_case, try_model),
    "tails": (tail_case, try_model),
    "photos": (photo_case, try_photo),
    "verdicts": (verdict_case, try_verdict),
    "configs": (config_case, try_config),
    "runs": (run_case, try_run),
    "saved": (saved_case, try_saved),
    "crimes": (lambda seed, index: index.to_bytes(4, "little"), try_crime),
}


def work(kind: str, seed: int, first: int, last: int) -> None:
    """The child: a line before each case and a line after it."""
    make, attempt = KINDS[kind]
    # Importing TensorFlow takes longer than a case may.
    make(seed, first)
    os.write(1, b"ready\n")
    # Where Pillow warns of what it reads anyway, nobody is there to see it.
    import warnings

    warnings.simplefilter("ignore")
    for index in range(first, last):
        data = make(seed, index)
        os.write(1, b"%d\n" % index)
        try:
            outcome = attempt(data)
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            outcome = f"WRONG {type(error).__name__}: {error}".replace("\n", " ")[:300]
        peak = peak_bytes()
        if peak > MAX_MEMORY_BYTES:
            outcome = f"WRONG memory: {peak:,} bytes, after {outcome}"
        os.write(1, outcome.encode("ascii", "replace") + b"\n")
        if peak > MAX_MEMORY_BYTES:
            # A peak never falls: the next case needs a process of its own.
            return


def run(
    kind: str,
    seed: int,
    count: int,
    first: int = 0,
    hang_s: float | None = None,
    waiting_s: float = WAITING_S,
) -> tuple[Counter[str], dict[int, str]]:
    """Runs cases in children; returns how often each outcome came, and the wrong cases with what they did."""
    outcomes: Counter[str] = Counter()
    wrong: dict[int, str] = {}
    index, last, hang_s = first, first + count, hang_s or SLOW_S.get(kind, HANG_S)
    while index < last:
        command = [sys.executable, "-m", "tests.edge_runtime.fuzz", kind, "--seed", str(seed), "--worker"]
        until = min(last, index + CASES_A_PROCESS)
        with subprocess.Popen(
            [*command, str(index), str(until)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        ) as child:
            index = _watch(child, index, until, outcomes, wrong, hang_s, waiting_s)
        if count > CASES_A_PROCESS:
            print(f"{kind}: {index - first} of {count}, {len(wrong)} wrong", file=sys.stderr, flush=True)
    return outcomes, wrong


def _watch(
    child: subprocess.Popen[bytes],
    first: int,
    last: int,
    outcomes: Counter[str],
    wrong: dict[int, str],
    hang_s: float,
    waiting_s: float,
) -> int:
    """Follows a child until it ends, by itself or not; returns the next case."""
    assert child.stdout is not None and child.stderr is not None
    # Native code complains on stderr, a lot; nobody reads it but after a death.
    os.set_blocking(child.stderr.fileno(), False)
    buffer, ready, started, current = b"", False, False, first
    tail = b""
    clock, worked = time.monotonic(), processor_s(child.pid)
    while True:
        readable, _, _ = select.select([child.stdout, child.stderr], [], [], hang_s / 4)
        if child.stderr in readable:
            tail = (tail + (child.stderr.read() or b""))[-2000:]
        if child.stdout in readable:
            chunk = os.read(child.stdout.fileno(), 65536)
            if not chunk:
                break
            buffer += chunk
            *lines, buffer = buffer.split(b"\n")
            clock, worked = time.monotonic(), processor_s(child.pid)
            if lines and not ready:
                ready = lines.pop(0) == b"ready"
            for line in lines:
                if not started:
                    current, started = int(line), True
                else:
                    outcome = line.decode()
                    outcomes[outcome.partition(":")[0]] += 1
                    started = False
                    if outcome.startswith("WRONG"):
                        wrong[current] = outcome
        elif (ready and processor_s(child.pid) - worked > hang_s) or time.monotonic() - clock > waiting_s:
            child.kill()
            child.wait()
            wrong[current] = f"WRONG hang: {hang_s:g} s of work, or {waiting_s:g} s by the clock"
            outcomes["WRONG hang"] += 1
            return current + 1
    status = child.wait()
    if status == 0 and not started:
        return current + 1
    said = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    wrong[current] = f"WRONG death: {said}; {tail[-300:]!r}"
    outcomes["WRONG death"] += 1
    return current + 1


def processor_s(pid: int) -> float:
    """Processor time of a running process so far; the clock where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes() -> int:
    """Most resident memory of this process; not ru_maxrss, which counts what its parent held when it began."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the fuzzer."""
    parser = argparse.ArgumentParser(description="Mutated models and photos through the runtime.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, help="folder for the files of wrong cases")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.worker:
        work(arguments.kind, arguments.seed, *arguments.worker)
        return 0
    outcomes, wrong = run(arguments.kind, arguments.seed, arguments.count, arguments.first)
    for outcome, count in outcomes.most_common():
        print(f"{count:8d}  {outcome}")
    for index, what in wrong.items():
        print(f"case {index} of seed {arguments.seed}: {what}")
        if arguments.save:
            arguments.save.mkdir(parents=True, exist_ok=True)
            (arguments.save / f"{arguments.kind}_{index}").write_bytes(
                KINDS[arguments.kind][0](arguments.seed, index)
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
