"""Random changes of training photos, a whole batch at once, on the CPU. TensorFlow.

The order is a camera's: `warp` (where it stands), `blur` (focus, a moving hand), `recolor` (light and sensor), `cutout`
(something before the lens), `jpeg` (the file). `mixup` is apart, as it needs labels. Every step is stateless: the same
seed gives the same batch, eagerly and inside tf.data, so an interrupted run repeats exactly what it would have seen.

Each step takes pixels [n, side, side, 3] float32 in 0..255, the share of photos to change, and a seed [2] int32, and
returns pixels of the same shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from train.configs.schema import AugmentConfig

BLUR_SIGMA_PX = (0.3, 1.5)
CUTOUT_SIDE = (0.1, 0.4)
"""Relative to the photo's side."""
CUTOUT_GREY = 128.0
JPEG_QUALITY = (30, 95)


def augment(pixels_u8: tf.Tensor, size_px: int, config: AugmentConfig, seed: tf.Tensor) -> tf.Tensor:
    """Geometry, blur, colour, cutout, JPEG; each only if its range or share is not 0.

    Args:
        pixels_u8: [n, side, side, 3] uint8 squares, a little larger than size_px.
        size_px: Side of the result, float32 in 0..255.
        config: Ranges and shares.
        seed: [2] int32.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 5), num=5)
    pixels = warp(pixels_u8, size_px, config, seeds[0])
    pixels = blur(pixels, config.blur, seeds[2])
    pixels = tf.clip_by_value(recolor(pixels, config, seeds[1]), 0.0, 255.0)
    pixels = cutout(pixels, config.cutout, seeds[3])
    return jpeg(pixels, config.jpeg, seeds[4])


def warp(pixels_u8: tf.Tensor, size_px: int, config: AugmentConfig, seed: tf.Tensor) -> tf.Tensor:
    """Rotation, flip, zoom, aspect and shift in one bilinear resampling.

    What falls outside the square is mirrored. With `inscribed` nothing does: see `_inscribed`.

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
    if config.inscribed:
        zoom, slack_x, slack_y = _inscribed(angle, zoom, aspect)
        shift_x = tf.clip_by_value(shift_x, -slack_x * side, slack_x * side)
        shift_y = tf.clip_by_value(shift_y, -slack_y * side, slack_y * side)

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
    return tf.ensure_shape(tf.cast(warped, tf.float32), [None, size_px, size_px, 3])


