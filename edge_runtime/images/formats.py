"""From a photo's bytes to an upright sRGB image: every format, by Pillow. `_startup.fast_jpeg` is a faster path.

How each kind of picture is decoded:
    JPEG        8-bit grey, YCbCr or CMYK (Adobe's inverted CMYK turned back), decoded at the contract's DCT scale
    PNG         any; 1, 2 and 4 bits widened, 16 bits cut to their high byte, the default image of an animated one
    WebP, TIFF  the first frame or page; TIFF of 8 or 16 unsigned bits a sample
    BMP         any
    alpha       blended over white: alpha channels, palettes with transparency, PNG's transparent colour
    EXIF        orientation 1 to 8 is applied; a missing, damaged or other value counts as 1. XMP is not looked at
    profiles    an ICC profile that is not sRGB's is converted to sRGB (`color.py`); one that is damaged is noted
    HEIC        its first picture, where pillow-heif is installed
Refused: every other format (GIF, AVIF, ...), whatever the file's name; floating-point, signed and 32-bit samples, which
have no known range; 16-bit PNG with a transparent colour. Before anything is decoded: more than MAX_PIXELS, and what
would need more memory or scans than `memory.py` allows.
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from PIL import Image

from edge_runtime._startup.fast_jpeg import ORIENTATION_TAG, UPRIGHT, exif_orientation
from edge_runtime.errors import EdgeError, ImageUnreadable, ImageUnsupported
from edge_runtime.images import damage, memory, tiff
from edge_runtime.images.color import to_srgb
from edge_runtime.images.memory import SCAN_MARK, coefficient_bytes, require_memory, require_scans
from edge_runtime.images.photos import ACCEPTED_FORMATS, MAX_JPEG_PIXELS, require_size, too_large

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# Other formats, to name them in the error: offset, bytes, name.
_REFUSED_SIGNATURES = (
    (0, b"GIF8", "a GIF"), (4, b"ftypavif", "AVIF"), (4, b"ftypcrx", "a camera's raw data"), (4, b"ftyp", "a video"),
    (0, b"MM\0+", "a big-endian BigTIFF"), (0, b"%PDF", "a PDF"), (0, b"TFL3", "a model"), (4, b"TFL3", "a model"),
    (128, b"DICM", "DICOM"), (4, b"jP  ", "JPEG 2000"), (0, b"\xff\x4f\xff\x51", "JPEG 2000"), (4, b"JXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"), (0, b"II\xbc\x01", "JPEG XR"), (0, b"8BPS", "a Photoshop document"),
    (0, b"IIU\0", "a camera's raw data"), (0, b"IIRO", "a camera's raw data"),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw data"), (0, b"<svg", "SVG"),
    *((0, b"P%d" % kind, "PNM") for kind in range(1, 8)),
)  # fmt: skip
_BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH = 258, 277, 278, 322, 323
_WEBP_ALPHA = 0x10
# Not measured, but a bound of time: Python decodes these, a second for 10 million pixels.
_RUN_LENGTH_BYTES = 40
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
_WHITE = (255, 255, 255)
_INVERTED = bytes(range(255, -1, -1))
# What Pillow's messages on intact files begin with.
_UNSUPPORTED = (
    "unsupported",
    "unknown pixel mode",
    "unknown data organization",
    "cannot handle",
    "unknown raw mode",
)
_PLAIN_MODES = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr")
# Pillow's decoders raise any of these on damaged files; Warning where the caller has made warnings errors.
_DECODER_ERRORS = (
    Warning, OSError, ValueError, SyntaxError, struct.error, EOFError, OverflowError, LookupError, TypeError,
    AttributeError, ZeroDivisionError, AssertionError, RuntimeError,
)  # fmt: skip


def decode_any(photo: bytes, needed_px: int | None, *, name: str, notes: list[str]) -> Image.Image:
    """Decode a photo to upright 8-bit sRGB; arguments as `preprocess.decode_rgb`.

    A JPEG is decoded at the smallest scale that keeps both sides at least `needed_px`; None: at its size.

    Raises:
        ImageUnreadable, ImageTooLarge: As `preprocess.decode_rgb`.
    """
    with damage_refused(name, photo):
        # No name for what is passed on: to_rgb lets it go as soon as it has its own.
        picture = to_rgb(
            _decode_upright(photo, needed_px, name, notes),
            is_16_bit_png=_is_16_bit_png(photo),
            name=name,
            notes=notes,
        )
        # Palettes of few bits a pixel may be dithered, which is noise.
        plain = photo.startswith(b"BM") and photo[28] > 8
        if photo.startswith(tiff.SIGNATURES):
            plain = tiff.first_picture(photo, name)[2]
        if plain and damage.has_bands(picture):
            notes.append("damaged: rows of noise or of one colour that begin within a row")
        return picture


@contextmanager
def damage_refused(name: str, photo: bytes = b"") -> Iterator[None]:
    """Turn what Pillow's decoders raise on damaged and unsupported files into ImageUnreadable and ImageTooLarge."""
    try:
        yield
    except EdgeError:
        raise
    except Image.DecompressionBombError as error:
        # Some of Pillow's plugins look at its own limit while they read the header.
        raise too_large(name, str(error)) from error
    except (MemoryError, *_DECODER_ERRORS) as error:
        memory.raise_if_short(error, name)
        found = str(error) or type(error).__name__
        if kind := damage.unsupported_jpeg(photo) or (
            found if found.lower().startswith(_UNSUPPORTED) else ""
        ):
            raise _unsupported(name, kind, "save the photo as an ordinary JPEG or PNG") from error
        problem, expected = "the image is damaged or incomplete", "a complete image file"
        fix = "copy or export the photo again"
        raise ImageUnreadable(problem, where=name, found=found, expected=expected, fix=fix) from error


