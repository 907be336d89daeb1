"""Every committed config and study runs on drawn photos in its smallest form: one short epoch a stage, tiny squares."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from edge_runtime.contract import ModelContract
from tests.train.generated_sets import draw_data_root
from train.configs.loading import load_config
from train.configs.schema import TrainConfig
from train.experiments.study import load_study

TRAIN = Path(__file__).parents[2] / "train"
CONFIGS = sorted((TRAIN / "configs").glob("*.toml"))
SIZE_PX = 32
# The config whose own backbone is trained in the fast tier.
REAL = "phantom"

pytestmark = [pytest.mark.tf, pytest.mark.slow]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_data_root(tmp_path_factory.mktemp("data"))


def smallest(config: TrainConfig) -> TrainConfig:
    """The same switches; one epoch of 8 photos a step, no download, no teacher."""
    stages = tuple(dataclasses.replace(stage, epochs=1, size_px=SIZE_PX, batch=8) for stage in config.stage)
    alpha = 0.35 if config.model.backbone == "mobilenet_v2" else 1.0
    return dataclasses.replace(
        config,
        stage=stages,
        data=dataclasses.replace(config.data, folder="HAM10000"),
        input=dataclasses.replace(config.input, size_px=SIZE_PX),
        model=dataclasses.replace(config.model, weights="none", start="", alpha=alpha),
        split=dataclasses.replace(config.split, folds=3, val_share=0.2),
        distill=dataclasses.replace(config.distill, teacher=""),
    )


def with_plain_network(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """The config for tests.train.plain_network, which has no layers by the names of a backbone's."""
    from tests.train.plain_network import build_model

    monkeypatch.setattr("train.networks.registry.build_model", build_model)
    return dataclasses.replace(
        config, stage=tuple(dataclasses.replace(stage, frozen="") for stage in config.stage)
    )


def run(config: TrainConfig, path: Path, folder: Path, data_root: Path) -> dict:
    from train.training.run import run_experiment

    small = smallest(config)
    return run_experiment(path, folder, data_root / "HAM10000", config=small, pixels=folder / "pixels")


# One real backbone here; with the others' networks replaced, all that differs is their switches.
@pytest.mark.parametrize(
    ("path", "network"),
    [
        *((path, "real" if path.stem == REAL else "plain") for path in CONFIGS),
        *(pytest.param(path, "real", marks=pytest.mark.long) for path in CONFIGS if path.stem != REAL),
    ],
    ids=lambda given: getattr(given, "stem", given),
)
def test_a_config_runs(
    path: Path, network: str, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(path)
    if network == "plain":
        config = with_plain_network(config, monkeypatch)
    metrics = run(config, path, tmp_path / "run", data_root)
    part = "val" if config.split.test_fold < 0 else "test"
    assert 0 <= metrics[part]["balanced_accuracy"] <= 1
    assert set(metrics[part].get("sources", {})) == {source.folder for source in config.source}
    contract = ModelContract.from_json((tmp_path / "run" / "contract.json").read_text())
    assert (contract.decision.not_a_lesion is not None) == bool(config.outliers.folder)
    state = json.loads((tmp_path / "run" / "run.json").read_text())
    assert state["status"] == "done"
    assert "not_for_conversion" not in state


@pytest.mark.long
# Of the studies only those variants that take a path of their own through the code; the others change a number.
@pytest.mark.parametrize("name", ["tiles", "merged", "binary_focal", "cnn_at_random"])
def test_a_variant_runs(name: str, tmp_path: Path, data_root: Path) -> None:
    found = [
        (path, variant)
        for path in sorted((TRAIN / "experiments" / "studies").glob("*.toml"))
        for variant in load_study(path)
        if variant.name == name
    ]
    assert len(found) == 1
    path, variant = found[0]
    # A small network: the switch is what is tried.
    config = variant.config
    if config.model.backbone == "efficientnet_lite0":
        config = dataclasses.replace(
            config,
            model=dataclasses.replace(config.model, backbone="mobilenet_v2"),
            stage=tuple(dataclasses.replace(stage, frozen="block_4_") for stage in config.stage),
        )
    metrics = run(config, path, tmp_path / "run", data_root)
    assert 0 <= metrics["test"]["balanced_accuracy"] <= 1
    assert len(metrics["test"]["per_class"]) == (6 if name == "merged" else 7)
    state = json.loads((tmp_path / "run" / "run.json").read_text())
    assert ("not_for_conversion" in state) == (name in ("tiles", "cnn_at_random"))
