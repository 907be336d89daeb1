"""Decode an ordinary JPEG: the header read here, the pixels by Pillow's own decoder. Pillow's core only.

Pillow's JPEG plugin imports `logging`, `subprocess` and what they import, and `PIL.Image`. The decoder needs neither,
see `core_image`. The pixels are the plugin's, bit for bit (tests/edge_runtime/_startup/test_fast_jpeg.py, mutated files
too). Whatever is not ordinary (a colour profile, CMYK, two frames, Photoshop's blocks, a byte out of place, truncated
data) is left to the plugin, and so is every refusal: None means "not here", never "damaged".
"""

from __future__ import annotations

import struct

from edge_runtime._startup.core_image import CoreImage
from edge_runtime._startup.records import dataclass
from edge_runtime.images.memory import coefficient_bytes, require_memory, require_scans
from edge_runtime.images.photos import MAX_JPEG_PIXELS, require_size

DCT_SCALES = (8, 4, 2, 1)
"""What libjpeg can divide both sides by while it decodes."""
_MODES = {1: "L", 3: "RGB"}
_PROGRESSIVE = 0xC2
_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)  # baseline, extended
_SCAN, _RESTARTS = 0xDA, 0xDD
# Quantization, Huffman tables, restart interval, JFIF, EXIF or XMP, previews, Adobe's colour transform, comment.
_SKIPPED = (0xDB, 0xC4, 0xDD, 0xE0, 0xE1, 0xE2, 0xEE, 0xFE)
ORIENTATION_TAG = 0x0112
# EXIF orientation to Pillow's Transpose that brings the picture upright; 1 is upright.
UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_EXIF = b"Exif\0\0"
_PROFILE = b"ICC_PROFILE\0"


@dataclass(frozen=True)
class Header:
    """Size, mode and EXIF block, from the segments before the pixels."""

    width_px: int
    height_px: int
    mode: str
    """Pillow's: `L` or `RGB`."""
    exif: bytes
    """The EXIF block, empty when there is none."""
    coefficient_bytes: int
    """What libjpeg keeps of a file of several scans; 0 of one that it decodes as it reads."""
    scan_at: int
    """Where the first scan's marker is."""
    restarts: bool
    """Whether marks divide its data."""


def read_header(photo: bytes) -> Header | None:
    """Read the segments up to the pixels; None when anything is not ordinary."""
    frame: tuple[int, int, str] | None = None
    exif, kept_bytes, progressive, restarts = b"", 0, False, False
    position = 2
    while photo[position : position + 1] == b"\xff" and position + 4 <= len(photo):
        marker = photo[position + 1]
        first, end = position + 4, position + 2 + int.from_bytes(photo[position + 2 : position + 4], "big")
        if marker == _SCAN:
            if frame is None:
                return None
            in_one_scan = not progressive and _MODES.get(photo[first]) == frame[2]
            return Header(*frame, exif, 0 if in_one_scan else kept_bytes, position, restarts)
        if end < first or end > len(photo):
            return None
        segment = photo[first:end] if marker != 0xDB else b""
        if marker in _FRAMES and frame is None and len(segment) >= 6 and segment[0] == 8:
            mode = _MODES.get(segment[5])
            if mode is None or len(segment) != 6 + 3 * segment[5]:
                return None
            frame = int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[1:3], "big"), mode
            samplings = ((sampling >> 4, sampling & 15) for sampling in segment[7::3])
            kept_bytes = coefficient_bytes(frame[0] * frame[1], samplings)
            progressive = marker == _PROGRESSIVE
        elif marker not in _SKIPPED or segment.startswith(_PROFILE) or (exif and segment.startswith(_EXIF)):
            return None
        elif marker == 0xE1 and segment.startswith(_EXIF):
            exif = segment
        restarts = restarts or marker == _RESTARTS
        position = end
    return None


def dct_scale(width_px: int, height_px: int, needed_px: int) -> int:
    """Return the largest of DCT_SCALES that leaves both sides at least `needed_px`; 1 where none does."""
    spare = min(width_px // needed_px, height_px // needed_px)
    return next(scale for scale in DCT_SCALES if spare >= scale or scale == 1)


def decode(photo: bytes, header: Header, scale: int) -> CoreImage | None:
    """Decode at 1/scale of the size, to `header.mode`; None where the decoder reports or shows a problem."""
    if header.coefficient_bytes or header.restarts:
        from edge_runtime.images.damage import scans_damaged

        if scans_damaged(photo, header.scan_at):
            return None
    size_px = -(-header.width_px // scale), -(-header.height_px // scale)
    # Arguments of Pillow's decoder: its raw mode, the colour space (as the file says), scale, and no draft quality.
    options = header.mode, "", scale, 0
    one_scan = not header.coefficient_bytes
    return CoreImage.decoded(header.mode, size_px, options, photo, header.scan_at, one_scan)


def decode_ordinary(photo: bytes, needed_px: int | None, name: str) -> CoreImage | None:
    """Return an upright image of mode RGB from the bytes of any file; None where Pillow must decode it.

    `needed_px` is as in `dct_scale`, None for the whole size; `name` is named in errors.

    Raises:
        ImageTooLarge: More than MAX_PIXELS pixels, or another limit of `images.memory`.
    """
    header = read_header(photo) if photo.startswith(b"\xff\xd8\xff") else None
    if header is None:
        return None
    require_size(header.width_px, header.height_px, name, MAX_JPEG_PIXELS)
    require_scans(photo, name)
    scale = 1 if needed_px is None else dct_scale(header.width_px, header.height_px, needed_px)
    width_px, height_px = -(-header.width_px // scale), -(-header.height_px // scale)
    require_size(width_px, height_px, name)
    pixels = width_px * height_px
    require_memory(4 * pixels + header.coefficient_bytes, pixels, name)
    image = decode(photo, header, scale)
    if image is None:
        return None
    orientation = exif_orientation(header.exif)
    upright = image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image
    return upright if upright.mode == "RGB" else upright.to_rgb()


def exif_orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, with or without its `Exif` header; 1 when it has none or is damaged.

    Not Pillow's `getexif`: it raises on damaged blocks, reads an orientation from XMP too, and changes with releases.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        magic, directory = struct.unpack_from(order + "HI", exif, 2)
        (count,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(order + "HHI", exif, entry)
            if tag == ORIENTATION_TAG and magic == 42 and values == 1 and kind in (3, 4):
                value = int(struct.unpack_from(order + ("H" if kind == 3 else "I"), exif, entry + 8)[0])
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
