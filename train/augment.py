"""Random changes of training photos, as one geometric and one colour step on a whole batch. TensorFlow.

Both steps are stateless: the same seed gives the same batch, eagerly and inside tf.data, so an interrupted run
repeats exactly what it would have seen. Evaluation never comes here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from train.config import AugmentConfig


def augment(pixels_u8: tf.Tensor, size_px: int, config: AugmentConfig, seed: tf.Tensor) -> tf.Tensor:
    """Geometry, then colour.

    Args:
        pixels_u8: [n, side, side, 3] uint8 squares, a little larger than size_px.
        size_px: Side of the result.
        config: Ranges.
        seed: [2] int32.

    Returns:
        [n, size_px, size_px, 3] float32 in 0..255.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2), num=2)
    pixels = warp(pixels_u8, size_px, config, seeds[0])
    return tf.clip_by_value(recolor(pixels, config, seeds[1]), 0.0, 255.0)


def warp(pixels_u8: tf.Tensor, size_px: int, config: AugmentConfig, seed: tf.Tensor) -> tf.Tensor:
    """Rotation, flip, zoom, aspect and shift in one bilinear resampling; what falls outside is mirrored.

    Args, result: As `augment`.
    """
    shape = tf.shape(pixels_u8)
    count, side = shape[0], tf.cast(shape[1], tf.float32)
    draw = _drawer(count, seed)
    angle = draw(-config.rotation_deg, config.rotation_deg) * (math.pi / 180)
    zoom = tf.exp(draw(math.log(config.zoom[0]), math.log(config.zoom[1])))
    aspect = tf.exp(draw(-config.aspect, config.aspect) / 2)
    flip = tf.where(draw(-1.0, 1.0) < 0, -1.0, 1.0) if config.flip else tf.ones([count])
    shift_x = draw(-config.shift, config.shift) * side
    shift_y = draw(-config.shift, config.shift) * side

    # Output pixel (x, y) reads input at A (x - c_out) + c_in + shift, with A = rotation . scale . flip.
    step = zoom * side / float(size_px)
    step_x, step_y = step * aspect * flip, step / aspect
    a0, a1 = tf.cos(angle) * step_x, -tf.sin(angle) * step_y
    b0, b1 = tf.sin(angle) * step_x, tf.cos(angle) * step_y
    center_out, center_in = (size_px - 1) / 2, (side - 1) / 2
    a2 = center_in + shift_x - (a0 + a1) * center_out
    b2 = center_in + shift_y - (b0 + b1) * center_out
    zero = tf.zeros([count])
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels_u8,
        transforms=tf.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1),
        output_shape=[size_px, size_px],
        interpolation="BILINEAR",
        fill_mode="REFLECT",
        fill_value=0.0,
    )
    warped = tf.cast(warped, tf.float32)
    warped.set_shape([None, size_px, size_px, 3])
    return warped


def recolor(pixels: tf.Tensor, config: AugmentConfig, seed: tf.Tensor) -> tf.Tensor:
    """Brightness, contrast, saturation and white balance, each photo by its own draw.

    Args:
        pixels: [n, h, w, 3] float32 in 0..255.
        config: Ranges.
        seed: [2] int32.

    Returns:
        [n, h, w, 3] float32, not clipped.
    """
    count = tf.shape(pixels)[0]
    draw = _drawer(count, seed)
    contrast = tf.exp(draw(-config.contrast, config.contrast))
    saturation = tf.exp(draw(-config.saturation, config.saturation))
    brightness = draw(-config.brightness, config.brightness) * 255
    balance = tf.stack([tf.exp(draw(-config.white_balance, config.white_balance)) for _ in range(3)], axis=1)
    mean = tf.reduce_mean(pixels, axis=[1, 2, 3])
    grey = tf.reduce_mean(pixels, axis=3, keepdims=True)
    saturation = saturation[:, None, None, None]
    gain = (contrast[:, None] * balance)[:, None, None, :]
    offset = (mean * (1 - contrast) + brightness)[:, None, None, None]
    return (grey + (pixels - grey) * saturation) * gain + offset


def _drawer(count: tf.Tensor, seed: tf.Tensor) -> Callable[[float, float], tf.Tensor]:
    """A function that draws [count] uniform floats, a new stream at every call."""
    calls = iter(range(1000))

    def draw(low: float, high: float) -> tf.Tensor:
        stream = tf.stack([seed[0], seed[1] + next(calls)])
        return tf.random.stateless_uniform([count], stream, low, high)

    return draw
