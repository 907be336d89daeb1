"""The moving average of weights: its closed form, its warm-up, and that it comes back."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.training_runs import finish, rows_of, start

pytestmark = pytest.mark.tf

# The kept weights are the average; val_loss, their loss, agrees to this after a resume (six digits are written).
SAME_LOSS = 1e-5


def small_network() -> Any:
    import tf_keras

    pixels = tf_keras.Input((3,))
    x = tf_keras.layers.BatchNormalization()(tf_keras.layers.Dense(2)(pixels))
    return tf_keras.Model(pixels, x)


def closed_form(start: float, weights: list[float], decay: float) -> float:
    """The sum of all weights ever seen, each times what later steps left of it."""
    decays = [min(decay, (1 + t) / (10 + t)) for t in range(1, len(weights) + 1)]
    value = start * np.prod(decays)
    for t, weight in enumerate(weights):
        value += (1 - decays[t]) * weight * np.prod(decays[t + 1 :])
    return float(value)


@pytest.mark.parametrize("decay", [0.3, 0.99])
def test_the_average_is_the_closed_form(decay: float) -> None:
    import tensorflow as tf

    from train.networks.ema import WeightAverage

    network = small_network()
    count = len(network.weights)
    assert count == 6  # The moving mean and variance of the batch norm among them.
    first = [np.full(weight.shape, 5.0 + i) for i, weight in enumerate(network.weights)]
    network.set_weights(first)
    average = WeightAverage(network, decay)
    update = tf.function(average.update)
    seen = [float(x) for x in np.random.default_rng(4).normal(size=30)]
    for value in seen:
        network.set_weights([np.full(weight.shape, value + i) for i, weight in enumerate(network.weights)])
        update()
    assert int(average.steps.numpy()) == 30
    for i, reached in enumerate(average.averages):
        expected = closed_form(5.0 + i, [value + i for value in seen], decay)
        np.testing.assert_allclose(reached.numpy(), np.full(reached.shape, expected), rtol=1e-4)


def test_the_first_steps_weigh_more() -> None:
    """With a plain decay of 0.99 the random start would still be 74 % of the average after 30 steps."""
    assert closed_form(1.0, [0.0] * 30, 0.99) < 1e-7
    assert 0.99**30 > 0.7


def test_the_average_is_applied_and_taken_back() -> None:
    from train.networks.ema import WeightAverage

    network = small_network()
    average = WeightAverage(network, 0.5)
    raw = [np.full(weight.shape, 2.0 + i) for i, weight in enumerate(network.weights)]
    network.set_weights(raw)
    average.update()
    with pytest.raises(KeyboardInterrupt), average.applied():
        for weight, averaged in zip(network.get_weights(), average.averages, strict=True):
            np.testing.assert_array_equal(weight, averaged.numpy())
        assert (network.get_weights()[0] != raw[0]).any()
        raise KeyboardInterrupt
    for weight, before in zip(network.get_weights(), raw, strict=True):
        np.testing.assert_array_equal(weight, before)


def test_without_a_decay_nothing_is_kept_or_changed() -> None:
    from train.networks.ema import WeightAverage

    network = small_network()
    before = network.get_weights()
    average = WeightAverage(network, 0.0)
    average.update()
    with average.applied():
        for weight, same in zip(network.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weight, same)
    assert average.averages == []
    assert int(average.steps.numpy()) == 0


@pytest.mark.long
def test_a_killed_run_resumes_its_average(
    plain_run: Path, plain_config: Path, phantom: Path, tmp_path: Path
) -> None:
    """Killed within an epoch: without the average of the steps before, the weights measured next are others."""
    run, log = tmp_path / "run", tmp_path / "log"
    process = start("plain", plain_config, run, phantom, log=log)
    try:
        until = time.monotonic() + 300
        # The second figure of an epoch comes after the checkpoint of the first.
        while log.read_text().partition("network 2/5")[2].count("loss=") < 2:
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    status, output = finish("plain", plain_config, run, phantom)
    assert status == 0, output
    assert "resuming at stage 1" in output
    rows, expected = rows_of(run / "history.csv"), rows_of(plain_run / "history.csv")
    assert len(rows) == len(expected) == 6
    for row, wanted in zip(rows, expected, strict=True):
        assert float(row["val_loss"]) == pytest.approx(float(wanted["val_loss"]), abs=SAME_LOSS)
