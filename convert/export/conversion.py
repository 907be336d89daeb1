"""The way from a run directory to a .tflite and its model.json; read `convert_run` downwards. TensorFlow."""

from __future__ import annotations

import dataclasses
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from convert import recipes
from convert.comparison.statistics import at_temperature
from convert.export import gate as check
from convert.export import keras_export as export
from convert.export.float_model import FloatArray, Predictor
from convert.export.repeat_training import require_training_repeated
from convert.files import report_path, require_out
from convert.inputs import SPLITS, Photo, Run, require_whole_chain
from convert.pixels import cached_pixels, read_pixels
from convert.quantization import calibration
from convert.quantization.rounding_shift import PHOTOS, prepare_for_rounding
from convert.recipes import QatSettings, Recipe
from convert.tflite.embed import embed_entries, embed_metadata
from convert.tflite.golden import GoldenResult, make_golden
from convert.tflite.spec import FileInfo, require_as_specified
from edge_runtime.contract import Calibration
from edge_runtime.errors import ConversionRefused, UsageError
from train.artifacts.files import json_text, sha256_of, whole_files
from train.data.pixels import PixelArray, normalize
from train.evaluation.decisions import fit_temperature
from train.evaluation.metrics import expected_calibration_error, softmax

REPORT_SCHEMA = 1
PHOTOS_TO_RANK = 12
PACKAGES = (
    "tensorflow",
    "tf_keras",
    "tensorflow-model-optimization",
    "numpy",
    "pillow",
    "ai-edge-litert",
    "flatbuffers",
)


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    recipe: Recipe
    out: Path
    qat: QatSettings
    seed: int = 0
    """Of the choice of calibration photos."""
    keep_float: float | None = None
    """Share of answers that may change before layers are given back to float; None keeps none."""
    test_report: bool = True
    """Whether float and converted are compared on the test split as well; False where somebody else does it."""


@dataclass(frozen=True)
class _Converted:
    """What the recipe made, before anything is embedded."""

    tflite: bytes
    info: FileInfo
    calibration: dict[str, Any] | None
    qat: dict[str, Any] | None
    temperature: dict[str, Any] | None
    """What was folded in after quantization."""
    kept_float: dict[str, Any] | None = None
    """What `--keep-float` found."""


def convert_run(run: Run, request: Request) -> dict[str, Any]:
    """Converts a run; writes the .tflite and its .json, both or, but for a kill between two renames, neither.

    Returns:
        The report that stands in the .json.

    Raises:
        ConversionRefused: The file is not as specified, or too far from the Keras model. Nothing is written.
        RunInvalid, DataInvalid, ImageError, UsageError: As they say. Nothing is written.
    """
    require_out(request.out, run.inputs)
    require_whole_chain(run)
    started = time.monotonic()
    float_model = _float_model(run, request.recipe)
    keras = Predictor(float_model, run.contract)
    repeated = require_training_repeated(run, keras)
    converted = _apply_recipe(run, request, float_model, keras)
    contract = dataclasses.replace(
        run.contract,
        calibration=_calibration(run, converted),
        provenance=dataclasses.replace(run.contract.provenance, recipe=request.recipe.name),
    )
    described = embed_metadata(converted.tflite, contract, quantized=request.recipe.quantized)
    golden = make_golden(described, contract)
    contract = dataclasses.replace(contract, golden=golden.vectors)
    complete = embed_entries(described, contract, golden.pictures)
    require_as_specified(complete, request.recipe, contract, mixed=request.keep_float is not None)
    with whole_files([report_path(request.out), request.out]) as (json_file, tflite_file):
        tflite_file.write_bytes(complete)
        check.check_golden(tflite_file)
        gate = _gate(run, request.recipe, tflite_file, keras, converted.temperature)
        test = _test_report(run, tflite_file, keras) if request.test_report else None
        report = _report(run, request, converted, golden, gate, test)
        report["model"] = {"file": request.out.name, "bytes": len(complete), "sha256": sha256_of(tflite_file)}
        report["training_repeated"] = repeated
        report["seconds"] = round(time.monotonic() - started, 1)
        json_file.write_text(json_text(report), encoding="utf-8")
    return report


def _float_model(run: Run, recipe: Recipe) -> Any:
    if not run.model_path.is_dir():
        model = export.load_float_model(run.model_path, run.contract, any_head=run.foreign)
        if recipe.needs_qat:
            from convert.quantization.fake_quant import require_wrappable

            require_wrappable(model)
        return model
    if recipe.needs_qat:
        raise UsageError(
            f"{run.model_path}: a SavedModel cannot be fine-tuned",
            found=f"recipe {recipe.name}",
            expected=" or ".join(name for name, other in recipes.RECIPES.items() if not other.needs_qat),
            fix="give the model as a .keras or .h5 file of tf_keras, or choose another recipe",
        )
    from convert.export.saved_model import SavedNetwork

    return SavedNetwork(run.model_path, run.contract)


