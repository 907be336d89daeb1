"""Networks by name, flat functional tf_keras models from normalized pixels to logits. TensorFlow.

tfmot quantizes neither nested models nor preprocessing layers, so there are none: pixels are normalized outside, and
the last layer is a Dense named `logits` without softmax.

Published weights were trained on other normalizations than the contract's (level - 128) / 128: MobileNetV2 and
Inception v3 on level / 127.5 - 1, EfficientNet-Lite on (level - 127) / 128, less than or exactly one level apart and
taken as they are; ResNet50 on quite another, which train/networks/reference.py folds into its weights.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tf_keras

from edge_runtime.errors import ConfigInvalid
from train.configs.schema import ModelConfig
from train.networks import efficientnet_lite, reference

WEIGHTS_VARIABLE = "DERMEDGE_WEIGHTS"
DEVELOPER_WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"
LOGITS_LAYER = "logits"
# Those that Keras has weights for.
MOBILENET_V2_ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
# Smallest side that leaves a pixel after Inception's convolutions without padding.
INCEPTION_SMALLEST_PX = 75
# Keras' function (Sandler et al. 2018, He et al. 2016, Szegedy et al. 2016), and the file that it downloads.
KERAS = {
    "mobilenet_v2": ("MobileNetV2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_224_no_top.h5"),
    "resnet50": ("ResNet50", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    "inception_v3": ("InceptionV3", "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"),
}


def build_model(config: ModelConfig, classes: int, size_px: int | None, *, pretrained: bool = True) -> Any:
    """Build a network of a config's backbone, width, dropout and first weights.

    Args:
        config: The [model] table.
        classes: Width of the output.
        size_px: Input side; None for any multiple of 32.
        pretrained: False leaves the weights random, whatever the config says.

    Returns:
        A tf_keras.Model: [n, size_px, size_px, 3] float32 normalized pixels -> [n, classes] logits.

    Raises:
        ConfigInvalid: Unknown backbone, or one that has no such width or weights; weights that do not exist, cannot
            be downloaded or are another network's.
    """
    if config.backbone not in BACKBONES:
        near = difflib.get_close_matches(config.backbone, BACKBONES, n=1, cutoff=0.0)
        found, expected = repr(config.backbone), f"one of {', '.join(BACKBONES)}"
        fix = f"did you mean {near[0]}?"
        raise ConfigInvalid("model.backbone is unknown", found=found, expected=expected, fix=fix)
    widths = MOBILENET_V2_ALPHAS if config.backbone == "mobilenet_v2" else (1.0,)
    if config.alpha not in widths:
        problem, expected = f"model.alpha: {config.backbone} has no such width", " or ".join(map(str, widths))
        raise ConfigInvalid(problem, found=str(config.alpha), expected=expected)
    features = BACKBONES[config.backbone](config, size_px, pretrained)
    for layer in features.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.momentum = config.batch_norm_momentum
    pooled = tf_keras.layers.GlobalAveragePooling2D(name="pooled")(features.output)
    if config.dropout > 0:
        pooled = tf_keras.layers.Dropout(config.dropout, name="dropout")(pooled)
    logits = tf_keras.layers.Dense(classes, name=LOGITS_LAYER)(pooled)
    return tf_keras.Model(features.input, logits, name=config.backbone)


def _keras(config: ModelConfig, size_px: int | None, pretrained: bool) -> Any:
    """Keras' implementation; a local copy of the publisher's file comes before a download."""
    name, file_name = KERAS[config.backbone]
    file_name = file_name.format(float(config.alpha))
    if config.backbone == "inception_v3" and size_px is not None and size_px < INCEPTION_SMALLEST_PX:
        expected = f"{INCEPTION_SMALLEST_PX} px or more"
        raise ConfigInvalid("inception_v3: input too small", found=f"{size_px} px", expected=expected)
    given = {"alpha": config.alpha} if config.backbone == "mobilenet_v2" else {}
    network = getattr(tf_keras.applications, name)
    build = partial(network, input_shape=(size_px, size_px, 3), include_top=False, **given)
    if not pretrained or config.weights == "none":
        return build(weights=None)
    local = _local_weights(file_name) if config.weights == "imagenet" else Path(config.weights)
    if local and not local.is_file():
        expected = "imagenet, none, or the path of a weights file"
        raise ConfigInvalid("model.weights does not exist", found=str(local), expected=expected)
    try:
        features = build(weights=str(local) if local else "imagenet")
    except Exception as error:  # Keras raises no narrower one, with the address in its text.
        if local:
            problem, found = f"model.weights does not fit {config.backbone}", f"{local}: {error}"
            expected = f"the publisher's {file_name}"
            fix = "fetch the file again, or choose the weights of this backbone and width"
        else:
            problem = f"model.weights: the published weights of {config.backbone} could not be downloaded"
            found, expected = str(error), f"a connection, or {file_name} in {_weights_folder()}"
            elsewhere = f"or elsewhere, and set {WEIGHTS_VARIABLE}"
            fix = f'put the file there ({elsewhere}), or train from weights = "none"'
        raise ConfigInvalid(problem, found=found, expected=expected, fix=fix) from error
    if config.backbone == "resnet50":
        reference.fold_bgr_levels(features.get_layer("conv1_conv"), features.get_layer("conv1_bn"))
    return features


def _small_cnn(config: ModelConfig, size_px: int | None, pretrained: bool) -> Any:
    if pretrained and config.weights != "none":
        problem = "model.weights: small_cnn has no published weights"
        fix = 'set weights = "none" under [model]'
        raise ConfigInvalid(problem, found=config.weights, expected="none", fix=fix)
    return reference.small_cnn(size_px)


def _efficientnet_lite(config: ModelConfig, size_px: int | None, pretrained: bool) -> Any:
    """The publisher ships a checkpoint per variant; there is nothing that could download it by name."""
    features = efficientnet_lite.build_features(config.backbone, size_px)
    if not pretrained or config.weights == "none":
        return features
    folder_name = config.backbone.replace("_", "-")
    folder = _local_weights(folder_name) if config.weights == "imagenet" else Path(config.weights)
    if folder is None:
        problem = f"model.weights: no checkpoint of {config.backbone} on this machine"
        found = f"no folder {folder_name} in {_weights_folder()}"
        expected = f"{folder_name}/model.ckpt.index, unpacked from the publisher's {folder_name}.tar.gz"
        fix = f"set {WEIGHTS_VARIABLE} to the folder that holds {folder_name}, or model.weights to it"
        raise ConfigInvalid(problem, found=found, expected=expected, fix=fix)
    efficientnet_lite.load_checkpoint(features, folder)
    return features


BACKBONES: dict[str, Callable[[ModelConfig, int | None, bool], Any]] = {
    **dict.fromkeys(KERAS, _keras),
    **dict.fromkeys(efficientnet_lite.VARIANTS, _efficientnet_lite),
    "small_cnn": _small_cnn,
}


def _local_weights(name: str) -> Path | None:
    """A publisher's file or folder that is here already."""
    path = _weights_folder() / name
    return path if path.exists() else None


def _weights_folder() -> Path:
    return Path(os.environ[WEIGHTS_VARIABLE]) if WEIGHTS_VARIABLE in os.environ else DEVELOPER_WEIGHTS
