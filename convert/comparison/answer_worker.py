"""`python -m convert.comparison.answer_worker MODEL.tflite ...`: JSON lines in, JSON lines out. What
`answers.Workers` starts.

A worker decodes a photo once for all models that want the same pixels, and runs it through each of them with the
engine that a device would use. It imports neither numpy nor TensorFlow, so it starts in a fifth of a second.
"""  # noqa: D205

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime.contract import ModelContract
from edge_runtime.engines import Engine, open_engine, softmax_values
from edge_runtime.errors import EXIT_OK, EXIT_USAGE, EdgeError, ImageError, InterpreterBroken
from edge_runtime.images.preprocess import fit_pixels, input_tensor
from edge_runtime.model.model_file import open_model


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
    """Ends with its input."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        print("usage: answer_worker MODEL.tflite ...", file=sys.stderr)
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
