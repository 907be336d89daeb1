"""Many photos: every answer is the one that a single run gives, in order, bounded, and nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime import pipeline
from edge_runtime.classifier import Classifier
from edge_runtime.errors import ImageError, ImageNotFound, InterpreterBroken
from edge_runtime.pipeline import AHEAD, classify_each
from edge_runtime.result import Prediction
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p

U8 = FIXTURES / "tiny_uint8.tflite"
PHOTOS = 24


@pytest.fixture
def classifier() -> Iterator[Classifier]:
    with Classifier.open(U8) as opened:
        yield opened


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    for index in range(PHOTOS):
        # Of very different sizes, so that later ones are done first.
        size = 900 if index % 5 == 0 else 40
        (tmp_path / f"{index:02d}.jpg").write_bytes(p.jpeg(size, size, index))
    return sorted(map(str, tmp_path.iterdir()))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_answers_are_those_of_single_runs_in_order(
    classifier: Classifier, photos: list[str], workers: int
) -> None:
    expected = [classifier.classify(photo).scores for photo in photos]
    assert len({tuple(scores.values()) for scores in expected}) > 3
    before = threading.active_count()
    answers = list(classify_each(classifier, photos, workers=workers))
    assert [name for name, _ in answers] == photos
    for (_, answer), scores in zip(answers, expected, strict=True):
        assert isinstance(answer, Prediction)
        assert answer.scores == scores
        assert answer.runtime["workers"] == workers
    assert threading.active_count() == before
    assert classifier.classify(photos[0]).scores == expected[0]


def test_a_bad_photo_has_its_error_in_its_place(classifier: Classifier, photos: list[str]) -> None:
    missing = ImageNotFound("no folder")
    named = [photos[0], "/none.jpg", ("folder", missing), photos[1]]
    answers = list(classify_each(classifier, named, workers=2))
    assert [name for name, _ in answers] == [photos[0], "/none.jpg", "folder", photos[1]]
    assert isinstance(answers[1][1], ImageError) and answers[2][1] is missing
    assert isinstance(answers[3][1], Prediction)


def test_photos_are_taken_no_faster_than_answers(classifier: Classifier, photos: list[str]) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield photos[1]

    answers = classify_each(classifier, endless(), workers=2)
    for fetched in range(1, 20):
        next(answers)
        assert taken <= fetched + 2 * AHEAD
    answers.close()  # type: ignore[attr-defined]


def test_a_failing_inference_ends_it(
    classifier: Classifier, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> bytes:
        raise InterpreterBroken("smoke")

    monkeypatch.setattr(Classifier, "infer", fails)
    before = threading.active_count()
    with pytest.raises(InterpreterBroken, match="smoke"):
        list(classify_each(classifier, photos, workers=2))
    assert threading.active_count() == before


def test_one_engine_serves_all_workers_where_it_is_an_accelerator(
    classifier: Classifier, photos: list[str]
) -> None:
    with Classifier.open(U8, accelerator="xnnpack") as accelerated:
        engines, opened = pipeline._engines(accelerated, 4)
        assert opened == [] and engines.qsize() == 1
        answers = list(classify_each(accelerated, photos[:4], workers=4))
    for (_, answer), photo in zip(answers, photos, strict=False):
        assert isinstance(answer, Prediction)
        assert answer.scores == classifier.classify(photo).scores


def test_a_classifier_serves_several_threads(classifier: Classifier, photos: list[str]) -> None:
    expected = [classifier.classify(photo).scores for photo in photos]
    found: dict[int, list[dict[str, float]]] = {}

    def work(number: int) -> None:
        found[number] = [classifier.classify(photo).scores for photo in photos]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [expected] * 4
