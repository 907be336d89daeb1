"""Photo bytes to input bytes: the one preprocessing of evaluation, quantizer calibration and runtime. Pillow only.

    photo bytes -> decode_rgb -> crop -> resize -> pixels_u8 -> input_bytes -> the input tensor

Every step follows the contract; `fit_pixels` is all steps to pixels. The same steps have the same names in the parity
trace and in Java. `formats` documents how each kind of picture is decoded.

An ordinary JPEG needs Pillow's C core alone (`_startup`): the module `PIL.Image` is not imported here.
"""

from __future__ import annotations

import os

from edge_runtime._startup import fast_jpeg as jpeg
from edge_runtime._startup.core_image import BILINEAR, CoreImage, encode_raw
from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.errors import ModelMismatch
from edge_runtime.images.memory import Reservation as Reservation
from edge_runtime.images.photos import ACCEPTED_FORMATS as ACCEPTED_FORMATS
from edge_runtime.images.photos import MAX_PIXELS as MAX_PIXELS
from edge_runtime.images.photos import PHOTO_SUFFIXES as PHOTO_SUFFIXES
from edge_runtime.images.photos import by_kind as by_kind
from edge_runtime.images.photos import read_photo

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from PIL import Image

    from edge_runtime.contract import Geometry, InputSpec, ModelContract, Normalization

    Picture = Image.Image | CoreImage

MAX_TABLES = 8
_tables: dict[tuple[Any, ...], tuple[Any]] = {}


def decode_rgb(
    photo: bytes, contract: ModelContract, *, name: str = "photo", notes: list[str] | None = None
) -> Image.Image:
    """Decode a photo to upright 8-bit sRGB.

    Args:
        photo: The bytes of a JPEG, PNG, WebP, BMP or TIFF file.
        contract: Its input and geometry say how alpha, EXIF and decode scaling are treated.
        name: Named in errors.
        notes: Remarks on the file are appended here: further frames that were left out, a colour profile that could
            not be applied.

    Returns:
        An image of mode RGB.

    Raises:
        ImageUnreadable: Not an accepted format, or damaged or truncated.
        ImageTooLarge: More than MAX_PIXELS pixels, or another limit of `images.memory`.
    """
    return as_pillow(decode(photo, contract, name=name, notes=notes))


def as_pillow(picture: Picture) -> Image.Image:
    """Return the picture as an image of Pillow."""
    return picture.to_pillow() if isinstance(picture, CoreImage) else picture


def decode(
    photo: bytes, contract: ModelContract, *, name: str = "photo", notes: list[str] | None = None
) -> Picture:
    """Decode as `decode_rgb`; an ordinary JPEG to the form that `crop`, `resize` and `pixel_bytes` need."""
    scaled = contract.geometry.decode_scaling == "jpeg_dct"
    needed_px = _needed_px(contract) if scaled else None
    ordinary = jpeg.decode_ordinary(photo, needed_px, name)
    if ordinary is not None:
        return ordinary
    from edge_runtime.images.formats import decode_any

    return decode_any(photo, needed_px, name=name, notes=[] if notes is None else notes)


