"""Makes depthwise kernels quantizable without changing what the network computes. TensorFlow.

tfmot gives a depthwise kernel one scale for all its channels. ImageNet's MobileNetV2 has kernels whose largest channel
is 35 times the median one, so most channels would have a few steps of their 255. Batch normalization follows
each of them: a channel's kernel may be multiplied by s if the moving mean is too and gamma is divided by s. With s
chosen so that every channel's largest weight is 1, one scale fits all.

The idea is that of cross-layer equalization (Nagel et al. 2019, arXiv 1906.04721), within one layer and its
normalization.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras

# A channel that is smaller than this is dead: scaling it up would only amplify rounding noise.
DEAD_CHANNEL = 1e-8


def equalized_copy(model: Any) -> Any:
    """A copy of a flat, functional float model, same function, every depthwise channel's largest |weight| 1.

    Depthwise layers that no batch normalization follows, or whose output goes elsewhere too, are left as they are.
    """
    copy = tf_keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for layer in copy.layers:
        following = [node.layer for node in layer.outbound_nodes]
        if (
            isinstance(layer, tf_keras.layers.DepthwiseConv2D)
            and not layer.use_bias
            and len(following) == 1
            and isinstance(following[0], tf_keras.layers.BatchNormalization)
            and following[0].scale
            and following[0].center
            # One that is shared normalizes other channels too, which are not scaled.
            and len(following[0].inbound_nodes) == 1
        ):
            _equalize(layer, following[0])
    return copy


def _equalize(depthwise: Any, normalization: Any) -> None:
    (kernel,) = depthwise.get_weights()
    channels, multiplier = kernel.shape[2:]
    largest = np.abs(kernel).max(axis=(0, 1))
    factor = np.where(largest > DEAD_CHANNEL, 1 / np.maximum(largest, DEAD_CHANNEL), 1).astype(kernel.dtype)
    depthwise.set_weights([kernel * factor])
    # Output channel c * multiplier + m belongs to kernel[:, :, c, m]: rows first, as numpy flattens.
    per_output = factor.reshape(channels * multiplier)
    gamma, beta, mean, variance = normalization.get_weights()
    normalization.set_weights([gamma / per_output, beta, mean * per_output, variance])
