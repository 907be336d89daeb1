"""EfficientNet-Lite 0 to 4 as flat functional tf_keras models, with the publisher's weights.

EfficientNet (Tan and Le 2019) without squeeze-and-excitation and with ReLU6 for swish, as Google published it for
quantized use in 2020. Layers are named as the publisher's variables, so a checkpoint is read name by name.

The publisher's drop-connect is not here: a fine-tuning is short, model.dropout regularizes it, and each dropped block
would need a layer in the midst of what tfmot joins into one quantized operation. TensorFlow.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edge_runtime.errors import ConfigInvalid

# Variant: width and depth multipliers, and the input side it was designed for.
VARIANTS = {
    "efficientnet_lite0": (1.0, 1.0, 224),
    "efficientnet_lite1": (1.0, 1.1, 240),
    "efficientnet_lite2": (1.1, 1.2, 260),
    "efficientnet_lite3": (1.2, 1.4, 280),
    "efficientnet_lite4": (1.4, 1.8, 300),
}
# Of EfficientNet-B0: repeats, kernel, stride, expansion, filters.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_FILTERS, HEAD_FILTERS = 32, 1280
BATCH_NORM_EPSILON = 1e-3
AVERAGED = "/ExponentialMovingAverage"


def build_features(variant: str, size_px: int | None) -> Any:
    """Build the network of a variant up to its last activation, with random weights.

    Returns:
        A tf_keras.Model: [n, size_px, size_px, 3] normalized pixels -> [n, size_px / 32, size_px / 32, 1280]; size_px
        None for any multiple of 32.
    """
    width, depth, _ = VARIANTS[variant]
    pixels = layers.Input((size_px, size_px, 3))
    x = _convolve(pixels, STEM_FILTERS, 3, 2, f"{variant}/stem/conv2d")
    x = _relu6(_normalize(x, f"{variant}/stem/tpu_batch_normalization"))
    block = 0
    for stage, (repeats, kernel, stride, expansion, filters) in enumerate(STAGES):
        # Lite keeps the repeats of the first and the last stage, and the stem and head filters, unscaled.
        outer = stage in (0, len(STAGES) - 1)
        for repeat in range(repeats if outer else math.ceil(repeats * depth)):
            x = _block(
                x,
                kernel=kernel,
                stride=stride if repeat == 0 else 1,
                expansion=expansion,
                filters=_round_filters(filters * width),
                name=f"{variant}/blocks_{block}",
            )
            block += 1
    x = _convolve(x, HEAD_FILTERS, 1, 1, f"{variant}/head/conv2d")
    x = _relu6(_normalize(x, f"{variant}/head/tpu_batch_normalization"))
    return tf_keras.Model(pixels, x, name=variant)


def load_checkpoint(features: Any, checkpoint: Path) -> None:
    """Set every weight of `build_features` from a TensorFlow checkpoint of the publisher.

    `checkpoint` is its prefix (`.../model.ckpt`), or the folder that holds one. Averaged variables
    (`NAME/ExponentialMovingAverage`) are taken where there are any, as the publisher does for evaluation.

    Raises:
        ConfigInvalid: No checkpoint, a damaged one, or one of another network; the first differences are named.
    """
    prefix = tf.train.latest_checkpoint(str(checkpoint)) if checkpoint.is_dir() else str(checkpoint)
    prefix = prefix or str(checkpoint / "model.ckpt")
    if not Path(f"{prefix}.index").is_file():
        expected = "a folder with model.ckpt.index, or the path of model.ckpt"
        problem = "model.weights holds no TensorFlow checkpoint"
        fix = f"unpack the publisher's {features.name.replace('_', '-')}.tar.gz there"
        raise ConfigInvalid(problem, found=str(checkpoint), expected=expected, fix=fix)
    try:
        _read_checkpoint(features, prefix)
    except ConfigInvalid:
        raise
    except (tf.errors.OpError, RuntimeError, ValueError, LookupError) as error:
        problem = "model.weights: the checkpoint cannot be read"
        found = f"{prefix}: {str(error).splitlines()[0]}"
        expected = "model.ckpt.index with its model.ckpt.data-00000-of-00001"
        raise ConfigInvalid(problem, found=found, expected=expected, fix="fetch both files again") from error


def _read_checkpoint(features: Any, prefix: str) -> None:
    reader = tf.train.load_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    names, wrong = [], []
    for weight in features.weights:
        # The publisher's names have a hyphen where Python's have an underscore: efficientnet-lite0/stem/...
        name = weight.name.split(":")[0].replace("efficientnet_", "efficientnet-", 1)
        names.append(name + AVERAGED if name + AVERAGED in shapes else name)
        there = shapes.get(names[-1], "missing")
        if there != list(weight.shape):
            wrong.append(f"{names[-1]} {list(weight.shape)} (there: {there})")
    if wrong:
        found = f"{prefix}: {len(wrong)} of {len(names)} variables differ: {'; '.join(wrong[:3])}"
        problem = f"model.weights does not fit {features.name}"
        expected, fix = "the checkpoint of the same variant", "name the variant's own checkpoint"
        raise ConfigInvalid(problem, found=found, expected=expected, fix=fix)
    features.set_weights([np.asarray(reader.get_tensor(name)) for name in names])


def _block(x: Any, *, kernel: int, stride: int, expansion: int, filters: int, name: str) -> Any:
    """Inverted residual: expand, depthwise, project. The publisher counts a block's convolutions and batch norms."""
    entry = x
    norms = iter(("tpu_batch_normalization", "tpu_batch_normalization_1", "tpu_batch_normalization_2"))
    convolutions = iter(("conv2d", "conv2d_1"))
    if expansion > 1:
        x = _convolve(x, int(entry.shape[-1]) * expansion, 1, 1, f"{name}/{next(convolutions)}")
        x = _relu6(_normalize(x, f"{name}/{next(norms)}"))
    same = {"padding": "same", "use_bias": False, "depthwise_initializer": _initializer()}
    x = layers.DepthwiseConv2D(kernel, stride, name=f"{name}/depthwise_conv2d", **same)(x)
    x = _relu6(_normalize(x, f"{name}/{next(norms)}"))
    x = _convolve(x, filters, 1, 1, f"{name}/{next(convolutions)}")
    x = _normalize(x, f"{name}/{next(norms)}")
    if stride == 1 and entry.shape[-1] == filters:
        x = layers.Add(name=f"{name}/add")([x, entry])
    return x


def _convolve(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    same = {"padding": "same", "use_bias": False, "kernel_initializer": _initializer()}
    return layers.Conv2D(filters, kernel, stride, name=name, **same)(x)


def _initializer() -> Any:
    """The publisher's: He normal over the fan-out. One for each layer, since one alone repeats its numbers."""
    return tf_keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def _normalize(x: Any, name: str) -> Any:
    return layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=name)(x)


def _relu6(x: Any) -> Any:
    return layers.ReLU(6.0)(x)


def _round_filters(filters: float, divisor: int = 8) -> int:
    """The nearest multiple of 8 that is not more than a tenth smaller."""
    rounded = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * filters else rounded
