"""The Python API of notebooks: what the constructor and `classify` take, and what they refuse."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime import Classifier
from edge_runtime.batch import classify_each
from edge_runtime.contract import Label
from edge_runtime.errors import ImageError, ImageNotFound, ImageTooLarge, ImageUnreadable, UsageError
from edge_runtime.images import photos as photos_module
from edge_runtime.result import Prediction
from tests.fixtures import pictures as p

U8 = Path(__file__).parents[1] / "fixtures" / "tiny_uint8.tflite"


@pytest.fixture(scope="module")
def classifier() -> Iterator[Classifier]:
    with Classifier(U8) as opened:
        yield opened


def test_the_constructor_and_open_are_the_same() -> None:
    options = {"engine": "litert", "threads": 2}
    with Classifier(str(U8), **options) as one, Classifier.open(U8, **options) as other:
        assert one.engine.name == other.engine.name
        assert one.engine.threads == other.engine.threads == 2
        assert one.classify(p.jpeg()) == other.classify(p.jpeg())


def test_labels_and_input_size(classifier: Classifier) -> None:
    assert classifier.labels == classifier.contract.labels
    assert all(isinstance(label, Label) for label in classifier.labels)
    assert [label.code for label in classifier.labels] == list(classifier.classify(p.jpeg()).scores)
    assert classifier.input_size == (24, 32)


@pytest.mark.parametrize("kind", ["str", "Path", "bytes", "bytearray", "memoryview", "file", "BytesIO"])
def test_every_form_of_a_file_gives_the_same_prediction(
    classifier: Classifier, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(p.jpeg())
    with path.open("rb") as file:
        photo = {
            "str": str(path), "Path": path, "bytes": p.jpeg(), "bytearray": bytearray(p.jpeg()),
            "memoryview": memoryview(p.jpeg()), "file": file, "BytesIO": io.BytesIO(p.jpeg()),
        }[kind]  # fmt: skip
        prediction = classifier.classify(photo)
    assert prediction.scores == classifier.classify(p.jpeg()).scores
    assert prediction.image == (str(path) if kind in ("str", "Path", "file") else "photo")
    assert classifier.classify(p.jpeg(), name="n").image == "n"


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1"])
def test_a_pillow_image_and_an_array_give_the_scores_of_a_lossless_file(
    classifier: Classifier, mode: str
) -> None:
    image = Image.open(io.BytesIO(p.jpeg())).convert(mode)
    before = image.tobytes()
    saved = io.BytesIO()
    image.save(saved, "TIFF" if mode == "CMYK" else "PNG")
    prediction = classifier.classify(image)
    assert prediction.scores == classifier.classify(saved.getvalue()).scores
    assert image.tobytes() == before
    assert list(prediction.elapsed_ms)[:2] == ["read", "decode"]
    if mode == "RGB":
        array = np.asarray(image)
        assert classifier.classify(array).scores == prediction.scores
        # Not contiguous, not writeable: only the values count.
        assert classifier.classify(np.asfortranarray(array)).scores == prediction.scores


def test_a_lazily_opened_image(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(p.saved(Image.open(io.BytesIO(p.jpeg())), "PNG"))
    with Image.open(path) as image:
        prediction = classifier.classify(image)
    assert (prediction.image, prediction.scores) == (str(path), classifier.classify(path).scores)
    path.write_bytes(path.read_bytes()[:300])
    with Image.open(path) as image, pytest.raises(ImageUnreadable):
        classifier.classify(image)


@pytest.mark.parametrize(
    ("photo", "found"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32 [4, 4, 3]"),
        (np.zeros((4, 4), np.uint8), "uint8 [4, 4]"),
        (np.zeros((4, 4, 4), np.uint8), "uint8 [4, 4, 4]"),
        (np.zeros((3, 4, 4), np.uint8), "uint8 [3, 4, 4]"),
        (np.zeros((0, 4, 3), np.uint8), "uint8 [0, 4, 3]"),
        (np.zeros((1, 4, 4, 3), np.uint8), "uint8 [1, 4, 4, 3]"),
        (7, "int"),
        (None, "NoneType"),
        ([p.jpeg()], "list"),
        (io.StringIO("x"), "str"),
    ],
)
def test_what_is_no_photo_is_a_usage_error(classifier: Classifier, photo: object, found: str) -> None:
    with pytest.raises(UsageError) as caught:
        classifier.classify(photo)
    assert caught.value.found == found


def test_files_and_images_have_the_limits_of_paths(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ImageUnreadable):
        classifier.classify(io.BytesIO(b""))
    closed = io.BytesIO(p.jpeg())
    closed.close()
    with pytest.raises(ImageNotFound):
        classifier.classify(closed)
    monkeypatch.setattr(photos_module, "MAX_PIXELS", 50)
    for photo in (np.zeros((8, 8, 3), np.uint8), Image.new("RGB", (8, 8))):
        with pytest.raises(ImageTooLarge):
            classifier.classify(photo)


def test_classify_each_takes_every_form_and_keeps_the_order(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(p.jpeg())
    image = Image.open(io.BytesIO(p.jpeg())).convert("RGB")
    photos = [path, p.jpeg(), image, np.asarray(image), tmp_path / "none.jpg"]
    named = list(classifier.classify_each(photos, workers=2))
    assert [name for name, _ in named] == [str(path), "photo", "photo", "photo", str(tmp_path / "none.jpg")]
    predictions = [one for _, one in named[:4]]
    assert all(isinstance(one, Prediction) for one in predictions)
    assert [one.scores for one in predictions] == [classifier.classify(photo).scores for photo in photos[:4]]
    assert isinstance(named[4][1], ImageError)
    assert [one for _, one in classify_each(classifier, photos[:1])] == [predictions[0]]
