"""Replicas of one machine and workers on the loopback train as one replica does; a killed worker stops the job."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_runtime.errors import ConfigInvalid
from tests.train.conftest import PHANTOM_PHOTOS
from tests.train.training_runs import PLAIN, finish, finish_apart, rows_of, start
from train.configs.loading import load_config
from train.configs.schema import DistributeConfig
from train.data.synthetic.dataset import draw_dataset
from train.training.distribute import Worker, this_worker

# Losses are written with six digits, and agree in nearly all of them: replicas add floats in another order. Gradients
# that are not added up, or shares that are not what they should be, change losses by 0.003 and more.
SAME_LOSS = 1e-4
PATIENCE_S = 420
LOSSES = ("train_loss", "val_loss", "train_balanced_accuracy", "val_balanced_accuracy")


def config_with(strategy: str, folder: Path) -> Path:
    path = folder / f"{strategy}.toml"
    path.write_text(PLAIN.replace('strategy = "none"', f'strategy = "{strategy}"'), encoding="utf-8")
    return path


def assert_same_training(run: Path, other: Path) -> None:
    rows, expected = rows_of(run / "history.csv"), rows_of(other / "history.csv")
    assert len(rows) == len(expected) == 6
    for row, wanted in zip(rows, expected, strict=True):
        for key in LOSSES:
            assert float(row[key]) == pytest.approx(float(wanted[key]), abs=SAME_LOSS), (row, wanted)
    reached = json.loads((run / "metrics.json").read_text())
    assert (
        reached["test"]["confusion"] == json.loads((other / "metrics.json").read_text())["test"]["confusion"]
    )


# -------------------------------------------------------------------- which worker this is


def environment(index: int, ports: tuple[int, ...], **cluster: list[str]) -> str:
    cluster = cluster or {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


def test_without_workers_tf_config_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", "nonsense")
    assert this_worker(DistributeConfig()) == this_worker(DistributeConfig("mirrored")) == Worker(0, 1)


def test_tf_config_says_which_worker_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", environment(1, (1, 2, 3)))
    assert this_worker(DistributeConfig("multi_worker")) == Worker(1, 3)
    monkeypatch.setenv("TF_CONFIG", environment(1, (), chief=["a:1"], worker=["b:1", "c:1"]))
    assert this_worker(DistributeConfig("multi_worker")) == Worker(2, 3)
    assert Worker(0, 3).chief
    assert not Worker(2, 3).chief


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no such variable"),
        ("{", "Expecting property name"),
        ("{}", "cluster"),
        (environment(2, (1, 2)), "there is no worker 2"),
        (environment(0, (), worker=["a:1"], ps=["b:1"]), "jobs of another kind: ps"),
    ],
)
def test_an_unusable_tf_config_is_refused(monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigInvalid) as caught:
        this_worker(DistributeConfig("multi_worker"))
    assert said in caught.value.message
    assert '"task"' in caught.value.message


def test_another_worker_begins_with_a_copy_and_leaves_the_run_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "checkpoint").write_text("newest")
    (run / "history.csv").write_text("a row")
    (run / "model.keras").write_text("large, and not needed")
    worker = Worker(1, 2)
    with worker.place(run) as place:
        assert sorted(path.name for path in place.iterdir()) == ["checkpoints", "history.csv"]
        assert (place / "checkpoints" / "checkpoint").read_text() == "newest"
        assert worker.pixels(run).parent == place.parent != run
        (place / "history.csv").write_text("another row")
    assert (run / "history.csv").read_text() == "a row"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_an_interrupted_worker_keeps_its_pixels_and_nothing_else(tmp_path: Path) -> None:
    worker = Worker(1, 2)
    with pytest.raises(KeyboardInterrupt), worker.place(tmp_path / "run") as place:
        worker.pixels(tmp_path / "run").mkdir()
        (place / "history.csv").write_text("lost")
        raise KeyboardInterrupt
    assert worker.pixels(tmp_path / "run").is_dir()
    with worker.place(tmp_path / "run") as place:
        assert list(place.iterdir()) == []


# -------------------------------------------------------------------- the same as one replica


@pytest.mark.tf
@pytest.mark.slow
def test_a_strategy_of_one_device_trains_as_none(plain_run: Path, phantom: Path, tmp_path: Path) -> None:
    status, output = finish("plain", config_with("mirrored", tmp_path), tmp_path / "run", phantom)
    assert status == 0, output
    assert_same_training(tmp_path / "run", plain_run)


@pytest.mark.tf
@pytest.mark.long
def test_two_devices_train_as_one(plain_run: Path, phantom: Path, tmp_path: Path) -> None:
    config = config_with("mirrored", tmp_path)
    status, output = finish_apart("plain", config, tmp_path / "run", phantom, LOGICAL_DEVICES="2")
    assert status == 0, output
    assert_same_training(tmp_path / "run", plain_run)


@pytest.mark.tf
def test_a_batch_that_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    from train.training.distribute import Replicas

    three: Any = SimpleNamespace(num_replicas_in_sync=3)
    with pytest.raises(ConfigInvalid) as caught:
        Replicas(three).require_divisible(load_config(config_with("mirrored", tmp_path)))
    assert caught.value.found == "stage[0].batch is 8; stage[1].batch is 8; outliers.per_batch is 2"
    assert caught.value.expected == "multiples of 3"


@contextmanager
def workers(
    config: Path, run: Path, data: Sequence[Path], logs: Sequence[Path]
) -> Iterator[list[subprocess.Popen[str]]]:
    """Two workers on the loopback, each with its data; none outlives the block."""
    with socket.socket() as first, socket.socket() as second:
        for free in (first, second):
            free.bind(("127.0.0.1", 0))
        ports = (first.getsockname()[1], second.getsockname()[1])
    processes = [
        start(
            "plain", config, run, data[i], log=logs[i], TF_CONFIG=environment(i, ports), no_proxy="127.0.0.1"
        )
        for i in range(2)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def statuses(processes: list[subprocess.Popen[str]]) -> list[int]:
    until = time.monotonic() + PATIENCE_S
    return [process.wait(timeout=max(until - time.monotonic(), 1)) for process in processes]


def await_text(log: Path, text: str, processes: list[subprocess.Popen[str]]) -> None:
    until = time.monotonic() + PATIENCE_S
    while text not in log.read_text(encoding="utf-8"):
        assert time.monotonic() < until, f"no {text!r} in:\n{log.read_text(encoding='utf-8')}"
        assert all(process.poll() is None for process in processes), log.read_text(encoding="utf-8")
        time.sleep(0.1)


@pytest.mark.tf
@pytest.mark.long
def test_two_workers_train_as_one(plain_run: Path, phantom: Path, tmp_path: Path) -> None:
    run, logs = tmp_path / "run", [tmp_path / "0.log", tmp_path / "1.log"]
    with workers(config_with("multi_worker", tmp_path), run, [phantom] * 2, logs) as both:
        assert statuses(both) == [0, 0], "\n".join(log.read_text() for log in logs)
    assert_same_training(run, plain_run)
    assert "test: balanced accuracy" in logs[0].read_text()
    assert "worker 1: done; worker 0 evaluates" in logs[1].read_text()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["run"]


@pytest.mark.tf
@pytest.mark.long
def test_a_killed_worker_stops_the_job_and_the_same_commands_resume_it(
    plain_run: Path, phantom: Path, tmp_path: Path
) -> None:
    config, run = config_with("multi_worker", tmp_path), tmp_path / "run"
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    with workers(config, run, [phantom] * 2, logs) as (chief, other):
        await_text(logs[0], "network 2/5", [chief, other])
        os.kill(other.pid, signal.SIGKILL)
        status = chief.wait(timeout=PATIENCE_S)
    said = logs[0].read_text()
    assert status == 2, said
    assert "a worker failed" in said
    assert "estart all workers" in said
    assert not (run / "metrics.json").exists()

    with workers(config, run, [phantom] * 2, logs) as both:
        assert statuses(both) == [0, 0], "\n".join(log.read_text() for log in logs)
    for log in logs:
        assert "resuming at stage 1" in log.read_text()
    assert_same_training(run, plain_run)


@pytest.mark.tf
@pytest.mark.long
def test_workers_with_other_data_are_refused(phantom: Path, tmp_path: Path) -> None:
    """Each would train on its own photos, and no config would describe the result."""
    other = tmp_path / "phantom"
    draw_dataset(other, photos=PHANTOM_PHOTOS, seed=9)
    config, run = config_with("multi_worker", tmp_path), tmp_path / "run"
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    (tmp_path / "ordinary").symlink_to(phantom.with_name("ordinary"))
    with workers(config, run, [phantom, other], logs) as both:
        assert statuses(both) == [2, 2], "\n".join(log.read_text() for log in logs)
    for log in logs:
        assert "the workers differ" in log.read_text()
