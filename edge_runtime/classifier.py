"""The main path: open a model, classify photos. Read this file first.

photo -> read -> decode -> crop -> resize -> input tensor -> inference -> scores -> decision
"""

from __future__ import annotations

import os
from time import perf_counter

from edge_runtime import __version__
from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.engines import Engine
from edge_runtime.engines.opening import Opened, open_engine_for, open_trusted
from edge_runtime.images.photos import read_photo
from edge_runtime.images.preprocess import as_pillow, pixel_bytes
from edge_runtime.model.model_file import ModelFile
from edge_runtime.result import LateDigest, Prediction, ScoredLabel, decide, group_scores
from edge_runtime.runner import Runner

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from PIL import Image

    from edge_runtime.engines.ladder import Verdict

    Photo = str | os.PathLike[str] | bytes | bytearray | memoryview
    """A path, or a file's bytes."""


class Classifier:
    """A model that is loaded and ready.

    Thread-safe: several threads may classify, check and trace at once. They read and decode side by side and take turns
    at the inference (`run`); `pipeline.classify_each` opens more engines beside this one.

    Args:
        model: An opened model file.
        engine: An engine that runs this model; closed together with the classifier.

    Raises:
        ModelMismatch: The engine's tensors are not those of the contract.
    """

    def __init__(self, model: ModelFile, engine: Engine) -> None:
        self.runner = Runner(model, engine)
        """The stages one by one; see there."""
        self.model, self.contract, self.engine = model, model.contract, engine
        self.asked = "cpu"
        """The accelerator or delegate that was asked for; what is used is `engine.accelerator`."""
        self.verdicts: tuple[Verdict, ...] = ()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        engine: str = "auto",
        threads: int = 1,
        accelerator: str = "cpu",
        delegate: str | None = None,
        prove_again: bool = False,
        signature_key: str | None = None,
    ) -> Classifier:
        """Opens a model file (the bundled one without `path`) and an engine for it.

        Args:
            path: A .tflite with its contract inside.
            engine: `auto`, or a name of `engines.ENGINES`.
            threads: CPU threads.
            accelerator: A name of `engines.ACCELERATORS`. Those of `ladder.RUNGS` are proven first, in a process of
                their own, and the CPU is taken where they fail: `verdicts` says why. With the engines `litert` and
                `tflite-runtime` nothing is proven: what is asked for opens, or fails.
            delegate: An external delegate library, `LIB[:key=value,...]`; proven likewise.
            prove_again: Whatever was found out before.
            signature_key: A public key (PEM); the model must be signed with it, see `signature`.

        Raises:
            ModelFileError: The file cannot be trusted or used.
            InterpreterError: Nothing here can run it as asked.
            UsageError: Options that cannot be meant.
        """
        model = open_trusted(path, signature_key)
        return cls.of(
            open_engine_for(
                model,
                engine=engine,
                threads=threads,
                accelerator=accelerator,
                delegate=delegate,
                prove_again=prove_again,
            )
        )

    @classmethod
    def of(cls, opened: Opened) -> Classifier:
        """A classifier of what `opening` opened."""
        classifier = cls(opened.model, opened.engine)
        classifier.asked, classifier.verdicts = opened.asked, opened.verdicts
        return classifier

    def classify(self, photo: Photo, *, name: str | None = None) -> Prediction:
        """Classifies one photo.

        Args:
            photo: A path, `-` for stdin, or the bytes of a JPEG, PNG, WebP, BMP or TIFF file.
            name: Stands for the photo in the answer and in errors; its path when left out.

        Raises:
            ImageError: This photo cannot be classified; others can.
            InterpreterBroken: The inference failed.
        """
        return self.classify_prepared(self.prepare(photo, name=name))

    def classify_prepared(self, prepared: Prepared) -> Prediction:
        """All that comes after `prepare`, on the classifier's own engine."""
        return self.answer(prepared, self.infer(prepared, self.runner))

    def prepare(self, photo: Photo, *, name: str | None = None, keep_photo: bool = False) -> Prepared:
        """All that comes before the inference; arguments and errors as `classify`.

        Args:
            photo: As `classify`.
            name: As `classify`.
            keep_photo: Whether the cropped photo is kept beside the network's pixels, which costs its memory.
        """
        if isinstance(photo, (bytearray, memoryview)):
            photo = bytes(photo)
        prepared = Prepared(name or ("photo" if isinstance(photo, bytes) else os.fspath(photo)))
        watch = prepared.watch
        data = photo if isinstance(photo, bytes) else read_photo(photo)
        watch.lap("read")
        image = self.runner.decode(data, name=prepared.name, notes=prepared.notes)
        watch.lap("decode")
        image = self.runner.crop(image)
        watch.lap("crop")
        if keep_photo:
            prepared.photo = as_pillow(image)
        pixels_u8 = pixel_bytes(self.runner.resize(image))
        watch.lap("resize")
        prepared.input_tensor = self.runner.input_tensor(pixels_u8)
        watch.lap("input")
        return prepared

    def infer(self, prepared: Prepared, runner: Runner) -> bytes:
        """Run the inference alone; waiting for the runner's turn is not measured."""
        with runner.turn:
            prepared.watch.skip()
            raw_output = runner.engine.run(prepared.input_tensor)
            prepared.watch.lap("inference")
        return raw_output

    def answer(self, prepared: Prepared, raw_output: bytes, *, workers: int = 1) -> Prediction:
        """All that comes after the inference.

        Args:
            prepared: A photo.
            raw_output: What `infer` gave for it.
            workers: How many photos at a time were allowed when it was classified.
        """
        labels = self.labels_from(raw_output)
        decision, reason = decide(self.contract.decision, [label.score for label in labels])
        return Prediction(
            image=prepared.name,
            model=self.contract.model_id,
            labels=labels,
            groups=group_scores(labels),
            decision=decision,
            reason=reason,
            elapsed_ms=prepared.watch.result(),
            ran_on=self._runtime(LateDigest(self.model), workers),
            notes=tuple(prepared.notes),
        )

    def labels_from(self, raw_output: bytes) -> tuple[ScoredLabel, ...]:
        """The labels with their scores, from the bytes of the output tensor."""
        return tuple(
            ScoredLabel(label.code, label.name, label.group, score)
            for label, score in zip(self.contract.labels, self.runner.scores(raw_output), strict=True)
        )

    def describe_runtime(self) -> dict[str, Any]:
        """What answers: versions, engine, accelerator, threads, the model's sha256, what was passed over."""
        return self._runtime(self.model.sha256, workers=1)

    def _runtime(self, model_sha256: str | LateDigest, workers: int) -> dict[str, Any]:
        return {
            "dermedge": __version__,
            "engine": self.engine.name,
            "accelerator": self.engine.accelerator,
            "asked": self.asked,
            "threads": self.engine.threads,
            "model_sha256": model_sha256,
            "skipped": list(self.engine.skipped),
            "workers": workers,
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
        }

    def close(self) -> None:
        """Frees the engine, after the inference that is going on; a second call does nothing."""
        self.runner.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Prepared:
    """A photo that is ready for the inference."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.notes: list[str] = []
        self.input_tensor = b""
        self.photo: Image.Image | None = None
        """Cropped, RGB; where it was to be kept."""
        self.watch = Stopwatch()


class Stopwatch:
    """Milliseconds between laps."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """Gives `stage` the time since the last lap."""
        now = perf_counter()
        self._laps[stage] = round((now - self._last) * 1000, 3)
        self._last = now

    def skip(self) -> None:
        """What passed since the last lap belongs to none: waiting."""
        self._last = perf_counter()

    def result(self) -> dict[str, float]:
        """By stage, and `total`."""
        return {**self._laps, "total": round((perf_counter() - self._start) * 1000, 3)}