def _decode_upright(photo: bytes, needed_px: int | None, name: str, notes: list[str]) -> Image.Image:
    image = open_bounded(photo, name, needed_px)
    notes += _further_frames(image, photo)
    return _upright(load(image, photo))


def open_bounded(photo: bytes, name: str, needed_px: int | None, mode: str | None = None) -> ImageFile:
    """Read a photo's header; nothing is decoded yet. Arguments as `decode_any`.

    `mode` is what a JPEG will be decoded to, `L` for its grey; None: as it is.

    Raises:
        ImageUnreadable: Not an accepted format.
        ImageTooLarge: Decoding it would exceed a limit of `memory`.
    """
    if size_px := _webp_size(photo):
        # Opening one allocates its canvases.
        require_size(*size_px, name)
        require_memory(_webp_bytes(photo, size_px[0] * size_px[1]), 0, name)
    if photo.startswith(tiff.SIGNATURES):
        photo = tiff.first_picture(photo, name)[0]
    image = _open(photo, name)
    if image.format == "TIFF":
        image.tile = tiff.band_tiles(image)
    width_px, height_px = image.size
    require_size(width_px, height_px, name, MAX_JPEG_PIXELS if image.format == "JPEG" else 0)
    if needed_px is not None:
        # draft() does as `jpeg.dct_scale`; other formats ignore it.
        image.draft(mode, (needed_px, needed_px))
    require_size(image.width, image.height, name)
    pixels = image.width * image.height
    require_memory(
        _decoder_bytes(image, width_px * height_px, photo, name),
        pixels,
        name,
        transparent=image.mode in _ALPHA_MODES or "transparency" in image.info,
    )
    return image


