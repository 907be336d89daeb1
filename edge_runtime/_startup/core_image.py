"""Images on Pillow's C core, without importing `PIL.Image`: decode, crop, resize, turn, convert, encode.

The core's functions are not Pillow's public interface, so they are used only in releases on which the tests compare
them with it (tests/edge_runtime/_startup); in others `CoreImage.decoded` returns None, and Pillow decodes the photo.
"""

from __future__ import annotations

from edge_runtime._startup import PLAIN
from edge_runtime._startup.records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from PIL import Image

TESTED_RELEASES = ("13",)
"""Of Pillow, by the first number of its version. Earlier ones write past the end of an image that is smaller than the
photo (seen on 10.3, 11.3 and 12.0), so that a wrong size in `fast_jpeg.read_header` would corrupt memory."""
BILINEAR = 2
"""`Image.Resampling.BILINEAR`."""
_FLOYD_STEINBERG = 3
JPEG_END = b"\xff\xd9"
TAIL_BYTES = 8
"""What libjpeg reads ahead, and less than a loss leaves over."""
# Status of Pillow's encoders at the end of a picture.
_ENCODED = 1


class CoreImage:
    """An image of mode L or RGB, with the names of `PIL.Image.Image`.

    Args:
        im: Pillow's core image.
    """

    def __init__(self, im: Any) -> None:
        self.im = im
        self.mode: str = im.mode
        self.size: tuple[int, int] = im.size
        self.width, self.height = self.size

    @classmethod
    def decoded(cls, *jpeg: Any) -> CoreImage | None:
        """Decode as `decode_jpeg` without `core`; None at a problem, or where this Pillow is not tested."""
        core = usable_core()
        if core is None:
            return None
        try:
            im, problem = decode_jpeg(core, *jpeg)
        except (ValueError, OSError, MemoryError, TypeError, AttributeError):
            return None
        return None if problem else cls(im)

    def crop(self, box: tuple[int, int, int, int]) -> CoreImage:
        """Return the region (left, top, right, bottom)."""
        return CoreImage(self.im.crop(box))

    def resize(self, size_px: tuple[int, int], resample: int) -> CoreImage:
        """Resize to (width, height); `resample` as Pillow's Resampling."""
        return CoreImage(self.im.resize(size_px, resample, (0, 0, *self.size)))

    def transpose(self, method: int) -> CoreImage:
        """Turn or mirror; `method` as Pillow's Transpose."""
        return CoreImage(self.im.transpose(method))

    def to_rgb(self) -> CoreImage:
        """Convert to mode RGB."""
        return CoreImage(self.im.convert("RGB", _FLOYD_STEINBERG))

    def to_pillow(self) -> Image.Image:
        """Return the same pixels as an image of Pillow."""
        from PIL import Image

        return Image.Image()._new(self.im)


def decode_jpeg(
    core: Any,
    mode: str,
    size_px: tuple[int, int],
    options: tuple[Any, ...],
    data: bytes,
    scan_at: int,
    one_scan: bool,
) -> tuple[Any, str]:
    """Decode a JPEG in parts: one scan must need its last bytes, and nothing beyond them.

    Args:
        core: Pillow's.
        mode: Pillow's, of the picture.
        size_px: (width, height) after scaling.
        options: Further arguments of Pillow's decoder.
        data: The file.
        scan_at: Where the first scan is; its end mark is looked for behind it.
        one_scan: Whether rows are drawn as they are read.

    Returns:
        The core image and what is wrong with it; an empty text if nothing is.
    """
    end = data.find(JPEG_END, scan_at)
    im = core.new(mode, size_px)
    running = core.jpeg_decoder(mode, *options)
    running.setimage(im, (0, 0, *size_px))
    consumed, status = running.decode(memoryview(data)[: max(0, end - TAIL_BYTES)])
    problem = "its pixel data do not belong together"
    if consumed >= 0:
        # Zeros, as libjpeg takes at the end; it reads so many ahead.
        consumed, status = running.decode(
            data[consumed:end] + bytes(TAIL_BYTES) if one_scan else data[consumed : end + 2]
        )
        problem = "its pixel data end too early" if consumed >= 0 else ""
    if end < 0:
        problem = "its pixel data are truncated"
    return im, f"decoder error {status}" if status else problem


def encode_raw(im: Any, size_px: tuple[int, int]) -> bytes | None:
    """Return the pixels of a core image, rows first; None where this Pillow's encoder is another one."""
    core = usable_core()
    try:
        encoder = core.raw_encoder(im.mode, im.mode)
        encoder.setimage(im, (0, 0, *size_px))
        _, status, encoded = encoder.encode(size_px[0] * size_px[1] * len(im.mode))
    except (AttributeError, TypeError):
        return None
    return bytes(encoded) if status == _ENCODED else None


def usable_core() -> Any:
    """Return Pillow's C core; None if this release is not tested, or with DERMEDGE_PLAIN."""
    import PIL

    if PLAIN or PIL.__version__.partition(".")[0] not in TESTED_RELEASES:
        return None
    try:
        from PIL import _imaging
    except ImportError:
        # Importing PIL.Image reports what is wrong.
        return None
    return _imaging if getattr(_imaging, "PILLOW_VERSION", None) == PIL.__version__ else None
