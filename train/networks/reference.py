"""Reference networks of the founding documents: a plain CNN, and ResNet50's published weights. TensorFlow.

They serve for comparison, not for devices. The first document set a small CNN against a ResNet; the second fine-tuned
Inception v3 (Esteva et al., Nature 542, 2017).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras
from tf_keras import layers

# Of small_cnn: each block is a 3x3 convolution, ReLU, and a 2x2 maximum.
SMALL_CNN_FILTERS = (32, 64, 128, 256)
SMALL_CNN_DROPOUT = 0.25
# ImageNet's mean levels in the order of ResNet50's published weights: blue, green, red.
RESNET50_MEANS_BGR = (103.939, 116.779, 123.68)
# Normalized pixels are (level - 128) / 128: the default of [input], for which ResNet50's weights are rewritten.
PIXEL_MEAN = PIXEL_STD = 128.0


def small_cnn(size_px: int | None) -> Any:
    """A plain CNN for training from scratch at 96 to 160 px: 0.4 million weights, no batch norm, no shortcut.

    Four blocks of convolution, ReLU and pooling with a dropout after the second and the fourth. The customary hidden
    dense layer is left out: averaged features take photos of any size, and overfit less.

    Returns:
        A tf_keras.Model: [n, size_px, size_px, 3] normalized pixels -> [n, size_px / 16, size_px / 16, 256]; size_px
        None for any multiple of 16.
    """
    pixels = layers.Input((size_px, size_px, 3))
    x = pixels
    for block, filters in enumerate(SMALL_CNN_FILTERS, start=1):
        given = {"padding": "same", "kernel_initializer": "he_normal"}
        x = layers.Conv2D(filters, 3, name=f"block{block}_conv", **given)(x)
        x = layers.ReLU(name=f"block{block}_relu")(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
        if block % 2 == 0:
            x = layers.Dropout(SMALL_CNN_DROPOUT, name=f"block{block}_dropout")(x)
    return tf_keras.Model(pixels, x, name="small_cnn")


def fold_bgr_levels(convolution: Any, norm: Any) -> None:
    """Rewrite ResNet50's first convolution, so that it takes normalized RGB pixels, not BGR levels less their mean.

    There is no preprocessing layer, so this is folded into the convolution (with bias) and the batch norm that follows:
    the network computes the same from pixels normalized as [input] has it by default. What differs is the border of
    three pixels that the network adds: it is grey of level 128, where it was ImageNet's mean (104 to 124).

    With r the normalized pixel, level - mean = 128 r + (128 - mean). The offset goes into the bias. The factor 128
    goes into the batch norm's statistics and not into the kernel, whose weights keep the size that learning rates and
    weight decay expect.
    """
    kernel, bias = convolution.get_weights()
    kernel = kernel[:, :, ::-1]
    offset = PIXEL_MEAN - np.array(RESNET50_MEANS_BGR[::-1])
    convolution.set_weights([kernel, (np.einsum("hwcf,c->f", kernel, offset) + bias) / PIXEL_STD])
    gamma, beta, mean, variance = norm.get_weights()
    smaller = variance / PIXEL_STD**2
    # Epsilon does not shrink with the variance; gamma makes up for it.
    gamma = gamma * np.sqrt((smaller + norm.epsilon) * PIXEL_STD**2 / (variance + norm.epsilon))
    norm.set_weights([gamma, beta, mean / PIXEL_STD, smaller])
