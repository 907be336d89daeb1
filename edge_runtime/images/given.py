"""Photos that are not files: an open binary file, a Pillow image, a numpy array. Recognized without importing numpy.

A Pillow image and an array skip the decoder: EXIF orientation is not applied and a JPEG is not decoded at a smaller
scale, so that scores can differ slightly from those of the file they come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge_runtime.errors import UsageError
from edge_runtime.images.photos import MAX_PHOTO_BYTES, checked_bytes, require_size

if TYPE_CHECKING:
    from PIL import Image

EXPECTED = (
    "a path, bytes, an open binary file, a Pillow image, or a numpy array (uint8, height x width x 3, RGB)"
)


def read_given(photo: Any, name: str, notes: list[str]) -> bytes | Image.Image:
    """Return the bytes of an open file, or the RGB image of a Pillow image or an array; `name` is named in errors.

    A colour profile that could not be applied is appended to `notes`.

    Raises:
        UsageError: Another type, a file in text mode, an array of another dtype or shape.
        ImageNotFound, ImageUnreadable, ImageTooLarge: As for files.
    """
    if hasattr(photo, "getbands") and hasattr(photo, "convert"):
        return _from_pillow(photo, name, notes)
    if hasattr(photo, "dtype") and hasattr(photo, "shape"):
        return _from_array(photo, name)
    if hasattr(photo, "read"):
        return checked_bytes(lambda: _read(photo, name), name)
    raise UsageError("not a photo", where=name, found=type(photo).__name__, expected=EXPECTED)


def _read(file: Any, name: str) -> bytes:
    data = file.read(MAX_PHOTO_BYTES + 1)
    if not isinstance(data, bytes):
        found, fix = type(data).__name__, "open it with mode 'rb'"
        raise UsageError("the file is open in text mode", where=name, found=found, fix=fix)
    return data


def _from_pillow(image: Any, name: str, notes: list[str]) -> Image.Image:
    from edge_runtime.images.formats import damage_refused, to_rgb

    width_px, height_px = image.size
    require_size(width_px, height_px, name)
    with damage_refused(name):
        image.load()
        return to_rgb(image, name=name, notes=notes)


def _from_array(array: Any, name: str) -> Image.Image:
    shape = tuple(array.shape)
    if str(array.dtype) != "uint8" or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        problem = "not an RGB array"
        found, fix = f"{array.dtype} {list(shape)}", "convert it to uint8 RGB, values 0 to 255"
        raise UsageError(problem, where=name, found=found, expected="uint8 [height, width, 3]", fix=fix)
    from PIL import Image

    height_px, width_px = shape[:2]
    require_size(width_px, height_px, name)
    return Image.frombytes("RGB", (width_px, height_px), array.tobytes())
