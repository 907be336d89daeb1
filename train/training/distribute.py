"""Steps divided over replicas by tf.distribute: a device each, on one machine or on several workers.

stage.batch is the batch of all replicas together. Every worker makes the whole batch, a pure function of its seeds (in
about a tenth of a step), and each replica takes its share; losses are averaged over the whole batch. So any number of
replicas trains on the same photos, in the same order and with the same augmentation. Only batch norm (whose moving
statistics are averaged over replicas where they are read) and dropout are each replica's own.

Only the chief (worker 0) writes into the run directory. Every other worker trains in a copy of what resuming needs, and
removes it. After a worker was killed, all are started again, and resume at the chief's last checkpoint.

TensorFlow is imported late: which worker this is must be known before.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edge_runtime.errors import ConfigInvalid, RunInvalid
from train.artifacts.writer import sole_writer
from train.configs.schema import DistributeConfig, TrainConfig

if TYPE_CHECKING:
    import tensorflow as tf

    from train.training.pipeline import Batch

VARIABLE = "TF_CONFIG"
EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'
)
# What resuming reads. run.json first: where it stands, config.json stands too.
COPIED = ("run.json", "config.json", "manifest.csv", "teacher.csv.gz", "history.csv", "checkpoints")


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
        """Yield the directory in which this worker trains: RUN itself, or a copy beside it, removed at the end.

        Must be entered before the workers meet: from then on the chief may write another checkpoint.

        Raises:
            RunBusy: Another process trains there.
        """
        own = run if self.chief else self._own(run)
        with sole_writer(own):
            if self.chief:
                yield run
                return
            copy = own / "run"
            shutil.rmtree(copy, ignore_errors=True)
            copy.mkdir()
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
    """Return the worker that TF_CONFIG names for this process; the only one where the config has no workers.

    Raises:
        ConfigInvalid: `multi_worker` without a usable TF_CONFIG.
    """
    if config.strategy != "multi_worker":
        return Worker()
    text = os.environ.get(VARIABLE, "")
    try:
        return _parse(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        problem = f"distribute.strategy is multi_worker: {VARIABLE} names no worker"
        found = f"{text[:200]!r} ({error})" if text else "no such variable"
        fix = f"set {VARIABLE} for each worker, alike but for the index; worker 0 is the chief"
        raise ConfigInvalid(problem, found=found, expected=EXAMPLE, fix=fix) from error


def _parse(config: Mapping[str, Any]) -> Worker:
    jobs = {kind: config["cluster"].get(kind, []) for kind in ("chief", "worker")}
    if astray := sorted(set(config["cluster"]) - set(jobs)):
        raise ValueError(f"jobs of another kind: {', '.join(astray)}")
    kind, index = config["task"]["type"], int(config["task"]["index"])
    if not 0 <= index < len(jobs[kind]):
        raise ValueError(f"there is no {kind} {index}")
    before = len(jobs["chief"]) if kind == "worker" else 0
    return Worker(before + index, len(jobs["chief"]) + len(jobs["worker"]))


@dataclass(frozen=True)
class Replicas:
    """What trains together; by default one replica, for which nothing below costs anything."""

    strategy: tf.distribute.Strategy | None = None
    worker: Worker = field(default_factory=Worker)

    @property
    def count(self) -> int:
        """Replicas of all workers."""
        return self.strategy.num_replicas_in_sync if self.strategy else 1

    def scope(self) -> AbstractContextManager[Any]:
        """Variables made within it exist on every replica."""
        return self.strategy.scope() if self.strategy else nullcontext()

    def run(self, step: Callable[[Batch], tuple[tf.Tensor, ...]], batch: Batch) -> tuple[tf.Tensor, ...]:
        """Run a step on every replica's share of a batch, inside tf.function; return the sums of its results."""
        if self.strategy is None:
            return step(batch)
        per_replica = self.strategy.run(lambda whole: step(_own_share(whole)), args=(batch,))
        return tuple(self.strategy.reduce("SUM", value, axis=None) for value in per_replica)

    def mean(self, value: float) -> float:
        """Return the mean over workers of a number that each has computed, so that all decide alike by it."""
        return float(self._total(value)) / self.count if self.worker.count > 1 else value

    def require_equal(self, text: str) -> None:
        """Compare a text over workers.

        Raises:
            RunInvalid: It differs: together they would train something that no config describes.
        """
        if self.worker.count == 1:
            return
        # 32 bits, so that the sum of many is exact.
        own = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
        if round(float(self._total(own))) != own * self.count:
            found = "another config, other photos, another split or another checkpoint on one of them"
            expected = "the same on every worker, and one run directory that all of them see"
            fix = "start every worker with the same command, data and --workdir"
            raise RunInvalid("the workers differ", found=found, expected=expected, fix=fix)

    def require_divisible(self, config: TrainConfig) -> None:
        """Check that every replica gets equally many photos.

        Raises:
            ConfigInvalid: It does not.
        """
        sizes = {f"stage[{i}].batch": stage.batch for i, stage in enumerate(config.stage)}
        if config.outliers.folder:
            sizes["outliers.per_batch"] = config.outliers.per_batch
        if astray := [f"{name} is {size}" for name, size in sizes.items() if size % self.count]:
            problem = f"a batch cannot be divided over {self.count} replicas"
            expected, fix = f"multiples of {self.count}", "change the config, or the number of replicas"
            raise ConfigInvalid(problem, found="; ".join(astray), expected=expected, fix=fix)

    @cached_property
    def _total(self) -> Callable[[float], tf.Tensor]:
        """The sum over replicas of a number that each worker has."""
        import tensorflow as tf

        strategy: Any = self.strategy

        @tf.function(input_signature=[tf.TensorSpec([], tf.float64)])
        def total(value: tf.Tensor) -> tf.Tensor:
            return strategy.reduce("SUM", strategy.run(tf.identity, args=(value,)), axis=None)

        return cast(Callable[[float], "tf.Tensor"], total)


