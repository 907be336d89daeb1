"""The main path: open a model, classify photos. Read this file first.

photo -> read -> decode -> crop -> resize -> input tensor -> inference -> scores -> decision
"""

from __future__ import annotations

import os
from time import perf_counter
from types import TracebackType
from typing import Any

from edge_runtime import __version__
from edge_runtime.engines import Engine, open_engine
from edge_runtime.model_file import ModelFile, open_model
from edge_runtime.photos import read_photo
from edge_runtime.preprocess import crop, decode_rgb, input_bytes, resize
from edge_runtime.result import Prediction, ScoredLabel, decide, group_scores, scores_from
from edge_runtime.tensors import check_tensors


class Classifier:
    """A model that is loaded and ready. Not thread-safe: one classifier a thread.

    Args:
        model: An opened model file.
        engine: An engine that runs this model; closed together with the classifier.

    Raises:
        ModelMismatch: The engine's tensors are not those of the contract.
    """

    def __init__(self, model: ModelFile, engine: Engine) -> None:
        check_tensors(model.contract, engine.inputs, engine.outputs, model.path)
        self.model = model
        self.contract = model.contract
        self.engine = engine

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        engine: str = "auto",
        threads: int = 1,
        accelerator: str = "auto",
        delegate: str | None = None,
    ) -> Classifier:
        """Opens a model file (the bundled one without `path`) and an engine for it.

        Args:
            path: A .tflite with its contract inside.
            engine: `auto`, or a name of `engines.ENGINES`.
            threads: CPU threads.
            accelerator: A name of `engines.ACCELERATORS`.
            delegate: Path of an external delegate library.

        Raises:
            ModelFileError: The file cannot be trusted or used.
            InterpreterError: Nothing here can run it as asked.
            UsageError: Options that cannot be meant.
        """
        model = open_model(path)
        opened = open_engine(
            model.data, engine=engine, threads=threads, accelerator=accelerator, delegate=delegate
        )
        return cls(model, opened)

    def classify(self, photo: str | os.PathLike[str] | bytes, *, name: str | None = None) -> Prediction:
        """Classifies one photo.

        Args:
            photo: A path, `-` for stdin, or the bytes of a JPEG, PNG, WebP, BMP or TIFF file.
            name: Stands for the photo in the answer and in errors; its path when left out.

        Raises:
            ImageError: This photo cannot be classified; others can.
            InterpreterBroken: The inference failed.
        """
        watch = _Stopwatch()
        if isinstance(photo, bytes):
            data, name = photo, name or "photo"
        else:
            data, name = read_photo(photo), name or os.fspath(photo)
        watch.lap("read")
        image = decode_rgb(data, self.contract, name=name)
        watch.lap("decode")
        image = crop(image, self.contract.geometry)
        watch.lap("crop")
        pixels_u8 = resize(image, self.contract.input).tobytes()
        watch.lap("resize")
        input_tensor = self.input_tensor(pixels_u8)
        watch.lap("input")
        raw_output = self.engine.run(input_tensor)
        watch.lap("inference")
        return self._prediction(name, self.labels_from(raw_output), watch)

    def input_tensor(self, pixels_u8: bytes) -> bytes:
        """The bytes of the input tensor, from height_px * width_px * 3 RGB bytes."""
        spec = self.engine.input
        return input_bytes(pixels_u8, self.contract.normalization, spec.dtype, spec.scale, spec.zero_point)

    def labels_from(self, raw_output: bytes) -> tuple[ScoredLabel, ...]:
        """The labels with their scores, from the bytes of the output tensor."""
        scores = scores_from(raw_output, self.engine.output)
        return tuple(
            ScoredLabel(label.code, label.name, label.group, score)
            for label, score in zip(self.contract.labels, scores, strict=True)
        )

    def scores_of(self, pixels_u8: bytes) -> list[float]:
        """Scores in output order, from height_px * width_px * 3 RGB bytes."""
        return scores_from(self.engine.run(self.input_tensor(pixels_u8)), self.engine.output)

    def describe_runtime(self) -> dict[str, Any]:
        """What answers: versions, engine, accelerator, threads, the model's sha256, what was passed over."""
        return {
            "dermedge": __version__,
            "engine": self.engine.name,
            "accelerator": self.engine.accelerator,
            "threads": self.engine.threads,
            "model_sha256": self.model.sha256,
            "skipped": list(self.engine.skipped),
        }

    def close(self) -> None:
        """Frees the engine; a second call does nothing."""
        self.engine.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prediction(self, name: str, labels: tuple[ScoredLabel, ...], watch: _Stopwatch) -> Prediction:
        decision, reason = decide(self.contract.decision, [label.score for label in labels])
        return Prediction(
            image=name,
            model=self.contract.model_id,
            labels=labels,
            groups=group_scores(labels),
            decision=decision,
            reason=reason,
            elapsed_ms=watch.result(),
            describe_runtime=self.describe_runtime,
        )


class _Stopwatch:
    """Milliseconds between laps."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = perf_counter()
        self._laps[stage] = round((now - self._last) * 1000, 3)
        self._last = now

    def result(self) -> dict[str, float]:
        return {**self._laps, "total": round((perf_counter() - self._start) * 1000, 3)}
