"""Photo bytes to input bytes: the one preprocessing of training's evaluation, calibration and run time. Pillow, no numpy.

    photo bytes -> decode_rgb -> crop -> resize -> pixels_u8 -> input_bytes -> the input tensor

Every step does what the contract says and nothing else; `fit_pixels` is the whole way to pixels. The same steps have
the same names in the parity trace and in Java.
"""

from __future__ import annotations

import io
import struct
import warnings
from functools import lru_cache

from PIL import Image, ImageOps, UnidentifiedImageError

from edge_runtime.contract import Geometry, InputSpec, ModelContract, Normalization
from edge_runtime.errors import ImageTooLarge, ImageUnreadable, ModelMismatch

# Content decides the format, never the file's name. HEIC and others are refused with this list in the message.
ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
# 12,000 x 10,000: beyond any phone, and 360 MB decoded. Pillow itself only warns between one and two times its limit.
MAX_PIXELS = 120_000_000


def decode_rgb(photo: bytes, contract: ModelContract, *, name: str = "photo") -> Image.Image:
    """Decodes a photo to upright 8-bit RGB.

    Args:
        photo: The bytes of a JPEG, PNG, WebP, BMP or TIFF file.
        contract: Its input and geometry say how alpha, EXIF and decode scaling are treated.
        name: Named in errors.

    Returns:
        An image of mode RGB; of an animated or multi-page file, the first frame.

    Raises:
        ImageUnreadable: Not an accepted format, or damaged or truncated.
        ImageTooLarge: More than MAX_PIXELS pixels.
    """
    try:
        # Pillow's own bomb check must not fire first: ours gives the clear error, for any size above ours.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(photo), formats=ACCEPTED_FORMATS)
            width_px, height_px = image.size
            if width_px * height_px > MAX_PIXELS:
                raise _too_large(name, f"{width_px} x {height_px} pixels")
            if contract.geometry.decode_scaling == "jpeg_dct":
                _scale_jpeg_decoding(image, contract)
            image.load()
            image = ImageOps.exif_transpose(image)
            return _to_rgb(image)
    except Image.DecompressionBombError as error:
        raise _too_large(name, str(error)) from error
    except UnidentifiedImageError as error:
        raise ImageUnreadable(
            f"{name}: not an image of an accepted format",
            found=f"{len(photo)} bytes that begin with {photo[:8]!r}",
            expected=", ".join(ACCEPTED_FORMATS),
            fix="convert the photo to JPEG or PNG",
        ) from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        struct.error,
        EOFError,
        MemoryError,
        IndexError,
        KeyError,
    ) as error:
        # Pillow's decoders raise any of these on damaged files.
        raise ImageUnreadable(
            f"{name}: the image is damaged or incomplete",
            found=str(error) or type(error).__name__,
            expected="a complete image file",
            fix="copy or export the photo again",
        ) from error


def _too_large(name: str, found: str) -> ImageTooLarge:
    return ImageTooLarge(
        f"{name}: the image has too many pixels",
        found=found,
        expected=f"at most {MAX_PIXELS:,} pixels",
        fix="crop or shrink the photo first",
    )


def _scale_jpeg_decoding(image: Image.Image, contract: ModelContract) -> None:
    """Asks libjpeg for a smaller decode (scale 1/2, 1/4, 1/8) where the contract leaves pixels to spare."""
    geometry = contract.geometry
    needed_px = max(contract.input.height_px, contract.input.width_px) * geometry.decode_oversampling
    needed_px = -int(-needed_px // geometry.crop_fraction)
    # draft() takes the largest scale that keeps both sides at least as large; other formats ignore it.
    image.draft(None, (needed_px, needed_px))


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB from any mode; alpha is blended over white; 16-bit and wider samples keep their high byte."""
    if image.mode.startswith("I;16") or image.mode == "I":
        # convert("L") would clip 16-bit samples to 255, not scale them.
        image = image.convert("I").point(lambda sample: sample * (1 / 256)).convert("L")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        flat = Image.new("RGB", image.size, (255, 255, 255))
        flat.paste(image, mask=image.getchannel("A"))
        return flat
    return image if image.mode == "RGB" else image.convert("RGB")


def crop_box(width_px: int, height_px: int, geometry: Geometry) -> tuple[int, int, int, int]:
    """The region that is kept, as (left, top, right, bottom) in pixels of the upright photo.

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


def crop(image: Image.Image, geometry: Geometry) -> Image.Image:
    """Cuts the contract's region out of an upright RGB photo."""
    box = crop_box(image.width, image.height, geometry)
    return image if box == (0, 0, image.width, image.height) else image.crop(box)


def resize(image: Image.Image, input_spec: InputSpec) -> Image.Image:
    """Resizes to the input's size with Pillow's antialiased fixed-point BILINEAR."""
    size_px = (input_spec.width_px, input_spec.height_px)
    return image if image.size == size_px else image.resize(size_px, Image.Resampling.BILINEAR)


def fit_pixels(photo: bytes, contract: ModelContract, *, name: str = "photo") -> bytes:
    """The whole way from photo bytes to pixels.

    Returns:
        pixels_u8: height_px * width_px * 3 bytes, rows first, RGB interleaved, values 0 to 255.

    Raises:
        ImageUnreadable, ImageTooLarge: As `decode_rgb`.
    """
    upright = decode_rgb(photo, contract, name=name)
    return resize(crop(upright, contract.geometry), contract.input).tobytes()


def input_bytes(
    pixels_u8: bytes, normalization: Normalization, dtype: str, scale: float = 0.0, zero_point: int = 0
) -> bytes:
    """Turns pixels into the bytes of the input tensor.

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
        return b"".join(map(_float32_table(normalization).__getitem__, pixels_u8))
    if dtype not in ("uint8", "int8") or scale <= 0:
        raise ModelMismatch(
            "the model's input tensor cannot be filled",
            found=f"{dtype} with scale {scale}",
            expected="uint8 or int8 with a positive scale, or float32",
            fix="convert the model again",
        )
    table = _quantized_table(normalization, dtype, scale, zero_point)
    return pixels_u8 if table is None else pixels_u8.translate(table)


@lru_cache(maxsize=8)
def _float32_table(normalization: Normalization) -> tuple[bytes, ...]:
    return tuple(struct.pack("<f", (p - normalization.mean) / normalization.std) for p in range(256))


@lru_cache(maxsize=8)
def _quantized_table(normalization: Normalization, dtype: str, scale: float, zero_point: int) -> bytes | None:
    """For each pixel value its quantized byte; None when each maps to itself, as our own exports do."""
    low, high = (0, 255) if dtype == "uint8" else (-128, 127)
    table = bytearray()
    for pixel in range(256):
        real = (pixel - normalization.mean) / normalization.std
        quantized = _nearest(real / scale) + zero_point
        table.append(min(high, max(low, quantized)) & 0xFF)
    return None if table == bytearray(range(256)) else bytes(table)


def _nearest(value: float) -> int:
    """Nearest integer, halves away from zero, as TFLite's TfLiteRound."""
    return int(value + 0.5) if value >= 0 else -int(-value + 0.5)
