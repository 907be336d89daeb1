"""The main path: open a model, classify photos. Read this file first.

photo -> read -> decode -> crop -> resize -> input tensor -> inference -> scores -> decision
"""

from __future__ import annotations

import os
from time import perf_counter

from edge_runtime import __version__
from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.engines.opening import Opened, names_delegate, open_engine_for, open_trusted
from edge_runtime.images import suitability
from edge_runtime.images.memory import Reservation
from edge_runtime.images.photos import STDIN, goes_on, name_of, read_photo
from edge_runtime.images.preprocess import as_pillow, pixel_bytes
from edge_runtime.model.flatbuffer import DEFAULT_LIMITS, Limits
from edge_runtime.result import LateDigest, Prediction, ScoredLabel, decide, group_scores
from edge_runtime.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from typing import Any, BinaryIO, TypeAlias

    from PIL import Image

    from edge_runtime.contract import Label
    from edge_runtime.errors import ImageError
    from edge_runtime.images.preprocess import Picture

    # A path, a file's bytes, an open binary file, a Pillow image, or a numpy array.
    Photo: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | Any


class Classifier:
    """A model that is loaded and ready.

        with Classifier("model.tflite") as classifier:
            print(classifier.classify("photo.jpg").label)

    Thread-safe: several threads may classify, check and trace at once. They read and decode side by side and take turns
    at the inference; `classify_each` opens more engines beside this one.

    Args:
        model: Path of a .tflite with its contract inside; the bundled model if None.
        engine: `auto`, or a name of `engines.ENGINES`.
        threads: CPU threads of one inference.
        accelerator: `cpu`, `xnnpack`, `gpu`, `npu`, `edgetpu` or `auto`. All but `cpu` and `xnnpack` are validated on
            the model's self-test first, in a process of their own, and replaced by the CPU where they fail: `verdicts`
            says why. With the engines `litert` and `tflite-runtime` nothing is validated: the accelerator opens, or
            fails.
        delegate: An external delegate library, `LIB[:key=value,...]`; validated likewise.
        revalidate: Validate again, even if an earlier result is cached.
        signature_key: Path of a public key (PEM); the model must be signed with it, see `model.signature`.
        min_version: The oldest signed version to accept, N or "NAME:N"; None accepts any.
        trust: You made the model: do not try it in a child process first. Every other file that is neither the bundled
            nor signed is, once on a machine, see `engines.first_load`.
        max_model_memory_mib: Largest sum of the model's computed tensors.
        max_model_gigamacs: Most billions of multiply-adds of one inference.

    Attributes:
        contract: The contract inside the model file.
        model: The opened model file.
        engine: The engine that runs it; closed together with the classifier.
        runner: The stages of the device path one by one.
        asked: The requested accelerator or delegate; what is used is `engine.accelerator`.
        verdicts: Results of the accelerators' validation.

    Raises:
        ModelFileError: The file is invalid or not supported.
        InterpreterError: No inference library here can run it with these options.
        UsageError: Invalid options.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        engine: str = "auto",
        threads: int = 1,
        accelerator: str = "cpu",
        delegate: str | None = None,
        revalidate: bool = False,
        signature_key: str | None = None,
        min_version: str | int | None = None,
        trust: bool = False,
        max_model_memory_mib: int = DEFAULT_LIMITS.memory_mib,
        max_model_gigamacs: int = DEFAULT_LIMITS.gigamacs,
    ) -> None:
        limits = Limits(max_model_memory_mib, max_model_gigamacs, names_delegate(accelerator, delegate))
        checked = open_trusted(model, signature_key, min_version, trust=trust, limits=limits)
        self._take(open_engine_for(
            checked, engine=engine, threads=threads, accelerator=accelerator, delegate=delegate, revalidate=revalidate,
        ))  # fmt: skip

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None, **options: Any) -> Classifier:
        """Return `Classifier(path, **options)`; an older name of the constructor."""
        return cls(path, **options)

    @classmethod
    def of(cls, opened: Opened) -> Classifier:
        """Return a classifier of an opened model and engine.

        Raises:
            ModelMismatch: The engine's tensors are not those of the contract.
        """
        classifier = cls.__new__(cls)
        classifier._take(opened)
        return classifier

    def _take(self, opened: Opened) -> None:
        self.runner = Runner(opened.model, opened.engine)
        self.model, self.contract, self.engine = opened.model, opened.model.contract, opened.engine
        self.asked, self.verdicts = opened.asked, opened.verdicts

    @property
    def labels(self) -> tuple[Label, ...]:
        """The contract's labels (`code`, `name`, `group`) in output order."""
        return self.contract.labels

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""
        return self.contract.input.height_px, self.contract.input.width_px

    def classify(self, photo: Photo, *, name: str | None = None) -> Prediction:
        """Classify one photo.

        Args:
            photo: A path (`-` for stdin), the bytes of a JPEG, PNG, WebP, BMP or TIFF file, or an open binary file. A
                Pillow image or a numpy array (uint8, [height, width, 3], RGB) skips the decoder: no EXIF orientation
                and no decode scaling, so that scores can differ slightly from those of the file.
            name: Names the photo in the prediction and in errors; its path if None.

        Raises:
            ImageError: This photo cannot be classified; others can.
            UsageError: Not a photo: another type, dtype or shape.
            InterpreterBroken: The inference failed.
        """
        with Reservation(name or name_of(photo)):
            return self.classify_prepared(self.prepare(photo, name=name))

    def classify_each(
        self, photos: Iterable[Photo | tuple[str, ImageError]], *, workers: int | None = None
    ) -> Generator[tuple[str, Prediction | ImageError]]:
        """Classify photos on several cores; see `batch.classify_each`."""
        from edge_runtime.batch import classify_each

        return classify_each(self, photos, workers=workers)

    def classify_prepared(self, prepared: Prepared) -> Prediction:
        """Run all stages after `prepare` on the classifier's own engine."""
        return self.prediction_from(prepared, self.infer(prepared, self.runner))

    def prepare(self, photo: Photo, *, name: str | None = None, keep_photo: bool = False) -> Prepared:
        """Run all stages before the inference; arguments and errors as `classify`.

        `keep_photo` keeps the cropped photo beside the network's pixels, which costs its memory.
        """
        prepared = Prepared(name or name_of(photo))
        watch = prepared.watch
        data: bytes | Image.Image
        with Reservation(prepared.name):
            if isinstance(photo, bytes):
                data = photo
            elif isinstance(photo, (str, os.PathLike)):
                data = read_photo(photo)
                if photo == STDIN and goes_on(data):
                    prepared.notes.append(
                        "more pictures follow, the first was taken; --stream - takes all JPEGs"
                    )
            elif isinstance(photo, (bytearray, memoryview)):
                data = bytes(photo)
            else:
                from edge_runtime.images.given import read_given

                data = read_given(photo, prepared.name, prepared.notes)
            watch.lap("read")
            image: Picture = (
                self.runner.decode(data, name=prepared.name, notes=prepared.notes)
                if isinstance(data, bytes)
                else data
            )
            suitability.require_size(image.width, image.height, self.contract.input, prepared.name)
            watch.lap("decode")
            image = self.runner.crop(image)
            watch.lap("crop")
            if keep_photo:
                prepared.photo = as_pillow(image)
            image = self.runner.resize(image)
        suitability.require_contents(image, prepared.name, prepared.notes)
        pixels_u8 = pixel_bytes(image)
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

    def prediction_from(self, prepared: Prepared, raw_output: bytes, *, workers: int = 1) -> Prediction:
        """Return the prediction of a photo from what `infer` returned for it.

        `workers` is how many photos were classified at a time, at most.
        """
        labels = tuple(
            ScoredLabel(label.code, label.name, label.group, score)
            for label, score in zip(self.contract.labels, self.runner.scores(raw_output), strict=True)
        )
        decision, reason, rule = decide(self.contract.decision, [label.score for label in labels])
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
            rule=rule,
        )

    def describe_runtime(self) -> dict[str, Any]:
        """Return versions, engine, accelerator, threads, the model's sha256 and skipped engines."""
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
        """Free the engine after a running inference; a second call does nothing."""
        self.runner.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Prepared:
    """A photo, ready for the inference."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.notes: list[str] = []
        self.input_tensor = b""
        self.photo: Image.Image | None = None
        """Cropped, RGB; None unless `keep_photo`."""
        self.watch = Stopwatch()


class Stopwatch:
    """Milliseconds between laps."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """Record the time since the last lap as `stage`."""
        now = perf_counter()
        self._laps[stage] = round((now - self._last) * 1000, 3)
        self._last = now

    def skip(self) -> None:
        """Discard the time since the last lap, which was spent waiting."""
        self._last = perf_counter()

    def result(self) -> dict[str, float]:
        """Return milliseconds by stage, and `total`."""
        return {**self._laps, "total": round((perf_counter() - self._start) * 1000, 3)}
