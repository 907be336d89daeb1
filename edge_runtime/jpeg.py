"""The short road for ordinary JPEGs: the header read here, the pixels by Pillow's own decoder. Pillow only.

Pillow's JPEG plugin costs 8 ms of imports (`logging`, `subprocess`, what they import), a tenth of an `edge-classify` on
one photo. Its decoder does not need it: `Image.frombytes` takes any of Pillow's decoders by name. The pixels are the
plugin's, bit for bit (tests/edge_runtime/test_jpeg.py, mutated files too). Whatever is not ordinary (a colour profile,
CMYK, two frames, Photoshop's blocks, a byte out of place, data cut short) is left to the plugin, and so is every
refusal: None means "not here", never "damaged".
"""

from __future__ import annotations

from PIL import Image

from edge_runtime.records import dataclass

DCT_SCALES = (8, 4, 2, 1)
"""What libjpeg can divide both sides by while it decodes."""
_MODES = {1: "L", 3: "RGB"}
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_SCAN = 0xDA
# Quantization, Huffman tables, restart interval, JFIF, EXIF or XMP, previews, Adobe's colour transform, comment.
_SKIPPED = (0xDB, 0xC4, 0xDD, 0xE0, 0xE1, 0xE2, 0xEE, 0xFE)
_EXIF = b"Exif\0\0"
_PROFILE = b"ICC_PROFILE\0"


@dataclass(frozen=True)
class Header:
    """What the segments before the pixels say."""

    width_px: int
    height_px: int
    mode: str
    """Pillow's: `L` or `RGB`."""
    exif: bytes
    """The EXIF block, empty when there is none."""


def read_header(photo: bytes) -> Header | None:
    """Walks the segments up to the pixels; None when anything is not ordinary."""
    frame: tuple[int, int, str] | None = None
    exif = b""
    position = 2
    while photo[position : position + 1] == b"\xff" and position + 4 <= len(photo):
        marker = photo[position + 1]
        first, end = position + 4, position + 2 + int.from_bytes(photo[position + 2 : position + 4], "big")
        if marker == _SCAN:
            return Header(*frame, exif) if frame is not None else None
        if end < first or end > len(photo):
            return None
        segment = photo[first:end] if marker != 0xDB else b""
        if marker in _FRAMES and frame is None and len(segment) >= 6 and segment[0] == 8:
            mode = _MODES.get(segment[5])
            if mode is None or len(segment) != 6 + 3 * segment[5]:
                return None
            frame = int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[1:3], "big"), mode
        elif marker not in _SKIPPED or segment.startswith(_PROFILE) or (exif and segment.startswith(_EXIF)):
            return None
        elif marker == 0xE1 and segment.startswith(_EXIF):
            exif = segment
        position = end
    return None


def dct_scale(width_px: int, height_px: int, needed_px: int) -> int:
    """The largest of DCT_SCALES that leaves both sides at least `needed_px`; 1 where none does."""
    spare = min(width_px // needed_px, height_px // needed_px)
    return next(scale for scale in DCT_SCALES if spare >= scale or scale == 1)


def decode(photo: bytes, header: Header, scale: int) -> Image.Image | None:
    """The pixels at 1/scale of their size, of `header.mode`; None where the decoder is not content."""
    size_px = -(-header.width_px // scale), -(-header.height_px // scale)
    try:
        # Arguments of Pillow's decoder: its raw mode, the colour space (as the file says), scale, and no draft quality.
        return Image.frombytes(header.mode, size_px, photo, "jpeg", header.mode, "", scale, 0)
    except (ValueError, OSError, MemoryError, TypeError):
        return None
