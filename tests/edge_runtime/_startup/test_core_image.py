"""Pillow's core without its Python gives Pillow's pixels, and is used in tested releases only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from edge_runtime._startup import core_image
from edge_runtime._startup.core_image import BILINEAR, CoreImage, encode_raw
from edge_runtime._startup.fast_jpeg import UPRIGHT
from edge_runtime.images.preprocess import decode, decode_rgb, fit_pixels
from edge_runtime.model.model_file import open_model
from tests.edge_runtime._startup import needs_tested_pillow
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p
from tests.fixtures.make_models import draw_photo


@pytest.fixture(params=["RGB", "L"])
def image(request: pytest.FixtureRequest) -> Image.Image:
    return draw_photo(5, 333, 251).convert(request.param)


def test_the_locked_pillow_is_tested() -> None:
    """Otherwise nothing below is tested, and every photo is decoded by PIL.Image."""
    locks = Path(__file__).parents[3] / "locks"
    locked = {
        version
        for lock in locks.glob("*.txt")
        for version in re.findall(r"^pillow==(\d+)\.", lock.read_text(encoding="utf-8"), re.M)
    }
    assert locked and locked <= set(core_image.TESTED_RELEASES)


@needs_tested_pillow
def test_each_operation_is_pillow_s(image: Image.Image) -> None:
    core = CoreImage(image.im)
    assert (core.mode, core.size, core.width, core.height) == (image.mode, image.size, 333, 251)
    done = [(core, image)]
    for box in ((0, 0, 333, 251), (41, 0, 292, 251), (40, 30, 41, 32)):
        done.append((core.crop(box), image.crop(box)))
    for size_px in ((224, 224), (1, 1), (700, 500), (333, 251)):
        done.append((core.resize(size_px, BILINEAR), image.resize(size_px, Image.Resampling.BILINEAR)))
    for method in UPRIGHT.values():
        done.append((core.transpose(method), image.transpose(Image.Transpose(method))))
    done.append((core.to_rgb(), image.convert("RGB")))
    for ours, expected in done:
        assert (ours.mode, ours.size) == (expected.mode, expected.size)
        assert encode_raw(ours.im, ours.size) == expected.tobytes()
        assert ours.to_pillow().tobytes() == expected.tobytes()


@needs_tested_pillow
def test_bytes_that_are_no_such_picture_give_none() -> None:
    # The last one is larger than the image that is to hold it.
    for data in (b"", b"\xff\xd8", p.jpeg()[:-40], p.jpeg()):
        assert CoreImage.decoded("RGB", (8, 8), data, "jpeg", ("RGB", "", 1, 0)) is None
    assert CoreImage.decoded("RGB", (0, 8), p.jpeg(), "jpeg", ("RGB", "", 1, 0)) is None
    assert CoreImage.decoded("RGB", (8, 8), p.jpeg(), "no such", ()) is None


@needs_tested_pillow
def test_another_pillow_decodes_by_pil_image(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = open_model(FIXTURES / "tiny_uint8.tflite").contract
    photo = p.with_orientation(6, "JPEG")
    assert isinstance(decode(photo, contract), CoreImage)
    expected = fit_pixels(photo, contract), decode_rgb(photo, contract).tobytes()
    monkeypatch.setattr(core_image, "TESTED_RELEASES", ("9",))
    assert isinstance(decode(photo, contract), Image.Image)
    assert (fit_pixels(photo, contract), decode_rgb(photo, contract).tobytes()) == expected
