"""Steps divided over replicas by tf.distribute: a device each, on one machine or on several. TensorFlow.

stage.batch is the batch of all replicas together. Every worker makes the whole batch, a pure function of its seeds, and
each replica takes its share of it; losses are averaged over the whole batch. So any number of replicas learns from the
same photos, in the same order and with the same augmentation, as one. What this costs: each worker's input pipeline
works for all (about a tenth of a step on one worker).

Two things stay each replica's own, as tf.distribute has it: batch norm normalizes a share by its own mean and variance
(moving statistics are averaged over replicas where they are read), and dropout draws its own units.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import tensorflow as tf

from edge_runtime.errors import ConfigInvalid, RunInvalid
from train.configs.schema import TrainConfig
from train.training.pipeline import Batch
from train.training.workers import Worker

# How TensorFlow says, in this worker, that another one has gone or cannot be reached.
LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


@dataclass(frozen=True)
class Replicas:
    """What learns together; by default one replica, for which nothing below costs anything."""

    strategy: tf.distribute.Strategy | None = None
    worker: Worker = field(default_factory=Worker)

    @property
    def count(self) -> int:
        """Replicas of all workers."""
        return self.strategy.num_replicas_in_sync if self.strategy else 1

    def scope(self) -> AbstractContextManager[Any]:
        """Variables made within it exist on every replica."""
        return self.strategy.scope() if self.strategy else nullcontext()

    def learn(self, step: Callable[[Batch], tuple[tf.Tensor, ...]], batch: Batch) -> tuple[tf.Tensor, ...]:
        """Runs a step on every replica's share of a batch. Runs inside tf.function.

        Args:
            step: Of one replica; what it returns must add up.
            batch: Of all replicas.

        Returns:
            The sums over replicas.
        """
        if self.strategy is None:
            return step(batch)
        per_replica = self.strategy.run(lambda whole: step(_own_share(whole)), args=(batch,))
        return tuple(self.strategy.reduce("SUM", value, axis=None) for value in per_replica)

    def mean(self, value: float) -> float:
        """The mean over workers of a number that each has computed: whoever decides by it decides as the others."""
        return float(self._total(value)) / self.count if self.worker.count > 1 else value

    def require_equal(self, text: str) -> None:
        """Returns if every worker says the same.

        Raises:
            RunInvalid: They do not: together they would learn something that no config describes.
        """
        if self.worker.count == 1:
            return
        # 32 bits, so that the sum of many is exact.
        own = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
        if round(float(self._total(own))) != own * self.count:
            raise RunInvalid(
                "the workers would not train the same thing",
                found="on one of them another config, other photos, another split, or another checkpoint",
                expected="the same config and data on every worker, and one run directory that all of them see",
                fix="start every worker with the same command, data and --workdir",
            )

    def require_divisible(self, config: TrainConfig) -> None:
        """Returns if every replica gets equally many photos.

        Raises:
            ConfigInvalid: It does not.
        """
        sizes = {f"stage[{i}].batch": stage.batch for i, stage in enumerate(config.stage)}
        if config.outliers.folder:
            sizes["outliers.per_batch"] = config.outliers.per_batch
        if astray := [f"{name} is {size}" for name, size in sizes.items() if size % self.count]:
            raise ConfigInvalid(
                f"a batch cannot be divided over {self.count} replicas",
                found="; ".join(astray),
                expected=f"multiples of {self.count}",
                fix="change the config, or the number of replicas",
            )

    @cached_property
    def _total(self) -> Callable[[float], tf.Tensor]:
        """The sum over replicas of a number that each worker has."""

        @tf.function(input_signature=[tf.TensorSpec([], tf.float64)])
        def total(value: tf.Tensor) -> tf.Tensor:
            return self.strategy.reduce("SUM", self.strategy.run(tf.identity, args=(value,)), axis=None)

        return total


def replicas_for(config: TrainConfig, worker: Worker) -> Replicas:
    """The replicas of a config. With several workers, waits until all of them have come.

    Raises:
        ConfigInvalid: A batch cannot be divided over them.
    """
    replicas = Replicas(_strategy(config.distribute.strategy, worker), worker)
    replicas.require_divisible(config)
    return replicas


@contextmanager
def watched(worker: Worker) -> Iterator[None]:
    """Turns TensorFlow's errors about a lost worker into one that says what to do.

    A killed worker closes its connections, and the others' sums fail at once. One that only falls silent is missed by
    TensorFlow's coordination service, whose heartbeats stop.

    Raises:
        RunInvalid: Another worker has gone.
    """
    try:
        yield
    except LOST_WORKER as error:
        if worker.count == 1:
            raise
        raise RunInvalid(
            "another worker has gone, so this one stops",
            found=_reason(error),
            expected=f"{worker.count} workers to the end",
            fix="start all workers again with their commands: they resume at the last checkpoint",
        ) from error


def _reason(error: tf.errors.OpError) -> str:
    """The line of TensorFlow's message that says why; others say where in the graph."""
    lines = [re.sub(r"\{\{.*?\}\}", "", line).strip() for line in error.message.splitlines()]
    telling = [line for line in lines if "ollective" in line or "orker" in line]
    return (telling or lines or [type(error).__name__])[0][:200]


@cache
def _strategy(name: str, worker: Worker) -> tf.distribute.Strategy | None:
    """Made once a process: TensorFlow can join a cluster only before anything else."""
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
    context = tf.distribute.get_replica_context()
    first, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
    return Batch(*(tensor[first::count] for tensor in batch))
