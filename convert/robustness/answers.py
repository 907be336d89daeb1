"""Disturbed photos through several models, in processes of their own. numpy, no TensorFlow.

A process decodes a photo once, disturbs it in every way, and runs each version through every model with the engine that
a device would use, one thread each. So all models see the same pixels, and nothing is written to a disk. At the end it
asks for the undisturbed photo again: an answer that has changed means that something is carried from photo to photo,
and no figure of such a run could be trusted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from convert.robustness.disturbances import DISTURBANCES
from edge_runtime.contract import ModelContract
from edge_runtime.engines import Engine, dequantize, open_engine
from edge_runtime.errors import ImageError, InterpreterBroken, InterpreterError
from edge_runtime.images.preprocess import crop, decode_rgb, input_tensor, pixel_bytes, resize
from edge_runtime.model.model_file import open_model

Step = tuple[str, float]
"""A disturbance's name and a strength."""


@dataclass(frozen=True)
class Answers:
    """What all models say to all versions of one photo."""

    scores: tuple[tuple[tuple[float, ...], ...], ...]
    """[versions][models][labels], as they come out of the files; the first version is the undisturbed photo."""
    pixels_sha256: tuple[str, ...]
    """Of each version as the first model got it, cropped and resized."""
    problem: str = ""
    """Why there is no answer."""


def ask(
    models: Sequence[Path], photos: Sequence[Path], steps: Sequence[Step], *, workers: int | None = None
) -> Iterator[Answers]:
    """Asks every model every version of every photo.

    Args:
        models: .tflite files with contracts.
        photos: Their files.
        steps: Versions beside the undisturbed one, which always comes first.
        workers: Processes; as many as there are cores if None.

    Yields:
        Answers in the order of `photos`.

    Raises:
        ModelFileError, InterpreterError: A model cannot be used.
        InterpreterBroken: A process died, or a model answers one photo in two ways.
    """
    for path in models:
        _require_runnable(path)
    count = workers or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0])
    paths = tuple(str(path.resolve()) for path in models)
    # Not forked: the libraries below have threads of their own.
    pool = ProcessPoolExecutor(count, get_context("spawn"), initializer=_open, initargs=(paths,))
    try:
        yield from pool.map(_answer, photos, [tuple(steps)] * len(photos))
    except BrokenProcessPool as error:
        raise InterpreterBroken(
            "a process that asks the models died",
            found=str(error),
            expected="an answer to every photo",
            fix="ask one model at a time to learn which it was; fewer --workers where memory is short",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _require_runnable(path: Path) -> None:
    """Opens a model once in this process: what it says against itself in one that is just starting is lost with it."""
    try:
        open_for_asking(path).engine.close()
    except InterpreterError as error:
        raise type(error)(
            f"{path}: {error.what}", found=error.found, expected=error.expected, fix=error.fix
        ) from error


# -------------------------------------------------------------------- in the processes


@dataclass(frozen=True)
class Opened:
    """A model that is ready."""

    contract: ModelContract
    engine: Engine

    def scores(self, version: Image.Image) -> tuple[tuple[float, ...], str]:
        """Of a decoded photo, and the SHA-256 of its pixels after crop and resize."""
        pixels_u8 = pixel_bytes(resize(crop(version, self.contract.geometry), self.contract.input))
        raw = self.engine.run(input_tensor(pixels_u8, self.contract, self.engine.input))
        return tuple(dequantize(raw, self.engine.output)), hashlib.sha256(pixels_u8).hexdigest()


_opened: list[Opened] = []


def _open(paths: Sequence[str]) -> None:
    _opened.extend(open_for_asking(path) for path in paths)


def _answer(path: Path, steps: Sequence[Step]) -> Answers:
    return answer_photo(_opened, path, steps)


def open_for_asking(path: str | Path) -> Opened:
    """A model with an engine of one thread."""
    model = open_model(path)
    return Opened(model.contract, open_engine(model.data, threads=1))


def answer_photo(opened: Sequence[Opened], path: Path, steps: Sequence[Step]) -> Answers:
    """All versions of one photo through all models.

    Args:
        opened: Models of the same input and geometry.
        path: The photo.
        steps: As `ask`.

    Raises:
        InterpreterBroken: A model answers the undisturbed photo in another way than at first.
    """
    try:
        photo = decode_rgb(path.read_bytes(), opened[0].contract, name=path.name)
    except ImageError as error:
        return Answers((), (), error.message)
    except OSError as error:
        return Answers((), (), f"{path.name}: {error.strerror or error}")
    versions = (photo, *(DISTURBANCES[name](photo, strength) for name, strength in steps))
    asked = [[model.scores(version) for model in opened] for version in versions]
    if [model.scores(photo) for model in opened] != asked[0]:
        raise InterpreterBroken(
            f"{path}: the same photo was answered in two ways",
            found="other scores, or other pixels, after the disturbed versions than before them",
            expected="the same",
            fix="look for state between photos in the engine or in a disturbance",
        )
    return Answers(
        tuple(tuple(scores for scores, _ in row) for row in asked), tuple(row[0][1] for row in asked)
    )
