"""Damage that decoders draw over without a word. Each test and what it finds: tests/edge_runtime/images/test_damage.py.

    JPEG        the decoder must need a scan's last bytes and nothing beyond them (`core_image.decode_jpeg`); several
                scans must hold no marker and no text, and restarts must be in turn
    WebP        must not decode without its last bytes
    BMP, TIFF   without compression: rows of noise, or of one value that begins or ends within a row; a note alone
PNG, Deflate and LZW have checks of their own, which their decoders apply.
"""

from __future__ import annotations

from edge_runtime._startup.core_image import decode_jpeg
from edge_runtime._startup.records import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from PIL import Image

_SCAN, _END, _FILL, _RESTARTS = 0xDA, 0xD9, 0xFF, range(0xD0, 0xD8)
# Huffman and arithmetic tables, quantization, restart interval, height, application data, comment.
_BETWEEN_SCANS = (_SCAN, 0xC4, 0xCC, 0xDB, 0xDD, 0xDC, *range(0xE0, 0xF0), 0xFE)
# Scans of AC coefficients leave flat parts out by a run length; so much text, or so many zeros, are no data of theirs.
_RUN_BYTES, _SAMPLES = 64, 64
_FRAMES = {**dict.fromkeys((0xC0, 0xC1, 0xC2), ""), 0xC3: "lossless ", 0xC9: "arithmetic ", 0xCA: "arithmetic ",
    0xF7: "JPEG-LS, ", **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF), "hierarchical ")}  # fmt: skip
WEBP_TAIL_BYTES = 16
"""libwebp reads at most 8 bytes ahead, and an encoder adds a few at the end."""
_STRIP_PX = 256
# Of bands: least height in hundredths, and what makes rows noise: steps from pixel to pixel, in values, by the row's
# spread (noise 1.33, text 1.0) and by the usual step.
_BAND_PERCENT, _NOISE_STEP, _NOISE_RATIO, _NOISE_FACTOR = 6, 6, 0.95, 4


def _segments(jpeg: bytes) -> Iterator[tuple[int, int]]:
    """Yield the kind and the place of each marker up to the first scan."""
    at = 2
    while at + 10 <= len(jpeg) and jpeg[at] == _FILL:
        yield jpeg[at + 1], at
        at += 1 if jpeg[at + 1] == _FILL else 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")


def unsupported_jpeg(jpeg: bytes) -> str:
    """Name the kind of a JPEG that libjpeg may not decode; empty if it is an ordinary one, or none."""
    if jpeg.startswith(b"\xff\xd8\xff"):
        for kind, at in _segments(jpeg):
            bits, components = jpeg[at + 4], jpeg[at + 9]
            if kind in _FRAMES and (_FRAMES[kind] or bits != 8 or components not in (1, 3, 4)):
                return f"{_FRAMES[kind]}JPEG of {bits} bits and {components} components"
    return ""


