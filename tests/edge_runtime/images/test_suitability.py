"""Photos that cannot be classified are refused before the inference, with the rule and its number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageFilter

from edge_runtime import Classifier
from edge_runtime.cli import command
from edge_runtime.errors import ImageUnsuitable
from edge_runtime.images import suitability
from edge_runtime.result import error_fields
from tests.fixtures import pictures as p
from tests.fixtures.make_models import draw_photo


@pytest.fixture(scope="module")
def classifier() -> Iterator[Classifier]:
    """The bundled model, of 224 px."""
    with Classifier() as opened:
        yield opened


@pytest.mark.parametrize(
    ("image", "measure", "value", "threshold"),
    [
        (draw_photo(1, 4, 4), "side_px", 4, 112),
        (draw_photo(1, 32, 32), "side_px", 32, 112),
        (draw_photo(1, 112, 90), "side_px", 90, 112),
        (draw_photo(1, 111, 300), "side_px", 111, 112),
        (draw_photo(1, 1000, 250), "aspect", 4, 3),
        (draw_photo(1, 200, 601), "aspect", 3.005, 3),
        (Image.new("RGB", (400, 300), (200, 150, 120)), "spread", 0, 2),
        (Image.new("RGB", (400, 300)), "spread", 0, 2),
    ],
)
@pytest.mark.parametrize("format_name", ["PNG", "JPEG", ""])
def test_the_rule_and_its_number_are_given(
    image: Image.Image, measure: str, value: float, threshold: float, format_name: str, classifier: Classifier
) -> None:
    photo = p.saved(image, format_name) if format_name else image
    with pytest.raises(ImageUnsuitable) as caught:
        classifier.classify(photo, name="x")
    rule = caught.value.rule
    assert caught.value.code == "image-unsuitable" and rule is not None
    assert (rule["name"], rule["measure"], rule["threshold"]) == ("unsuitable", measure, threshold)
    assert rule["value"] == pytest.approx(value, abs=1e-3)
    assert error_fields("x", caught.value)["error"]["rule"] == rule


@pytest.mark.parametrize("size", [(112, 112), (112, 336), (400, 300), (4000, 3000)])
def test_limits_themselves_are_within(size: tuple[int, int], classifier: Classifier) -> None:
    assert classifier.classify(p.jpeg(*size)).labels


def test_limits_follow_the_network() -> None:
    from tests.fixtures import FIXTURES

    with Classifier(FIXTURES / "tiny_uint8.tflite") as small:
        assert small.input_size == (24, 32)
        assert small.classify(draw_photo(1, 12, 12)).labels
        with pytest.raises(ImageUnsuitable):
            small.classify(draw_photo(1, 11, 12))


def test_blur_is_noted_and_changes_nothing(classifier: Classifier) -> None:
    sharp = Image.effect_noise((400, 300), 40).convert("RGB")
    assert not classifier.classify(sharp).notes
    (note,) = classifier.classify(draw_photo(0, 400, 300).filter(ImageFilter.GaussianBlur(20))).notes
    assert note.startswith("blurred: ") and f"{suitability.MIN_SHARPNESS:g}" in note


def test_a_line_of_json_has_the_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    (tmp_path / "icon.png").write_bytes(p.saved(draw_photo(1, 4, 4), "PNG"))
    assert command.main(["--json", str(tmp_path / "icon.png")]) == 1
    line = json.loads(capsys.readouterr().out)
    schema = json.loads((Path(command.__file__).parent / "lines.schema.json").read_text())
    jsonschema.validate(line, schema)
    assert line["error"]["rule"]["value"] == 4