def replicas_for(config: TrainConfig, worker: Worker) -> Replicas:
    """Make the replicas of a config; with several workers, wait until all of them have started.

    Raises:
        ConfigInvalid: A batch cannot be divided over them.
    """
    replicas = Replicas(_strategy(config.distribute.strategy, worker), worker)
    replicas.require_divisible(config)
    return replicas


@contextmanager
def watched(worker: Worker) -> Iterator[None]:
    """Turn TensorFlow's errors about a lost worker into one that says what to do.

    A killed worker closes its connections, and the others' sums fail at once. One that hangs is noticed by
    TensorFlow's coordination service, whose heartbeats stop.

    Raises:
        RunInvalid: Another worker failed.
    """
    if worker.count == 1:
        yield
        return
    from tensorflow import errors

    lost = (errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError)
    try:
        yield
    except (*lost, errors.FailedPreconditionError, errors.InternalError) as error:
        found, fix = _reason(error), "restart all workers to resume from the last checkpoint"
        expected = f"{worker.count} workers"
        raise RunInvalid("a worker failed; stopping", found=found, expected=expected, fix=fix) from error


def _reason(error: tf.errors.OpError) -> str:
    """The line of TensorFlow's message that says why; others say where in the graph."""
    lines = [re.sub(r"\{\{.*?\}\}", "", line).strip() for line in error.message.splitlines()]
    telling = [line for line in lines if "ollective" in line or "orker" in line]
    return (telling or lines or [type(error).__name__])[0][:200]


@cache
def _strategy(name: str, worker: Worker) -> tf.distribute.Strategy | None:
    """Made once a process: TensorFlow can join a cluster only before anything else."""
    import tensorflow as tf

    if name == "multi_worker":
        print(f"worker {worker.index} of {worker.count}: waiting for the others", file=sys.stderr)
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return None


def _own_share(batch: Batch) -> Batch:
    """Every count-th row from the replica's own number on.

    Photos and outliers are multiples of the count, so a share holds equally many of either, outliers last.
    """
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    first, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
    return type(batch)(*(tensor[first::count] for tensor in batch))
