"""`python -m tests.train.plain_network MODULE ...`: a training command, but every backbone is a small plain network.

Without batch norm and dropout, training does not depend on how a batch is divided, nor on where training was
interrupted; differences that remain are of the order of additions. The variable LOGICAL_DEVICES divides the CPU into so
many devices.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras import layers

import train.networks.registry
from train.configs.schema import ModelConfig


def build_model(config: ModelConfig, classes: int, size_px: int | None, *, pretrained: bool = True) -> Any:
    """As train.networks.registry.build_model."""
    pixels = x = layers.Input((size_px, size_px, 3))
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, strides=2, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(pixels, layers.Dense(classes, name="logits")(x))


if __name__ == "__main__":
    if devices := int(os.environ.get("LOGICAL_DEVICES", 0)):
        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(devices)]
        tf.config.set_logical_device_configuration(cpu, parts)
    train.networks.registry.build_model = build_model
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
