"""Classify many photos on all cores: a worker and an engine each, results in order, a bounded queue. stdlib only.

Every worker reads, decodes and classifies whole photos: Pillow and LiteRT release Python's lock while they work, and
two engines of one thread are faster than one engine of two threads. An accelerator has one engine, whose work overlaps
with the decoding of the next photos.

    photos -> feeder (a thread: the next name may be late) -> workers -> results, in the order of the photos
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Lock, Semaphore, Thread
from typing import TYPE_CHECKING, Any, TypeAlias

from edge_runtime.errors import ImageError, UsageError
from edge_runtime.images.memory import Reservation
from edge_runtime.images.photos import name_of
from edge_runtime.result import Prediction
from edge_runtime.runner import Runner

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier
    from edge_runtime.classifier import Photo as OnePhoto

    Photo: TypeAlias = OnePhoto | tuple[str, ImageError]

# Photos in progress or waiting for a slower one before them, for each worker. Results are small, photos are not.
AHEAD = 3
# How long closing waits for the feeder: a busy one ends at once, one that waits for a name may wait forever.
FEEDER_END_S = 0.2

Result = Prediction | ImageError


def available_cores() -> int:
    """Return the number of processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def classify_each(
    classifier: Classifier, photos: Iterable[Photo], *, workers: int | None = None
) -> Generator[tuple[str, Result]]:
    """Classify photos on several cores.

    Args:
        classifier: An open one; more engines for the same model are opened beside its own, as photos need them, and
            closed at the end.
        photos: Each as `Classifier.classify` takes it; or a name with an error, which is yielded in its place. Fetched
            in a thread, no faster than results are consumed.
        workers: Photos at a time, at most; the number of cores if None.

    Yields:
        Each photo's name with its prediction or its error, in the order of `photos`: as soon as it and those before it
        are done. To stop early, close the generator before the classifier: its workers use the engine until then.

    Raises:
        UsageError: `workers` is less than 1.
        InterpreterBroken: The inference failed, or no further engine opens.
    """
    count = available_cores() if workers is None else workers
    if count < 1:
        raise UsageError("invalid number of workers", found=str(count), expected="1 or more")
    return _results(classifier, photos, count)


def _results(classifier: Classifier, photos: Iterable[Photo], count: int) -> Generator[tuple[str, Result]]:
    runners = _Runners(classifier.runner, count)
    pool = _Pool(count, thread_name_prefix="edge-classify")

    def work(photo: Any) -> Result:
        try:
            with Reservation(name_of(photo)):
                prepared = classifier.prepare(photo)
                runner = runners.take()
                try:
                    raw_output = classifier.infer(prepared, runner)
                finally:
                    runners.give_back(runner)
                return classifier.prediction_from(prepared, raw_output, workers=count)
        except ImageError as error:
            return error

    feeder = _Feeder(photos, lambda photo: pool.submit(work, photo), AHEAD * count)
    try:
        for name, future in iter(feeder.waiting.get, None):
            result = future.result()
            feeder.one_done()
            yield name, result
    finally:
        # Also when the caller stops early: photos that no worker has begun are dropped.
        feeder.stop()
        pool.shutdown(wait=True, cancel_futures=True)
        runners.close()


class _Pool(ThreadPoolExecutor):
    """As many threads as there is memory for: what is submitted waits for those that there are."""

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except (RuntimeError, MemoryError):
            if not self._threads:
                raise


class _Feeder:
    """Take photos from their source in a thread and submit them to the workers, a bounded number ahead.

    In a thread, because a result must not wait for the next name: a list may come through a pipe that stays open.
    """

    def __init__(self, photos: Iterable[Photo], submit: Callable[[Any], Future[Result]], ahead: int) -> None:
        self._photos, self._submit = photos, submit
        self._free = Semaphore(ahead)
        self.waiting: SimpleQueue[tuple[str, Future[Result]] | None] = SimpleQueue()
        """Each photo's name and its future result, None after the last; a source's error is its result."""
        self._lock = Lock()
        self._stopped = False
        self._thread = Thread(target=self._feed, name="edge-classify-feeder", daemon=True)
        self._thread.start()

    def one_done(self) -> None:
        """Let one more photo be submitted."""
        self._free.release()

    def stop(self) -> None:
        """Submit no more photos; the thread ends as soon as its source returns."""
        with self._lock:
            self._stopped = True
        self._free.release()
        self._thread.join(FEEDER_END_S)

    def _feed(self) -> None:
        try:
            self._free.acquire()
            for photo in self._photos:
                if not self._give(photo):
                    return
                self._free.acquire()
                if self._stopped:
                    return
        except BaseException as error:  # noqa: BLE001
            # Raised where results are fetched: nobody looks at this thread.
            failed: Future[Result] = Future()
            failed.set_exception(error)
            self.waiting.put(("", failed))
        self.waiting.put(None)

    def _give(self, photo: Photo) -> bool:
        """Submit one photo; False after the end."""
        with self._lock:
            if self._stopped:
                return False
            if isinstance(photo, tuple):
                name, future = photo[0], Future[Result]()
                future.set_result(photo[1])
            else:
                name, future = name_of(photo), self._submit(photo)
            self.waiting.put((name, future))
            return True


class _Runners:
    """The workers' runners: the classifier's own, and others, opened when a photo needs one and none is free."""

    def __init__(self, own: Runner, count: int) -> None:
        self._own = own
        self._free: SimpleQueue[Runner] = SimpleQueue()
        self._free.put(own)
        self._opened: list[Runner] = []
        # An accelerator has one engine for all workers.
        self._limit = count - 1 if own.engine.operators_taken is None else 0
        self._lock = Lock()

    def take(self) -> Runner:
        """Return a runner that no other worker uses; errors as `Runner.open`."""
        try:
            return self._free.get_nowait()
        except Empty:
            # One after the other: no library promises that it may be opened twice at once.
            with self._lock:
                if self._free.empty() and len(self._opened) < self._limit:
                    engine = self._own.engine
                    name = engine.name.split(" ")[0]
                    self._opened.append(Runner.open(self._own.model, engine=name, threads=engine.threads))
                    return self._opened[-1]
        return self._free.get()

    def give_back(self, runner: Runner) -> None:
        """Free a runner for the next photo."""
        self._free.put(runner)

    def close(self) -> None:
        """Close the runners that were opened here."""
        for runner in self._opened:
            runner.close()