def scans_damaged(jpeg: bytes, at: int) -> bool:
    """Return whether the scans from `at` on hold markers where none can be, restarts out of turn, or text or zeros."""
    import re

    marker, turn, of_ac = re.compile(rb"\xff+([^\x00\xff])"), 0, False
    while found := marker.search(jpeg, at):
        kind = found[1][0]
        if kind in _RESTARTS:
            if kind & 7 != turn & 7:
                return True
            at, turn = found.end(), turn + 1
            continue
        steps = range(at, found.start() - _RUN_BYTES, max(1, (found.start() - at) // _SAMPLES))
        if of_ac and any(_is_foreign(jpeg[step : step + _RUN_BYTES]) for step in steps):
            return True
        if kind not in _BETWEEN_SCANS:
            return kind != _END
        at = found.end() + max(2, int.from_bytes(jpeg[found.end() : found.end() + 2], "big"))
        # A scan's header ends with its first and last coefficient and their bits.
        turn, of_ac = 0, kind == _SCAN and jpeg[at - 3 : at - 2] > b"\0"
    return True


def _is_foreign(data: bytes) -> bool:
    # Repeated codes can be few letters.
    return not any(data) or (len(set(data)) > 8 and data.isascii() and data.decode("ascii").isprintable())


def load_jpeg(image: Any, jpeg: bytes) -> None:
    """Decode an opened JPEG in place, as its `load` does.

    Raises:
        OSError: Its data are damaged or incomplete.
    """
    from PIL import _imaging

    at = next((at for kind, at in _segments(jpeg) if kind == _SCAN), len(jpeg))
    [(_, _, _, options)] = image.tile
    # A scan's header begins with the count of its components.
    one_scan = "progressive" not in image.info and jpeg[at + 4 : at + 5] == bytes([len(image.layer)])
    options += image.decoderconfig
    picture, problem = decode_jpeg(_imaging, image.mode, image.size, options, jpeg, at, one_scan)
    if problem or scans_damaged(jpeg, at):
        raise OSError(problem or "its scans are damaged")
    image.im, image.tile = picture, []


def webp_ends_early(webp: bytes) -> bool:
    """Return whether a still WebP decodes without its last bytes too, so that they are not its own."""
    from PIL import _webp

    at = 12
    while at + 8 <= len(webp) and webp[at : at + 4] not in (b"VP8 ", b"VP8L"):
        at += 8 + (int.from_bytes(webp[at + 4 : at + 8], "little") + 1 & ~1)
    data = webp[at + 8 : at + 8 + int.from_bytes(webp[at + 4 : at + 8], "little") - WEBP_TAIL_BYTES]
    body = b"WEBP" + webp[at : at + 4] + len(data).to_bytes(4, "little") + data + bytes(len(data) & 1)
    try:
        _webp.WebPAnimDecoder(b"RIFF" + len(body).to_bytes(4, "little") + body).get_next()
    except (OSError, ValueError):
        return False
    return bool(data)


def has_bands(picture: Image.Image) -> bool:
    """Return whether rows of an RGB picture are noise, or of one value that begins or ends within a row."""
    from PIL import Image, ImageChops

    height_px, box = picture.height, Image.Resampling.BOX
    green = picture.getchannel("G")
    left = max(0, (green.width - _STRIP_PX) // 2)
    strip = green.crop((left, 0, min(green.width, left + _STRIP_PX), height_px))
    means = strip.resize((1, height_px), box).resize(strip.size, Image.Resampling.NEAREST)
    shifted = strip.transform(strip.size, Image.Transform.AFFINE, (1, 0, -1, 0, 1, 0))
    shifted.paste(strip.crop((0, 0, 1, height_px)))
    steps, spreads = (
        ImageChops.difference(strip, other).resize((1, height_px), box).tobytes()
        for other in (shifted, means)
    )
    least = b"\1" * max(4, height_px * _BAND_PERCENT // 100)
    busy = sorted(step for step in steps if step) or [0]
    loud = max(_NOISE_STEP, _NOISE_FACTOR * busy[len(busy) // 2])
    rows = list(zip(steps, spreads, strict=True))
    if least in bytes(step >= loud and step > _NOISE_RATIO * spread for step, spread in rows):
        return True
    flat = bytes(not step and not spread for step, spread in rows) + b"\0"
    end = 0
    while (start := flat.find(least, end)) >= 0:
        end = flat.index(0, start)
        # The row that is cut may be flat within the strip.
        if any(
            _is_cut(green, start + inside, -1) or _is_cut(green, end - 1 - inside, 1) for inside in (0, 1)
        ):
            return True
    return False


def _is_cut(green: Image.Image, row: int, outwards: int) -> bool:
    """Return whether the value of a flat row goes on along one end of the next row, and no further."""
    width_px = green.width
    if not 0 <= row + 2 * outwards < green.height:
        return False
    value, near, far = (
        green.crop((0, row + n * outwards, width_px, row + n * outwards + 1)).tobytes() for n in range(3)
    )
    ends = [
        [width_px - len(cut(line, value[:1])) for cut in (bytes.lstrip, bytes.rstrip)] for line in (near, far)
    ]
    return any(
        width_px // 50 < ends[0][side] < width_px
        and ends[0][1 - side] <= width_px // 100
        and 2 * ends[1][side] < ends[0][side]
        for side in (0, 1)
    )
