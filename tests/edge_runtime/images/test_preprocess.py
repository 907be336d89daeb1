"""Preprocessing against what it promises: every kind of picture, geometry, the input tensor's bytes."""

from __future__ import annotations

import dataclasses
import io
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageOps

from edge_runtime._startup import core_image
from edge_runtime._startup.fast_jpeg import exif_orientation
from edge_runtime.contract import Geometry, ModelContract, Normalization
from edge_runtime.errors import EdgeError, ImageError, ImageTooLarge, ImageUnreadable, ModelMismatch
from edge_runtime.images.preprocess import (
    MAX_PIXELS,
    crop,
    crop_box,
    decode_rgb,
    fit_pixels,
    input_bytes,
    pixel_bytes,
    resize,
)
from edge_runtime.model.model_file import open_model
from tests.edge_runtime._startup import needs_tested_pillow
from tests.edge_runtime.model.test_model_file import mutate
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p
from tests.fixtures.make_models import draw_photo

MUTATIONS = 300
SEED = 11
# A refusal before decoding is a matter of milliseconds; decoding 900 million pixels would take seconds and gigabytes.
REFUSAL_S = 1.0
# 4 as decoded, 4 without transparency, 1 of transparency; what is above is room for the decoder.
BYTES_A_TRANSPARENT_PIXEL = 11


@pytest.fixture(scope="module")
def contract() -> ModelContract:
    """Decode scaling off, so that pictures can be compared with their originals."""
    return open_model(FIXTURES / "tiny_uint8.tflite").contract


@pytest.fixture(scope="module")
def scaling_contract() -> ModelContract:
    return open_model(FIXTURES / "tiny_float32.tflite").contract


def over_white(image: Image.Image) -> Image.Image:
    """Another way to say what happens to alpha: Pillow's own compositing."""
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def largest_difference(one: Image.Image, other: Image.Image) -> int:
    assert one.size == other.size and one.mode == other.mode == "RGB"
    return max(high for _, high in ImageChops.difference(one, other).getextrema())


@pytest.mark.parametrize("name", p.READABLE)
def test_every_kind_of_picture_is_read(name: str, contract: ModelContract) -> None:
    photo = p.READABLE[name]()
    image = decode_rgb(photo, contract)
    assert image.mode == "RGB"
    pixels_u8 = fit_pixels(photo, contract)
    assert len(pixels_u8) == 24 * 32 * 3
    assert fit_pixels(photo, contract) == pixels_u8


@pytest.mark.parametrize("name", p.REFUSED)
def test_what_is_no_picture_is_refused(name: str, contract: ModelContract) -> None:
    make, code = p.REFUSED[name]
    photo = make()
    started = time.process_time()
    with pytest.raises(ImageError) as caught:
        decode_rgb(photo, contract, name="x.jpg")
    assert time.process_time() - started < REFUSAL_S
    assert caught.value.code == code
    assert caught.value.exit_status == 1
    assert "x.jpg" in caught.value.message
    assert caught.value.found and caught.value.expected and caught.value.fix


@pytest.mark.parametrize(
    "name", ["png", "webp", "bmp", "tiff", "tiff_lzw", "png_animated", "webp_animated", "tiff_pages"]
)
def test_lossless_pictures_are_themselves_and_animations_their_first_frame(
    name: str, contract: ModelContract
) -> None:
    assert largest_difference(decode_rgb(p.READABLE[name](), contract), draw_photo(1)) == 0


@pytest.mark.parametrize(
    "name",
    [
        "jpeg",
        "jpeg_progressive",
        "jpeg_444",
        "jpeg_grey",
        "jpeg_cmyk",
        "png_1_bit",
        "png_grey",
        "png_palette",
        "bmp_palette",
        "tiff_cmyk",
    ],
)
def test_opaque_pictures_are_what_pillow_makes_of_them(name: str, contract: ModelContract) -> None:
    photo = p.READABLE[name]()
    assert largest_difference(decode_rgb(photo, contract), Image.open(io.BytesIO(photo)).convert("RGB")) == 0


