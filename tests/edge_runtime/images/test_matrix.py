"""TIFFs of every kind that tifffile writes or that are made by hand: equal to its reading, or refused by name."""

from __future__ import annotations

import io
import itertools
import struct
from typing import Any

import pytest

from edge_runtime.contract import ModelContract
from edge_runtime.errors import ImageUnsupported
from edge_runtime.images.preprocess import decode_rgb
from edge_runtime.model.model_file import open_model
from tests.fixtures import FIXTURES

tifffile = pytest.importorskip("tifffile", reason="pip install tifffile")
np = pytest.importorskip("numpy")

HEIGHT_PX, WIDTH_PX = 21, 37
LAYOUTS: dict[str, dict[str, object]] = {
    "strips": {"rowsperstrip": 5},
    "one strip": {},
    "tiles": {"tile": (16, 16)},
}
COMPRESSIONS: dict[str, dict[str, object]] = {
    "raw": {},
    "deflate": {"compression": "zlib"},
    "deflate, predictor": {"compression": "zlib", "predictor": True},
}


@pytest.fixture(scope="module")
def contract() -> ModelContract:
    return open_model(FIXTURES / "tiny_uint8.tflite").contract


def samples(channels: int, dtype: str) -> Any:
    """A drawing whose every pixel and channel differs from its neighbours."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    planes = [(5 * x + (3 + c) * y + 40 * c) % 256 for c in range(channels)]
    drawn = np.stack(planes, -1) if channels > 1 else planes[0]
    kind = np.dtype(dtype)
    scaled = drawn * 257 if kind.itemsize == 2 else drawn / 255 if kind.kind == "f" else drawn
    return scaled.astype(kind)


def rgb(data: Any, photometric: str) -> Any:
    """What the samples of tifffile mean in 8 bits."""
    high = data >> 8 if data.dtype == np.uint16 else data
    if photometric == "miniswhite":
        high = 255 - high
    return np.repeat(high[..., None], 3, -1) if high.ndim == 2 else high[..., :3]


KINDS = list(
    itertools.product(
        ["minisblack", "miniswhite", "rgb"],
        ["uint8", "uint16", "int8", "int16", "uint32", "float32"],
        ["contig", "separate"],
        LAYOUTS,
        COMPRESSIONS,
        ["<", ">"],
        [False, True],
    )
)
# Kinds that must be read: refusing everything would pass otherwise.
READ_AT_LEAST = 180


def test_every_kind_is_read_as_by_tifffile_or_refused_by_name(contract: ModelContract) -> None:
    read = 0
    wrong: list[tuple[object, ...]] = []
    for photometric, dtype, planes, layout, compression, order, big in KINDS:
        if photometric != "rgb" and planes == "separate":
            continue
        channels = 3 if photometric == "rgb" else 1
        data = samples(channels, dtype)
        options: dict[str, Any] = {**LAYOUTS[layout], **COMPRESSIONS[compression]}
        if "predictor" in options and dtype == "float32":
            continue
        if channels == 3:
            options["planarconfig"] = planes
        file = io.BytesIO()
        written = np.moveaxis(data, -1, 0) if planes == "separate" else data
        try:
            tifffile.imwrite(file, written, byteorder=order, photometric=photometric, bigtiff=big, **options)
            with tifffile.TiffFile(io.BytesIO(file.getvalue())) as opened:
                seen = opened.pages[0].asarray()
        except (ValueError, NotImplementedError, ImportError, KeyError):
            continue  # imagecodecs is not installed
        seen = np.moveaxis(seen, 0, -1) if planes == "separate" else seen
        assert (seen == data).all()
        kind = (photometric, dtype, planes, layout, compression, order, big)
        try:
            image = decode_rgb(file.getvalue(), contract)
        except ImageUnsupported as error:
            assert error.found and error.code == "image-unsupported"
            continue
        read += 1
        if not (np.asarray(image) == rgb(seen, photometric)).all():
            wrong.append(kind)
    assert not wrong, wrong[:10]
    assert read >= READ_AT_LEAST


def by_hand(tags: dict[int, tuple[str, tuple[int, ...]]], data: bytes, order: str = "<") -> bytes:
    """A TIFF of one strip; tags as format of struct and values."""
    sizes = {"H": 3, "I": 4}
    tags = {**tags, 273: ("I", (8,)), 278: ("I", (HEIGHT_PX,)), 279: ("I", (len(data),))}
    directory, extra = struct.pack(order + "H", len(tags)), b""
    after = 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{kind}", *values)
        directory += struct.pack(order + "HHI", tag, sizes[kind], len(values))
        if len(packed) > 4:
            directory += struct.pack(order + "I", after + len(extra))
            extra += packed
        else:
            directory += packed.ljust(4, b"\0")
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "I", 8 + len(data)) + data + directory + bytes(4) + extra


def shape(bits: tuple[int, ...], photometric: int) -> dict[int, tuple[str, tuple[int, ...]]]:
    plain = {256: ("I", (WIDTH_PX,)), 257: ("I", (HEIGHT_PX,)), 258: ("H", bits), 259: ("H", (1,))}
    return {**plain, 262: ("H", (photometric,)), 277: ("H", (len(bits),))}


def packed_rows(bits: int) -> tuple[Any, bytes]:
    """Samples of so many bits, and their rows of whole bytes."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    values = (3 * x + 5 * y) % (1 << bits)
    as_bits = (values[..., None] >> np.arange(bits)[::-1]) & 1
    return values, np.packbits(as_bits.reshape(HEIGHT_PX, -1).astype(np.uint8), axis=1).tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("photometric", [0, 1, 3])
