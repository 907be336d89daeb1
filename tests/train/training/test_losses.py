"""Losses against their closed forms, and what each switch does to a gradient."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.tf

CLASSES = 4
EXACT = 1e-5


def batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(6, CLASSES)).astype(np.float32)
    return logits, np.eye(CLASSES, dtype=np.float32)[rng.integers(CLASSES, size=6)]


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_cross_entropy_of_smoothed_labels() -> None:
    from train.configs.schema import LossConfig
    from train.training.losses import photo_losses

    logits, targets = batch()
    smooth = targets * 0.9 + 0.1 / CLASSES
    expected = -(smooth * np.log(softmax(logits))).sum(axis=1)
    found = photo_losses(logits, targets, LossConfig(label_smoothing=0.1)).numpy()
    np.testing.assert_allclose(found, expected, atol=EXACT)


def test_focal_loss_without_gamma_is_cross_entropy_and_with_it_forgives_what_is_right() -> None:
    from train.configs.schema import LossConfig
    from train.training.losses import photo_losses

    logits, targets = batch()
    plain = photo_losses(logits, targets, LossConfig(label_smoothing=0.0)).numpy()
    same = photo_losses(logits, targets, LossConfig("focal", 0.0, 0.0)).numpy()
    focal = photo_losses(logits, targets, LossConfig("focal", 2.0, 0.0)).numpy()
    np.testing.assert_allclose(same, plain, atol=EXACT)
    probs = (softmax(logits) * targets).sum(axis=1)
    np.testing.assert_allclose(focal, plain * (1 - probs) ** 2, atol=EXACT)


def test_binary_focal_loss_is_the_papers() -> None:
    from train.configs.schema import LossConfig
    from train.training.losses import photo_losses

    logits, targets = batch()
    p = 1 / (1 + np.exp(-logits))
    p_true = np.where(targets == 1, p, 1 - p)
    expected = (-((1 - p_true) ** 2) * np.log(p_true)).sum(axis=1)
    found = photo_losses(logits, targets, LossConfig("binary_focal", 2.0, 0.0)).numpy()
    np.testing.assert_allclose(found, expected, atol=EXACT)


def test_the_adjustment_favours_rare_classes() -> None:
    """A common class must win by its prior to cost as little: its logit is raised in the loss alone."""
    from train.configs.schema import LossConfig
    from train.training.losses import photo_losses

    prior = np.log(np.array([0.7, 0.1, 0.1, 0.1], np.float32))
    flat, targets = np.zeros((CLASSES, CLASSES), np.float32), np.eye(CLASSES, dtype=np.float32)
    found = photo_losses(flat, targets, LossConfig(label_smoothing=0.0), prior).numpy()
    np.testing.assert_allclose(found, -prior, atol=EXACT)


def test_a_taught_answer_costs_least_when_it_is_the_teachers() -> None:
    from train.configs.schema import DistillConfig
    from train.training.losses import distillation_losses

    logits, _ = batch()
    config = DistillConfig("x", 0.5, 2.0)
    own = distillation_losses(logits, softmax(logits), config).numpy()
    others = distillation_losses(np.roll(logits, 1, axis=0), softmax(logits), config).numpy()
    assert (own < others).all()
    softened = softmax(logits / 2)
    np.testing.assert_allclose(own, -4 * (softened * np.log(softened)).sum(axis=1), atol=1e-4)


def test_only_a_uniform_answer_costs_an_outlier_nothing() -> None:
    import tensorflow as tf

    from train.training.losses import uniform_losses

    logits, _ = batch()
    assert (uniform_losses(tf.constant(logits)).numpy() > 0.01).all()
    np.testing.assert_allclose(uniform_losses(tf.ones([2, CLASSES])).numpy(), 0, atol=EXACT)