@pytest.mark.parametrize("name", ["png_rgba", "png_la", "png_palette_transparent", "webp_rgba", "tiff_rgba"])
def test_transparent_pictures_are_blended_over_white(name: str, contract: ModelContract) -> None:
    photo = p.READABLE[name]()
    # Two correct roundings of the same blend may differ by a step.
    assert largest_difference(decode_rgb(photo, contract), over_white(Image.open(io.BytesIO(photo)))) <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_rounded_as_it_always_was(mode: str, contract: ModelContract) -> None:
    """Every value under every opacity. A phone's Java does the same sum, to the last bit."""
    image = Image.new(mode, (256, 256))
    pairs = [(value, alpha) for alpha in range(256) for value in range(256)]
    image.putdata([(v, 255 - v, v ^ 85, a) if mode == "RGBA" else (v, a) for v, a in pairs])

    def over_white(value: int, alpha: int) -> int:
        scaled = value * alpha + 255 * (255 - alpha) + 128
        return (scaled + (scaled >> 8)) >> 8

    wanted = bytes(
        over_white(channel, a)
        for v, a in pairs
        for channel in ((v, 255 - v, v ^ 85) if mode == "RGBA" else 3 * (v,))
    )
    assert decode_rgb(p.saved(image, "PNG"), contract).tobytes() == wanted


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read the peak from")
def test_a_transparent_picture_takes_two_more_than_its_own_memory(tmp_path: Path) -> None:
    """Its pixels, the opaque ones, one byte of transparency; it used to be 13 bytes a pixel."""
    photo, side_px = tmp_path / "p.png", 2048
    Image.new("RGBA", (side_px, side_px), (10, 20, 30, 40)).save(photo, compress_level=1)
    code = (
        "import re, sys; from edge_runtime.images.formats import decode_any\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "data = open(sys.argv[1], 'rb').read()\n"
        "import PIL.PngImagePlugin; before = peak()\n"
        "decode_any(data, None, name='p', notes=[]); print(peak() - before)"
    )
    command = [sys.executable, "-c", code, str(photo)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=FIXTURES.parents[1])
    assert 8 < int(ran.stdout) * 1024 / side_px**2 < BYTES_A_TRANSPARENT_PIXEL


def test_a_fully_transparent_picture_is_white_whatever_its_hidden_colours(contract: ModelContract) -> None:
    photo = p.saved(Image.new("RGBA", (5, 4), (10, 200, 30, 0)), "PNG")
    assert decode_rgb(photo, contract).getcolors() == [(20, (255, 255, 255))]


def test_a_transparent_colour_of_an_rgb_png_becomes_white(contract: ModelContract) -> None:
    rows = bytes((1, 2, 3, 9, 9, 9))
    photo = p.png(2, 1, 8, 2, rows, extra=p.png_chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)))
    assert list(decode_rgb(photo, contract).tobytes()) == [255, 255, 255, 9, 9, 9]


def test_16_bit_samples_keep_their_high_byte(contract: ModelContract) -> None:
    grey = decode_rgb(p.grey_16_png(), contract)
    assert list(grey.tobytes()[::3]) == [0, 1, 2, 127, 128, 200, 254, 255]
    assert list(decode_rgb(p.rgb_16_png(), contract).tobytes()) == [10, 20, 30, 255, 0, 128]


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_grey_tiffs_of_both_byte_orders(order: str, contract: ModelContract) -> None:
    mode = "I;16" if order == "<" else "I;16B"
    image = Image.frombytes(mode, (3, 1), struct.pack(order + "3H", 0x12FF, 0x8000, 0xFF00))
    assert list(decode_rgb(p.saved(image, "TIFF"), contract).tobytes()[::3]) == [0x12, 0x80, 0xFF]


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format_name: str, orientation: int, contract: ModelContract) -> None:
    photo = p.with_orientation(orientation, format_name)
    upright = decode_rgb(photo, contract)
    assert upright.size == ((40, 61) if orientation >= 5 else (61, 40))
    assert largest_difference(upright, ImageOps.exif_transpose(Image.open(io.BytesIO(photo)))) == 0


def test_the_orientations_differ(contract: ModelContract) -> None:
    """A picture that looks the same turned would prove nothing above."""
    pixels = {fit_pixels(p.with_orientation(orientation, "PNG"), contract) for orientation in range(1, 9)}
    assert len(pixels) == 8


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_a_meaningless_orientation_counts_as_upright(value: int, contract: ModelContract) -> None:
    photo = p.with_orientation(value, "JPEG")
    assert decode_rgb(photo, contract).size == (61, 40)


