"""Disturbances of a photo: zoom, rotation, light, blur, compression. numpy, Pillow.

A disturbance is a deterministic function of a decoded, upright RGB photo and of a strength. It returns an RGB photo,
which then goes through the contract's crop and resize as every photo does. Strength 0 returns the photo itself.

    zoom           magnified about the centre by 1 + strength: the border is cut off
    rotation       degrees counterclockwise about the centre; the photo is mirrored at its border to fill the corners
    brightness     exposure in stops (EV): linear light times 2 to the strength, then clipped; negative is darker
    white_balance  stops between red and blue in linear light: red up by half the strength, blue down; negative is bluer
    blur           standard deviation of a Gaussian, in thousandths of the photo's shorter side
    jpeg           100 minus the quality of a JPEG (4:2:0) to which the photo is written and from which it is read

Exposure and white balance act on linear light as in a camera: on gamma-coded values a stop would be another factor for
dark skin than for light skin. Corners are mirrored, not black: no photo has black corners.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from convert.comparison import workers
from convert.comparison.workers import Step

# sRGB's transfer curve, IEC 61966-2-1.
_LINEAR_BELOW = 0.04045


@dataclass(frozen=True)
class Disturbance:
    """A way of changing a photo, and its strengths."""

    unit: str
    """Of the strengths."""
    strengths: tuple[float, ...]
    """In ascending order; 0, the undisturbed photo, is among them."""
    apply: Callable[[Image.Image, float], Image.Image]
    """Called with an RGB photo and a strength other than 0."""

    def __call__(self, photo: Image.Image, strength: float) -> Image.Image:
        """Return the disturbed photo, RGB; the photo itself at strength 0."""
        return photo if strength == 0 else self.apply(photo, strength)


def zoom(photo: Image.Image, strength: float) -> Image.Image:
    """Magnify the photo's centre by 1 + strength, at least 1, to the size of the photo."""
    width_px, height_px = photo.size
    kept_x, kept_y = width_px / (1 + strength), height_px / (1 + strength)
    left, top = (width_px - kept_x) / 2, (height_px - kept_y) / 2
    box = (left, top, left + kept_x, top + kept_y)
    return photo.resize(photo.size, Image.Resampling.BICUBIC, box=box)


def rotate(photo: Image.Image, strength: float) -> Image.Image:
    """Rotate the photo about its centre by so many degrees, at the same size."""
    width_px, height_px = photo.size
    reach = math.ceil(math.hypot(width_px, height_px) / 2)
    margins = [(max(0, reach - side // 2) + 1,) * 2 for side in (height_px, width_px)]
    pixels_u8 = np.pad(np.asarray(photo), [*margins, (0, 0)], mode="symmetric")
    turned = Image.fromarray(pixels_u8).rotate(strength, Image.Resampling.BICUBIC)
    (top, _), (left, _) = margins
    return turned.crop((left, top, left + width_px, top + height_px))


def expose(photo: Image.Image, strength: float) -> Image.Image:
    """Brighten the photo by so many stops."""
    return photo.point(_curve(2**strength) * 3)


def warm(photo: Image.Image, strength: float) -> Image.Image:
    """Make the light redder, or bluer below 0, by so many stops."""
    return photo.point([*_curve(2 ** (strength / 2)), *range(256), *_curve(2 ** (-strength / 2))])


def blur(photo: Image.Image, strength: float) -> Image.Image:
    """Blur the photo by so many thousandths of its shorter side."""
    return photo.filter(ImageFilter.GaussianBlur(strength / 1000 * min(photo.size)))


def compress(photo: Image.Image, strength: float) -> Image.Image:
    """Write the photo as a JPEG of quality 100 minus the strength, and read it."""
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=round(100 - strength), subsampling="4:2:0")
    with Image.open(file, formats=["JPEG"]) as image:
        return image.convert("RGB")


@lru_cache(maxsize=64)
def _curve(factor: float) -> list[int]:
    """Return, for each of 256 values, the value of `factor` times its light."""
    share = np.arange(256) / 255
    light = np.where(share <= _LINEAR_BELOW, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    light = np.minimum(1, factor * light)
    share = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return [round(value) for value in (255 * share).tolist()]


DISTURBANCES: Mapping[str, Disturbance] = {
    "zoom": Disturbance("magnification less 1", (0, 0.1, 0.25, 0.5, 1), zoom),
    "rotation": Disturbance("degrees", (0, 10, 30, 90, 180), rotate),
    "brightness": Disturbance("stops of light (EV)", (-1, -0.5, 0, 0.5, 1), expose),
    "white_balance": Disturbance("stops between red and blue", (-0.6, -0.3, 0, 0.3, 0.6), warm),
    "blur": Disturbance("Gaussian, thousandths of the shorter side", (0, 2, 5, 10, 20), blur),
    "jpeg": Disturbance("100 less JPEG quality", (0, 10, 40, 70, 90), compress),
}
"""By name, in the order of tables and pages."""


def steps() -> list[Step]:
    """List every (name, strength) that changes a photo, in the order of DISTURBANCES."""
    return [(name, s) for name, one in DISTURBANCES.items() for s in one.strengths if s != 0]


def disturb(photo: Image.Image, step: Step) -> Image.Image:
    """Return the photo disturbed by a step."""
    name, strength = step
    return DISTURBANCES[name](photo, strength)


if __name__ == "__main__":
    # What the processes of the robustness study run.
    sys.exit(workers.main(disturb))