def _webp_size(photo: bytes) -> tuple[int, int] | None:
    """Return width and height of a WebP's canvas; None of other files."""
    if not (photo.startswith(b"RIFF") and photo[8:12] == b"WEBP" and len(photo) >= 30):
        return None
    if photo[12:16] == b"VP8X":
        return 1 + int.from_bytes(photo[24:27], "little"), 1 + int.from_bytes(photo[27:30], "little")
    if photo[12:16] == b"VP8L":
        bits = int.from_bytes(photo[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(photo[26:28], "little") & 0x3FFF, int.from_bytes(photo[28:30], "little") & 0x3FFF


def _webp_bytes(webp: bytes, pixels: int) -> int:
    """Return what libwebp's two canvases, the pixels and a plane of alpha take."""
    return pixels * (14 if webp[12:16] == b"VP8X" and webp[20] & _WEBP_ALPHA else 12)


def load(image: Any, photo: bytes) -> Any:
    """Return an opened image of the file `photo` decoded: itself, or the first frame of a WebP.

    Raises:
        OSError: Its data are damaged or incomplete.
    """
    if image.format == "JPEG":
        damage.load_jpeg(image, photo)
        return image
    if image.format != "WEBP":
        image.load()
        return image
    # One after the other: each decoder holds two canvases.
    image._decoder = None
    if damage.webp_ends_early(photo):
        raise OSError("its pixel data are too long")
    image = _open(photo, "")
    # Pillow's `load` makes the picture while libwebp still holds its two canvases.
    pixels = image._get_next()[0]
    image._decoder = None
    loaded = Image.frombytes(image.mode, image.size, pixels, "raw", image.rawmode)
    loaded.info = image.info
    return loaded


def _decoder_bytes(image: Any, stored_pixels: int, photo: bytes, name: str) -> int:
    """Return the bytes that decoding an opened photo will hold; `stored_pixels`: before a JPEG is scaled down."""
    picture_bytes: int = image.width * image.height * (1 if image.mode in ("1", "L", "P") else 4)
    if image.format == "JPEG":
        require_scans(photo, name)
        if "progressive" in image.info or photo.count(SCAN_MARK) > 1:
            picture_bytes += coefficient_bytes(stored_pixels, [layer[1:3] for layer in image.layer])
        return picture_bytes
    if image.format == "WEBP":
        return _webp_bytes(photo, stored_pixels)
    if image.format == "TIFF" and image.tile and image.tile[0][0] != "raw":
        return picture_bytes + _tiff_part_bytes(image)
    if image.format == "BMP" and image.tile and image.tile[0][0] == "bmp_rle":
        # One code can skip 255 rows, whether the picture has them or not.
        picture_bytes += max((_RUN_LENGTH_BYTES - 1) * stored_pixels, 255 * int(image.width))
    return picture_bytes * (3 if image.format == "HEIF" else 1)


def _tiff_part_bytes(image: Any) -> int:
    """Return the bytes of a TIFF's largest strip or tile, which libtiff decodes whole."""
    tags = image.tag_v2
    rows_px = min(int(tags.get(_ROWS_PER_STRIP, image.height)), image.height)
    width_px, height_px = int(tags.get(_TILE_WIDTH, image.width)), int(tags.get(_TILE_LENGTH, rows_px))
    bits = max(tags.get(_BITS_PER_SAMPLE, (1,))) * int(tags.get(_SAMPLES_PER_PIXEL, 1))
    return width_px * height_px * int(max(4, -(-bits // 8)))


def _open(photo: bytes, name: str) -> ImageFile:
    """Read the header with the plugin that the first bytes select.

    Not `Image.open`: it imports five plugins for every photo and all forty for a text file (20 ms and 2 MiB more).
    """
    file = io.BytesIO(photo)
    if photo.startswith(b"\xff\xd8\xff"):
        from PIL.JpegImagePlugin import JpegImageFile

        return JpegImageFile(file)
    if photo.startswith(b"\x89PNG\r\n\x1a\n"):
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile(file)
    if photo.startswith(b"RIFF") and photo[8:12] == b"WEBP":
        from PIL.WebPImagePlugin import WebPImageFile

        return WebPImageFile(file)
    if photo.startswith(b"BM"):
        from PIL.BmpImagePlugin import BmpImageFile

        return BmpImageFile(file)
    if photo.startswith(tiff.SIGNATURES):
        from PIL.TiffImagePlugin import TiffImageFile

        _quiet_libtiff()
        return TiffImageFile(file)
    if photo[4:8] == b"ftyp" and photo[8:12] in _HEIF_BRANDS:
        return _open_heif(file, name)
    kinds = (kind for at, mark, kind in _REFUSED_SIGNATURES if photo[at : at + len(mark)] == mark)
    if kind := next(kinds, ""):
        raise _unsupported(name, kind, "convert the photo to JPEG or PNG")
    found, expected = f"{len(photo)} bytes that begin with {photo[:8]!r}", ", ".join(ACCEPTED_FORMATS)
    raise ImageUnreadable("not an image", where=name, found=found, expected=expected, fix="name a photo")


def _quiet_libtiff() -> None:
    """Keep libtiff from writing to stderr: it knows no name of the photo, and Pillow raises an error."""
    from ctypes import CDLL

    from PIL import _imaging

    try:
        library = CDLL(_imaging.__file__)
        for function in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            function(None)
    except (AttributeError, OSError):
        return  # A Pillow without libtiff, or with its names hidden.


def _unsupported(name: str, found: str, fix: str) -> ImageUnsupported:
    expected = ", ".join(ACCEPTED_FORMATS)
    return ImageUnsupported("unsupported image format", where=name, found=found, expected=expected, fix=fix)


def _open_heif(file: io.BytesIO, name: str) -> ImageFile:
    try:
        from pillow_heif import HeifImageFile  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        fix = "pip install pillow-heif, or convert the photo to JPEG"
        raise _unsupported(name, "HEIC, and no pillow-heif to read it", fix) from error
    opened: ImageFile = HeifImageFile(file)  # type: ignore[no-untyped-call, unused-ignore]
    return opened


def _further_frames(image: ImageFile, photo: bytes) -> list[str]:
    """Return a note if the file holds more pictures than the one that is decoded."""
    if image.format == "TIFF":
        # Not Pillow's n_frames, which reads every page.
        several, what = tiff.first_picture(photo, "")[1], "pages"
    elif image.format == "JPEG":
        # A second picture in a JPEG (MPO) is a preview, a depth or a gain map.
        return []
    else:
        several, what = getattr(image, "n_frames", 1) > 1, "frames"
    return [f"the file has several {what}, the first was taken"] if several else []


def _upright(image: Any) -> Image.Image:
    """Apply the EXIF orientation."""
    if image.format == "TIFF":
        # Pillow turns TIFFs itself while loading and then drops the tag; releases that do not leave it here.
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    else:
        orientation = exif_orientation(image.info.get("exif") or _raw_profile(image.info))
    upright: Image.Image = image
    return upright.transpose(Image.Transpose(UPRIGHT[orientation])) if orientation in UPRIGHT else upright


def _raw_profile(info: dict[Any, Any]) -> bytes:
    """Return the EXIF block that ImageMagick writes into a PNG as text; empty if there is none or it is damaged."""
    text = info.get("Raw profile type exif") or info.get("Raw profile type APP1") or ""
    try:
        # A line break, the kind, the count of bytes, and hexadecimal digits.
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""


def _is_16_bit_png(photo: bytes) -> bool:
    return photo.startswith(b"\x89PNG") and photo[24:25] == b"\x10"


def to_rgb(image: Image.Image, *, is_16_bit_png: bool = False, name: str, notes: list[str]) -> Image.Image:
    """Convert any accepted mode to 8-bit sRGB, as the module documents."""
    transparent_color = "transparency" in image.info
    profile = image.info.get("icc_profile") or b""
    if is_16_bit_png and transparent_color:
        # The colour has 16 bits, the decoded pixels 8; comparing high bytes would make other colours transparent.
        raise _unknown_samples("16-bit samples with a transparent colour", name)
    if image.mode.startswith("I"):
        return _in_srgb(_high_bytes(image, is_16_bit_png, name), profile, notes)
    if image.mode in _ALPHA_MODES or (transparent_color and image.mode in _PLAIN_MODES):
        is_grey = image.mode in ("LA", "La") or (transparent_color and image.mode in ("1", "L"))
        if image.mode != "RGBA":
            image = image.convert("RGBA")
        # One name for each picture in turn, so that each is freed once the next is made.
        transparency = image.getchannel("A").point(_INVERTED)
        image = image.convert("L" if is_grey else "RGB")
        image = _in_srgb(image, profile, notes)
        # White over the picture by its transparency equals the picture over white by its opacity, in the same
        # rounding, without a second picture.
        image.paste(_WHITE, mask=transparency)
        return image
    if image.mode not in _PLAIN_MODES:
        raise _unknown_samples(f"samples of mode {image.mode}", name)
    if profile and image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return _in_srgb(image, profile, notes)


def _in_srgb(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    if profile:
        image, note = to_srgb(image, profile)
        notes += [note] if note else []
    return image if image.mode == "RGB" else image.convert("RGB")


def _high_bytes(image: Image.Image, is_16_bit_png: bool, name: str) -> Image.Image:
    """Return 8-bit grey from 16-bit grey. Pillow's own conversion clips at 255 instead of scaling."""
    if image.mode in ("I;16", "I;16L", "I;16N", "I;16B"):
        big_endian = image.mode == "I;16B" or (image.mode == "I;16N" and sys.byteorder == "big")
        return Image.frombytes("L", image.size, image.tobytes()[0 if big_endian else 1 :: 2])
    if image.mode == "I" and is_16_bit_png:
        # Pillow below 11 widens 16-bit PNGs to native 32-bit integers.
        return Image.frombytes("L", image.size, image.tobytes()[2 if sys.byteorder == "big" else 1 :: 4])
    raise _unknown_samples(f"samples of mode {image.mode}", name)


def _unknown_samples(found: str, name: str) -> ImageUnsupported:
    return ImageUnsupported(
        "unsupported pixel format",
        where=name,
        found=found,
        expected="8 bits a sample, or 16 unsigned bits",
        fix="save the photo as 8-bit RGB",
    )
