"""Many photos on all cores: a worker and an engine for each, answers in order, a bounded queue. stdlib only.

Every worker reads, decodes and classifies whole photos: Pillow and LiteRT let go of Python's lock while they work, and
two engines of one thread do more than one engine of two (one photo's inference spreads badly over threads). Where an
accelerator does the inference there is one engine, and its work overlaps with the decoding of the next photos.

    photos -> feeder (a thread: the next name may be long in coming) -> workers -> answers, in the order of the photos
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Lock, Semaphore, Thread

from edge_runtime.classifier import Classifier
from edge_runtime.errors import ImageError, UsageError
from edge_runtime.result import Prediction
from edge_runtime.runner import Runner

# Photos that may be under way or waiting for a slower one before them, by worker. Answers are small, photos are not.
AHEAD = 3
# How long the end waits for a feeder: one at work is done at once, one that waits for a name may wait for ever.
FEEDER_END_S = 0.2

Photo = str | os.PathLike[str] | tuple[str, ImageError]
Answer = Prediction | ImageError


def available_cores() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def classify_each(
    classifier: Classifier, photos: Iterable[Photo], *, workers: int | None = None
) -> Generator[tuple[str, Answer]]:
    """Classifies photos on several cores.

    Args:
        classifier: An open one; more engines for the same model are opened beside its own, as photos need them, and
            closed again.
        photos: Paths, asked for in a thread of their own and no faster than answers are fetched; what has its error
            already passes in its place.
        workers: Photos at a time, at most; as many as there are cores when left out.

    Returns:
        Each path with its prediction, or with the error that this photo gave, in the order of `photos`: as soon as it
        and those before it are done. Who stops early closes the generator before the classifier: its workers are at the
        engine until then.

    Raises:
        UsageError: `workers` is less than 1.
        InterpreterBroken: The inference failed, or no further engine opens.
    """
    count = available_cores() if workers is None else workers
    if count < 1:
        raise UsageError("the number of workers", found=str(count), expected="1 or more")
    return _answers(classifier, photos, count)


def _answers(classifier: Classifier, photos: Iterable[Photo], count: int) -> Generator[tuple[str, Answer]]:
    runners = _Runners(classifier.runner, count)
    pool = ThreadPoolExecutor(count, thread_name_prefix="edge-classify")

    def work(photo: str) -> Answer:
        try:
            prepared = classifier.prepare(photo)
        except ImageError as error:
            return error
        runner = runners.take()
        try:
            raw_output = classifier.infer(prepared, runner)
        finally:
            runners.give_back(runner)
        return classifier.answer(prepared, raw_output, workers=count)

    feeder = _Feeder(photos, lambda photo: pool.submit(work, photo), AHEAD * count)
    try:
        while (waiting := feeder.next()) is not None:
            name, future = waiting
            answer = future.result()
            feeder.make_room()
            yield name, answer
    finally:
        # Also when the caller stops early: what has not begun never will.
        feeder.stop()
        pool.shutdown(wait=True, cancel_futures=True)
        runners.close()


class _Feeder:
    """Takes photos off their source in a thread and gives them to the workers, so many ahead of the answers.

    In a thread, because an answer must not wait for the next name: a list may come through a pipe that stays open.

    Args:
        photos: As `classify_each`.
        submit: Gives a path to the workers.
        ahead: Photos that may be under way.
    """

    def __init__(self, photos: Iterable[Photo], submit: Callable[[str], Future[Answer]], ahead: int) -> None:
        self._photos, self._submit = photos, submit
        self._room = Semaphore(ahead)
        self._waiting: SimpleQueue[tuple[str, Future[Answer]] | None] = SimpleQueue()
        self._lock = Lock()
        self._stopped = False
        self._thread = Thread(target=self._feed, name="edge-classify-feeder", daemon=True)
        self._thread.start()

    def next(self) -> tuple[str, Future[Answer]] | None:
        """The next photo and its answer to be; None after the last. What the source raises, its answer raises."""
        return self._waiting.get()

    def make_room(self) -> None:
        """One photo is no longer under way."""
        self._room.release()

    def stop(self) -> None:
        """No photo is given to the workers any more; the thread ends, as soon as its source lets it."""
        with self._lock:
            self._stopped = True
        self._room.release()
        self._thread.join(FEEDER_END_S)

    def _feed(self) -> None:
        try:
            self._room.acquire()
            for photo in self._photos:
                if not self._give(photo):
                    return
                self._room.acquire()
                if self._stopped:
                    return
        except BaseException as error:  # noqa: BLE001
            # Told where the answers are fetched: nobody looks at this thread.
            failed: Future[Answer] = Future()
            failed.set_exception(error)
            self._waiting.put(("", failed))
        self._waiting.put(None)

    def _give(self, photo: Photo) -> bool:
        """Whether it was taken: not after the end."""
        with self._lock:
            if self._stopped:
                return False
            if isinstance(photo, tuple):
                name, future = photo[0], Future[Answer]()
                future.set_result(photo[1])
            else:
                name = os.fspath(photo)
                future = self._submit(name)
            self._waiting.put((name, future))
            return True


class _Runners:
    """Runners for workers: the classifier's own, and others that are opened when a photo needs one and none is free."""

    def __init__(self, own: Runner, count: int) -> None:
        self._own = own
        self._free: SimpleQueue[Runner] = SimpleQueue()
        self._free.put(own)
        self._opened: list[Runner] = []
        # An accelerator is one, for all workers.
        self._limit = count - 1 if own.engine.operators_taken is None else 0
        self._lock = Lock()

    def take(self) -> Runner:
        """Return a runner that no other worker uses; errors as `Runner.open`."""
        try:
            return self._free.get_nowait()
        except Empty:
            # One after the other: nothing says that a library may be opened twice at once.
            with self._lock:
                if self._free.empty() and len(self._opened) < self._limit:
                    return self._open()
        return self._free.get()

    def give_back(self, runner: Runner) -> None:
        """Make a runner free for the next photo."""
        self._free.put(runner)

    def close(self) -> None:
        """Close what was opened here; nobody uses it any more."""
        for runner in self._opened:
            runner.close()

    def _open(self) -> Runner:
        engine = self._own.engine
        runner = Runner.open(self._own.model, engine=engine.name.split(" ")[0], threads=engine.threads)
        self._opened.append(runner)
        return runner
