"""Which worker of a distributed training this process is, and where it may write. stdlib only.

Only the chief (worker 0) writes into the run directory. Every other worker begins with a copy of what resuming needs,
trains in that copy as if it were alone, and throws it away. So a job of which a worker was killed needs no repair: all
workers are started again with their commands, and all of them stand at the chief's last checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigInvalid
from train.configs.schema import DistributeConfig

VARIABLE = "TF_CONFIG"
EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'
)
# What resuming reads. run.json first: where it stands, config.json stands too.
COPIED = (
    "run.json",
    "config.json",
    "manifest.csv",
    "teacher.csv.gz",
    "history.csv",
    "checkpoints",
)


@dataclass(frozen=True)
class Worker:
    """One process of a training."""

    index: int = 0
    count: int = 1

    @property
    def chief(self) -> bool:
        """Whether this one writes the run directory."""
        return self.index == 0

    @contextmanager
    def place(self, run: Path) -> Iterator[Path]:
        """The directory in which this worker trains: RUN itself, or a copy beside it that vanishes at the end.

        Must be entered before the workers meet: from then on the chief may write another checkpoint.
        """
        if self.chief:
            yield run
            return
        own = self._own(run)
        copy = own / "run"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        for name in COPIED:
            if (run / name).is_dir():
                shutil.copytree(run / name, copy / name)
            elif (run / name).is_file():
                shutil.copyfile(run / name, copy / name)
        yield copy
        shutil.rmtree(own)

    def pixels(self, run: Path) -> Path:
        """Folder of this worker's pixel cache; it outlasts an interruption."""
        return (run if self.chief else self._own(run)) / "pixels"

    def _own(self, run: Path) -> Path:
        run = run.resolve()
        return run.with_name(f"{run.name}.worker{self.index}")


def this_worker(config: DistributeConfig) -> Worker:
    """The worker that TF_CONFIG says this process is; the only one where the config asks for no workers.

    Raises:
        ConfigInvalid: `multi_worker` without a usable TF_CONFIG.
    """
    if config.strategy != "multi_worker":
        return Worker()
    text = os.environ.get(VARIABLE, "")
    try:
        return _parse(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigInvalid(
            f"distribute.strategy is multi_worker, and the variable {VARIABLE} names no worker",
            found=f"{text[:200]!r} ({error})" if text else "no such variable",
            expected=EXAMPLE,
            fix=f"set {VARIABLE} for each worker, alike but for the index; worker 0 is the chief",
        ) from error


def _parse(config: Mapping[str, Any]) -> Worker:
    jobs = {"chief": config["cluster"].get("chief", []), "worker": config["cluster"].get("worker", [])}
    if astray := sorted(set(config["cluster"]) - set(jobs)):
        raise ValueError(f"jobs of another kind: {', '.join(astray)}")
    kind, index = config["task"]["type"], int(config["task"]["index"])
    if not 0 <= index < len(jobs[kind]):
        raise ValueError(f"there is no {kind} {index}")
    before = len(jobs["chief"]) if kind == "worker" else 0
    return Worker(before + index, len(jobs["chief"]) + len(jobs["worker"]))
