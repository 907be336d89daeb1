"""A folder of photos: edge-classify against a bare loop with one interpreter thread, and against what two cores can do.

    python -m tests.benchmarks.folder [--model M] [--photos N] [--runs N]

Prints photos a second of three processes that take turns, start-up included: `edge-classify FOLDER`, ten lines in a
loop, and the bound: as many processes as there are cores that each decode (at the same scale) and invoke their share
and do nothing else.
On a machine with other work the cores are not there: processor time a photo is what can be compared on it. Peak memory
is that of all photos and of a quarter of them, which is the same where nothing piles up.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.cold_start import OURS, ROOT, default_model, environment, run_once

# Drawn once and linked N times: the work of decoding is that of N photos, the drawing is not measured.
DRAW = """\
import os, sys
from tests.fixtures.make_models import draw_photo
folder, count = sys.argv[1], int(sys.argv[2])
for index in range(8):
    draw_photo(index, 600, 450).save(f"{folder}/drawn_{index}", "JPEG", quality=92)
for index in range(count):
    os.link(f"{folder}/drawn_{index % 8}", f"{folder}/{index:05d}.jpg")
"""
LOOP = """\
import sys, pathlib
import numpy as np
from PIL import Image
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
height, width = source["shape"][1:3]
part, parts = int(sys.argv[3]), int(sys.argv[4])
for photo in sorted(pathlib.Path(sys.argv[2]).glob("*.jpg"))[part::parts]:
    image = Image.open(photo)
    pixels = np.asarray(image.convert("RGB").resize((width, height)), dtype=np.uint8)
    interpreter.set_tensor(source["index"], pixels.astype(source["dtype"])[None])
    interpreter.invoke()
    print(photo, interpreter.get_tensor(sink["index"])[0].argmax())
"""
# The same work for less: JPEGs decoded at the scale that the contract allows.
BOUND = LOOP.replace("Image.open(photo)\n", "Image.open(photo)\n    image.draft(None, (width, height))\n")


def run_bound(commands: list[list[str]]) -> float:
    """Return the wall time in seconds of processes that run side by side."""
    started = time.perf_counter()
    running = [
        subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    if any(process.wait() for process in running):
        raise SystemExit("a process of the bound failed")
    return time.perf_counter() - started


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description="A folder of photos against a bare loop.", allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, help="a .tflite (default: the bundled model)")
    parser.add_argument("--photos", type=int, default=1000, help="photos in the folder (default: 1000)")
    parser.add_argument("--runs", type=int, default=3, help="paired runs (default: 3)")
    arguments = parser.parse_args(argv)
    model = str(arguments.model or default_model())
    cores = len(os.sched_getaffinity(0))
    rows: dict[str, list[float]] = {"edge-classify": [], "bare loop": [], "bound": []}
    memories, few_memories = [], []
    processor: dict[str, list[float]] = {"edge-classify": [], "bare loop": []}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", DRAW, folder, str(arguments.photos)]
        subprocess.run(command, check=True, cwd=ROOT)
        loop = [sys.executable, "-c", LOOP, model, folder]
        bound = [sys.executable, "-c", BOUND, model, folder]
        ours = [sys.executable, "-c", OURS, "--json", "--model", model, folder]
        few = Path(folder, "few")
        few.mkdir()
        for photo in sorted(Path(folder).glob("*.jpg"))[: arguments.photos // 4]:
            os.link(photo, few / photo.name)
        for _ in range(arguments.runs):
            few_memories.append(run_once([*ours[:-1], str(few)])[1])
            wall_s, peak_mib, processor_s = run_once(ours)
            rows["edge-classify"].append(wall_s)
            memories.append(peak_mib)
            processor["edge-classify"].append(processor_s)
            wall_s, _, processor_s = run_once([*loop, "0", "1"])
            rows["bare loop"].append(wall_s)
            processor["bare loop"].append(processor_s)
            rows["bound"].append(run_bound([[*bound, str(part), str(cores)] for part in range(cores)]))
    for name, times in rows.items():
        print(f"  {name:<14} {arguments.photos / statistics.median(times):8.1f} photos a second")
    pairs = list(zip(*rows.values(), strict=True))
    print(f"  photos a second against the bare loop: {statistics.median(b / a for a, b, _ in pairs):.2f}")
    print(f"  photos a second against the bound:     {statistics.median(c / a for a, _, c in pairs):.2f}")
    for name, times in processor.items():
        print(
            f"  {name:<14} {statistics.median(times) / arguments.photos * 1000:8.2f} ms of processor time a photo"
        )
    print(
        f"  peak memory {statistics.median(memories):.1f} MiB, "
        f"{statistics.median(few_memories):.1f} MiB with a quarter of the photos"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
