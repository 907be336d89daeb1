"""One photo, whole process: edge-classify against the usual ten lines of Python. Paired runs.

    python -m tests.benchmarks.cold_start [--model M] [--photo P ...] [--runs N] [--csv FILE] [--check]

Prints medians, minima and the paired ratios of wall time, processor time and peak memory, on a 600x450 and a 12 MP JPEG
unless photos are given; edge-classify with DERMEDGE_PLAIN=1 is measured too, and MediaPipe where it is installed. All
take turns, so that all see the same load; compare ratios, not seconds, and on a busy machine those of processor time.
--csv appends a row a comparison; `reference/` keeps such a file for each machine type, with the load under which each
row was measured.
With --check the exit status is 1 when a median ratio is above its limit.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURE_MODEL = ROOT / "tests" / "fixtures" / "tiny_uint8.tflite"
# At most half of the time and four fifths of the memory; the goal on a quiet machine is 0.35 of the time.
TIME_LIMIT = 0.5
MEMORY_LIMIT = 0.8
DEFAULT_RUNS = 15
CSV_COLUMNS = (
    "date,machine,load,python,photo,model,against,runs,wall_ratio,cpu_ratio,memory_ratio,ours_mib,ours_cpu_s"
)

# As the console script does it.
OURS = "import sys; from edge_runtime.__main__ import run; sys.exit(run())"
PLAIN = f"import os; os.environ['DERMEDGE_PLAIN'] = '1'; {OURS}"
TEN_LINES = """\
import sys
import numpy as np
from PIL import Image
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
height, width = source["shape"][1:3]
pixels = np.asarray(Image.open(sys.argv[2]).convert("RGB").resize((width, height)), dtype=np.uint8)
interpreter.set_tensor(source["index"], pixels.astype(source["dtype"])[None])
interpreter.invoke()
scores = interpreter.get_tensor(sink["index"])[0]
print([(int(i), int(scores[i])) for i in np.argsort(scores)[::-1][:3]])
"""
MEDIAPIPE = """\
import sys
import mediapipe as mp
from mediapipe.tasks.python import vision, BaseOptions
options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]), max_results=3)
with vision.ImageClassifier.create_from_options(options) as classifier:
    print(classifier.classify(mp.Image.create_from_file(sys.argv[2])))
"""
# Drawn in a process of its own: the one that measures must stay small, see `run_once`.
DRAW = """\
import sys
from tests.fixtures.make_models import draw_photo
draw_photo(1, 600, 450).save(sys.argv[1] + "/600x450.jpg", quality=92)
draw_photo(2, 4000, 3000).save(sys.argv[1] + "/12mp.jpg", quality=92)
"""


def environment() -> dict[str, str]:
    """Return the children's environment: this checkout importable, and bytecode written, as when installed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {"PYTHONPYCACHEPREFIX": str(ROOT / "build" / "bytecode"), **kept, "PYTHONPATH": str(ROOT)}


def run_once(command: Sequence[str]) -> tuple[float, float, float]:
    """Measure wall time in seconds, peak memory in MiB and processor time in seconds of one process.

    Linux counts the memory of the parent at the moment of exec as the child's; this process imports little, so its
    own 12 MiB stay below either child's.
    """
    started = time.perf_counter()
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, target) for target in (0, 1, 2)]
    child = os.posix_spawn(command[0], command, environment(), file_actions=actions)
    os.close(null)
    _, status, usage = os.wait4(child, 0)
    elapsed_s = time.perf_counter() - started
    if status != 0:
        shown = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
        raise SystemExit(
            f"{command[:3]} failed with status {os.waitstatus_to_exitcode(status)}: {shown.stderr[-2000:]}"
        )
    peak_mib = usage.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
    return elapsed_s, peak_mib, usage.ru_utime + usage.ru_stime


