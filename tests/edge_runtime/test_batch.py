"""Many photos: every answer is the one that a single run gives, in order, bounded, and nothing is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_runtime import batch as pipeline
from edge_runtime import classifier as classifier_module
from edge_runtime.batch import AHEAD, classify_each
from edge_runtime.classifier import Classifier, Prepared
from edge_runtime.diagnostics.self_check import self_check
from edge_runtime.engines import Engine, open_engine
from edge_runtime.errors import ImageError, ImageNotFound, InterpreterBroken, OutOfMemory, UsageError
from edge_runtime.images.preprocess import fit_pixels
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
def test_predictions_are_those_of_single_runs_in_order(
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


def test_photos_are_fetched_no_faster_than_results(classifier: Classifier, photos: list[str]) -> None:
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


def test_a_result_does_not_wait_for_the_next_name(classifier: Classifier, photos: list[str]) -> None:
    fetched = threading.Event()
    waited: list[bool] = []

    def names() -> Iterator[str]:
        yield photos[0]
        waited.append(fetched.wait(10))
        yield photos[1]
        raise RuntimeError("the list broke off")

    answers = classify_each(classifier, names(), workers=2)
    assert next(answers)[0] == photos[0]
    fetched.set()
    assert next(answers)[0] == photos[1] and waited == [True]
    # What the source raises comes after the answers before it.
    with pytest.raises(RuntimeError, match="broke off"):
        next(answers)


def test_a_name_that_never_comes_does_not_hold_up_the_end(classifier: Classifier, photos: list[str]) -> None:
    released = threading.Event()

    def names() -> Iterator[str]:
        yield photos[0]
        released.wait(60)
        yield photos[1]

    answers = classify_each(classifier, names(), workers=2)
    next(answers)
    started = time.perf_counter()
    answers.close()
    assert time.perf_counter() - started < 30
    released.set()


def test_engines_are_opened_as_photos_need_them(
    classifier: Classifier, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Engine] = []

    def counted(*arguments: Any, **options: Any) -> Engine:
        opened.append(open_engine(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr("edge_runtime.runner.open_engine", counted)
    assert len(list(classify_each(classifier, photos[:2], workers=64))) == 2
    assert len(opened) <= 1


def test_an_engine_that_does_not_open_ends_it_and_leaves_none_open(
    classifier: Classifier, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Engine] = []
    failed = threading.Event()

    def second_fails(*arguments: Any, **options: Any) -> Engine:
        if opened:
            failed.set()
            raise InterpreterBroken("no memory")
        opened.append(open_engine(*arguments, **options))
        return opened[-1]

    def infer(self: Classifier, prepared: Prepared, engine: Engine) -> bytes:
        # All engines stay in use until the one that fails is asked for.
        assert failed.wait(60)
        return engine.run(prepared.input_tensor)

    monkeypatch.setattr("edge_runtime.runner.open_engine", second_fails)
    monkeypatch.setattr(Classifier, "infer", infer)
    with pytest.raises(InterpreterBroken, match="no memory"):
        list(classify_each(classifier, photos, workers=3))
    with pytest.raises(InterpreterBroken) as caught:
        opened[0].run(bytes(opened[0].input.nbytes))
    assert caught.value.expected == "an open engine"
    assert classifier.runner.scores_of_pixels(
        bytes(classifier.contract.input.height_px * classifier.contract.input.width_px * 3)
    )


def test_predictions_keep_their_number_of_workers(classifier: Classifier, photos: list[str]) -> None:
    alone = classifier.classify(photos[0])
    (_, several), *_ = classify_each(classifier, photos[:3], workers=3)
    list(classify_each(classifier, photos[:2], workers=2))
    assert isinstance(several, Prediction)
    workers = [reported.runtime["workers"] for reported in (alone, several, classifier.classify(photos[0]))]
    assert workers == [1, 3, 1]


def test_paths_are_photos_and_no_workers_are_an_error(classifier: Classifier, photos: list[str]) -> None:
    ((name, answer),) = classify_each(classifier, [Path(photos[0])], workers=1)
    assert name == photos[0] and isinstance(answer, Prediction)
    with pytest.raises(UsageError) as caught:
        classify_each(classifier, photos, workers=0)
    assert caught.value.expected == "1 or more"


def test_everything_takes_turns_at_the_classifiers_engine(
    classifier: Classifier, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteRT has been seen to fail only now and then; two at once are wrong always."""
    run, busy, overlaps = classifier.engine.run, threading.Lock(), []

    def watched(input_tensor: bytes) -> bytes:
        if not busy.acquire(blocking=False):
            overlaps.append(threading.current_thread().name)
            return run(input_tensor)
        try:
            time.sleep(0.002)
            return run(input_tensor)
        finally:
            busy.release()

    monkeypatch.setattr(classifier.engine, "run", watched)
    pixels_u8 = fit_pixels(p.jpeg(), classifier.contract)
    calls: list[Callable[[], object]] = [
        lambda: classifier.classify(photos[1]),
        lambda: list(classify_each(classifier, photos[1:4], workers=1)),
        lambda: self_check(classifier),
        lambda: classifier.runner.scores_of_pixels(pixels_u8),
    ]
    threads = [threading.Thread(target=lambda call=call: [call() for _ in range(10)]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == []


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
    classifier: Classifier, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Classifier.open(U8, accelerator="xnnpack") as accelerated:
        monkeypatch.setattr(pipeline.Runner, "open", lambda *_, **__: pytest.fail("a second engine"))
        answers = list(classify_each(accelerated, photos[:4], workers=4))
        # Photos may have come one by one; here the second asks while the first is busy.
        runners, taken = pipeline._Runners(accelerated.runner, 4), []
        first = runners.take()
        second = threading.Thread(target=lambda: taken.append(runners.take()))
        second.start()
        second.join(0.2)
        assert second.is_alive() and taken == []
        runners.give_back(first)
        second.join()
        assert taken == [first] == [accelerated.runner]
    for (_, answer), photo in zip(answers, photos, strict=False):
        assert isinstance(answer, Prediction)
        assert answer.scores == classifier.classify(photo).scores


def test_further_engines_are_of_the_same_kind() -> None:
    """Other kernels round otherwise: which worker took a photo must not decide its answer."""
    with Classifier.open(U8, engine="litert", threads=2) as classifier:
        runners = pipeline._Runners(classifier.runner, 2)
        own, further = runners.take(), runners.take()
        assert own is classifier.runner and further is not own
        assert (further.engine.name, further.engine.threads) == (own.engine.name, 2)
        runners.close()
        with pytest.raises(InterpreterBroken) as caught:
            further.run(b"")
        assert caught.value.expected == "an open engine"
        assert own.run(bytes(own.engine.input.nbytes))


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


@pytest.mark.parametrize("where", ["read_photo", "decode", "infer", "prediction_from"])
def test_want_of_memory_is_the_error_of_one_photo(
    where: str, classifier: Classifier, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner: Any = {"read_photo": classifier_module, "decode": type(classifier.runner)}.get(where, Classifier)
    original, failed = getattr(owner, where), []

    def fails_once(*arguments: Any, **options: Any) -> Any:
        if not failed:
            failed.append(True)
            raise MemoryError
        return original(*arguments, **options)

    monkeypatch.setattr(owner, where, fails_once)
    results = [result for _, result in classify_each(classifier, photos, workers=2)]
    errors = [result for result in results if not isinstance(result, Prediction)]
    assert [error.code for error in errors] == ["out_of_memory"] and len(results) == len(photos)
    failed.clear()
    with pytest.raises(OutOfMemory):
        classifier.classify(photos[0])


@pytest.mark.parametrize("allowed", [1, 2])
def test_threads_for_which_there_is_no_memory_are_done_without(
    allowed: int, classifier: Classifier, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if thread.name.startswith("edge-classify_"):
            if len(started) == allowed:
                raise RuntimeError("can't start new thread")
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    results = list(classify_each(classifier, photos, workers=8))
    assert [name for name, _ in results] == photos and len(started) == allowed
    assert all(isinstance(result, Prediction) for _, result in results)
