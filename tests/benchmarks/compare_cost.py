"""Time `dermedge compare` beside the bare inference of its two models on the same photos.

    python -m tests.benchmarks.compare_cost FIRST.tflite SECOND.tflite --data RUN [--photos N] [--runs N]

Each run is a pair that takes turns: the whole command (start, decoding, layers, metrics, page), and the bare inference:
as many processes as there are cores, one interpreter thread each, on shares of the same photos. Each opens both models
and decodes its photos first; then all start together and only invoke, both models on every photo. The time of the
slowest is the bare inference time; beside it stands the time of decoding and inference together. On a busy machine
compare processor times. Prints medians over the runs; no test checks a time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.cold_start import ROOT, environment, run_once

# Says READY when its photos are decoded, begins at a line on stdin, prints the seconds of both parts.
BARE = """\
import json, sys, time
from pathlib import Path
from edge_runtime.runner import Runner
models = [Runner.open(path) for path in sys.argv[1:]]
photos = json.loads(sys.stdin.readline())
def laps():
    return time.perf_counter(), time.process_time()
def since(start):
    return [now - then for now, then in zip(laps(), start)]
print("READY", flush=True)
sys.stdin.readline()
start = laps()
pixels = [models[0].pixels_u8(Path(path).read_bytes()) for path in photos]
decoding = since(start)
for model in models:
    model.run(model.input_tensor(pixels[0]))
print("DECODED", flush=True)
sys.stdin.readline()
invoking = [0.0, 0.0]
for one in pixels:
    tensors = [model.input_tensor(one) for model in models]
    start = laps()
    for model, tensor in zip(models, tensors):
        model.run(tensor)
    invoking = [total + lap for total, lap in zip(invoking, since(start))]
print(json.dumps([decoding, invoking]), flush=True)
"""


def bare_seconds(models: Sequence[str], photos: Sequence[Path], processes: int) -> dict[str, float]:
    """Wall time of the slowest process and processor time of all, of invoking alone and of decoding with it."""
    with ExitStack() as stack:
        started = [stack.enter_context(_start(models)) for _ in range(processes)]
        for part, process in enumerate(started):
            _say(process, json.dumps([str(photo) for photo in photos[part::processes]]))
        for expected in ("READY", "DECODED"):
            if any(_hear(process) != expected for process in started):
                raise SystemExit("a process of the bare inference failed")
            for process in started:
                _say(process, "go")
        rows = [json.loads(_hear(process)) for process in started]
    return {
        "bare_wall": max(invoking[0] for _, invoking in rows),
        "decoded_wall": max(decoding[0] + invoking[0] for decoding, invoking in rows),
        "bare_cpu": sum(invoking[1] for _, invoking in rows),
        "decoded_cpu": sum(decoding[1] + invoking[1] for decoding, invoking in rows),
    }


def _start(models: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BARE, *models],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description="Time dermedge compare beside bare inference.", allow_abbrev=False
    )
    parser.add_argument("models", nargs=2, metavar="MODEL")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args(argv)
    from convert.inputs import draw_photos, read_photo_list
    from edge_runtime.model.model_file import open_model

    models = [str(Path(model).resolve()) for model in arguments.models]
    codes = [label.code for label in open_model(models[0]).contract.labels]
    listed = read_photo_list(arguments.data, codes)
    photos = [photo.path for photo in draw_photos(listed.photos, arguments.photos, 0)]
    cores = len(os.sched_getaffinity(0))
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dermedge", "compare", *models, "--data", str(arguments.data)]
        command += ["--limit", str(len(photos)), "--out", f"{folder}/out"]
        for _ in range(arguments.runs):
            wall_s, _, cpu_s = run_once(command)
            rows.append({"wall": wall_s, "cpu": cpu_s, **bare_seconds(models, photos, cores)})
    print(f"  {len(photos)} photos, {cores} processes, load {os.getloadavg()[0]:.1f}")
    for kind, title in (("wall", "wall time"), ("cpu", "processor time")):
        median = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        print(f"  {title}: dermedge compare {median[kind]:.1f} s")
        for bare, name in (("bare", "bare inference"), ("decoded", "decoding and inference")):
            ratio = statistics.median(row[kind] / row[f"{bare}_{kind}"] for row in rows)
            print(f"    {name:<24} {median[f'{bare}_{kind}']:8.1f} s, ratio {ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
