"""Images on Pillow's C core, without the Python around it: what an ordinary JPEG needs on the road of one photo.

`PIL.Image` takes 20 ms to import, a fifth of an `edge-classify`; the core beneath it takes 3. Its functions are not
Pillow's public interface, so they are touched only in releases on which they were held against it
(tests/edge_runtime/_startup/test_core_image.py, test_jpeg.py); in others `CoreImage.decoded` says None, and Pillow
itself takes
the photo.
"""

from __future__ import annotations

from edge_runtime._startup.records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from PIL import Image

PROVEN_RELEASES = ("13",)
"""Of Pillow, by the first number of its version. Earlier ones write past the end of an image that is smaller than the
photo (seen on 10.3, 11.3 and 12.0): there all would hang on `jpeg.read_header` being right about the size."""
BILINEAR = 2
"""`Image.Resampling.BILINEAR`."""
_FLOYD_STEINBERG = 3
# What Pillow's encoders say when a picture is done.
_ENCODED = 1


class CoreImage:
    """An image of mode L or RGB; names and answers as `PIL.Image.Image`.

    Args:
        im: Pillow's core image.
    """

    def __init__(self, im: Any) -> None:
        self.im = im
        self.mode: str = im.mode
        self.size: tuple[int, int] = im.size
        self.width, self.height = self.size

    @classmethod
    def decoded(
        cls, mode: str, size_px: tuple[int, int], data: bytes, decoder: str, options: tuple[Any, ...]
    ) -> CoreImage | None:
        """As `Image.frombytes`, None where that would raise, or where this Pillow is not proven."""
        core = _proven_core()
        if core is None:
            return None
        try:
            im = core.fill(mode, size_px, (0, 0, 0) if mode == "RGB" else 0)
            running = getattr(core, f"{decoder}_decoder")(mode, *options)
            running.setimage(im, (0, 0, *size_px))
            consumed, status = running.decode(data)
        except (ValueError, OSError, MemoryError, TypeError, AttributeError):
            return None
        # Pillow's own words: a decoder that has consumed all and reports nothing is done.
        return cls(im) if consumed < 0 and status == 0 else None

    def crop(self, box: tuple[int, int, int, int]) -> CoreImage:
        """The region (left, top, right, bottom)."""
        return CoreImage(self.im.crop(box))

    def resize(self, size_px: tuple[int, int], resample: int) -> CoreImage:
        """To (width, height); `resample` as Pillow's Resampling."""
        return CoreImage(self.im.resize(size_px, resample, (0, 0, *self.size)))

    def transpose(self, method: int) -> CoreImage:
        """Turned or mirrored; `method` as Pillow's Transpose."""
        return CoreImage(self.im.transpose(method))

    def to_rgb(self) -> CoreImage:
        """Of mode RGB."""
        return CoreImage(self.im.convert("RGB", _FLOYD_STEINBERG))

    def to_pillow(self) -> Image.Image:
        """The same pixels as an image of Pillow."""
        from PIL import Image

        return Image.Image()._new(self.im)


def encode_raw(im: Any, size_px: tuple[int, int]) -> bytes | None:
    """Pixels of a core image, rows first; None where this Pillow's encoder is another one."""
    core = _proven_core()
    try:
        encoder = core.raw_encoder(im.mode, im.mode)
        encoder.setimage(im, (0, 0, *size_px))
        _, status, encoded = encoder.encode(size_px[0] * size_px[1] * len(im.mode))
    except (AttributeError, TypeError):
        return None
    return bytes(encoded) if status == _ENCODED else None


def _proven_core() -> Any:
    import PIL

    if PIL.__version__.partition(".")[0] not in PROVEN_RELEASES:
        return None
    try:
        from PIL import _imaging
    except ImportError:
        # Pillow itself says what is wrong with it.
        return None
    return _imaging if getattr(_imaging, "PILLOW_VERSION", None) == PIL.__version__ else None
