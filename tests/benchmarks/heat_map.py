"""What a heat map costs: `edge-classify PHOTO --explain OUT` against `edge-classify PHOTO`. Whole processes, paired.

    python -m tests.benchmarks.heat_map [--model M] [--runs N] [--check]

Prints medians and paired ratios on a 600x450 and a 12 MP JPEG: of the whole processes (wall and processor time,
memory), and of the work inside one, without start-up: prediction and map, and the picture too, against the
prediction. Compare ratios, on a busy machine those of processor time. With --check the exit status is 1 when a
median ratio of whole processes, or of prediction and map inside one, is above TIME_LIMIT.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.cold_start import DRAW, OURS, ROOT, default_model, environment, run_once

# The heat map of one photo takes at most three times the time of its prediction.
TIME_LIMIT = 3.0
DEFAULT_RUNS = 15
# In a process that is warm, as an application's is: medians of processor time in seconds, of both by turns.
INSIDE = """\
import json, sys, time
from edge_runtime import Classifier, Explainer
from edge_runtime.explain.heat_picture import write_picture
from edge_runtime.result import notice
model, photo, out, runs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
pairs = []
with Classifier(model) as classifier, Explainer(classifier) as explainer:
    said = notice(classifier.contract)
    for _ in range(runs + 1):
        start = time.process_time()
        classifier.classify(photo)
        answered = time.process_time()
        explanation = explainer.explain(photo)
        mapped = time.process_time()
        write_picture(out, explanation, said)
        pairs.append((answered - start, mapped - answered, time.process_time() - mapped))
print(json.dumps(pairs[1:]))
"""


def compare(model: Path, photo: Path, out: Path, runs: int) -> float:
    """Print the comparison on one photo; return the largest median ratio of times."""
    plain = [sys.executable, "-c", OURS, "--model", str(model), str(photo)]
    mapped = [*plain, "--explain", str(out)]
    for command in (plain, mapped):
        run_once(command)
    pairs = [(run_once(plain), run_once(mapped)) for _ in range(runs)]
    wall, memory, processor = (statistics.median(two[i] / one[i] for one, two in pairs) for i in range(3))
    print(f"{photo.name}, {runs} paired runs, model {model.name}")
    for name, rows in zip(("plain", "--explain"), zip(*pairs, strict=True), strict=True):
        middle = [statistics.median(row[i] for row in rows) for i in range(3)]
        print(f"  {name:<10} {middle[0]:.3f} s, processor {middle[2]:.3f} s, peak memory {middle[1]:.1f} MiB")
    print(f"  whole process: ratio {wall:.2f}, of processor time {processor:.2f} (limit {TIME_LIMIT:g})")
    print(f"  memory {memory:.2f}")
    ran = subprocess.run(
        [sys.executable, "-c", INSIDE, str(model), str(photo), str(out), str(runs)],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    inside = json.loads(ran.stdout)
    with_map = statistics.median(explained / answered for answered, explained, _ in inside)
    with_picture = statistics.median((explained + drawn) / answered for answered, explained, drawn in inside)
    print(f"  warm, of processor time: prediction and map {with_map:.2f}, and its picture {with_picture:.2f}")
    return max(wall, processor, with_map)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description="What a heat map costs.", allow_abbrev=False)
    parser.add_argument("--model", type=Path, help="a .tflite (default: the bundled model)")
    parser.add_argument(
        "--runs", type=int, default=DEFAULT_RUNS, help=f"paired runs (default: {DEFAULT_RUNS})"
    )
    parser.add_argument("--check", action="store_true", help="fail when a ratio is above its limit")
    arguments = parser.parse_args(argv)
    if arguments.runs < 1:
        parser.error("--runs must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", DRAW, folder], check=True, cwd=ROOT)
        ratios = [
            compare(
                arguments.model or default_model(),
                Path(folder, name),
                Path(folder, "map.png"),
                arguments.runs,
            )
            for name in ("600x450.jpg", "12mp.jpg")
        ]
    kept = max(ratios) <= TIME_LIMIT
    if not kept:
        print("above the limit", file=sys.stderr)
    return 0 if kept or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
