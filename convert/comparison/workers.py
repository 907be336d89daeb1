"""The process pool of `convert`: photos, as they are or disturbed, through several models on all cores, in order.

    Workers (this process) -- JSON lines --> python -m convert.comparison.workers MODEL ... (one process a core)

The disturbances come from the module that is run in the processes: convert.robustness.disturbances has its own.

A worker decodes a photo once for all models that need the same pixels and runs each model with one thread, as a device
does. Neither side imports numpy here, so that a worker starts in 0.2 s. Workers run in a session of their own: Ctrl-C
reaches the command only, which then ends them and keeps the scores so far.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime import errors
from edge_runtime.engines.first_load import require_safe
from edge_runtime.errors import EXIT_OK, EdgeError, ImageError, InterpreterBroken
from edge_runtime.images.preprocess import as_pillow
from edge_runtime.model.flatbuffer import Limits
from edge_runtime.model.model_file import ModelFile, open_model
from edge_runtime.runner import Runner

if TYPE_CHECKING:
    from PIL import Image

ROOT = Path(__file__).parents[2]
# Photos that a worker gets at a time: few, so that an interruption loses little.
CHUNK = 4

Step = tuple[str, float]
"""A disturbance's name and a strength; see convert/robustness/disturbances.py."""
if TYPE_CHECKING:
    Disturb = Callable[[Image.Image, Step], Image.Image]


@dataclass(frozen=True)
class PhotoScores:
    """The output of all models for one photo."""

    scores: tuple[tuple[tuple[float, ...], ...], ...] = ()
    """[versions][models][labels], dequantized, in each model's output order; version 0 is the photo as it is."""
    inference_ms: tuple[float, ...] = ()
    """By model, of version 0."""
    pixels_sha256: tuple[str, ...] = ()
    """By version, of the first model's pixels; of disturbed photos only."""
    problem: str = ""
    """Why the photo has no scores."""


def argument_of(model: ModelFile, *, vouched: bool) -> str:
    """Return the word of a command line from which another process opens a model by `model_of`."""
    limits = model.limits
    return json.dumps([os.path.realpath(model.path), vouched, limits.memory_mib, limits.gigamacs])


def model_of(argument: str) -> ModelFile:
    """Open a model of `argument_of`; errors as `open_model`."""
    path, vouched, *limits = json.loads(argument)
    return open_model(path, vouched=vouched, limits=Limits(*limits))


class Workers:
    """Processes, by default one a core, that run models on photos; use as a context.

    They run `module`, whose `__main__` block calls `main`. Models of unknown origin are tried once before.

    Raises:
        ModelUnsafe, InterpreterError: As `require_safe`.
    """

    def __init__(
        self, models: Sequence[ModelFile], count: int | None = None, *, module: str = __name__
    ) -> None:
        for model in models:
            require_safe(model)
        self.count = count or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0])
        command = [sys.executable, "-m", module, *(argument_of(model, vouched=True) for model in models)]
        self._processes = [_Process(command) for _ in range(self.count)]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.popen.terminate()
        for process in self._processes:
            process.close()

    def run(self, photos: Sequence[Path], steps: Sequence[Step] | None = None) -> Iterator[PhotoScores]:
        """Run every model on every photo.

        Args:
            photos: Their files.
            steps: Disturbed versions to run beside each photo. Even where empty, the photo itself is run twice, and
                the SHA-256 of all pixels are returned. None runs each photo once.

        Yields:
            Scores in the order of `photos`. When left early, nothing else may be run.

        Raises:
            ModelFileError, InterpreterError: A model cannot be used.
            InterpreterBroken: A process ended early, or a model's scores for one photo differ between two runs.
        """
        # The last ones singly: no process has a few left while the others have none.
        singly = max(0, len(photos) - 2 * CHUNK * self.count)
        starts = [*range(0, singly, CHUNK), *range(singly, len(photos))]
        free: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        for process in self._processes:
            free.put(process)

        def scores_of(start: int, end: int) -> list[PhotoScores]:
            process = free.get()
            try:
                found = process.ask({"photos": [str(path) for path in photos[start:end]], "steps": steps})
            finally:
                free.put(process)
            return [_photo_scores(row) for row in found]

        threads = ThreadPoolExecutor(self.count)
        try:
            for rows in threads.map(scores_of, starts, [*starts[1:], len(photos)]):
                yield from rows
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def bench(self, photo: Path, runs: int) -> list[list[float]]:
        """Return inference times in ms, [models][runs], of one photo; models take turns, nothing else runs."""
        return [list(times) for times in self._processes[0].ask({"bench": str(photo), "runs": runs})]


