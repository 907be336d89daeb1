"""Many photos on all cores: a worker and an engine for each, answers in order, a bounded queue. stdlib only.

Every worker reads, decodes and classifies whole photos: Pillow and LiteRT let go of Python's lock while they work, and
two engines of one thread do more than one engine of two (one photo's inference spreads badly over threads). Where an
accelerator does the inference there is one engine, and its work overlaps with the decoding of the next photos.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from edge_runtime.classifier import Classifier
from edge_runtime.engines import Engine, open_engine
from edge_runtime.errors import ImageError
from edge_runtime.result import Prediction

# Photos that may be under way or waiting for a slower one before them, by worker. Answers are small, photos are not.
AHEAD = 3


def available_cores() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def classify_each(
    classifier: Classifier,
    photos: Iterable[str | tuple[str, ImageError]],
    *,
    workers: int | None = None,
) -> Generator[tuple[str, Prediction | ImageError]]:
    """Classifies photos on several cores.

    Args:
        classifier: An open one; more engines for the same model are opened beside its own and closed again.
        photos: Paths, taken no faster than answers are fetched; what has its error already passes in its place.
        workers: Photos at a time; as many as there are cores when left out.

    Yields:
        Each path with its prediction, or with the error that this photo gave; in the order of `photos`. Who stops early
        closes the generator before the classifier: its workers are at the engine until then.

    Raises:
        InterpreterBroken: The inference failed.
    """
    count = available_cores() if workers is None else workers
    engines, opened = _engines(classifier, count)
    classifier.workers = count
    waiting: deque[tuple[str, Future[Prediction | ImageError]]] = deque()
    pool = ThreadPoolExecutor(count, thread_name_prefix="edge-classify")
    try:
        work = _worker(classifier, engines)
        for photo in photos:
            if isinstance(photo, str):
                waiting.append((photo, pool.submit(work, photo)))
            else:
                waiting.append((photo[0], _done(photo[1])))
            if len(waiting) >= AHEAD * count:
                name, answer = waiting.popleft()
                yield name, answer.result()
        while waiting:
            name, answer = waiting.popleft()
            yield name, answer.result()
    finally:
        # Also when the caller stops early: what has not begun never will.
        pool.shutdown(wait=True, cancel_futures=True)
        for engine in opened:
            engine.close()


def _done(error: ImageError) -> Future[Prediction | ImageError]:
    future: Future[Prediction | ImageError] = Future()
    future.set_result(error)
    return future


def _worker(classifier: Classifier, engines: SimpleQueue[Engine]) -> Callable[[str], Prediction | ImageError]:
    def work(photo: str) -> Prediction | ImageError:
        try:
            prepared = classifier.prepare(photo)
        except ImageError as error:
            return error
        engine = engines.get()
        try:
            raw_output = classifier.infer(prepared, engine)
            return classifier.answer(prepared, raw_output)
        finally:
            engines.put(engine)

    return work


def _engines(classifier: Classifier, count: int) -> tuple[SimpleQueue[Engine], list[Engine]]:
    """Engines for so many workers, the classifier's own among them; and those that were opened here."""
    own = classifier.engine
    engines: SimpleQueue[Engine] = SimpleQueue()
    engines.put(own)
    opened: list[Engine] = []
    if own.operators_taken is None:
        name = own.name.split(" ")[0]
        for _ in range(count - 1):
            opened.append(open_engine(classifier.model.data, engine=name, threads=own.threads))
            engines.put(opened[-1])
    return engines, opened
