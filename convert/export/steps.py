"""The steps of every recipe, and their order (`Steps.apply_recipe`). TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convert.export import gate, keras_export
from convert.export.float_model import Predictor
from convert.inputs import Run
from convert.pixels import cached_pixels, read_pixels
from convert.quantization import calibration
from convert.quantization.rounding_shift import PHOTOS, prepare_for_rounding
from convert.recipes import CALIBRATION_PHOTOS, RECIPES, Request
from convert.tflite.spec import require_as_specified
from edge_runtime.errors import ConversionRefused, UsageError
from edge_runtime.model.model_file import ModelFile
from train.data.pixels import PixelArray, normalize
from train.evaluation.decisions import fit_temperature
from train.evaluation.metrics import FloatArray, expected_calibration_error, softmax

PHOTOS_TO_RANK = 12


class Steps:
    """One network on its way through a recipe. What a step has to say in model.json stands in `report`.

    Raises:
        RunInvalid, UsageError, ConversionRefused: The float model cannot be loaded, or not be used for this recipe.
    """

    def __init__(self, run: Run, request: Request) -> None:
        self.run, self.request, self.max_loss = run, request, request.max_loss
        self.layers = not run.model_path.is_dir()
        """False of a SavedModel, whose graph stays as it is."""
        self.float_model = self._load()
        self.predict = Predictor(self.float_model, run.contract)
        self.report: dict[str, dict[str, Any] | None] = dict.fromkeys(
            ("calibration", "qat", "temperature", "kept_float")
        )

    def _load(self) -> Any:
        run, recipe = self.run, self.request.recipe
        if self.layers:
            model = keras_export.load_float_model(run.model_path, run.contract, any_head=run.foreign)
            if recipe.needs_qat:
                from convert.quantization.fake_quant import require_wrappable

                require_wrappable(model)
            return model
        if recipe.needs_qat:
            problem = f"{run.model_path}: a SavedModel cannot be fine-tuned"
            expected = ", ".join(name for name, other in RECIPES.items() if not other.needs_qat)
            fix = "give the model as a .keras or .h5 file of tf_keras, or choose another recipe"
            raise UsageError(problem, found=f"recipe {recipe.name}", expected=expected, fix=fix)
        from convert.export.saved_model import SavedNetwork

        return SavedNetwork(run.model_path, run.contract)

    def apply_recipe(self) -> bytes:
        """Make the .tflite, without contract and metadata.

        Raises:
            ConversionRefused, DataInvalid: The network or the data do not allow it.
        """
        recipe = self.request.recipe
        if not recipe.needs_calibration:
            return self.export(self.float_model)
        pixels_u8 = self.calibration_pixels()
        if recipe.needs_qat:
            tflite = self.export(self.fine_tuned(pixels_u8))
        elif self.max_loss is not None:
            tflite = self.mixed_precision(pixels_u8)
        else:
            tflite = self.export(self.absorbed(pixels_u8), pixels_u8)
        return self.fold_temperature(tflite) if recipe.quantized else tflite

    def calibration_pixels(self) -> PixelArray:
        """[CALIBRATION_PHOTOS, height_px, width_px, 3] uint8, of the train split."""
        codes, seed = self.run.contract.codes, self.request.seed
        chosen = calibration.choose_calibration_photos(self.run.photos, len(codes), CALIBRATION_PHOTOS, seed)
        self.report["calibration"] = calibration.describe(chosen, codes, seed)
        return read_pixels(chosen, self.run.contract, progress="calibration photos")

    def absorbed(self, pixels_u8: PixelArray, kept_float: Sequence[str] = ()) -> Any:
        """The float network, its batch normalization set for kernels that will be rounded to 8 bits.

        Kernels of the operators that make the tensors `kept_float` will not be.
        """
        if not self.layers:
            return self.float_model
        some = pixels_u8[:: max(1, len(pixels_u8) // PHOTOS)]
        return prepare_for_rounding(
            self.float_model, normalize(some, self.run.contract.normalization), kept_float
        )

    def export(self, network: Any, pixels_u8: PixelArray | None = None) -> bytes:
        """The .tflite of a network that ends in logits, checked against the recipe; the pixels set its ranges."""
        tflite = self._to_tflite(network, pixels_u8)
        require_as_specified(tflite, self.request.recipe, self.run.contract)
        return tflite

    def _to_tflite(self, network: Any, pixels_u8: PixelArray | None = None) -> bytes:
        contract = self.run.contract
        dataset = None if pixels_u8 is None else keras_export.representative_dataset(pixels_u8, contract)
        return keras_export.to_tflite(
            keras_export.with_softmax(network), self.request.recipe, contract, dataset
        )

    def fine_tuned(self, pixels_u8: PixelArray) -> Any:
        """The network after quantization-aware fine-tuning, its activation ranges set on these pixels."""
        from convert.quantization import qat
        from convert.quantization.batches import TrainingStream, sampling_weights
        from convert.quantization.soft_labels import read_soft_labels

        run, settings, contract = self.run, self.request.qat, self.run.contract
        train, val = run.split("train"), run.split("val")
        drawn = sampling_weights(train, run.sampling)
        stream = TrainingStream(
            cached_pixels(run, train, "train"),
            gate.labels_of(train),
            contract.normalization.mean,
            contract.normalization.std,
            settings.batch,
            drawn,
            settings.seed,
            read_soft_labels(run, train, drawn),
        )
        val_u8 = cached_pixels(run, val, "val")

        def file_probs(model: Any) -> FloatArray:
            file = ModelFile("the converted model", self._to_tflite(model), contract, vouched=True)
            return gate.run_model(file, val_u8)

        validation = qat.Validation(gate.labels_of(val), self.predict(val_u8), file_probs)
        folder = run.work_folder / self.request.recipe.name
        model, self.report["qat"] = qat.fine_tune(
            self.float_model, contract, settings, stream, pixels_u8, validation, folder
        )
        return model

    def mixed_precision(self, pixels_u8: PixelArray) -> bytes:
        """As `export`, with the fewest layers in float so that at most `max_loss` of the predictions change."""
        from convert.export import mixed_precision

        assert self.max_loss is not None
        run, contract = self.run, self.run.contract
        photos = gate.choose_check_photos(run.photos)
        check_u8 = self.check_pixels()
        expected = self.predict(check_u8).argmax(axis=1)

        def loss_of(tflite: bytes) -> float:
            scores = gate.run_model(
                ModelFile("the converted model", tflite, contract, vouched=True), check_u8
            )
            return float((scores.argmax(axis=1) != expected).mean())

        def rank(floating: bytes, whole: bytes) -> list[str]:
            some = [photo.path for photo in photos[:PHOTOS_TO_RANK]]
            return mixed_precision.noisiest_first(floating, whole, contract, some)

        tflite, self.report["kept_float"] = mixed_precision.search(
            lambda kept: keras_export.with_softmax(self.absorbed(pixels_u8, kept)),
            keras_export.with_softmax(self.float_model),
            contract,
            keras_export.representative_dataset(pixels_u8, contract),
            rank=rank,
            loss_of=loss_of,
            max_loss=self.max_loss,
        )
        require_as_specified(tflite, self.request.recipe, contract, mixed=True)
        return tflite

    def fold_temperature(self, tflite: bytes) -> bytes:
        """The file with scores calibrated on its own validation logits.

        A foreign network that does not end in a dense layer keeps its own scores.
        """
        from convert.quantization import temperature

        val, trained = self.run.split("val"), self.run.contract.calibration.temperature
        labels = gate.labels_of(val)
        try:
            integers, scale = temperature.read_logits(
                tflite, cached_pixels(self.run, val, "val"), self.run.contract, progress="temperature"
            )
            logits = integers * scale
            factor = fit_temperature(labels, logits)
            folded = temperature.fold_into_scales(tflite, factor)
        except ConversionRefused:
            # Only this toolkit's networks promise to end in one dense layer and a softmax.
            if not self.run.foreign and self.max_loss is None:
                raise
            return tflite
        errors = [expected_calibration_error(labels, softmax(logits, t)) for t in (1.0, factor)]
        self.report["temperature"] = {
            "photos": len(val),
            "float": trained,
            "after_quantization": factor,
            "total": round(trained * factor, 4),
            "expected_calibration_error_before": errors[0],
            "expected_calibration_error": errors[1],
        }
        return folded

    def check_pixels(self) -> PixelArray:
        """The acceptance test's photos, in the order of `gate.choose_check_photos`."""
        val, photos = self.run.split("val"), gate.choose_check_photos(self.run.photos)
        rest_u8 = read_pixels(photos[len(val) :], self.run.contract)
        return np.concatenate([cached_pixels(self.run, val, "val"), rest_u8])
