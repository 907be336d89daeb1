"""The random changes of train/training/augment.py on the device that trains, a whole batch at once. PyTorch.

The same steps in the same order with the same ranges, and one more difference than other random numbers: JPEG is
computed (blocks, tables, rounding) and not encoded. The same generator gives the same batch on the same device.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from train.configs.schema import AugmentConfig

# As in train/training/augment.py, which cannot be imported where there is no TensorFlow.
BLUR_SIGMA_PX = (0.3, 1.5)
CUTOUT_SIDE = (0.1, 0.4)
CUTOUT_GREY = 128.0
JPEG_QUALITY = (30, 95)
# Of ITU-T T.81, annex K.
LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99,) * 8] * 4,
)
# JFIF: Y, Cb, Cr of R, G, B.
YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)


def augment(
    pixels_u8: torch.Tensor, size_px: int, config: AugmentConfig, generator: torch.Generator
) -> torch.Tensor:
    """Geometry, blur, colour, cutout, JPEG; each only if its range or share is not 0.

    Args:
        pixels_u8: [n, 3, side, side] uint8 squares, a little larger than size_px.
        size_px: Side of the result.
        config: Ranges and shares.
        generator: Of the pixels' device.

    Returns:
        [n, 3, size_px, size_px] float32 in 0..255.
    """
    pixels = warp(pixels_u8, size_px, config, generator)
    pixels = blur(pixels, config.blur, generator)
    pixels = recolor(pixels, config, generator).clamp(0.0, 255.0)
    pixels = cutout(pixels, config.cutout, generator)
    return jpeg(pixels, config.jpeg, generator)


def warp(
    pixels_u8: torch.Tensor, size_px: int, config: AugmentConfig, generator: torch.Generator
) -> torch.Tensor:
    """Rotation, flip, zoom, aspect and shift in one bilinear resampling; what falls outside is mirrored.

    Args, result: As `augment`.
    """
    count = len(pixels_u8)

    def draw(low: float, high: float) -> torch.Tensor:
        return _uniform(count, low, high, generator)

    angle = draw(-config.rotation_deg, config.rotation_deg) * (math.pi / 180)
    zoom = torch.exp(draw(math.log(config.zoom[0]), math.log(config.zoom[1])))
    aspect = torch.exp(draw(-config.aspect, config.aspect) / 2)
    flip = torch.where(draw(-1.0, 1.0) < 0, -1.0, 1.0) if config.flip else torch.ones_like(angle)
    # Relative to the side, as grid_sample wants it twice over: its coordinates run from -1 to 1.
    shift_x, shift_y = draw(-config.shift, config.shift), draw(-config.shift, config.shift)
    if config.inscribed:
        cosine, sine = angle.cos().abs(), angle.sin().abs()
        box_x = zoom * (aspect * cosine + sine / aspect)
        box_y = zoom * (aspect * sine + cosine / aspect)
        shrink = (1 / torch.maximum(box_x, box_y)).clamp(max=1.0)
        zoom = zoom * shrink
        slack_x, slack_y = (((1 - box * shrink) / 2).clamp(min=0.0) for box in (box_x, box_y))
        shift_x = torch.minimum(torch.maximum(shift_x, -slack_x), slack_x)
        shift_y = torch.minimum(torch.maximum(shift_y, -slack_y), slack_y)
    step_x, step_y = zoom * aspect * flip, zoom / aspect
    matrix = torch.stack(
        [
            torch.stack([angle.cos() * step_x, -angle.sin() * step_y, 2 * shift_x], dim=1),
            torch.stack([angle.sin() * step_x, angle.cos() * step_y, 2 * shift_y], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(matrix, [count, 3, size_px, size_px], align_corners=False)
    return functional.grid_sample(
        pixels_u8.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def blur(pixels: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """A Gaussian, each photo by its own sigma; at an edge the weights that fall outside go to those inside."""
    if not (chosen := _chosen(pixels, share, generator)).numel():
        return pixels
    sigma = _uniform(len(chosen), *BLUR_SIGMA_PX, generator)[:, None, None]
    position = torch.arange(pixels.shape[-1], device=pixels.device, dtype=torch.float32)
    weights = torch.exp(-(((position[:, None] - position) / sigma) ** 2) / 2)
    weights = (weights / weights.sum(2, keepdim=True))[:, None]
    pixels[chosen] = weights @ pixels[chosen] @ weights.transpose(2, 3)
    return pixels


def recolor(pixels: torch.Tensor, config: AugmentConfig, generator: torch.Generator) -> torch.Tensor:
    """Brightness, contrast, saturation and white balance, each photo by its own draw; not clipped."""
    count = len(pixels)

    def draw(width: float) -> torch.Tensor:
        return _uniform(count, -width, width, generator)

    contrast = draw(config.contrast).exp()
    saturation = draw(config.saturation).exp()[:, None, None]
    brightness = draw(config.brightness) * 255
    balance = torch.stack([draw(config.white_balance).exp() for _ in range(3)], dim=1)
    offset = pixels.mean((1, 2, 3)) * (1 - contrast) + brightness
    matrix = saturation * torch.eye(3, device=pixels.device) + (1 - saturation) / 3
    matrix = matrix * (contrast[:, None] * balance)[:, :, None]
    mixed = torch.einsum("noi,nihw->nohw", matrix, pixels)
    return mixed + offset[:, None, None, None]


def cutout(pixels: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """One grey square a photo, wholly inside at any place (DeVries and Taylor 2017)."""
    if not (chosen := _chosen(pixels, share, generator)).numel():
        return pixels
    side = pixels.shape[-1]
    width = (_uniform(len(chosen), *CUTOUT_SIDE, generator) * side).round()
    position = torch.arange(side, device=pixels.device, dtype=torch.float32)

    def covered() -> torch.Tensor:
        start = (_uniform(len(chosen), 0.0, 1.0, generator) * (side - width + 1)).floor()[:, None]
        return (position >= start) & (position < start + width[:, None])

    hidden = covered()[:, :, None] & covered()[:, None, :]
    pixels[chosen] = torch.where(hidden[:, None], CUTOUT_GREY, pixels[chosen])
    return pixels


def jpeg(pixels: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """What a JPEG of its own quality leaves of each photo, colour at half the resolution; whole numbers."""
    if not (chosen := _chosen(pixels, share, generator)).numel():
        return pixels
    count, side = len(chosen), pixels.shape[-1]
    quality = _uniform(count, JPEG_QUALITY[0], JPEG_QUALITY[1] + 1, generator).floor()
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    to_ycbcr = torch.tensor(YCBCR, device=pixels.device)
    padded = functional.pad(pixels[chosen].round(), (0, -side % 16, 0, -side % 16), mode="replicate")
    planes = torch.einsum("oi,nihw->nohw", to_ycbcr, padded)
    luma = _quantized(planes[:, :1] - 128, LUMA_TABLE, scale) + 128
    chroma = _quantized(functional.avg_pool2d(planes[:, 1:], 2), CHROMA_TABLE, scale)
    chroma = functional.interpolate(chroma, scale_factor=2.0, mode="bilinear", align_corners=False)
    back = torch.linalg.inv(to_ycbcr)
    decoded = torch.einsum("oi,nihw->nohw", back, torch.cat([luma, chroma], 1))
    pixels[chosen] = decoded[:, :, :side, :side].round().clamp(0.0, 255.0)
    return pixels


def mixup(
    pixels: torch.Tensor, soft_labels: torch.Tensor, alpha: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each photo and label mixed with the one before it in the batch, the first with the last (Zhang et al. 2018).

    The weight is from Beta(alpha, alpha); of the two, the photo itself gets the larger. 0 changes nothing.
    """
    if alpha == 0:
        return pixels, soft_labels
    # Drawn on the host, whose generator follows the device's: PyTorch's gamma takes none.
    seed = int(torch.randint(2**31, (1,), generator=generator, device=pixels.device))
    drawn = np.random.default_rng(seed).beta(alpha, alpha, len(pixels))
    weight = torch.from_numpy(np.maximum(drawn, 1 - drawn).astype(np.float32)).to(pixels.device)
    mixed = torch.lerp(pixels.roll(1, 0), pixels, weight[:, None, None, None])
    return mixed, torch.lerp(soft_labels.roll(1, 0), soft_labels, weight[:, None])


def _quantized(planes: torch.Tensor, table: tuple[tuple[int, ...], ...], scale: torch.Tensor) -> torch.Tensor:
    """[n, c, h, w] planes after their 8 x 8 cosine coefficients were rounded to the steps of a quality."""
    count, channels, height, width = planes.shape
    steps = torch.tensor(table, device=planes.device, dtype=torch.float32)
    steps = ((steps * scale[:, None, None] + 50) / 100).floor().clamp(1, 255)[:, None, None, None]
    place = torch.arange(8, device=planes.device, dtype=torch.float32)
    cosine = torch.cos((2 * place + 1) * place[:, None] * (math.pi / 16)) / 2
    cosine[0] /= math.sqrt(2)
    blocks = planes.reshape(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    kept = (cosine @ blocks @ cosine.T / steps).round() * steps
    back = cosine.T @ kept @ cosine
    return back.transpose(3, 4).reshape(count, channels, height, width)


def _chosen(pixels: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Places of a share of the batch at random. Their number is fixed: a drawn one would make the host wait."""
    count = min(len(pixels), round(share * len(pixels)))
    return torch.randperm(len(pixels), generator=generator, device=pixels.device)[:count]


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(count, generator=generator, device=generator.device) * (high - low) + low
