"""An exponential moving average of a model's weights, kept beside the raw ones. TensorFlow.

The average of the last few hundred steps generalizes better than the last step (Polyak and Juditsky 1992; as an EMA in
EfficientNet's training). Batch-norm statistics are averaged too: they belong to the averaged weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf


class WeightAverage:
    """Averaged copies of all weights of a model, checkpointed with it."""

    def __init__(self, model: Any, decay: float) -> None:
        self.model = model
        self.decay = decay
        # Under tf.distribute each replica averages its own weights without the others'. Only its batch-norm
        # statistics differ from theirs, and the mean of averages is the average of means.
        own = {"trainable": False, "synchronization": tf.VariableSynchronization.ON_READ}
        first, mean = tf.VariableAggregation.ONLY_FIRST_REPLICA, tf.VariableAggregation.MEAN
        self.steps = tf.Variable(0, dtype=tf.int64, aggregation=first, **own)
        self.averages = [tf.Variable(w, aggregation=mean, **own) for w in model.weights] if decay else []

    def update(self) -> None:
        """Add the weights after one step, inside tf.function. Does nothing for a decay of 0.

        Early steps weigh more, (1 + t) / (10 + t), so that the random start is forgotten at once.
        """
        if not self.decay:
            return
        step = tf.cast(self.steps.assign_add(1), tf.float32)
        decay = tf.minimum(self.decay, (1 + step) / (10 + step))
        for average, weight in zip(self.averages, self.model.weights, strict=True):
            average.assign_add((1 - decay) * (weight - average))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model holds the averaged weights."""
        if not self.decay:
            yield
            return
        raw = self.model.get_weights()
        self.model.set_weights([average.numpy() for average in self.averages])
        try:
            yield
        finally:
            self.model.set_weights(raw)
