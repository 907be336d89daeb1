"""The fast path of JPEGs gives the plugin's pixels, or leaves the file to the plugin."""

from __future__ import annotations

import dataclasses
import io
import random
from collections.abc import Callable

import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from edge_runtime._startup import fast_jpeg as jpeg
from edge_runtime.errors import ImageError
from edge_runtime.images.preprocess import MAX_PIXELS, decode_rgb
from edge_runtime.model.model_file import open_model
from tests.edge_runtime._startup import needs_tested_pillow
from tests.edge_runtime.mutations import mutate
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p
from tests.fixtures.make_models import draw_photo

MUTATIONS = 1500
SEED = 20261124


def of_plugin(photo: bytes, scale: int) -> Image.Image:
    image = JpegImageFile(io.BytesIO(photo))
    image.draft(None, (image.width // scale, image.height // scale))
    image.load()
    return image


def with_segment(photo: bytes, marker: int, content: bytes) -> bytes:
    """The photo with one more segment after its first marker."""
    return photo[:2] + bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content + photo[2:]


ORDINARY: dict[str, Callable[[], bytes]] = {
    "plain": p.jpeg,
    "grey": p.READABLE["jpeg_grey"],
    "progressive": p.READABLE["jpeg_progressive"],
    "no subsampling": p.READABLE["jpeg_444"],
    "turned": lambda: p.with_orientation(6, "JPEG"),
    "one pixel": lambda: p.jpeg(1, 1),
    "odd sides": lambda: p.jpeg(333, 251),
    "comment": lambda: with_segment(p.jpeg(), 0xFE, b"drawn"),
    "restarts": lambda: p.jpeg(200, 150, restart_marker_blocks=4),
}
NOT_ORDINARY: dict[str, Callable[[], bytes]] = {
    "inks": p.READABLE["jpeg_cmyk"],
    "profile": lambda: p.saved(draw_photo(1), "JPEG", icc_profile=p.icc_profile(p.SRGB, 2.2)),
    "photoshop": lambda: with_segment(p.jpeg(), 0xED, b"Photoshop 3.0\0"),
    "two exif blocks": lambda: with_segment(p.with_orientation(6, "JPEG"), 0xE1, b"Exif\0\0II*\0"),
    "junk between segments": lambda: p.jpeg()[:2] + b"\0" + p.jpeg()[2:],
    "a segment beyond the end": lambda: p.jpeg()[:2] + b"\xff\xe0\xff\xff" + p.jpeg()[4:],
    "nothing but a start": lambda: b"\xff\xd8\xff",
    "no pixels": lambda: p.jpeg()[:300],
}


@needs_tested_pillow
@pytest.mark.parametrize("scale", jpeg.DCT_SCALES)
@pytest.mark.parametrize("name", ORDINARY)
def test_the_pixels_are_the_plugin_s(name: str, scale: int) -> None:
    photo = ORDINARY[name]()
    header = jpeg.read_header(photo)
    assert header is not None
    scale = min(scale, header.width_px, header.height_px)
    image, expected = jpeg.decode(photo, header, scale), of_plugin(photo, scale)
    assert image is not None
    assert (image.mode, image.size) == (expected.mode, expected.size)
    assert image.to_pillow().tobytes() == expected.tobytes()
    assert header.exif == (expected.info.get("exif") or b"")


@pytest.mark.parametrize("name", NOT_ORDINARY)
def test_what_is_not_ordinary_is_left_to_the_plugin(name: str) -> None:
    assert jpeg.read_header(NOT_ORDINARY[name]()) is None


def test_the_scale_is_the_plugin_s() -> None:
    for width_px, height_px, needed_px in (
        (600, 450, 224),
        (4000, 3000, 224),
        (100, 90, 224),
        (448, 448, 224),
        (900, 230, 224),
        (230, 900, 224),
    ):
        image = JpegImageFile(io.BytesIO(p.jpeg(width_px, height_px)))
        image.draft(None, (needed_px, needed_px))
        assert image.decoderconfig[0] == jpeg.dct_scale(width_px, height_px, needed_px)


@pytest.mark.parametrize("sides_px", [(16, 64), (64, 16)])
def test_neither_side_is_decoded_smaller_than_the_input(sides_px: tuple[int, int]) -> None:
    contract = open_model(FIXTURES / "tiny_uint8.tflite").contract
    height_px, width_px = sides_px
    input_spec = dataclasses.replace(contract.input, height_px=height_px, width_px=width_px)
    geometry = dataclasses.replace(
        contract.geometry, decode_scaling="jpeg_dct", decode_oversampling=1, crop_fraction=1.0
    )
    scaling = dataclasses.replace(contract, input=input_spec, geometry=geometry)
    assert decode_rgb(p.jpeg(128, 128), scaling).size == (64, 64)


@needs_tested_pillow
def test_truncated_data_is_left_to_the_plugin_which_refuses() -> None:
    contract = open_model(FIXTURES / "tiny_uint8.tflite").contract
    photo = p.jpeg(200, 150)
    header = jpeg.read_header(photo)
    assert header is not None
    for missing in (1, 2, 100, len(photo) // 2):
        assert jpeg.decode(photo[:-missing], header, 1) is None
        with pytest.raises(ImageError, match="truncated"):
            decode_rgb(photo[:-missing], contract)


def test_a_header_that_claims_too_much_is_refused_before_anything_is_decoded() -> None:
    contract = open_model(FIXTURES / "tiny_uint8.tflite").contract
    photo = bytearray(p.jpeg())
    size = photo.index(b"\xff\xc0") + 5
    photo[size : size + 4] = b"\xff\xff\xff\xff"
    assert MAX_PIXELS < 0xFFFF**2
    with pytest.raises(ImageError, match="too many pixels"):
        decode_rgb(bytes(photo), contract)


# The plugin reads the resolution in an EXIF block, and warns where a mutation has hit it.
@needs_tested_pillow
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_mutated_files_have_the_same_pixels_on_both_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the fast path accepts, the plugin accepts, with the same pixels."""
    contract = open_model(FIXTURES / "tiny_uint8.tflite").contract
    bases = [ORDINARY[name]() for name in ("plain", "grey", "progressive", "turned", "restarts")]
    taken = 0
    for index in range(MUTATIONS):
        chance = random.Random(f"jpeg {SEED} {index}")
        base = chance.choice(bases)
        photo = mutate(base, chance, len(base))
        header = jpeg.read_header(photo)
        if header is None or not 0 < header.width_px * header.height_px <= 10_000_000:
            continue
        image = jpeg.decode(photo, header, 1)
        if image is None:
            continue
        taken += 1
        expected = of_plugin(photo, 1)
        assert (image.mode, image.to_pillow().tobytes()) == (expected.mode, expected.tobytes()), index
    assert MUTATIONS / 4 < taken < MUTATIONS
    with monkeypatch.context() as patched:
        patched.setattr(jpeg, "read_header", lambda photo: None)
        by_plugin = decode_rgb(bases[3], contract)
    assert decode_rgb(bases[3], contract).tobytes() == by_plugin.tobytes()
