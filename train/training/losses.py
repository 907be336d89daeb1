"""Losses: cross-entropy or focal, soft targets, logit adjustment, distillation, outlier exposure. TensorFlow.

Targets are distributions over the classes, because mixup, label smoothing and teachers all make them soft.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from train.configs.schema import DistillConfig, LossConfig


def photo_losses(
    logits: tf.Tensor, targets: tf.Tensor, config: LossConfig, adjustment: tf.Tensor | float = 0.0
) -> tf.Tensor:
    """Loss of each photo against its true label, [n].

    Args:
        logits: [n, classes].
        targets: [n, classes], rows sum to 1, not yet smoothed.
        config: Kind of loss, its gamma, label smoothing.
        adjustment: [classes] added to the logits here and nowhere else: tau * log prior (Menon et al. 2021).
    """
    classes = tf.cast(tf.shape(logits)[1], logits.dtype)
    smooth = targets * (1 - config.label_smoothing) + config.label_smoothing / classes
    adjusted = logits + adjustment
    if config.kind == "binary_focal":
        # Lin et al. 2017 in its own form: every class is a yes-no question.
        yes, no = tf.math.log_sigmoid(adjusted), tf.math.log_sigmoid(-adjusted)
        gamma = config.focal_gamma
        per_class = smooth * tf.exp(gamma * no) * -yes + (1 - smooth) * tf.exp(gamma * yes) * -no
        return tf.reduce_sum(per_class, axis=1)
    log_probs = tf.nn.log_softmax(adjusted)
    if config.kind == "focal":
        log_probs *= (1 - tf.exp(log_probs)) ** config.focal_gamma
    return -tf.reduce_sum(smooth * log_probs, axis=1)


def distillation_losses(logits: tf.Tensor, teacher_probs: tf.Tensor, config: DistillConfig) -> tf.Tensor:
    """Cross-entropy [n] of logits [n, classes] against a teacher's probabilities, both at the config's temperature.

    It is multiplied by temperature squared, because gradients of softened scores shrink by it (Hinton et al. 2015).
    """
    softened = tf.nn.softmax(tf.math.log(teacher_probs + 1e-9) / config.temperature)
    log_probs = tf.nn.log_softmax(logits / config.temperature)
    return -tf.reduce_sum(softened * log_probs, axis=1) * config.temperature**2


def uniform_losses(logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy [n] against "all classes alike", less its minimum log(classes): 0 for uniform scores."""
    classes = logits.shape[1]
    return -tf.reduce_mean(tf.nn.log_softmax(logits), axis=1) - float(np.log(classes))
