"""The device path, written once: photo bytes -> picture -> pixels -> input tensor -> raw output -> scores.

    with Runner.open("model.tflite") as runner:
        pixels_u8 = runner.pixels_u8(photo_bytes, name="photo.jpg")
        raw_output = runner.run(runner.input_tensor(pixels_u8))
        scores = runner.scores(raw_output)

Whatever runs a model as a device runs it uses a `Runner`: classifier, batch, self-test, parity trace, accelerator
probe, and in `convert` comparison, robustness study, self-test vectors, acceptance test and layer statistics.

    stage                 in                     out
    decode                photo bytes            upright RGB picture
    crop, resize          picture                picture of the input's size
    pixels_of             picture                pixels_u8: height_px * width_px * 3 bytes, RGB
    input_tensor          pixels_u8              bytes of the input tensor
    run                   input tensor           raw output: bytes of the output tensor
    raw_values            raw output             numbers as stored (integers of a quantized tensor)
    values                raw output             real numbers, dequantized
    softmax               raw output             `values`, checked to be a softmax
    scores                raw output             `softmax`, divided by its sum

`pixels_u8` is decode to pixels_of, `scores_of_pixels` input_tensor to scores. Models with equal `pixel_key` want the
same pixels. A model without an embedded contract is run by `Runner.open(ModelFile(name, tflite, contract))`. Importing
this module imports neither numpy, Pillow nor an inference library.
"""

from __future__ import annotations

import os
from _thread import allocate_lock

from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.engines.engine import Engine
from edge_runtime.engines.loading import open_engine
from edge_runtime.errors import InterpreterError
from edge_runtime.images.preprocess import Reservation, crop, decode, input_bytes, pixel_bytes, resize
from edge_runtime.model.model_file import ModelFile, open_model
from edge_runtime.model.tensors import check_tensors, dequantize, raw_values, softmax_values
from edge_runtime.result import scores_from

if TYPE_CHECKING:
    from edge_runtime.contract import Geometry, InputSpec
    from edge_runtime.images.preprocess import Picture


class Runner:
    """One model on one engine, with every stage of the device path as a method.

    Thread-safe: threads take turns at the inference, all other stages run side by side.

    Args:
        model: An opened model file.
        engine: An engine that runs this model; `close` closes it.

    Raises:
        ModelMismatch: The engine's tensors are not those of the contract.
    """

    def __init__(self, model: ModelFile, engine: Engine) -> None:
        check_tensors(model.contract, engine.inputs, engine.outputs, model.path)
        self.model, self.contract, self.engine = model, model.contract, engine
        self.turn = allocate_lock()
        """Held during an inference."""

    @classmethod
    def open(
        cls,
        model: ModelFile | str | os.PathLike[str] | None = None,
        *,
        engine: str = "auto",
        threads: int = 1,
        kernels: str = "",
        keep_tensors: bool = False,
    ) -> Runner:
        """Open a model (the bundled one without `model`) and an engine for it on the CPU.

        Args:
            model: An opened model file, or its path. Unless it is vouched for, a child process tries it first.
            engine: `auto`, or a name of `engines.ENGINES`.
            threads: CPU threads.
            kernels: As `open_engine`; only with engine `litert`.
            keep_tensors: As `open_engine`; only with engine `litert`.

        Raises:
            ModelFileError: The file is invalid, unsafe, or its contract does not fit.
            InterpreterError: No inference library here can run it; the model's path is named.
            UsageError: Invalid options.
        """
        opened = model if isinstance(model, ModelFile) else open_model(model)
        if not opened.vouched:
            from edge_runtime.engines.first_load import require_safe

            require_safe(opened, engine=engine)
        try:
            running = open_engine(
                opened.data, engine=engine, threads=threads, kernels=kernels, keep_tensors=keep_tensors
            )
        except InterpreterError as error:
            raise _with_path(opened.path, error) from error
        return cls(opened, running)

    @property
    def pixel_key(self) -> tuple[InputSpec, Geometry]:
        """What decides the pixels: runners with equal keys make the same `pixels_u8` of a photo."""
        return self.contract.input, self.contract.geometry

    def pixels_u8(self, photo: bytes, *, name: str = "photo", notes: list[str] | None = None) -> bytes:
        """Decode, crop and resize the bytes of an image file; arguments as `preprocess.decode_rgb`.

        Returns:
            height_px * width_px * 3 bytes, rows first, RGB interleaved, values 0 to 255.

        Raises:
            ImageUnreadable, ImageTooLarge: As `images.preprocess.decode_rgb`.
        """
        with Reservation(name):
            return self.pixels_of(self.decode(photo, name=name, notes=notes))

    def decode(self, photo: bytes, *, name: str = "photo", notes: list[str] | None = None) -> Picture:
        """Decode a photo to an upright RGB picture; arguments and errors as `pixels_u8`."""
        return decode(photo, self.contract, name=name, notes=notes)

    def crop(self, picture: Picture) -> Picture:
        """Cut the contract's region out of an upright RGB picture."""
        return crop(picture, self.contract.geometry)

    def resize(self, picture: Picture) -> Picture:
        """Resize a cropped picture to the input's size."""
        return resize(picture, self.contract.input)

    def pixels_of(self, picture: Picture) -> bytes:
        """Crop and resize an upright RGB picture (a Pillow image too) to `pixels_u8`."""
        return pixel_bytes(self.resize(self.crop(picture)))

    def input_tensor(self, pixels_u8: bytes) -> bytes:
        """Return the bytes of the input tensor for height_px * width_px * 3 RGB bytes."""
        spec = self.engine.input
        return input_bytes(pixels_u8, self.contract.normalization, spec.dtype, spec.scale, spec.zero_point)

    def run(self, input_tensor: bytes) -> bytes:
        """Run one inference; arguments and errors as `Engine.run`."""
        with self.turn:
            return self.engine.run(input_tensor)

    def raw_values(self, raw_output: bytes) -> tuple[float, ...]:
        """Return the output's numbers as stored: integers of a quantized tensor."""
        return raw_values(raw_output, self.engine.output)

    def values(self, raw_output: bytes) -> list[float]:
        """Return the output's real numbers: scale * (raw - zero_point), or the floats themselves."""
        return dequantize(raw_output, self.engine.output)

    def softmax(self, raw_output: bytes) -> list[float]:
        """Return `values`, checked to be a softmax.

        Raises:
            InterpreterBroken: A value outside [0, 1], not finite, or a sum too far from 1; the model's path is named.
        """
        try:
            return softmax_values(raw_output, self.engine.output)
        except InterpreterError as error:
            raise _with_path(self.model.path, error) from error

    def scores(self, raw_output: bytes) -> list[float]:
        """Return scores in output order that sum to 1; errors as `softmax`."""
        try:
            return scores_from(raw_output, self.engine.output)
        except InterpreterError as error:
            raise _with_path(self.model.path, error) from error

    def scores_of_pixels(self, pixels_u8: bytes) -> list[float]:
        """Run the pixels and return their scores in output order."""
        return self.scores(self.run(self.input_tensor(pixels_u8)))

    def close(self) -> None:
        """Free the engine after a running inference; a second call does nothing."""
        with self.turn:
            self.engine.close()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _with_path(path: str, error: InterpreterError) -> InterpreterError:
    """Return the error of an engine as the error of a model file."""
    fields = {name: getattr(error, name) for name in ("found", "expected", "fix", "details")}
    return type(error)(error.problem, where=path, **fields)