def _needed_px(contract: ModelContract) -> int:
    """Return the least side of a decoded JPEG, so that libjpeg may decode it at a smaller scale."""
    needed_px = max(contract.input.height_px, contract.input.width_px) * contract.geometry.decode_oversampling
    return -int(-needed_px // contract.geometry.crop_fraction)


def crop_box(width_px: int, height_px: int, geometry: Geometry) -> tuple[int, int, int, int]:
    """Return the region that is kept, as (left, top, right, bottom) in pixels of the upright photo.

    Sides are round-half-up of crop_fraction times the side, at least 1; the left and top margins round down.
    """
    if geometry.crop == "center_square":
        crop_width_px = crop_height_px = _round_half_up(min(width_px, height_px) * geometry.crop_fraction)
    else:
        crop_width_px = _round_half_up(width_px * geometry.crop_fraction)
        crop_height_px = _round_half_up(height_px * geometry.crop_fraction)
    left = (width_px - crop_width_px) // 2
    top = (height_px - crop_height_px) // 2
    return left, top, left + crop_width_px, top + crop_height_px


def _round_half_up(side_px: float) -> int:
    return max(1, int(side_px + 0.5))


def crop(image: Picture, geometry: Geometry) -> Picture:
    """Cut the contract's region out of an upright RGB photo."""
    left, top, right, bottom = box = crop_box(image.width, image.height, geometry)
    if box == (0, 0, image.width, image.height):
        return image
    if isinstance(image, CoreImage):
        return image.crop(box)
    from PIL import Image

    if (right - left) * (bottom - top) <= (Image.MAX_IMAGE_PIXELS or MAX_PIXELS):
        return image.crop(box)
    # Image.crop refuses a region above Pillow's limit; the photo is decoded already, within our own limit.
    return image.transform(
        (right - left, bottom - top), Image.Transform.EXTENT, box, Image.Resampling.NEAREST
    )


def resize(image: Picture, input_spec: InputSpec) -> Picture:
    """Resize to the input's size with Pillow's antialiased fixed-point BILINEAR."""
    size_px = (input_spec.width_px, input_spec.height_px)
    return image if image.size == size_px else image.resize(size_px, BILINEAR)


def pixel_bytes(image: Picture) -> bytes:
    """Return `image.tobytes()` of an RGB image, without its imports.

    It takes one constant, the size of a block, from Pillow's ImageFile, which imports `logging`: 6 ms of an
    `edge-classify` on one photo. Where a Pillow's encoder differs, `tobytes` is called.
    """
    pixels_u8 = encode_raw(image.im, image.size)
    return as_pillow(image).tobytes() if pixels_u8 is None else pixels_u8


def fit_pixels(photo: bytes, contract: ModelContract, *, name: str = "photo") -> bytes:
    """Decode, crop and resize a photo.

    Returns:
        pixels_u8: height_px * width_px * 3 bytes, rows first, RGB interleaved, values 0 to 255.

    Raises:
        ImageUnreadable, ImageTooLarge: As `decode_rgb`.
    """
    with Reservation(name):
        upright = decode(photo, contract, name=name)
        return pixel_bytes(resize(crop(upright, contract.geometry), contract.input))


def fit_file(path: str | os.PathLike[str], contract: ModelContract) -> bytes:
    """Return `fit_pixels` of a file; errors as that and as `photos.read_photo`."""
    return fit_pixels(read_photo(path), contract, name=os.fspath(path))


def decode_grey(path: str | os.PathLike[str], needed_px: int) -> Image.Image:
    """Decode a photo of which the grey matters, not turned; a JPEG's alone, at the scale of `decode_any`.

    Raises:
        ImageError: As `photos.read_photo` and `decode_rgb`; what Pillow raises on damaged files is not translated.
    """
    from edge_runtime.images.formats import load, open_bounded

    photo = read_photo(path)
    image: Image.Image = load(open_bounded(photo, os.fspath(path), needed_px, "L"), photo)
    return image


def input_bytes(
    pixels_u8: bytes, normalization: Normalization, dtype: str, scale: float = 0.0, zero_point: int = 0
) -> bytes:
    """Return the bytes of the input tensor.

    Args:
        pixels_u8: RGB bytes.
        normalization: The contract's.
        dtype: `uint8`, `int8` or `float32`, the input tensor's.
        scale: The input tensor's quantization scale; unused for float32.
        zero_point: The input tensor's zero point; unused for float32.

    Returns:
        len(pixels_u8) bytes, or four times as many (little-endian) for float32.

    Raises:
        ModelMismatch: Any other dtype, or a quantized input without a positive scale.
    """
    if dtype == "float32":
        from PIL import Image

        row = Image.frombuffer("L", (len(pixels_u8), 1), pixels_u8, "raw", "L", 0, 1)
        # Little-endian on every machine, as the engine's bytes are on all that LiteRT knows.
        return row.point(_remembered(_float32_table, normalization), "F").tobytes("raw", "F;32F")
    if dtype not in ("uint8", "int8") or scale <= 0:
        problem = "the model's input tensor cannot be filled"
        found, expected = f"{dtype} with scale {scale}", "uint8 or int8 with a positive scale, or float32"
        raise ModelMismatch(problem, found=found, expected=expected, fix="convert the model again")
    quantized = _remembered(_quantized_table, normalization, dtype, scale, zero_point)
    return pixels_u8 if quantized is None else pixels_u8.translate(quantized)


def _remembered(make: Callable[..., Any], *key: Any) -> Any:
    """Cache as `functools.lru_cache`, whose import costs more than a table; at most MAX_TABLES are kept."""
    # In a tuple, because None is a table too.
    table = _tables.get((make, *key))
    if table is None:
        if len(_tables) >= MAX_TABLES:
            _tables.clear()
        table = _tables[(make, *key)] = (make(*key),)
    return table[0]


def _float32_table(normalization: Normalization) -> list[float]:
    """Return the input value of each pixel value, which Pillow looks up in a tenth of the time of Python."""
    return [(p - normalization.mean) / normalization.std for p in range(256)]


def _quantized_table(normalization: Normalization, dtype: str, scale: float, zero_point: int) -> bytes | None:
    """Return the quantized byte of each pixel value; None when each maps to itself, as in our own exports."""
    low, high = (0, 255) if dtype == "uint8" else (-128, 127)
    table = bytearray()
    for pixel in range(256):
        real = (pixel - normalization.mean) / normalization.std
        quantized = _nearest(real / scale) + zero_point
        table.append(min(high, max(low, quantized)) & 0xFF)
    return None if table == bytearray(range(256)) else bytes(table)


def _nearest(value: float) -> int:
    """Round to the nearest integer, halves away from zero, as TFLite's TfLiteRound."""
    return int(value + 0.5) if value >= 0 else -int(-value + 0.5)
