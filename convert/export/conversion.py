"""From a run directory to a .tflite and its model.json; read `convert_run` downwards. TensorFlow.

read inputs -> quantize (the recipe) -> export -> metadata and self-test vectors -> acceptance test -> write
"""

from __future__ import annotations

import dataclasses
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from convert.comparison.statistics import at_temperature
from convert.export import gate
from convert.export.repeat_training import require_training_repeated
from convert.export.steps import Steps
from convert.files import WEIGHTS, report_path, require_out
from convert.inputs import SPLITS, Run, require_float_contract
from convert.pixels import cached_pixels
from convert.recipes import CHECK_PHOTOS, Request
from convert.tflite.embed import embed_entries, embed_metadata
from convert.tflite.golden import GoldenResult, make_golden
from convert.tflite.spec import require_as_specified
from edge_runtime.contract import Calibration, ModelContract
from edge_runtime.model.model_file import open_model
from train.artifacts.files import json_text, sha256_of, whole_files
from train.artifacts.selection import KEY, choices_on

REPORT_SCHEMA = 1
PACKAGES = "tensorflow tf_keras tensorflow-model-optimization numpy pillow ai-edge-litert flatbuffers"


def convert_run(run: Run, request: Request, out: Path) -> dict[str, Any]:
    """Convert a run and write the .tflite and its .json, both or, but for a kill between two renames, neither.

    Returns:
        The report that stands in the .json.

    Raises:
        ConversionRefused: The file is not as specified, or too far from the Keras model. Nothing is written.
        RunInvalid, DataInvalid, ImageError, UsageError: As they say. Nothing is written.
    """
    require_out(out, run.inputs)
    require_float_contract(run)
    started = time.monotonic()
    if request.test_report and (photos := run.split("test")):
        # A full disk is noticed now, not after an hour of fine-tuning.
        cached_pixels(run, photos, "test")
    steps = Steps(run, request)
    repeated = require_training_repeated(run, steps.predict)
    tflite = steps.apply_recipe()
    contract = _converted_contract(steps)
    described = embed_metadata(tflite, contract, quantized=request.recipe.quantized)
    golden = make_golden(described, contract)
    contract = dataclasses.replace(contract, golden=golden.vectors)
    complete = embed_entries(described, contract, golden.pictures)
    info = require_as_specified(complete, request.recipe, contract, mixed=request.max_loss is not None)
    with whole_files([report_path(out), out]) as (json_file, tflite_file):
        tflite_file.write_bytes(complete)
        gate.check_golden(tflite_file)
        accepted = _accept(steps, tflite_file)
        test = _test_report(steps, tflite_file) if request.test_report else None
        model = {"file": out.name, "bytes": len(complete), "sha256": sha256_of(tflite_file)}
        report = _report(steps, model, info, golden)
        report |= {"check": accepted, "test": test, "training_repeated": repeated}
        report["seconds"] = round(time.monotonic() - started, 1)
        json_file.write_text(json_text(report), encoding="utf-8")
    return report


def _converted_contract(steps: Steps) -> ModelContract:
    """The run's contract with the recipe's name and the temperature that was folded in."""
    contract, folded = steps.run.contract, steps.report["temperature"]
    return dataclasses.replace(
        contract,
        calibration=Calibration("temperature", folded["total"]) if folded else contract.calibration,
        provenance=dataclasses.replace(contract.provenance, recipe=steps.request.recipe.name),
    )


def _accept(steps: Steps, tflite: Path) -> dict[str, Any]:
    """The acceptance test: the written file against the float model; its figures for model.json."""
    recipe, folded = steps.request.recipe, steps.report["temperature"]
    photos = gate.choose_check_photos(steps.run.photos)
    pixels_u8 = steps.check_pixels()
    expected = steps.predict(pixels_u8)
    if folded is not None:
        # At the file's temperature: what is wanted after quantization is no error of quantization.
        expected = at_temperature(expected, folded["after_quantization"])
    found = gate.run_model(open_model(tflite, vouched=True), pixels_u8, progress="acceptance test")
    compared = gate.compare(gate.labels_of(photos), expected, found)
    gate.require_within(compared, recipe)
    report: dict[str, Any] = {
        **compared,
        "temperature_ratio": gate.require_same_sharpness(expected, found),
        "limits": dataclasses.asdict(recipe.limits),
        "photos_by_split": {name: sum(p.split == name for p in photos) for name in SPLITS},
    }
    if len(photos) < CHECK_PHOTOS:
        few = f"train and val hold only {len(photos)} photos, fewer than {CHECK_PHOTOS}: all were used"
        report["note"] = few
    return report


def _test_report(steps: Steps, tflite: Path) -> dict[str, Any] | None:
    """Float and converted on the test split; None if there is none. Decides nothing."""
    run = steps.run
    photos = run.split("test")
    if not photos:
        return None
    pixels_u8 = cached_pixels(run, photos, "test")
    converted = gate.run_model(open_model(tflite, vouched=True), pixels_u8, progress="test split")
    scores = steps.predict(pixels_u8)
    return {
        KEY: [] if run.foreign else list(choices_on(run.folder, "test")),
        **gate.paired_report(photos, scores, converted, run.contract.codes),
        "subgroups": gate.subgroup_report(photos, scores, converted),
    }


def _selection(steps: Steps) -> list[dict[str, Any]]:
    """The photos by which something of this file was chosen, see train/artifacts/selection.py."""
    run, done = steps.run, steps.report
    own = {
        "the epoch of fine-tuning": done["qat"],
        "the temperature after quantization": done["temperature"],
        "the layers kept in float": done["kept_float"],
    }
    chosen = [] if run.foreign else [*choices_on(run.folder, "val")]
    chosen += [name for name, made in own.items() if made]
    sets = ("training", "train", [] if run.foreign else WEIGHTS), ("validation", "val", chosen)
    return [
        {"set": f"{name} split", "chosen": what, "photo_ids": [photo.photo_id for photo in run.split(split)]}
        for name, split, what in sets
    ]


def _report(
    steps: Steps, model: dict[str, Any], info: dict[str, Any], golden: GoldenResult
) -> dict[str, Any]:
    run, request = steps.run, steps.request
    return {
        "schema_version": REPORT_SCHEMA,
        "model": model,
        "options": request.options(),
        "recipe": dataclasses.asdict(request.recipe),
        "run": {
            "run_id": run.contract.provenance.run_id,
            "commit": run.contract.provenance.commit,
            "model_keras_sha256": sha256_of(run.model_path),
            "manifest_csv_sha256": sha256_of(run.manifest_path),
            "contract_json_sha256": sha256_of(run.contract_path),
        },
        "versions": {name: metadata.version(name) for name in PACKAGES.split()},
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        KEY: _selection(steps),
        "tensors": info,
        **steps.report,
        "golden": {
            "runtime": golden.vectors[0].runtime,
            "tolerance": {vector.image: vector.tolerance for vector in golden.vectors},
            "largest_difference_by_kernel_set": golden.kernel_sets,
            "unavailable": golden.unavailable,
        },
    }