def _inscribed(
    angle: tf.Tensor, zoom: tf.Tensor, aspect: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Shrink w x h views (zoom is the root of w h, aspect of w / h) as little as keeps them inside the unit square.

    A view turned by a touches an upright box of w |cos a| + h |sin a| by w |sin a| + h |cos a|. Scaled until the longer
    side of the box is 1, it is the largest view of its proportions. For w = h that is 1 / (|cos a| + |sin a|), also the
    largest of any proportions in a square (the formula for all rectangles: stackoverflow.com/a/16778797).

    Returns:
        zoom [n], at most as given; the shifts that remain possible along x and y, [n] each.
    """
    cosine, sine = tf.abs(tf.cos(angle)), tf.abs(tf.sin(angle))
    box_x = zoom * (aspect * cosine + sine / aspect)
    box_y = zoom * (aspect * sine + cosine / aspect)
    shrink = tf.minimum(1.0, 1 / tf.maximum(box_x, box_y))
    slack_x, slack_y = (tf.maximum(0.0, (1 - box * shrink) / 2) for box in (box_x, box_y))
    return zoom * shrink, slack_x, slack_y


def blur(pixels: tf.Tensor, share: float, seed: tf.Tensor) -> tf.Tensor:
    """A Gaussian, each photo by its own sigma in BLUR_SIGMA_PX, uniform; pixels of the result, not of the camera.

    At an edge the weights that fall outside go to those inside, so a flat photo stays as it is.
    """
    side = pixels.shape[1]

    def change(chosen: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        count = tf.shape(chosen)[0]
        sigma = _drawer(count, seed)(*BLUR_SIGMA_PX)[:, None, None]
        position = tf.range(side, dtype=tf.float32)
        weights = tf.exp(-tf.square((position[:, None] - position) / sigma) / 2)
        weights /= tf.reduce_sum(weights, axis=2, keepdims=True)
        # A banded matrix along each axis: in TensorFlow a third of the time of shifted sums with a sigma per photo.
        for _ in range(2):
            columns = tf.matmul(weights, tf.reshape(chosen, [count, side, side * 3]))
            chosen = tf.transpose(tf.reshape(columns, [count, side, side, 3]), [0, 2, 1, 3])
        return chosen

    return _on_share(pixels, share, seed, change)


def recolor(pixels: tf.Tensor, config: AugmentConfig, seed: tf.Tensor) -> tf.Tensor:
    """Brightness, contrast, saturation and white balance, each photo by its own draw; the result is not clipped."""
    shape = tf.shape(pixels)
    draw = _drawer(shape[0], seed)
    contrast = tf.exp(draw(-config.contrast, config.contrast))
    saturation = tf.exp(draw(-config.saturation, config.saturation))[:, None, None]
    brightness = draw(-config.brightness, config.brightness) * 255
    balance = tf.stack([tf.exp(draw(-config.white_balance, config.white_balance)) for _ in range(3)], axis=1)
    mean = tf.reduce_mean(pixels, axis=[1, 2, 3])
    offset = mean * (1 - contrast) + brightness
    # out_c = gain_c (saturation p_c + (1 - saturation) grey) + offset is one matrix a photo: step by step, over a last
    # axis of 3, it takes six times as long.
    gain = (contrast[:, None] * balance)[:, None, :]
    matrix = gain * (saturation * tf.eye(3) + (1 - saturation) / 3)
    flat = tf.reshape(pixels, [shape[0], shape[1] * shape[2], 3])
    recolored = tf.reshape(tf.matmul(flat, matrix), shape) + offset[:, None, None, None]
    return tf.ensure_shape(recolored, pixels.shape)


def cutout(pixels: tf.Tensor, share: float, seed: tf.Tensor) -> tf.Tensor:
    """One grey square a photo, its side uniform in CUTOUT_SIDE, wholly inside (DeVries and Taylor 2017)."""
    side = pixels.shape[1]

    def change(chosen: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        draw = _drawer(tf.shape(chosen)[0], seed)
        width = tf.round(draw(*CUTOUT_SIDE) * side)[:, None]
        position = tf.range(side, dtype=tf.float32)
        starts = [tf.floor(draw(0.0, 1.0)[:, None] * (side - width + 1)) for _ in range(2)]
        rows, columns = ((position >= start) & (position < start + width) for start in starts)
        return tf.where((rows[:, :, None] & columns[:, None, :])[..., None], CUTOUT_GREY, chosen)

    return _on_share(pixels, share, seed, change)


def jpeg(pixels: tf.Tensor, share: float, seed: tf.Tensor) -> tf.Tensor:
    """Encoded as JPEG and decoded, each photo at its own quality in JPEG_QUALITY, colour at half the resolution.

    A camera encodes before the photo is shrunk, and shrinking removes most of what that does. Here blocks of 8 pixels
    are blocks of the network's input: more than a camera's file ever shows, about what is left of a photo that was
    made small and encoded again on its way (messengers, screenshots). Encoded photos hold whole numbers.
    """
    side = pixels.shape[1]

    def encode(photo: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        encoded = tf.raw_ops.EncodeJpegVariableQuality(images=photo[0], quality=photo[1])
        # The accurate transform is what other decoders use; TensorFlow's default is off by one grey level on average.
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    def change(chosen: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        low, high = JPEG_QUALITY
        quality = tf.random.stateless_uniform([tf.shape(chosen)[0]], seed, low, high + 1, tf.int32)
        whole = tf.cast(tf.round(chosen), tf.uint8)
        decoded = tf.TensorSpec([side, side, 3], tf.uint8)
        return tf.cast(tf.map_fn(encode, (whole, quality), fn_output_signature=decoded), tf.float32)

    return _on_share(pixels, share, seed, change)


def mixup(
    pixels: tf.Tensor, soft_labels: tf.Tensor, alpha: float, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Each photo and label mixed with the one before it in the batch, the first with the last (Zhang et al. 2018).

    The weight is from Beta(alpha, alpha), one a photo; of the two, the photo itself gets the larger. An alpha of 0
    changes nothing; 1 draws weights uniformly; larger mixes more evenly. Soft labels are [n, classes] float32.
    """
    if alpha == 0:
        return pixels, soft_labels
    count = tf.shape(pixels)[0]
    # A ratio of gamma draws, as logarithms: at a small alpha the draws themselves are too small for float32.
    # Gamma(alpha) is Gamma(alpha + 1) times uniform ** (1 / alpha) (Marsaglia and Tsang 2000).
    seeds = tf.random.experimental.stateless_split(seed, 2)
    gamma = tf.random.stateless_gamma([count, 2], seeds[0], alpha + 1.0)
    uniform = tf.random.stateless_uniform([count, 2], seeds[1])
    logs = tf.math.log(gamma) + tf.math.log1p(-uniform) / alpha
    weight = tf.sigmoid(tf.abs(logs[:, 0] - logs[:, 1]))
    mixing = tf.linalg.diag(weight) + tf.roll(tf.linalg.diag(1 - weight), -1, axis=1)
    mixed = tf.reshape(tf.matmul(mixing, tf.reshape(pixels, [count, -1])), tf.shape(pixels))
    return tf.ensure_shape(mixed, pixels.shape), tf.matmul(mixing, soft_labels)


def _on_share(
    pixels: tf.Tensor, share: float, seed: tf.Tensor, change: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """`change(chosen photos, seed)` on each photo with probability share; the others stay, and cost only a copy."""
    if share == 0:
        return pixels
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2), num=2)
    chosen = tf.where(tf.random.stateless_uniform([tf.shape(pixels)[0]], seeds[0]) < share)
    return tf.tensor_scatter_nd_update(pixels, chosen, change(tf.gather_nd(pixels, chosen), seeds[1]))


def _drawer(count: tf.Tensor, seed: tf.Tensor) -> Callable[[float, float], tf.Tensor]:
    """A function that draws [count] uniform floats, a new stream at every call."""
    calls = iter(range(1000))

    def draw(low: float, high: float) -> tf.Tensor:
        stream = tf.stack([seed[0], seed[1] + next(calls)])
        return tf.random.stateless_uniform([count], stream, low, high)

    return draw