class _Process:
    """One worker, seen from the parent."""

    def __init__(self, command: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        self.popen = subprocess.Popen(
            command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, errors="replace", start_new_session=True
        )
        assert self.popen.stdin and self.popen.stdout and self.popen.stderr
        self._stdin, self._stdout, self._stderr = self.popen.stdin, self.popen.stdout, self.popen.stderr

    def ask(self, request: dict[str, Any]) -> Any:
        """Send a request and wait for the reply."""
        try:
            self._stdin.write(json.dumps(request) + "\n")
            self._stdin.flush()
        except OSError as error:
            # What it wrote before it ended says more than the broken pipe.
            self._reply()
            raise self._ended(str(error)) from error
        return self._reply()

    def _reply(self) -> Any:
        line = self._stdout.readline()
        if not line:
            last_words = self._stderr.read().strip().splitlines()[-1:]
            raise self._ended(": ".join([f"exit status {self.popen.wait()}", *last_words]))
        reply = json.loads(line)
        if isinstance(reply, dict):
            raise getattr(errors, reply.pop("class"))(reply.pop("problem"), **reply)
        return reply

    def close(self) -> None:
        """Wait for the end of the process."""
        self.popen.wait()
        for stream in (self._stdin, self._stdout, self._stderr):
            try:
                stream.close()
            except BrokenPipeError:
                continue

    def _ended(self, why: str) -> InterpreterBroken:
        return InterpreterBroken(
            "worker process: ended before its photos were done",
            found=why,
            expected="scores for every photo",
            fix="run the models one at a time to find which it was; use fewer --workers where memory is short",
        )


def _photo_scores(row: Sequence[Any]) -> PhotoScores:
    scores, inference_ms, pixels_sha256, problem = row
    nested = tuple(tuple(tuple(of_model) for of_model in version) for version in scores)
    return PhotoScores(nested, tuple(inference_ms), tuple(pixels_sha256), problem)


# -------------------------------------------------------------------- inside a worker


def photo_scores(
    models: Sequence[Runner], path: Path, steps: Sequence[Step] | None = None, disturb: Disturb | None = None
) -> PhotoScores:
    """Run all versions of one photo through all models; steps and errors are those of `Workers.run`."""
    try:
        versions = _versions(models, path, steps or (), disturb)
    except ImageError as error:
        return PhotoScores(problem=error.message)
    except OSError as error:
        return PhotoScores(problem=f"{path.name}: {error.strerror or error}")
    ran = [[_run(model, pixels) for model in models] for pixels in versions]
    scores = tuple(tuple(scores for scores, _ in row) for row in ran)
    hashes: tuple[str, ...] = ()
    if steps is not None:
        if tuple(_run(model, versions[0])[0] for model in models) != scores[0]:
            problem = f"{path}: two runs on the same photo gave different scores"
            found = "other scores after the disturbed versions than before them"
            fix = "Look for state that the engine keeps from photo to photo"
            raise InterpreterBroken(problem, found=found, expected="equal scores", fix=fix)
        first = models[0].pixel_key
        hashes = tuple(hashlib.sha256(pixels[first]).hexdigest() for pixels in versions)
    return PhotoScores(scores, tuple(ms for _, ms in ran[0]), hashes)


def _versions(
    models: Sequence[Runner], path: Path, steps: Sequence[Step] = (), disturb: Disturb | None = None
) -> list[dict[object, bytes]]:
    """Return the pixels of the photo as it is and of its disturbed versions, by pixel key."""
    data = path.read_bytes()
    versions: list[dict[object, bytes]] = [{} for _ in range(1 + len(steps))]
    for key, model in {model.pixel_key: model for model in models}.items():
        pictures = [model.decode(data, name=path.name)]
        if steps and disturb:
            photo = as_pillow(pictures[0])
            pictures += [disturb(photo, step) for step in steps]
        for version, picture in zip(versions, pictures, strict=True):
            version[key] = model.pixels_of(picture)
    return versions


def _run(model: Runner, pixels: Mapping[object, bytes]) -> tuple[tuple[float, ...], float]:
    """Return scores as they come out of the file, and the milliseconds that the inference took."""
    tensor = model.input_tensor(pixels[model.pixel_key])
    start = time.perf_counter()
    raw_output = model.run(tensor)
    elapsed_ms = (time.perf_counter() - start) * 1000
    return tuple(model.softmax(raw_output)), elapsed_ms


def _bench(models: Sequence[Runner], path: Path, runs: int) -> list[list[float]]:
    (pixels,) = _versions(models, path)
    laps = [[_run(model, pixels)[1] for model in models] for _ in range(runs + 1)]
    # The first run of each fills caches.
    return [list(times) for times in zip(*laps[1:], strict=True)]


def main(disturb: Disturb | None = None) -> int:
    """Serve requests from stdin until it ends, with the models that the command line names."""
    try:
        models = [Runner.open(model_of(word)) for word in sys.argv[1:]]
        for line in sys.stdin:
            request = json.loads(line)
            if "bench" in request:
                reply: Any = _bench(models, Path(request["bench"]), request["runs"])
            else:
                steps, photos = request["steps"], request["photos"]
                reply = [astuple(photo_scores(models, Path(path), steps, disturb)) for path in photos]
            print(json.dumps(reply), flush=True)
    except EdgeError as error:
        fields = {name: getattr(error, name) for name in ("found", "expected", "fix")}
        print(json.dumps({"class": type(error).__name__, "problem": error.what, **fields}), flush=True)
        return error.exit_status
    except BrokenPipeError:
        # The command is gone. Python would flush once more at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
