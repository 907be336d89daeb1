"""Verdicts of Java and of Python on generated model files; they must be equal.

    python -m tests.android.verdicts graphs --count 10000 --seed 1

Exit status: 0 all verdicts are equal, 1 some differ.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_runtime.errors import ModelFileError
from edge_runtime.model.model_file import parse_model
from tests.edge_runtime.fuzz import KINDS

ANDROID = Path(__file__).parents[2] / "android_sample/core/src"
CORE = ANDROID / "main/java/dermedge/core"
# Files on the disk at a time.
BATCH = 1000


def compiled(folder: Path) -> Path:
    """Java's core and `Verdicts`, compiled into a folder."""
    verdicts = ANDROID / "test/java/dermedge/core/Verdicts.java"
    sources = [*map(str, sorted(CORE.glob("*.java"))), str(verdicts)]
    command = ["javac", "-nowarn", "--release", "8", "-d", str(folder), *sources]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def of_java(classes: Path, files: Sequence[Path], *signed: str) -> list[str]:
    """Returns for each file `ok`, or the code of the error that refuses it; `signed` are KEY and NAME:N."""
    command = ["java", "-cp", str(classes), "dermedge.core.Verdicts", *signed]
    names = "\n".join(map(str, files))
    ran = subprocess.run(command, input=names, capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()


def of_python(data: bytes) -> str:
    """As `of_java`."""
    try:
        parse_model(data, "model")
    except ModelFileError as error:
        return error.code
    return "ok"


def compared(kind: str, seed: int, first: int, last: int) -> Iterator[tuple[int, str, str]]:
    """Yields number and verdicts, Python's first, of all cases."""
    with tempfile.TemporaryDirectory() as folder:
        classes = compiled(Path(folder) / "classes")
        for start in range(first, last, BATCH):
            numbers = range(start, min(start + BATCH, last))
            cases = [KINDS[kind][0](seed, index) for index in numbers]
            files = [Path(folder) / f"{index}.tflite" for index in range(len(cases))]
            for file, data in zip(files, cases, strict=True):
                file.write_bytes(data)
            java = of_java(classes, files)
            yield from zip(numbers, map(of_python, cases), java, strict=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Compares and prints what differs."""
    parser = argparse.ArgumentParser(description="Verdicts of Java and of Python on generated model files.")
    parser.add_argument("kind", choices=("models", "graphs", "contracts", "tails"))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    outcomes: Counter[str] = Counter()
    differ = 0
    for index, python, java in compared(arguments.kind, arguments.seed, 0, arguments.count):
        outcomes[python] += 1
        if python != java:
            differ += 1
            print(f"case {index} of seed {arguments.seed}: Python {python}, Java {java}")
    print(f"{arguments.kind}, seed {arguments.seed}: {differ} differ; {dict(outcomes.most_common())}")
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
