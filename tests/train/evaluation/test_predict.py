"""What happens between logits and figures."""

from __future__ import annotations

import numpy as np
import pytest

from train.evaluation.decisions import calibrate, refer_rule
from train.evaluation.metrics import softmax
from train.evaluation.predict import correct_prior


class OneLayer:
    """Stands for a model: only its last layer's weights are read and written."""

    def __init__(self) -> None:
        self.layers = [self]
        self.weights = [np.ones((4, 3), np.float32), np.zeros(3, np.float32)]

    def get_weights(self) -> list[np.ndarray]:
        return self.weights

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self.weights = weights


def test_the_prior_is_divided_out() -> None:
    prior = np.array([0.7, 0.2, 0.1])
    model = OneLayer()
    correct_prior(model, np.log(prior))
    kernel, bias = model.weights
    assert (kernel == 1).all()
    # A network that has learnt nothing but the prior then finds all classes equally likely.
    np.testing.assert_allclose(softmax((np.log(prior) + bias)[None]), np.full((1, 3), 1 / 3), rtol=1e-6)
    assert bias.dtype == np.float32


@pytest.mark.parametrize("true_temperature", [0.7, 1.0, 2.5])
def test_the_temperature_of_overconfident_logits_is_found(true_temperature: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(scale=2.0, size=(20_000, 4))
    chosen = (softmax(logits).cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    fitted = calibrate(chosen, logits * true_temperature)
    assert fitted.temperature == pytest.approx(true_temperature, rel=0.04)
    assert fitted.method == "temperature"


def test_the_refer_rule_refers_the_asked_share() -> None:
    probs = softmax(np.random.default_rng(2).normal(size=(1000, 5)))
    rule = refer_rule(probs, 0.2)
    assert rule is not None
    assert (probs.max(axis=1) < rule.threshold).mean() == pytest.approx(0.2, abs=0.01)
    assert "1000 validation photos" in rule.source
    assert refer_rule(probs, 0) is None