def test_damaged_exif_counts_as_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    assert exif_orientation(block) == 6
    assert exif_orientation(block.removeprefix(b"Exif\0\0")) == 6
    chance = random.Random(SEED)
    for length in range(len(block)):
        assert exif_orientation(block[:length]) in (1, 6)
    for _ in range(500):
        hostile = bytearray(block)
        hostile[chance.randrange(len(hostile))] = chance.randrange(256)
        assert 1 <= exif_orientation(bytes(hostile)) <= 8
    for garbage in (b"", b"Exif\0\0", b"II", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"):
        assert exif_orientation(garbage) == 1


def test_orientation_in_big_endian_exif() -> None:
    block = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 8, 0, 0)
    assert exif_orientation(block) == 8


@pytest.mark.parametrize(
    "name",
    [
        "jpeg", "jpeg_progressive", "jpeg_cmyk", "jpeg_exif_6", "png", "png_palette_transparent", "png_animated",
        "png_exif_6", "webp", "webp_animated", "bmp", "bmp_palette", "tiff", "tiff_lzw", "tiff_pages", "tiff_exif_6",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")  # Pillow remarks on TIFF metadata that is cut off.
def test_a_truncated_picture_is_refused_at_every_length(name: str, contract: ModelContract) -> None:
    """Or it is whole: an end mark or a second page may be missing, a pixel may not."""
    photo = p.READABLE[name]()
    whole = decode_rgb(photo, contract)
    lengths = [*range(0, len(photo), max(1, len(photo) // 150)), *range(len(photo) - 20, len(photo))]
    refused = 0
    for length in lengths:
        try:
            image = decode_rgb(photo[:length], contract)
        except ImageUnreadable:
            refused += 1
        else:
            assert (image.size, image.tobytes()) == (whole.size, whole.tobytes()), length
    assert refused > len(lengths) // 3
    if name.startswith("jpeg"):
        assert refused == len(lengths)


def test_pillows_warnings_as_errors_become_image_errors(contract: ModelContract) -> None:
    """pytest runs with warnings as errors, and so may a caller."""
    photo = p.READABLE["tiff"]()
    refused = 0
    for length in range(len(photo) - 300, len(photo)):
        with pytest.raises(ImageUnreadable):
            decode_rgb(photo[:length], contract)
        refused += 1
    assert refused == 300


@pytest.mark.parametrize(
    "name", ["jpeg", "png", "webp", "bmp", "tiff", "tiff_lzw", "png_palette_transparent", "jpeg_exif_6"]
)
@pytest.mark.filterwarnings("ignore")  # Pillow remarks on damaged metadata; that is not what is tested.
def test_mutations_give_a_picture_or_our_error(name: str, contract: ModelContract) -> None:
    chance = random.Random(SEED)
    photo = p.READABLE[name]()
    refused = 0
    for _ in range(MUTATIONS // 6):
        try:
            assert len(fit_pixels(mutate(photo, chance), contract)) == 24 * 32 * 3
        except EdgeError as error:
            assert isinstance(error, ImageError)
            refused += 1
    assert refused > 0


def test_pixels_are_capped_before_they_are_decoded(contract: ModelContract) -> None:
    assert 12_000 * 10_000 <= MAX_PIXELS < 12_001 * 10_000
    for make in (lambda: p.huge_png(30_000), lambda: p.png(MAX_PIXELS, 2, 8, 0, b"\0\0")):
        started = time.process_time()
        with pytest.raises(ImageTooLarge, match="pixels"):
            decode_rgb(make(), contract)
        assert time.process_time() - started < REFUSAL_S


def geometry(**changes: object) -> Geometry:
    plain: dict[str, object] = {
        "decode_scaling": "none",
        "decode_oversampling": 1,
        "exif": "transpose",
        "crop": "center_square",
        "crop_fraction": 1.0,
        "filter": "bilinear",
    }
    return Geometry(**{**plain, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "changes", "box"),
    [
        ((600, 450), {}, (75, 0, 525, 450)),
        ((450, 600), {}, (0, 75, 450, 525)),
        ((601, 450), {}, (75, 0, 525, 450)),
        ((600, 450), {"crop_fraction": 0.875}, (103, 28, 497, 422)),
        ((5, 3), {"crop_fraction": 0.5}, (1, 0, 3, 2)),
        ((9, 5), {"crop_fraction": 0.5}, (3, 1, 6, 4)),
        ((1, 1), {"crop_fraction": 0.1}, (0, 0, 1, 1)),
        ((600, 450), {"crop": "stretch"}, (0, 0, 600, 450)),
        ((600, 450), {"crop": "stretch", "crop_fraction": 0.9}, (30, 22, 570, 427)),
        ((1, 1000), {"crop": "stretch", "crop_fraction": 0.9}, (0, 50, 1, 950)),
    ],
)
def test_crop_boxes(size: tuple[int, int], changes: dict[str, object], box: tuple[int, ...]) -> None:
    assert crop_box(*size, geometry(**changes)) == box


@pytest.mark.parametrize("kind", ["center_square", "stretch"])
def test_crops_are_inside_and_centred(kind: str) -> None:
    chance = random.Random(SEED)
    for _ in range(500):
        width_px, height_px = chance.randint(1, 5000), chance.randint(1, 5000)
        left, top, right, bottom = crop_box(
            width_px, height_px, geometry(crop=kind, crop_fraction=chance.uniform(1e-6, 1))
        )
        assert 0 <= left < right <= width_px and 0 <= top < bottom <= height_px
        assert 0 <= (width_px - right) - left <= 1 and 0 <= (height_px - bottom) - top <= 1
        if kind == "center_square":
            assert right - left == bottom - top


def test_a_region_above_pillows_limit_is_cut_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    image = draw_photo(2, 101, 67)
    expected = crop(image, geometry(crop_fraction=0.7)).tobytes()
    for limit in (100, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert crop(image, geometry(crop_fraction=0.7)).tobytes() == expected


def test_resize_is_pillows_antialiased_bilinear(contract: ModelContract) -> None:
    image = draw_photo(6, 300, 200)
    resized = resize(image, contract.input)
    assert resized.size == (32, 24)
    assert resized.tobytes() == image.resize((32, 24), Image.Resampling.BILINEAR, reducing_gap=None).tobytes()
    assert resized.tobytes() != image.resize((32, 24), Image.Resampling.BICUBIC).tobytes()


def test_nothing_is_copied_that_already_fits(contract: ModelContract) -> None:
    image = draw_photo(6, 32, 24)
    assert resize(image, contract.input) is image
    assert crop(image, geometry(crop="stretch")) is image


def test_jpeg_scaling_keeps_enough_pixels(scaling_contract: ModelContract) -> None:
    """32 px input, oversampling 2, crop 0.875: both sides at least 74 after scaling by 1, 1/2, 1/4 or 1/8."""
    for side_px, expected_px in ((73, 73), (147, 147), (148, 74), (296, 74), (600, 75), (1200, 150)):
        assert decode_rgb(p.jpeg(side_px, side_px), scaling_contract).width == expected_px
    assert decode_rgb(p.jpeg(1200, 148), scaling_contract).size == (600, 74)
    assert decode_rgb(p.saved(draw_photo(1, 600, 600), "PNG"), scaling_contract).size == (600, 600)


def test_jpeg_scaling_changes_little(scaling_contract: ModelContract) -> None:
    """Decoding small then shrinking stays near decoding whole then shrinking: same picture, other filter."""
    photo = p.jpeg(1200, 900, index=3)
    unscaled = dataclasses.replace(
        scaling_contract, geometry=dataclasses.replace(scaling_contract.geometry, decode_scaling="none")
    )
    small, large = fit_pixels(photo, scaling_contract), fit_pixels(photo, unscaled)
    mean = sum(abs(a - b) for a, b in zip(small, large, strict=True)) / len(small)
    assert 0 < mean < 2.0  # of 255; a wrong crop or orientation gives above 10


def test_jpeg_scaling_and_orientation_together(scaling_contract: ModelContract) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = p.jpeg(1200, 600, exif=exif.tobytes())
    assert decode_rgb(photo, scaling_contract).size == (75, 150)


def test_a_12_megapixel_photo_is_decoded_small(scaling_contract: ModelContract) -> None:
    photo = p.jpeg(4000, 3000)
    assert decode_rgb(photo, scaling_contract).size == (500, 375)
    assert len(fit_pixels(photo, scaling_contract)) == 32 * 32 * 3


ALL_PIXELS = bytes(range(256)) * 3


def test_our_uint8_models_take_pixels_as_they_are() -> None:
    assert input_bytes(ALL_PIXELS, Normalization(128.0, 128.0), "uint8", 1 / 128, 128) is ALL_PIXELS


@pytest.mark.parametrize(
    ("dtype", "mean", "std", "scale", "zero_point"),
    [
        ("int8", 128.0, 128.0, 1 / 128, 0),
        ("uint8", 127.5, 127.5, 0.0078431377, 127),
        ("int8", 0.0, 255.0, 1 / 255, -128),
        ("uint8", 123.7, 58.4, 0.02, 100),
        ("uint8", 0.0, 1.0, 2.0, 0),
        ("uint8", 0.0, 1.0, 0.75, 20),
        ("int8", 0.0, 1.0, 1.5, -10),
    ],
)
def test_quantization_is_the_formula(
    dtype: str, mean: float, std: float, scale: float, zero_point: int
) -> None:
    tensor = input_bytes(ALL_PIXELS, Normalization(mean, std), dtype, scale, zero_point)
    low, high, code = (0, 255, "B") if dtype == "uint8" else (-128, 127, "b")
    for pixel, got in zip(ALL_PIXELS, struct.unpack(f"{len(tensor)}{code}", tensor), strict=True):
        exact = (pixel - mean) / std / scale + zero_point
        assert low <= got <= high
        assert abs(got - min(high, max(low, exact))) <= 0.5 + 1e-9


def test_halves_are_rounded_away_from_zero() -> None:
    """As TFLite's own quantization and the phone's Java do; Python's round takes the even one."""
    tensor = input_bytes(bytes(range(7, 14)), Normalization(10.0, 1.0), "int8", 2.0, 0)
    assert struct.unpack("7b", tensor) == (-2, -1, -1, 0, 1, 1, 2)


@pytest.mark.parametrize(("mean", "std"), [(128.0, 128.0), (127.5, 127.5), (0.0, 255.0), (103.94, 57.1)])
def test_float_input_is_the_formula(mean: float, std: float) -> None:
    tensor = input_bytes(ALL_PIXELS, Normalization(mean, std), "float32")
    expected = b"".join(struct.pack("<f", (pixel - mean) / std) for pixel in ALL_PIXELS)
    assert tensor == expected


@pytest.mark.parametrize(
    ("dtype", "scale"), [("int16", 1.0), ("float16", 0.0), ("uint8", 0.0), ("int8", -1.0)]
)
def test_other_tensors_are_refused(dtype: str, scale: float) -> None:
    with pytest.raises(ModelMismatch):
        input_bytes(b"\0\0\0", Normalization(0.0, 1.0), dtype, scale, 0)


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        pytest.param("jpeg", [], marks=needs_tested_pillow),
        ("jpeg_cmyk", ["PIL.Image", "PIL.JpegImagePlugin"]),
        ("png", ["PIL.Image", "PIL.PngImagePlugin"]),
    ],
)
def test_decoding_imports_one_plugin_at_most(name: str, modules: list[str]) -> None:
    """Held in a process of its own: other tests have imported them all."""
    code = (
        "import sys; from edge_runtime.model.model_file import open_model; from edge_runtime.images.preprocess import fit_pixels\n"  # noqa: E501
        f"c = open_model({str(FIXTURES / 'tiny_uint8.tflite')!r}).contract\n"
        "fit_pixels(sys.stdin.buffer.read(), c)\n"
        "print(*sorted(m for m in sys.modules if m.endswith('ImagePlugin') or m == 'PIL.Image'))"
    )
    photo = p.READABLE[name]()
    ran = subprocess.run(
        [sys.executable, "-c", code], input=photo, capture_output=True, check=True, cwd=FIXTURES.parents[1]
    )
    assert ran.stdout.decode().split() == modules


def test_pixel_bytes_are_those_of_tobytes(monkeypatch: pytest.MonkeyPatch) -> None:
    for size_px in ((1, 1), (3, 2), (224, 224), (500, 333)):
        image = draw_photo(3, *size_px)
        wanted = image.tobytes()
        assert pixel_bytes(image) == wanted
        with monkeypatch.context() as patched:
            # A Pillow that has no such function.
            patched.setattr(core_image, "usable_core", object)
            patched.setattr(image, "tobytes", lambda wanted=wanted: wanted)
            assert pixel_bytes(image) == wanted


def test_many_models_leave_few_tables() -> None:
    """A process that opens one model after the other must not keep a table of each."""
    from edge_runtime.images import preprocess

    pixels_u8 = bytes(range(256)) * 3
    for step in range(3 * preprocess.MAX_TABLES):
        normalization = Normalization(100.0 + step, 50.0)
        for dtype in ("float32", "uint8", "uint8"):
            first = input_bytes(pixels_u8, normalization, dtype, 0.02, 128)
            assert first == input_bytes(pixels_u8, normalization, dtype, 0.02, 128)
    assert len(preprocess._tables) <= preprocess.MAX_TABLES