def test_few_bits_a_sample(photometric: int, bits: int, order: str, contract: ModelContract) -> None:
    values, rows = packed_rows(bits)
    tags, top = shape((bits,), photometric), (1 << bits) - 1
    palette = np.array([[(7 * i + 90 * c) % 256 for i in range(top + 1)] for c in range(3)])
    if photometric == 3:
        tags[320] = ("H", tuple(int(v) * 256 for v in palette.ravel()))
    wanted = values * 255 // top if photometric else 255 - values * 255 // top
    pixels = np.asarray(decode_rgb(by_hand(tags, rows, order), contract))
    assert (
        pixels == (palette[:, values].transpose(1, 2, 0) if photometric == 3 else wanted[..., None])
    ).all()


UNREAD: dict[str, dict[int, tuple[str, tuple[int, ...]]]] = {
    "12 bits": shape((12,), 1),
    "16 bits, white is zero": shape((16,), 0),
    "mixed bits": shape((5, 6, 5), 2),
    "a sensor's data": shape((16,), 32803),
    "CIELAB": shape((8, 8, 8), 8),
    "YCbCr without compression": shape((8, 8, 8), 6),
    "JPEG 2000 inside": {**shape((8, 8, 8), 2), 259: ("H", (34712,))},
    "16-bit planes of inks": {**shape((16,) * 4, 5), 284: ("H", (2,))},
    "one plane of 16 bits": {**shape((16,), 1), 284: ("H", (2,))},
    "grey and two more": shape((8, 8, 8), 1),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read_rightly_is_refused_by_name(name: str, contract: ModelContract) -> None:
    with pytest.raises(ImageUnsupported) as caught:
        decode_rgb(by_hand(UNREAD[name], bytes(8 * HEIGHT_PX * WIDTH_PX)), contract)
    assert caught.value.found and caught.value.code == "image-unsupported"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_orientations_of_every_layout(
    orientation: int, compression: str | None, contract: ModelContract
) -> None:
    data = samples(3, "uint8")
    turned = {
        1: data, 2: data[:, ::-1], 3: data[::-1, ::-1], 4: data[::-1], 5: data.swapaxes(0, 1),
        6: np.rot90(data, -1), 7: data[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(data),
    }  # fmt: skip
    file = io.BytesIO()
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(file, data, photometric="rgb", compression=compression, extratags=[tag])
    assert (np.asarray(decode_rgb(file.getvalue(), contract)) == turned[orientation]).all()


@pytest.mark.parametrize("sub_directory", [False, True])
@pytest.mark.parametrize("big", [False, True])
def test_the_full_picture_behind_a_thumbnail(sub_directory: bool, big: bool, contract: ModelContract) -> None:
    full, small = samples(3, "uint8"), samples(3, "uint8")[::4, ::4]
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=big) as writer:
        writer.write(small, photometric="rgb", subfiletype=1, subifds=1 if sub_directory else None)
        writer.write(full, photometric="rgb", subfiletype=0)
    notes: list[str] = []
    assert (np.asarray(decode_rgb(file.getvalue(), contract, notes=notes)) == full).all()
    assert not notes
