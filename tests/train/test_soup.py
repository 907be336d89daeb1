"""The mean of several trainings' weights, and a training that starts from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import ConfigInvalid
from train.config import TrainConfig, load_config
from train.soup import main

pytestmark = pytest.mark.tf

CONFIG = Path(__file__).parents[2] / "train" / "configs" / "phantom.toml"
CLASSES = 7
# float32 weights, summed in float64 and rounded once.
SAME_WEIGHT = 1e-6


def network(config: TrainConfig, **model: Any) -> Any:
    from train.backbones import build_model

    return build_model(dataclasses.replace(config.model, **model), CLASSES, 32)


def a_run(folder: Path, seed: int, status: str = "done", config: TrainConfig | None = None) -> list[Any]:
    """A run directory as far as a soup reads it, with random weights; returns those."""
    config = config or load_config(CONFIG)
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"status": status}))
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    model, rng = network(config), np.random.default_rng(seed)
    model.set_weights([rng.random(weight.shape, np.float32) for weight in model.weights])
    model.save(folder / "model.keras")
    return model.get_weights()


def test_training_starts_from_the_mean_of_the_runs(tmp_path: Path) -> None:
    weights = [a_run(tmp_path / f"run{seed}", seed) for seed in (1, 2, 3)]
    runs = [str(tmp_path / f"run{seed}") for seed in (1, 2, 3)]
    out = tmp_path / "soup.h5"
    assert main([*runs, "--out", str(out)]) == 0
    started = network(load_config(CONFIG), start=str(out)).get_weights()
    assert len(started) == len(weights[0]) > 100
    for mean, *of_runs in zip(started, *weights, strict=True):
        np.testing.assert_allclose(mean, np.mean(of_runs, axis=0), atol=SAME_WEIGHT)


def test_what_cannot_be_averaged_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*names: str, out: str = "soup.h5") -> str:
        assert main([*(str(tmp_path / name) for name in names), "--out", str(tmp_path / out)]) == 2
        assert not (tmp_path / "soup.h5").exists()
        return capsys.readouterr().err

    config = load_config(CONFIG)
    a_run(tmp_path / "done", 1)
    a_run(tmp_path / "half", 2, status="training")
    wider = dataclasses.replace(config, model=dataclasses.replace(config.model, alpha=0.5))
    a_run(tmp_path / "wider", 3, config=wider)
    assert "training is not finished" in refused("done", "half")
    assert "found: mobilenet_v2 0.5" in refused("done", "wider")
    assert "no run directory" in refused("done", "absent")
    assert "no weights file" in refused("done", out="soup.keras")


def test_weights_of_another_network_are_not_started_from(tmp_path: Path) -> None:
    a_run(tmp_path / "run", 1)
    out = tmp_path / "soup.h5"
    assert main([str(tmp_path / "run"), "--out", str(out)]) == 0
    with pytest.raises(ConfigInvalid, match=r"model\.start does not fit"):
        network(load_config(CONFIG), start=str(out), alpha=0.5)
    with pytest.raises(ConfigInvalid, match=r"model\.start does not fit"):
        network(load_config(CONFIG), start=str(tmp_path / "absent.h5"))
