"""Networks by name, flat functional tf_keras models from normalized pixels to logits. TensorFlow.

tfmot quantizes neither nested models nor preprocessing layers, so there are none: pixels are normalized outside, and
the last layer is a Dense named `logits` without softmax.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tf_keras

from edge_runtime.errors import ConfigInvalid
from train import efficientnet_lite
from train.config import ModelConfig

WEIGHTS_VARIABLE = "DERMEDGE_WEIGHTS"
DEVELOPER_WEIGHTS = Path(__file__).parents[2] / "shared" / "weights"
LOGITS_LAYER = "logits"


def build_model(config: ModelConfig, classes: int, size_px: int | None, *, pretrained: bool = True) -> Any:
    """Builds a network.

    Args:
        config: Backbone, width and first weights.
        classes: Width of the output.
        size_px: Input side; None for any multiple of 32.
        pretrained: False leaves the weights random, whatever the config says.

    Returns:
        A tf_keras.Model: [n, size_px, size_px, 3] float32 normalized pixels -> [n, classes] logits.

    Raises:
        ConfigInvalid: Unknown backbone, or weights that do not exist.
    """
    if config.backbone not in BACKBONES:
        raise ConfigInvalid(
            "model.backbone is unknown",
            found=repr(config.backbone),
            expected=f"one of {', '.join(BACKBONES)}",
        )
    features = BACKBONES[config.backbone](config, size_px, pretrained)
    for layer in features.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.momentum = config.batch_norm_momentum
    pooled = tf_keras.layers.GlobalAveragePooling2D(name="pooled")(features.output)
    logits = tf_keras.layers.Dense(classes, name=LOGITS_LAYER)(pooled)
    return tf_keras.Model(features.input, logits, name=config.backbone)


def _mobilenet_v2(config: ModelConfig, size_px: int | None, pretrained: bool) -> Any:
    """Sandler et al. 2018, the Keras implementation."""
    file_name = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{config.alpha}_224_no_top.h5"
    return tf_keras.applications.MobileNetV2(
        input_shape=(size_px, size_px, 3),
        alpha=config.alpha,
        include_top=False,
        weights=_find_weights(config.weights, file_name) if pretrained else None,
    )


def _efficientnet_lite(config: ModelConfig, size_px: int | None, pretrained: bool) -> Any:
    """The publisher ships a checkpoint per variant; there is nothing that could download it by name."""
    features = efficientnet_lite.build_features(config.backbone, size_px)
    if not pretrained or config.weights == "none":
        return features
    folder_name = config.backbone.replace("_", "-")
    folder = _local_weights(folder_name) if config.weights == "imagenet" else Path(config.weights)
    if folder is None:
        raise ConfigInvalid(
            f"model.weights: the publisher's checkpoint of {config.backbone} is not here",
            found=f"no folder {folder_name} in {WEIGHTS_VARIABLE}",
            expected=f"{folder_name}/model.ckpt.index, unpacked from the publisher's {folder_name}.tar.gz",
            fix=f"set {WEIGHTS_VARIABLE} to the folder that holds {folder_name}, or model.weights to it",
        )
    efficientnet_lite.load_checkpoint(features, folder)
    return features


BACKBONES: dict[str, Callable[[ModelConfig, int | None, bool], Any]] = {
    "mobilenet_v2": _mobilenet_v2,
    **dict.fromkeys(efficientnet_lite.VARIANTS, _efficientnet_lite),
}


def _find_weights(weights: str, file_name: str) -> str | None:
    """What Keras' `weights` argument should be: a local copy of the publisher's file before a download."""
    if weights == "none":
        return None
    if weights != "imagenet":
        if not Path(weights).is_file():
            raise ConfigInvalid(
                "model.weights does not exist",
                found=weights,
                expected="imagenet, none, or the path of a weights file",
            )
        return weights
    local = _local_weights(file_name)
    return str(local) if local else "imagenet"


def _local_weights(name: str) -> Path | None:
    """A publisher's file or folder that is here already."""
    folder = Path(os.environ[WEIGHTS_VARIABLE]) if WEIGHTS_VARIABLE in os.environ else DEVELOPER_WEIGHTS
    return folder / name if (folder / name).exists() else None
