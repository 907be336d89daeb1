"""The picture of an explanation: what is hot is drawn hot, where it is, and what the picture says can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageFont

from edge_runtime import Classifier, __version__
from edge_runtime.errors import InterpreterBroken
from edge_runtime.explain import heat_picture
from edge_runtime.explain.explainer import Explainer, Explanation, Grid
from edge_runtime.explain.heat_picture import (
    OPAQUE,
    PANEL_PX,
    RAMP,
    describe,
    heat_over,
    is_heat_map,
    write_picture,
)
from edge_runtime.images.preprocess import crop, decode_rgb
from tests.edge_runtime.test_result import prediction
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p

PHOTO = Image.new("RGB", (80, 40), (100, 100, 100))
# Two rows, four columns, hot at the bottom right.
HOT: Grid = ((-1.0, -1.0, 0.0, 0.0), (-1.0, 0.0, 1.0, 2.0))


def explained(lead: Grid, decision: str = "answer") -> Explanation:
    return Explanation(prediction(decision=decision), lead, PHOTO, 1.0)


def test_heat_is_drawn_at_its_place() -> None:
    shown = heat_over(PHOTO, explained(HOT))
    assert shown.size == PHOTO.size
    # A cold place is the photo; the hottest is the ramp's end, as far as it is opaque.
    assert shown.getpixel((0, 0)) == shown.getpixel((79, 0)) == shown.getpixel((0, 39)) == (100, 100, 100)
    wanted = [OPAQUE * hot + (1 - OPAQUE) * 100 for hot in RAMP[-1]]
    assert shown.getpixel((79, 39)) == pytest.approx(wanted, abs=1)
    # Halfway, by the same scale: the ramp's middle, half as opaque.
    wanted = [OPAQUE / 2 * half + (1 - OPAQUE / 2) * 100 for half in RAMP[4]]
    assert shown.getpixel((50, 39)) == pytest.approx(wanted, abs=2)


def test_a_map_of_one_place_has_no_heat() -> None:
    assert heat_over(PHOTO, explained(((0.0,),))).tobytes() == PHOTO.tobytes()


def test_the_scale_runs_from_cold_to_hot() -> None:
    bar = heat_picture._scale(320)
    for x, colour in ((0, RAMP[0]), (160, RAMP[4]), (319, RAMP[-1])):
        assert bar.getpixel((x, 5)) == pytest.approx(colour, abs=2)


@pytest.mark.parametrize(("size", "shown"), [((3000, 40), (PANEL_PX, 4)), ((30, 60), (160, PANEL_PX))])
def test_the_longer_side_fills_its_panel(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert heat_picture._panel(Image.new("RGB", size)).size == shown


@pytest.mark.parametrize("decision", ["answer", "refer", "not_a_lesion"])
def test_the_picture_repeats_the_prediction(decision: str) -> None:
    """Who sees the picture alone must not take a refused answer for one."""
    answer, colours = describe(explained(HOT, decision), "B (b)")
    if decision == "not_a_lesion":
        assert answer.startswith("NOT A LESION: ") and "%" not in answer and "B (b)" not in answer
    else:
        assert answer == f"{'REFER: not sure of ' if decision == 'refer' else ''}B (b), 60.0%."
    assert "on 2 x 4 places" in colours and "worth +2.00" in colours


def test_no_line_is_wider_than_the_picture() -> None:
    font = ImageFont.load_default(heat_picture.FONT_PX)
    text = "A word, and another, and one more. " * 20
    lines = heat_picture._wrapped(text, font, 200)
    assert " ".join(lines).split() == text.split() and len(lines) > 10
    assert all(font.getlength(line) <= 201 for line in lines)


def test_the_photo_is_the_one_that_the_network_saw_before_it_was_made_small() -> None:
    photo = p.jpeg(300, 200, index=3)
    with Classifier.open(FIXTURES / "tiny_float32.tflite") as classifier, Explainer(classifier) as explainer:
        shown = explainer.explain(photo).photo
        wanted = crop(decode_rgb(photo, classifier.contract), classifier.contract.geometry)
    with pytest.raises(InterpreterBroken) as caught:
        explainer._engine.run(b"")
    assert caught.value.expected == "an open engine"
    assert shown.size == wanted.size != (32, 32)
    assert shown.tobytes() == wanted.tobytes()  # type: ignore[union-attr]


def test_a_heat_map_is_recognized_by_its_entry(tmp_path: Path) -> None:
    """A photo whose pixels happen to hold the words is a photo; replaced by a heat map it would be lost."""
    made, photo = tmp_path / "made.png", tmp_path / "photo.png"
    write_picture(str(made), explained(HOT), "A notice.")
    assert is_heat_map(str(made))
    entry = b"iTXtSoftware" + 5 * b"\0" + b"dermedge " + __version__.encode()
    photo.write_bytes(p.saved(PHOTO, "PNG") + entry)
    assert entry in photo.read_bytes()
    for other in (photo, tmp_path, tmp_path / "none.png"):
        assert not is_heat_map(str(other))
