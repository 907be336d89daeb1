"""Many photos through several models at once, in processes of their own: one interpreter thread each, all cores used.

What the processes do stands in `answer_worker`; this side imports nothing that would keep them from starting. Workers
live in a session of their own: Ctrl-C reaches the command only, which then ends them and keeps what they have said.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import InterpreterBroken

ROOT = Path(__file__).parents[2]
# Photos that a worker gets at a time: few, so that an interruption loses little.
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
        command = [
            sys.executable,
            "-m",
            "convert.comparison.answer_worker",
            *(str(path.resolve()) for path in models),
        ]
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
        numbered = [(i, str(path)) for i, path in enumerate(photos)]
        # The last ones singly: no process has a few left while the others have none.
        singly = max(0, len(numbered) - CHUNK * CHUNKS_AHEAD * self.count)
        for start in range(0, singly, CHUNK):
            waiting.put(numbered[start : min(start + CHUNK, singly)])
        for one in numbered[singly:]:
            waiting.put([one])
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
