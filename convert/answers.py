"""Many photos through several models at once, in processes of their own: one interpreter thread each, all cores used.

    python -m convert.answers MODEL.tflite ...      the worker: JSON lines in, JSON lines out

A worker decodes a photo once for all models that want the same pixels, and runs it through each of them with the
engine that a device would use. It imports neither numpy nor TensorFlow, so it starts in a fifth of a second. Workers
live in a session of their own: Ctrl-C reaches the command only, which then ends them and keeps what they have said.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.contract import ModelContract
from edge_runtime.engines import Engine, open_engine, softmax_values
from edge_runtime.errors import EXIT_OK, EXIT_USAGE, EdgeError, ImageError, InterpreterBroken
from edge_runtime.model_file import open_model
from edge_runtime.preprocess import fit_pixels, input_tensor

ROOT = Path(__file__).parents[1]
# Photos that a worker gets at a time: few, so that the last ones end together and an interruption loses little.
CHUNK = 4
# One that is answered and one that waits.
CHUNKS_AHEAD = 2


@dataclass(frozen=True)
class Answer:
    """What all models say to one photo."""

    index: int
    scores: tuple[tuple[float, ...], ...]
    """By model: in its own output order, as they come out of the file; empty where the photo failed."""
    inference_ms: tuple[float, ...]
    """By model."""
    problem: str = ""
    """Why there is no answer."""


class Workers:
    """Processes that answer photos; use as a context.

    Args:
        models: .tflite files with contracts, already opened once by the caller.
        count: Processes; as many as there are cores if None.
    """

    def __init__(self, models: Sequence[Path], count: int | None = None) -> None:
        self.count = count or max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        command = [sys.executable, "-m", "convert.answers", *(str(path.resolve()) for path in models)]
        self._processes = [
            subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            for _ in range(self.count)
        ]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes; a second call does nothing."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    try:
                        stream.close()
                    except BrokenPipeError:
                        continue

    def answer(self, photos: Sequence[Path]) -> Iterator[Answer]:
        """Answers in the order in which they come; may be left early.

        Raises:
            InterpreterBroken: A worker died.
        """
        waiting: queue.SimpleQueue[list[tuple[int, str]]] = queue.SimpleQueue()
        for start in range(0, len(photos), CHUNK):
            part = photos[start : start + CHUNK]
            waiting.put([(start + i, str(path)) for i, path in enumerate(part)])
        done: queue.SimpleQueue[list[Answer] | InterpreterBroken] = queue.SimpleQueue()
        for process in self._processes:
            threading.Thread(target=_feed, args=(process, waiting, done), daemon=True).start()
        left = len(photos)
        while left:
            got = done.get()
            if isinstance(got, InterpreterBroken):
                raise got
            left -= len(got)
            yield from got

    def bench(self, photo: Path, runs: int) -> list[list[float]]:
        """Inference times of one photo, by model and run, in milliseconds; models take turns, nothing else runs."""
        return [list(times) for times in _ask(self._processes[0], {"bench": str(photo), "runs": runs})]


def _feed(
    process: subprocess.Popen[str],
    waiting: queue.SimpleQueue[list[tuple[int, str]]],
    done: queue.SimpleQueue[list[Answer] | InterpreterBroken],
) -> None:
    """Gives a worker its next photos while it is busy with the last ones: it never waits for this process."""
    asked = 0
    try:
        while True:
            while asked < CHUNKS_AHEAD:
                try:
                    chunk = waiting.get_nowait()
                except queue.Empty:
                    break
                _say(process, {"photos": chunk})
                asked += 1
            if not asked:
                return
            rows = _hear(process)
            asked -= 1
            done.put([Answer(i, tuple(map(tuple, scores)), tuple(ms), said) for i, scores, ms, said in rows])
    except InterpreterBroken as error:
        done.put(error)


def _ask(process: subprocess.Popen[str], question: dict[str, Any]) -> Any:
    _say(process, question)
    return _hear(process)


def _say(process: subprocess.Popen[str], question: dict[str, Any]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
    except (OSError, ValueError) as error:
        raise _died(process, _last_words(process) or str(error)) from error


def _hear(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
    except (OSError, ValueError) as error:
        raise _died(process, str(error)) from error
    if not line:
        raise _died(process, _last_words(process) or f"exit status {process.wait()}")
    return json.loads(line)


def _last_words(process: subprocess.Popen[str]) -> str:
    """The last line on its stderr, if it has ended."""
    assert process.stderr is not None
    try:
        process.wait(timeout=1)
        said = process.stderr.read().strip().splitlines()
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    return said[-1] if said else ""


def _died(process: subprocess.Popen[str], why: str) -> InterpreterBroken:
    return InterpreterBroken(
        "a process that asks the models died",
        found=why,
        expected="an answer to every photo",
        fix=f"look at what it says: {' '.join(map(str, process.args)) if isinstance(process.args, list) else ''}",
    )


# -------------------------------------------------------------------- the worker


class _Model:
    def __init__(self, path: str) -> None:
        self._path = path
        opened = open_model(path)
        self.contract: ModelContract = opened.contract
        self.engine: Engine = open_engine(opened.data, threads=1)

    def pixel_key(self) -> tuple[object, object]:
        return self.contract.input, self.contract.geometry

    def run(self, pixels_u8: bytes) -> tuple[list[float], float]:
        tensor = input_tensor(pixels_u8, self.contract, self.engine.input)
        start = time.perf_counter()
        raw = self.engine.run(tensor)
        elapsed_ms = (time.perf_counter() - start) * 1000
        try:
            return softmax_values(raw, self.engine.output), elapsed_ms
        except InterpreterBroken as error:
            raise InterpreterBroken(
                f"{self._path}: {error.what}", found=error.found, expected=error.expected, fix=error.fix
            ) from error


def _pixels(models: Sequence[_Model], path: str) -> dict[tuple[object, object], bytes]:
    data = Path(path).read_bytes()
    contracts = {model.pixel_key(): model.contract for model in models}
    return {key: fit_pixels(data, contract, name=path) for key, contract in contracts.items()}


def _answer(models: Sequence[_Model], index: int, path: str) -> list[Any]:
    try:
        pixels = _pixels(models, path)
    except ImageError as error:
        return [index, [], [], error.message]
    except OSError as error:
        return [index, [], [], f"{path}: {error.strerror or error}"]
    ran = [model.run(pixels[model.pixel_key()]) for model in models]
    return [index, [scores for scores, _ in ran], [ms for _, ms in ran], ""]


def _bench(models: Sequence[_Model], path: str, runs: int) -> list[list[float]]:
    pixels = _pixels(models, path)
    times: list[list[float]] = [[] for _ in models]
    for _ in range(runs + 1):
        for i, model in enumerate(models):
            times[i].append(model.run(pixels[model.pixel_key()])[1])
    # The first run of each pays for caches.
    return [laps[1:] for laps in times]


def main(argv: Sequence[str] | None = None) -> int:
    """The worker; ends with its input."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        print("usage: answers MODEL.tflite ...", file=sys.stderr)
        return EXIT_USAGE
    try:
        models = [_Model(path) for path in arguments]
        for line in sys.stdin:
            question = json.loads(line)
            if "bench" in question:
                reply: Any = _bench(models, question["bench"], question["runs"])
            else:
                reply = [_answer(models, index, path) for index, path in question["photos"]]
            print(json.dumps(reply), flush=True)
    except EdgeError as error:
        print(error.message, file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # The command that asked is gone. Python would flush once more at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