def compare(model: Path, photo: Path, runs: int, csv: Path | None = None) -> tuple[float, float]:
    """Print the comparison on one photo; return the median paired ratios of time and memory to the ten lines."""
    # Without --model where it is the bundled one: as most people type it.
    chosen = [] if model == default_model() and model != FIXTURE_MODEL else ["--model", str(model)]
    commands = {
        "edge-classify": [sys.executable, "-c", OURS, *chosen, str(photo)],
        "ten lines": [sys.executable, "-c", TEN_LINES, str(model), str(photo)],
        "plain": [sys.executable, "-c", PLAIN, *chosen, str(photo)],
    }
    if find_spec("mediapipe") is not None:
        commands["mediapipe"] = [sys.executable, "-c", MEDIAPIPE, str(model), str(photo)]
    for command in commands.values():
        run_once(command)
    measured: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            measured[name].append(run_once(command))
    print(f"{photo.name}, {runs} paired runs, model {model.name}")
    for name, rows in measured.items():
        times, memories, processor = zip(*rows, strict=True)
        print(
            f"  {name:<14} median {statistics.median(times):.3f} s, min {min(times):.3f} s, "
            f"processor median {statistics.median(processor):.3f} s, min {min(processor):.3f} s, "
            f"peak memory {statistics.median(memories):.1f} MiB"
        )
    ratios = {}
    for name in list(commands)[:0:-1]:
        pairs = list(zip(measured["edge-classify"], measured[name], strict=True))
        wall, memory, processor_time = (
            statistics.median(ours[i] / theirs[i] for ours, theirs in pairs) for i in range(3)
        )
        ratios[name] = wall, memory
        print(f"  against {name}: processor time {processor_time:.2f}")
        limits = (f" (limit {limit})" if name == "ten lines" else "" for limit in (TIME_LIMIT, MEMORY_LIMIT))
        print(f"  ratio          time {wall:.2f}{next(limits)}, memory {memory:.2f}{next(limits)}")
        if csv is not None:
            ours = measured["edge-classify"]
            mine = statistics.median(row[1] for row in ours), statistics.median(row[2] for row in ours)
            machine = f"{platform.machine()}-{os.cpu_count()}cores"
            now, load = time.strftime("%Y-%m-%d"), f"{os.getloadavg()[0]:.1f}"
            row = [now, machine, load, platform.python_version(), photo.name, model.name, name, runs]
            numbers = [wall, processor_time, memory, *mine]
            _append(csv, ",".join([*map(str, row), *(f"{number:.3f}" for number in numbers)]))
    return ratios["ten lines"]


def _append(csv: Path, row: str) -> None:
    known = csv.read_text(encoding="utf-8") if csv.exists() else CSV_COLUMNS + "\n"
    temporary = csv.with_name(f".{csv.name}.partial")
    temporary.write_text(known + row + "\n", encoding="utf-8")
    temporary.replace(csv)


def default_model() -> Path:
    """Return the bundled model, or the fixture where there is none."""
    from edge_runtime.model.model_file import bundled_model_path

    return bundled_model_path() if bundled_model_path().exists() else FIXTURE_MODEL


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description="edge-classify against ten lines of ai-edge-litert.", allow_abbrev=False
    )
    parser.add_argument(
        "--model", type=Path, help="a .tflite (default: the bundled model, else a test fixture)"
    )
    parser.add_argument("--photo", type=Path, action="append", help="repeatable (default: two drawn JPEGs)")
    parser.add_argument(
        "--runs", type=int, default=DEFAULT_RUNS, help=f"paired runs (default: {DEFAULT_RUNS})"
    )
    parser.add_argument("--csv", type=Path, help="append the ratios to this file")
    parser.add_argument("--check", action="store_true", help="fail when a ratio is above its limit")
    arguments = parser.parse_args(argv)
    if arguments.runs < 1:
        parser.error("--runs must be at least 1")
    model = arguments.model or default_model()
    with tempfile.TemporaryDirectory() as folder:
        photos = arguments.photo
        if not photos:
            subprocess.run([sys.executable, "-c", DRAW, folder], check=True, cwd=ROOT)
            photos = [Path(folder, "600x450.jpg"), Path(folder, "12mp.jpg")]
        ratios = [compare(model, photo, arguments.runs, arguments.csv) for photo in photos]
    kept = all(seconds <= TIME_LIMIT and memory <= MEMORY_LIMIT for seconds, memory in ratios)
    if not kept:
        print("above the limit", file=sys.stderr)
    return 0 if kept or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
