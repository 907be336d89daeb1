"""Training commands run as a user would, and configs that cost them little."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

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


def finish(network: str, config: Path, run: Path, data: Path) -> tuple[int, str]:
    """Run `dermedge train` in this process: exit status and all output.

    Args:
        network: `plain` (tests/train/plain_network.py), or `real` for the config's backbone.
        config: The experiment.
        run: The run directory.
        data: The first data set's folder.
    """
    from train.__main__ import main

    return finish_here(network, main, str(config), "--workdir", str(run), "--data", str(data))


def finish_here(network: str, main: Callable[[list[str]], int], *arguments: str) -> tuple[int, str]:
    """Run any training command in this process: exit status and all output."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        if network == "plain":
            from tests.train.plain_network import build_model

            patch.setattr("train.networks.registry.build_model", build_model)
        status = main(list(arguments))
    return status, said.getvalue()


def start(
    network: str, config: Path, run: Path, data: Path, log: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Start `dermedge train` as a process, with one thread.

    Args:
        network: As for `finish`.
        config: The experiment.
        run: The run directory.
        data: The first data set's folder.
        log: Where all output goes; None makes it the process's stdout.
        environment: Further variables.
    """
    module = ["tests.train.plain_network"] if network == "plain" else []
    # One thread each keeps the order of additions, and leaves the machine to the other tests.
    variables = {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1", **environment}
    arguments = ["train", str(config), "--workdir", str(run), "--data", str(data)]
    with (log or Path(os.devnull)).open("w", encoding="utf-8") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", *module, *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **variables},
            text=True,
            stdout=stream if log else subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


def finish_apart(network: str, config: Path, run: Path, data: Path, **environment: str) -> tuple[int, str]:
    """As `finish`, in a process of its own; one that takes too long is killed."""
    process = start(network, config, run, data, **environment)
    try:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    return process.returncode, output


def rows_of(path: Path) -> list[dict[str, str]]:
    """A CSV's rows as texts."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
