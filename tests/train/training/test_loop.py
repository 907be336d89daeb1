"""Which weights a stage changes, and the schedule of its steps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.contract import Normalization
from edge_runtime.errors import ConfigInvalid
from tests.train.training_runs import PLAIN
from train.configs.loading import load_config
from train.configs.schema import StageConfig

pytestmark = pytest.mark.tf

CLASSES, SIDE = 3, 8


def stage(**changed: Any) -> StageConfig:
    given: dict[str, Any] = {
        "name": "s",
        "trains": "all",
        "epochs": 2,
        "size_px": 32,
        "batch": 4,
        "learning_rate": 0.1,
    }
    return StageConfig(**{**given, **changed})


def trainer(folder: Path, *stages: StageConfig) -> Any:
    """Of a network of two convolutions with batch norm, before its first step."""
    import tf_keras
    from tf_keras import layers

    from train.training.inputs import Photos, TrainingData
    from train.training.loop import Trainer

    path = folder / "config.toml"
    path.write_text(PLAIN, encoding="utf-8")
    config = dataclasses.replace(load_config(path), stage=stages)
    pixels = x = layers.Input((SIDE, SIDE, 3))
    for block in ("early", "late"):
        x = layers.Conv2D(4, 3, use_bias=False, name=f"{block}_conv")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"{block}_bn")(x))
    model = tf_keras.Model(pixels, layers.Dense(CLASSES, name="logits")(layers.GlobalAveragePooling2D()(x)))
    photos = Photos(np.zeros((4, SIDE, SIDE, 3), np.uint8), np.zeros(4, np.int64), CLASSES)
    data = TrainingData(
        rows=np.arange(4),
        drawn=np.full(4, 0.25),
        epoch_photos=4,
        prior=np.full(CLASSES, 1 / CLASSES),
        loss_weights=np.ones(CLASSES),
        photos_by_stage=[photos] * len(stages),
        val_labels=np.zeros(2, np.int64),
        val_by_stage=[],
    )
    return Trainer(model, config, data, Normalization(0.0, 1.0), folder)


def changed_layers(made: Any, of: StageConfig) -> set[str]:
    """The layers whose weights, statistics included, one step changes."""
    import tensorflow as tf

    from train.training.pipeline import Batch

    rng = np.random.default_rng(3)
    targets = tf.one_hot([0, 1, 2, 0], CLASSES)
    pixels = tf.constant(rng.normal(size=(4, SIDE, SIDE, 3)), tf.float32)
    batch = Batch(pixels, tf.constant([0, 1, 2, 0], tf.int64), targets, targets)
    made.optimizer.learning_rate.assign(0.1)
    before = {layer.name: layer.get_weights() for layer in made.model.layers if layer.weights}
    made.compile_step(of)(batch)
    return {
        name
        for name, weights in before.items()
        if any(
            (w != now).any() for w, now in zip(weights, made.model.get_layer(name).get_weights(), strict=True)
        )
    }


@pytest.mark.parametrize(
    ("given", "trained"),
    [
        (stage(trains="head"), {"logits"}),
        (stage(), {"early_conv", "early_bn", "late_conv", "late_bn", "logits"}),
        (stage(frozen="early"), {"late_conv", "late_bn", "logits"}),
    ],
    ids=["head", "all", "frozen"],
)
def test_a_stage_changes_its_layers_and_no_others(
    tmp_path: Path, given: StageConfig, trained: set[str]
) -> None:
    assert changed_layers(trainer(tmp_path, given), given) == trained


def test_later_stages_thaw_what_earlier_ones_froze(tmp_path: Path) -> None:
    stages = stage(trains="head"), stage(frozen="early"), stage()
    made = trainer(tmp_path, *stages)
    assert [len(changed_layers(made, given)) for given in stages] == [1, 3, 5]


@pytest.mark.parametrize("name", ["blocks_4/", "logits"])
def test_a_stage_that_freezes_nothing_or_all_is_refused_before_the_first(tmp_path: Path, name: str) -> None:
    made = trainer(tmp_path, stage(), stage(name="second", frozen=name))
    with pytest.raises(ConfigInvalid, match="stage second: frozen"):
        made.train()
    assert not (tmp_path / "history.csv").exists()


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    from train.training.inputs import learning_rate

    given = stage(epochs=4, learning_rate=0.4, final_learning_rate=0.1, warmup_share=0.25)
    rates = [learning_rate(given, step, 10) for step in range(40)]
    np.testing.assert_allclose(rates[:10], 0.04 * np.arange(1, 11))
    assert rates[10] == pytest.approx(0.4)
    # Half-way between the end of the warm-up and the end: the mean of both rates.
    assert rates[25] == pytest.approx(0.25)
    assert (np.diff(rates[10:]) < 0).all()
    assert 0.1 < rates[-1] < 0.101
