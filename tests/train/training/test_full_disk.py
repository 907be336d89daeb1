"""A disk that is or becomes full ends training with an error that says how much is needed, is free, and where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import DiskFull
from tests.train.plain_network import build_model
from train.artifacts.writer import LOCK_FILE
from train.training.run import run_experiment

pytestmark = [pytest.mark.tf, pytest.mark.slow]

SmallDisk = Callable[[int], Path]
STEP = 12


@pytest.fixture(autouse=True)
def plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.networks.registry.build_model", build_model)


def unfinished(run: Path) -> list[str]:
    """What should not be left there."""
    return [path.name for path in run.rglob("*") if "partial" in path.name or path.name.endswith("_temp")]


@pytest.mark.parametrize(("kib", "where"), [(20, ""), (300, "pixels"), (840, "")])
def test_training_does_not_begin_where_it_will_not_fit(
    kib: int, where: str, small_disk: SmallDisk, plain_config: Path, phantom: Path
) -> None:
    run = small_disk(kib) / "run"
    with pytest.raises(DiskFull) as caught:
        run_experiment(plain_config, run, phantom)
    assert caught.value.where == str(run / where) and "bytes free" in caught.value.found
    assert caught.value.expected.endswith(" bytes") or kib == 20
    assert not (run / "history.csv").exists() and not (run / LOCK_FILE).exists() and unfinished(run) == []


def test_a_disk_that_fills_up_later_loses_nothing(
    small_disk: SmallDisk, plain_config: Path, phantom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.training import inputs, loop

    run, steps = small_disk(4096) / "run", iter(range(1000))
    others = run.parent / "others"

    def filling(*given: Any) -> float:
        if next(steps) == STEP:
            with others.open("wb", buffering=0) as stream, pytest.raises(OSError):
                while True:
                    stream.write(bytes(4096))
        return inputs.learning_rate(*given)

    monkeypatch.setattr(loop, "learning_rate", filling)
    with pytest.raises(DiskFull) as caught:
        run_experiment(plain_config, run, phantom)
    assert caught.value.found.startswith("0 bytes free; ") and unfinished(run) == []
    others.unlink()
    assert run_experiment(plain_config, run, phantom)["test"]["photos"] > 0
