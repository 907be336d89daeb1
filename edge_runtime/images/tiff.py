"""TIFF before Pillow: which of its pictures to take, and what is read rightly. stdlib only.

A directory can be that of a thumbnail (cameras, scanners); the first one of full resolution is taken, sub-directories
included. What Pillow 13 was seen to read wrongly or not at all is refused by its name: tests/edge_runtime/images/
test_matrix.py compares it with another decoder.
"""

from __future__ import annotations

import struct
from typing import Any

from edge_runtime.errors import ImageTooLarge, ImageUnsupported

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0")
"""Pillow misreads big-endian BigTIFF."""
_BYTES = (1, 2, 6, 7)  # byte, text, signed byte, undefined: one object, however long
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
MAX_VALUES = 500_000
MAX_DIRECTORIES = 64
_FIRST = {"I": 4, "Q": 8}  # where the file says where its first directory is
_SUBFILE, _OLD_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SUB_DIRECTORIES = 254, 255, 258, 259, 262, 330
_SAMPLE_FORMAT, _PLANAR = 339, 284
_READ = (_SUBFILE, _OLD_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SUB_DIRECTORIES, _SAMPLE_FORMAT, _PLANAR)
# A picture of reduced resolution, or a mask; an older tag for the former.
_REDUCED, _OLD_REDUCED = 1 | 4, 2
_UNSIGNED, _UNDEFINED = 1, 4
_PHOTOMETRICS = {4: "a mask", 8: "CIELAB", 32803: "a sensor's data", 34892: "linear raw data"}
_KINDS = (0, 1, 2, 3, 5, 6)
# None, Fax, LZW, JPEG, Deflate, PackBits.
_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946)
_UNCOMPRESSED, _PACK_BITS, _PALETTE, _YCBCR, _PLANES = 1, 32773, 3, 6, 2
# By bits and photometric interpretation: grey, RGB, inks.
_PLANES_READ = ((8, 1), (8, 2), (8, 5), (16, 2))
_ONE, _ZERO = (1,), (0,)


def _layout(tiff: bytes) -> tuple[str, str, str, int]:
    """Return a TIFF's byte order, the formats of its offsets and counts of entries, and the bytes of an entry."""
    order = "<" if tiff.startswith(b"II") else ">"
    return (order, "Q", "Q", 20) if tiff[2:4].strip(b"\0") == b"+" else (order, "I", "H", 12)


def _directory(tiff: bytes, at: int) -> tuple[dict[int, tuple[int, ...]], int, int]:
    """Return the integers of the tags in _READ, how many numbers there are in all, and where the next directory is."""
    order, offset, count, entry_bytes = _layout(tiff)
    (entries,) = struct.unpack_from(order + count, tiff, at)
    start, inline_bytes = at + struct.calcsize(count), struct.calcsize(offset)
    tags: dict[int, tuple[int, ...]] = {}
    numbers = 0
    end = start + entries * entry_bytes
    for entry in range(start, min(end, len(tiff) - entry_bytes + 1), entry_bytes):
        tag, kind, length = struct.unpack_from(f"{order}HH{offset}", tiff, entry)
        numbers += length if kind not in _BYTES else 0
        if tag in _READ and kind in _INTEGERS and 0 < length <= MAX_DIRECTORIES:
            values, where = f"{order}{length}{_INTEGERS[kind]}", entry + 4 + inline_bytes
            if struct.calcsize(values) > inline_bytes:
                (where,) = struct.unpack_from(order + offset, tiff, where)
            tags[tag] = struct.unpack_from(values, tiff, where)
    after = struct.unpack_from(order + offset, tiff, end)[0] if end + inline_bytes <= len(tiff) else 0
    return tags, numbers, after