def _apply_recipe(run: Run, request: Request, float_model: Any, keras: Predictor) -> _Converted:
    recipe, contract = request.recipe, run.contract
    dataset, qat_report, calibration_report, spread_out = None, None, None, None
    model = float_model
    if recipe.needs_calibration:
        codes = [label.code for label in contract.labels]
        chosen = calibration.choose_calibration_photos(
            run.photos, len(codes), recipes.CALIBRATION_PHOTOS, request.seed
        )
        calibration_report = calibration.describe(chosen, codes, request.seed)
        calibration_u8 = read_pixels(chosen, contract, progress="calibration photos")
        if recipe.needs_qat:
            model, qat_report = _fine_tune(run, request, float_model, keras, calibration_u8)
        else:
            dataset = export.representative_dataset(calibration_u8, contract)
            if not run.model_path.is_dir():
                some = calibration_u8[:: max(1, len(calibration_u8) // PHOTOS)]
                spread_out = normalize(some, contract.normalization)

    def network_for(kept: Sequence[str]) -> Any:
        return model if spread_out is None else prepare_for_rounding(float_model, spread_out, kept)

    kept_float = None
    if request.keep_float is not None:
        tflite, kept_float = _keep_float(run, network_for, float_model, keras, dataset, request.keep_float)
    else:
        model = network_for(())
        tflite = export.to_tflite(export.with_softmax(model), recipe, contract, dataset)
    info = require_as_specified(tflite, recipe, contract, mixed=kept_float is not None)
    temperature_report = None
    if recipe.quantized:
        try:
            tflite, temperature_report = _fold_temperature(run, tflite)
        except ConversionRefused:
            # Only our own networks promise to end in one dense layer and a softmax; others keep their own calibration.
            if not run.foreign and kept_float is None:
                raise
    return _Converted(tflite, info, calibration_report, qat_report, temperature_report, kept_float)


def _keep_float(
    run: Run,
    network_for: Callable[[Sequence[str]], Any],
    float_model: Any,
    keras: Predictor,
    dataset: Any,
    max_loss: float,
) -> tuple[bytes, dict[str, Any]]:
    from convert.export import mixed_precision as keep_float

    photos = check.choose_check_photos(run.photos)
    pixels_u8 = _check_pixels(run, photos)
    expected = keras(pixels_u8).argmax(axis=1)

    def loss_of(tflite: bytes) -> float:
        answers = check.run_tensors(tflite, pixels_u8, run.contract).argmax(axis=1)
        return float((answers != expected).mean())

    def rank(floating: bytes, whole: bytes) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / name for name in ("float.tflite", "int8.tflite")]
            for path, tflite in zip(paths, (floating, whole), strict=True):
                # The probe opens files as a device does: with a contract.
                path.write_bytes(embed_entries(tflite, run.contract, {}))
            some = [photo.path for photo in photos[:PHOTOS_TO_RANK]]
            return keep_float.noisiest_first(paths[0], paths[1], some)

    found = keep_float.search(
        lambda kept: export.with_softmax(network_for(kept)),
        export.with_softmax(float_model),
        run.contract,
        dataset,
        rank=rank,
        loss_of=loss_of,
        max_loss=max_loss,
    )
    return found.tflite, found.report


def _fold_temperature(run: Run, tflite: bytes) -> tuple[bytes, dict[str, Any]]:
    """Calibrates the quantized file on its own answers to the validation photos; see convert/quantization/temperature.py."""  # noqa: E501
    from convert.quantization import temperature

    val = run.split("val")
    labels = check.labels_of(val)
    integers, scale = temperature.read_logits(
        tflite, cached_pixels(run, val, "val"), run.contract, progress="temperature"
    )
    logits = integers * scale
    factor = fit_temperature(labels, logits)
    errors = [expected_calibration_error(labels, softmax(logits, t)) for t in (1.0, factor)]
    report = {
        "photos": len(val),
        "float": run.contract.calibration.temperature,
        "after_quantization": factor,
        "total": round(run.contract.calibration.temperature * factor, 4),
        "expected_calibration_error_before": errors[0],
        "expected_calibration_error": errors[1],
    }
    return temperature.fold_into_scales(tflite, factor), report


def _calibration(run: Run, converted: _Converted) -> Calibration:
    if converted.temperature is None:
        return run.contract.calibration
    return Calibration("temperature", converted.temperature["total"])


def _fine_tune(
    run: Run, request: Request, float_model: Any, keras: Predictor, calibration_u8: PixelArray
) -> tuple[Any, dict[str, Any]]:
    from convert.quantization import qat
    from convert.quantization.batches import TrainingStream, sampling_weights
    from convert.quantization.soft_labels import read_soft_labels

    train, val = run.split("train"), run.split("val")
    settings, contract = request.qat, run.contract
    drawn = sampling_weights(train, run.sampling)
    stream = TrainingStream(
        cached_pixels(run, train, "train"),
        check.labels_of(train),
        contract.normalization.mean,
        contract.normalization.std,
        settings.batch,
        drawn,
        settings.seed,
        read_soft_labels(run, train, drawn),
    )
    val_u8 = cached_pixels(run, val, "val")

    def file_probs(model: Any) -> FloatArray:
        tflite = export.to_tflite(export.with_softmax(model), request.recipe, contract)
        return check.run_tensors(tflite, val_u8, contract)

    validation = qat.Validation(check.labels_of(val), keras(val_u8), file_probs)
    folder = run.work_folder / request.recipe.name
    return qat.fine_tune(float_model, contract, settings, stream, calibration_u8, validation, folder)


def _gate(
    run: Run, recipe: Recipe, tflite: Path, keras: Predictor, temperature: dict[str, Any] | None
) -> dict[str, Any]:
    photos = check.choose_check_photos(run.photos)
    pixels_u8 = _check_pixels(run, photos)
    expected = keras(pixels_u8)
    if temperature is not None:
        # At the file's temperature: what is wanted after quantization is no error of quantization.
        expected = at_temperature(expected, temperature["after_quantization"])
    found = check.run_file(tflite, pixels_u8, progress="gate")
    comparison = check.compare(check.labels_of(photos), expected, found)
    check.require_within(comparison, recipe)
    report: dict[str, Any] = {
        **dataclasses.asdict(comparison),
        "temperature_ratio": check.require_same_sharpness(expected, found),
        "balanced_accuracy_loss": comparison.balanced_accuracy_loss,
        "limits": dataclasses.asdict(recipe.limits),
        "photos_by_split": {name: sum(p.split == name for p in photos) for name in SPLITS},
    }
    if len(photos) < recipes.CHECK_PHOTOS:
        report["note"] = (
            f"train and val hold only {len(photos)} photos, fewer than {recipes.CHECK_PHOTOS}: all were used"
        )
    return report


def _check_pixels(run: Run, photos: tuple[Photo, ...]) -> PixelArray:
    val = tuple(photo for photo in photos if photo.split == "val")
    rest = tuple(photo for photo in photos if photo.split != "val")
    parts = [np.asarray(cached_pixels(run, val, "val"))] + ([read_pixels(rest, run.contract)] if rest else [])
    return np.concatenate(parts)


def _test_report(run: Run, tflite: Path, keras: Predictor) -> dict[str, Any] | None:
    """Float and converted on the test split; None if there is none. Decides nothing."""
    photos = run.split("test")
    if not photos:
        return None
    pixels_u8 = cached_pixels(run, photos, "test")
    labels, codes = check.labels_of(photos), [label.code for label in run.contract.labels]
    scores, converted = keras(pixels_u8), check.run_file(tflite, pixels_u8, progress="test split")
    groups = [photo.group_id for photo in photos]
    return {
        **check.paired_report(labels, groups, scores, converted, codes),
        "subgroups": check.subgroup_report(photos, scores, converted),
    }


def _report(
    run: Run,
    request: Request,
    converted: _Converted,
    golden: GoldenResult,
    gate: dict[str, Any],
    test: dict[str, Any] | None,
) -> dict[str, Any]:
    return {
        "schema_version": REPORT_SCHEMA,
        "model": {},
        "options": recipes.options_of(
            request.recipe, request.qat, request.seed, keep_float=request.keep_float
        ),
        "recipe": recipes.as_dict(request.recipe),
        "run": {
            "run_id": run.contract.provenance.run_id,
            "commit": run.contract.provenance.commit,
            "model_keras_sha256": sha256_of(run.model_path),
            "manifest_csv_sha256": sha256_of(run.manifest_path),
            "contract_json_sha256": sha256_of(run.contract_path),
        },
        "versions": {name: _version(name) for name in PACKAGES},
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "tensors": dataclasses.asdict(converted.info),
        "calibration": converted.calibration,
        "qat": converted.qat,
        "temperature": converted.temperature,
        "kept_float": converted.kept_float,
        "golden": {
            "runtime": golden.vectors[0].runtime,
            "tolerance": {vector.image: vector.tolerance for vector in golden.vectors},
            "largest_difference_by_kernel_set": golden.kernel_sets,
            "unavailable": golden.unavailable,
        },
        "check": gate,
        "test": test,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
