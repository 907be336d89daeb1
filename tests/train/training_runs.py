"""Training commands run as a user would, one thread each, and configs that cost them little."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TIMEOUT_S = 600

# Everything that a batch can hold, for tests.train.plain_network: outliers, mixed pairs, averaged weights.
PLAIN = """
name = "plain"
seed = 3
[data]
reader = "ham10000"
folder = "phantom"
labels = "ham10000"
[split]
folds = 4
val_share = 0.2
[input]
size_px = 32
[augment]
mixup = 0.2
[outliers]
folder = "ordinary"
per_batch = 2
[optimizer]
average_decay = 0.9
[distribute]
strategy = "none"
[[stage]]
name = "head"
trains = "head"
epochs = 1
size_px = 32
batch = 8
learning_rate = 1e-2
[[stage]]
name = "network"
trains = "all"
epochs = 5
size_px = 32
batch = 8
learning_rate = 1e-2
[checkpoint]
every_steps = 3
"""


def start(
    network: str, config: Path, run: Path, data: Path, *more: str, log: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Starts `python -m train`.

    Args:
        network: `plain` (tests/train/plain_network.py), or `real` for the config's backbone.
        config: The experiment.
        run: The run directory.
        data: The first data set's folder.
        more: Further arguments.
        log: Where all output goes; None makes it the process's stdout.
        environment: Further variables.
    """
    return start_module(
        network,
        "train",
        str(config),
        "--workdir",
        str(run),
        "--data",
        str(data),
        *more,
        log=log,
        **environment,
    )


def start_module(
    network: str, *arguments: str, log: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Starts any command of this room: its module, then its arguments."""
    module = ["tests.train.plain_network"] if network == "plain" else []
    # One thread each keeps the order of additions, and leaves the machine to the other tests.
    variables = {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1", **environment}
    with (log or Path(os.devnull)).open("w", encoding="utf-8") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", *module, *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **variables},
            text=True,
            stdout=stream if log else subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


def finish(network: str, config: Path, run: Path, data: Path, **environment: str) -> tuple[int, str]:
    """Runs `python -m train` to its end: exit status and all output."""
    return outcome(start(network, config, run, data, **environment))


def outcome(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits for a process that has no log; one that takes too long is killed."""
    try:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    return process.returncode, output


def rows_of(path: Path) -> list[dict[str, str]]:
    """A CSV's rows as texts."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