def first_picture(tiff: bytes, name: str) -> tuple[bytes, bool, bool]:
    """Return the file with its full picture first, whether more follow, and whether its rows stand there as they are.

    Raises:
        ImageTooLarge: The picture's directory holds more numbers than MAX_VALUES: Pillow makes an object of each.
        ImageUnsupported: Its samples are of a kind that is not read rightly.
    """
    order, offset, _, _ = _layout(tiff)
    (first,) = struct.unpack_from(order + offset, tiff, _FIRST[offset])
    chosen, pending = first, [first]
    directories: dict[int, tuple[dict[int, tuple[int, ...]], int, int]] = {}
    for at in pending:
        if at in directories or not 0 < at < len(tiff) or len(directories) >= MAX_DIRECTORIES:
            continue
        tags, _, after = directories[at] = _directory(tiff, at)
        if not (tags.get(_SUBFILE, _ZERO)[0] & _REDUCED or tags.get(_OLD_SUBFILE, _ZERO)[0] == _OLD_REDUCED):
            chosen = at
            break
        pending += [*tags.get(_SUB_DIRECTORIES, ()), after]
    tags, numbers, after = directories[chosen]
    if numbers > MAX_VALUES:
        found, expected = f"{numbers:,} numbers in its directory", f"at most {MAX_VALUES:,}"
        problem, fix = "the TIFF has too many strips or tiles", "save the photo as PNG"
        raise ImageTooLarge(problem, where=name, found=found, expected=expected, fix=fix)
    if found := _unsupported(tags):
        expected, fix = "8 bits a sample, or 16 unsigned bits", "save the photo as 8-bit RGB"
        raise ImageUnsupported(
            "unsupported kind of TIFF", where=name, found=found, expected=expected, fix=fix
        )
    if chosen != first:
        at = _FIRST[offset]
        tiff = tiff[:at] + struct.pack(order + offset, chosen) + tiff[at + struct.calcsize(offset) :]
    compression, kind = tags.get(_COMPRESSION, _ONE)[0], tags.get(_PHOTOMETRIC, _ONE)[0]
    return tiff, bool(after), kind != _PALETTE and compression in (_UNCOMPRESSED, _PACK_BITS)


def _unsupported(tags: dict[int, tuple[int, ...]]) -> str:
    """Name a kind of picture that is not read rightly; empty if it is."""
    bits, kind, compression, planes = (
        tags.get(tag, _ONE) for tag in (_BITS, _PHOTOMETRIC, _COMPRESSION, _PLANAR)
    )
    plain, several = compression == _ONE, {*bits} != {bits[0]} or bits[0] not in (1, 2, 4, 8, 16)
    for name, refused in (
        (
            "signed or floating-point samples",
            not {*tags.get(_SAMPLE_FORMAT, _ONE)} <= {_UNSIGNED, _UNDEFINED},
        ),
        (" and ".join(map(str, dict.fromkeys(bits))) + " bits a sample", several),
        (_PHOTOMETRICS.get(kind[0], f"photometric interpretation {kind[0]}"), kind[0] not in _KINDS),
        ("inverted grey of 16 bits", (kind[0], bits[0]) == (0, 16)),
        (f"compression {compression[0]}", compression[0] not in _COMPRESSIONS),
        ("YCbCr without compression", plain and kind[0] == _YCBCR),
        ("such planes", plain and planes[0] == _PLANES and (bits[0], kind[0]) not in _PLANES_READ),
    ):
        if refused:
            return name
    return ""


def band_tiles(image: Any) -> list[Any]:
    """Return the tiles of an opened TIFF; Pillow reads uncompressed planes of 16 bits as 8."""
    tags = image.tag_v2
    if tags.get(_PLANAR) != _PLANES or max(tags.get(_BITS, _ONE)) != 16 or image.tile[0][0] != "raw":
        return list(image.tile)
    order = "B" if tags.prefix == b"MM" else "L"
    # A plain tuple in Pillow below 11.
    tile = getattr(type(image.tile[0]), "_make", tuple)
    return [
        tile((codec, box, at, (f"{band};16{order}", *more))) for codec, box, at, (band, *more) in image.tile
    ]
