"""Colour profiles: what is sRGB passes untouched, what is not becomes sRGB, what is damaged is reported."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image, ImageCms

from edge_runtime.classifier import Classifier
from edge_runtime.images.color import MAX_PROFILE_BYTES, to_srgb
from edge_runtime.images.preprocess import decode_rgb
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p
from tests.fixtures.make_models import draw_photo

# LittleCMS works with 16-bit fixed point and rounds once more at the end.
STEPS = 2
P3 = p.icc_profile(p.DISPLAY_P3, 2.2)
GREY = p.icc_profile(None, 1.8)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.open(FIXTURES / "tiny_uint8.tflite")


def srgb_curve(linear: float) -> float:
    linear = min(1.0, max(0.0, linear))
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def expected_srgb(rgb: tuple[int, int, int]) -> tuple[float, ...]:
    """Display P3 with gamma 2.2 to sRGB by the definition of both: colorants, inverse colorants, curve."""
    linear = [(value / 255) ** 2.2 for value in rgb]
    xyz = [sum(linear[i] * p.DISPLAY_P3[i][j] for i in range(3)) for j in range(3)]
    # The inverse of the sRGB colorants (D50), from the colour space's definition.
    inverse = (
        (3.1338561, -1.6168667, -0.4906146),
        (-0.9787684, 1.9161415, 0.0334540),
        (0.0719453, -0.2289914, 1.4052427),
    )
    return tuple(255 * srgb_curve(sum(row[j] * xyz[j] for j in range(3))) for row in inverse)


def test_display_p3_becomes_srgb_by_the_formula() -> None:
    colors = [(200, 120, 90), (128, 128, 128), (90, 60, 50), (255, 255, 255), (0, 0, 0), (180, 90, 110)]
    image = Image.frombytes("RGB", (len(colors), 1), bytes(v for color in colors for v in color))
    converted, note = to_srgb(image, P3)
    assert note == ""
    moved = 0.0
    for i, color in enumerate(colors):
        found = converted.getpixel((i, 0))
        assert isinstance(found, tuple)
        assert max(abs(a - b) for a, b in zip(found, expected_srgb(color), strict=True)) <= STEPS, color
        moved = max(moved, *(abs(a - b) for a, b in zip(found, color, strict=True)))
    assert moved > 5


@pytest.mark.parametrize("profile", [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()])
def test_srgb_in_other_words_changes_no_pixel(profile: bytes, classifier: Classifier) -> None:
    image = draw_photo(4, 64, 48)
    assert to_srgb(image, profile) == (image, "")
    plain, tagged = p.saved(image, "PNG"), p.saved(image, "PNG", icc_profile=profile)
    assert tagged != plain
    first, second = (decode_rgb(photo, classifier.contract) for photo in (plain, tagged))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_format_s_profile_is_seen(format_name: str, classifier: Classifier) -> None:
    image = draw_photo(4, 64, 48)
    options: dict[str, object] = {"lossless": True} if format_name == "WEBP" else {}
    plain = decode_rgb(p.saved(image, format_name, **options), classifier.contract)
    notes: list[str] = []
    photo = p.saved(image, format_name, icc_profile=P3, **options)
    tagged = decode_rgb(photo, classifier.contract, notes=notes)
    assert tagged.tobytes() == to_srgb(plain, P3)[0].tobytes() != plain.tobytes()
    assert notes == []


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA"])
def test_every_mode_is_converted(mode: str, classifier: Classifier) -> None:
    image = draw_photo(4, 64, 48).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(255)
    profile = GREY if mode in ("L", "LA") else P3
    notes: list[str] = []
    plain = decode_rgb(p.saved(image, "PNG"), classifier.contract)
    tagged = decode_rgb(p.saved(image, "PNG", icc_profile=profile), classifier.contract, notes=notes)
    assert notes == []
    grey = plain.convert("L") if mode in ("L", "LA") else plain
    assert tagged.tobytes() == to_srgb(grey, profile)[0].tobytes() != plain.tobytes()


def test_grey_of_another_gamma_becomes_srgb_grey() -> None:
    ramp = Image.frombytes("L", (256, 1), bytes(range(256)))
    converted, _ = to_srgb(ramp, GREY)
    for value in (0, 16, 40, 64, 128, 200, 255):
        found = converted.getpixel((value, 0))
        assert isinstance(found, tuple)
        assert all(abs(one - 255 * srgb_curve((value / 255) ** 1.8)) <= STEPS for one in found)


@pytest.mark.parametrize(
    ("make", "reported"),
    [
        (lambda: P3[:140] + bytes(len(P3) - 140), "damaged"),
        (lambda: P3[:200], "damaged"),
        (lambda: b"no profile at all, but a few bytes of text", "does not fit"),
        (lambda: GREY, "does not fit"),
        (lambda: P3 + bytes(MAX_PROFILE_BYTES), "does not fit"),
    ],
)
def test_a_profile_that_cannot_be_applied_is_noted(make: Callable[[], bytes], reported: str) -> None:
    image = draw_photo(4, 64, 48)
    same, note = to_srgb(image, make())
    assert same is image and reported in note


def test_the_note_is_in_the_prediction(classifier: Classifier) -> None:
    photo = p.saved(draw_photo(4, 64, 48), "PNG", icc_profile=P3[:200])
    prediction = classifier.classify(photo)
    assert prediction.notes == ("its colour profile is damaged and was not applied",)
    assert prediction.to_dict()["notes"] == list(prediction.notes)
    assert "  note: its colour profile is damaged" in prediction.to_text()
    assert classifier.classify(p.jpeg()).notes == ()


def frames(format_name: str, count: int) -> bytes:
    images = [draw_photo(index, 40, 30) for index in range(count)]
    buffer = io.BytesIO()
    options: dict[str, Any] = {"lossless": True} if format_name == "WEBP" else {}
    images[0].save(buffer, format_name, save_all=True, append_images=images[1:], **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_used_with_a_note(format_name: str, classifier: Classifier) -> None:
    one, several = classifier.classify(frames(format_name, 1)), classifier.classify(frames(format_name, 3))
    assert one.notes == ()
    assert len(several.notes) == 1 and "the first was taken" in several.notes[0]
    assert several.scores == one.scores


def test_big_tiff_pages_are_seen(classifier: Classifier) -> None:
    images = [draw_photo(index, 40, 30) for index in range(2)]
    photo = p.saved(images[0], "TIFF", save_all=True, append_images=images[1:], big_tiff=True)
    assert photo[:4] == b"II+\0"
    assert len(classifier.classify(photo).notes) == 1
    assert classifier.classify(p.saved(images[0], "TIFF", big_tiff=True)).notes == ()


def test_heic_needs_pillow_heif(classifier: Classifier) -> None:
    """Read where it is installed; refused with the cure where it is not."""
    try:
        import pillow_heif
    except ImportError:
        from edge_runtime.errors import ImageUnreadable

        with pytest.raises(ImageUnreadable, match="pip install pillow-heif"):
            classifier.classify(b"\0\0\0\x18ftypheic" + bytes(100))
        return
    image = draw_photo(4, 64, 48)
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=-1)
    assert buffer.getvalue()[4:12] == b"ftypheic"
    decoded = decode_rgb(buffer.getvalue(), classifier.contract)
    assert decoded.size == (64, 48) and decoded.mode == "RGB"
    prediction = classifier.classify(buffer.getvalue())
    assert prediction.notes == () and prediction.label == classifier.classify(p.saved(image, "PNG")).label
