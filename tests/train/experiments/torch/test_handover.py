"""A run trained elsewhere: what it is given, what comes back, and what is refused. No PyTorch here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import RunInvalid
from tests.train.generated_sets import draw_data_root
from train.configs.loading import load_config
from train.configs.schema import ModelConfig, SourceConfig, SplitConfig, TrainConfig
from train.experiments.torch.handover import (
    START,
    TRAINED,
    exchange,
    fingerprint,
    read_weights,
    write_weights,
)
from train.training.crossval import run_crossval
from train.training.run import run_experiment

CONFIG = Path(__file__).parents[4] / "train/configs/phantom.toml"

pytestmark = [pytest.mark.tf, pytest.mark.slow]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_data_root(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    config = load_config(CONFIG)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, folder="HAM10000"),
        input=dataclasses.replace(config.input, size_px=32),
        model=ModelConfig(alpha=0.35, weights="none"),
        split=SplitConfig(folds=3, val_share=0.2),
        stage=tuple(dataclasses.replace(stage, epochs=1, size_px=32) for stage in config.stage),
    )


@pytest.fixture(scope="module")
def prepared(data_root: Path, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-validation's folder with two folds, prepared."""
    folder = tmp_path_factory.mktemp("cv")
    found = run_crossval(CONFIG, folder, data_root / "HAM10000", folds=[0, 1], config=config, make=exchange)
    assert found == {}
    return folder


def train_elsewhere(run: Path, shift: float = 0.25) -> None:
    """Stands in for the other machine: the first weights, the last layer's bias moved; one row of history."""
    weights, noted = read_weights(run / START)
    weights[-1] = weights[-1] + np.float32(shift) * np.arange(7, dtype=np.float32)
    write_weights(run / TRAINED, weights, {"of": noted["of"], "device": "GPU", "torch": "2", "seconds": 12.5})
    header = "stage,epoch,name,size_px,learning_rate,train_loss,train_balanced_accuracy"
    row = "0,0,network,32,0.001,1.5,0.5"
    (run / "history.csv").write_text(
        f"{header},val_loss,val_balanced_accuracy,val_accuracy\n{row},1.5,0.5,0.5\n"
    )


def test_a_prepared_run_stops_before_training(prepared: Path) -> None:
    run = prepared / "fold0"
    weights, noted = read_weights(run / START)
    assert json.loads(noted["keras"])["config"]["name"] == "mobilenet_v2"
    assert weights[-1].shape == (7,)
    assert json.loads((run / "run.json").read_text())["status"] == "training"
    assert not (run / "model.keras").exists()


def test_folds_trained_elsewhere_are_finished_and_pooled(
    prepared: Path, data_root: Path, config: TrainConfig
) -> None:
    import tf_keras

    for fold in (0, 1):
        train_elsewhere(prepared / f"fold{fold}")
    metrics = run_crossval(
        CONFIG, prepared, data_root / "HAM10000", folds=[0, 1], config=config, make=exchange
    )
    assert metrics["folds"] == [0, 1]
    assert metrics["train_balanced_accuracy_by_fold"] == [0.5, 0.5]
    state = json.loads((prepared / "fold0/run.json").read_text())
    assert state["status"] == "done"
    assert state["trained_elsewhere"] == {"device": "GPU", "torch": "2", "seconds": 12.5}
    assert state["seconds"] >= 12.5
    model = tf_keras.models.load_model(prepared / "fold0/model.keras", compile=False)
    expected, _ = read_weights(prepared / "fold0" / TRAINED)
    for found, trained in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(found, trained)


def test_weights_of_another_run_are_refused(
    prepared: Path, data_root: Path, config: TrainConfig, tmp_path: Path
) -> None:
    run, other = tmp_path / "run", dataclasses.replace(config, seed=config.seed + 1)
    run_experiment(CONFIG, run, data_root / "HAM10000", config=other, make=exchange)
    (run / TRAINED).write_bytes((prepared / "fold0" / START).read_bytes())
    with pytest.raises(RunInvalid) as caught:
        run_experiment(CONFIG, run, data_root / "HAM10000", config=other, make=exchange)
    assert caught.value.found == read_weights(prepared / "fold0" / START)[1]["of"][:12]
    (run / TRAINED).write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(RunInvalid) as caught:
        run_experiment(CONFIG, run, data_root / "HAM10000", config=other, make=exchange)
    assert str(run / TRAINED) in caught.value.what


def test_the_prior_of_further_data_sets_is_taken_out_of_the_answers(
    data_root: Path, config: TrainConfig, tmp_path: Path
) -> None:
    """prior_of = first moves the last bias by what phone photos added to the drawn prior, and by nothing else."""
    import tf_keras

    both = dataclasses.replace(
        config,
        source=(SourceConfig("pad_ufes_20", "PAD-UFES-20", draw=2.0),),
        imbalance=dataclasses.replace(config.imbalance, sampling_exponent=0.0, logit_adjustment=1.0),
    )
    run, bias = tmp_path / "run", {}
    run_experiment(CONFIG, run, data_root / "HAM10000", config=both, make=exchange)
    train_elsewhere(run, 0.0)
    for prior_of in ("all", "first"):
        changed = dataclasses.replace(both, decision=dataclasses.replace(both.decision, prior_of=prior_of))
        run_experiment(CONFIG, run, data_root / "HAM10000", config=changed, make=exchange)
        model = tf_keras.models.load_model(run / "model.keras", compile=False)
        bias[prior_of] = model.layers[-1].get_weights()[1]
    codes = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    lines = [line.split(",") for line in (run / "manifest.csv").read_text().splitlines()]
    header, rows = lines[0], lines[1:]
    path, label, split = (header.index(name) for name in ("path", "label", "split"))
    first, drawn = np.zeros(7), np.zeros(7)
    for row in rows:
        if row[split] == "train":
            ours = row[path].startswith("HAM10000/")
            first[codes.index(row[label])] += ours
            drawn[codes.index(row[label])] += 1.0 if ours else 2.0
    expected = np.log(drawn / drawn.sum()) - np.log(first / first.sum())
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(bias["first"] - bias["all"], expected, atol=1e-5)


def test_a_key_that_came_later_does_not_make_another_run(config: TrainConfig) -> None:
    """Runs that were handed over before model.start_trained_on and split.seed are taken back."""
    data = SimpleNamespace(manifest=SimpleNamespace(sha256="00"), assignment={"a": "train"})
    plain = config.to_dict()
    del plain["decision"], plain["model"]["start_learnt_from"], plain["split"]["seed"]
    content = json.dumps([plain, "00", [["a", "train"]]], sort_keys=True)
    given: Any = SimpleNamespace(config=config, data=data)
    assert fingerprint(given) == hashlib.sha256(content.encode()).hexdigest()
    found = {fingerprint(given)}
    for section, key, value in (("model", "start_trained_on", "record"), ("split", "seed", 7)):
        changed = dataclasses.replace(getattr(config, section), **{key: value})
        given.config = dataclasses.replace(config, **{section: changed})
        found.add(fingerprint(given))
    # Both are another run's once they say something.
    assert len(found) == 3
