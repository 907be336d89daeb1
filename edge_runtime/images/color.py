"""Colour profiles to sRGB, the models' colour space. Pillow, and LittleCMS inside it.

Photos without a profile are sRGB by convention and pass untouched; so do those whose profile moves no colour of a
grid by more than SRGB_STEPS: the many encodings of sRGB itself, whose pixels must stay what a phone reads. Others
(Display P3, Adobe RGB, grey gammas, inks) are converted, relative colorimetric with black point compensation, as
browsers do.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

from PIL import Image

# Rounding of the many sRGB profiles (curves of 2 to 4096 points, primaries of 4 decimals) moves at most this.
SRGB_STEPS = 2
# The largest printing profiles have some 3 MiB; a profile goes to native code.
MAX_PROFILE_BYTES = 4 * 1024 * 1024
_GRID = (0, 36, 73, 109, 146, 182, 219, 255)
# The colour space that an ICC profile states at byte 16, by mode of the pixels.
_SPACES = {"RGB": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}


def to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, str]:
    """Convert pixels of mode RGB, L or CMYK to sRGB, by an ICC profile as it stood in the file.

    Returns:
        An RGB image, or `image` itself where nothing was to be done; and a note where the profile could not be applied.
    """
    if len(profile) > MAX_PROFILE_BYTES or profile[16:20] != _SPACES.get(image.mode):
        return image, "its colour profile does not fit its pixels and was not applied"
    try:
        transform = _transform(profile, image.mode)
    except ImportError:
        return image, "its colour profile was not applied: this Pillow comes without LittleCMS"
    except (OSError, ValueError, TypeError):
        # ImageCms.PyCMSError is an Exception of its own kind; _transform makes it a ValueError.
        return image, "its colour profile is damaged and was not applied"
    return (image if transform is None else transform.apply(image)), ""


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> Any:
    """Return the conversion to sRGB; None if the profile is sRGB. Cached: photos of one camera share a profile."""
    from PIL import ImageCms

    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except ImageCms.PyCMSError as error:
        raise ValueError(str(error)) from error
    if mode == "CMYK":
        return transform
    grid = _sample(mode)
    moved = transform.apply(grid).tobytes()
    unmoved = grid.convert("RGB").tobytes()
    return None if max(abs(a - b) for a, b in zip(moved, unmoved, strict=True)) <= SRGB_STEPS else transform


def _sample(mode: str) -> Image.Image:
    """Return a grid of colours, or every grey."""
    if mode == "L":
        return Image.frombytes("L", (256, 1), bytes(range(256)))
    colors = bytes(value for r in _GRID for g in _GRID for b in _GRID for value in (r, g, b))
    return Image.frombytes("RGB", (len(colors) // 3, 1), colors)
