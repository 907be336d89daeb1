"""From what the models answered to report.json: figures, pairs, honesty, layers. numpy."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.comparison import integrity as honesty
from convert.comparison import statistics as paired
from convert.comparison.statistics import Truth
from convert.files import report_path
from convert.inputs import read_object
from convert.photo_list import PhotoList
from edge_runtime.errors import EdgeError
from edge_runtime.model.model_file import ModelFile
from train.evaluation.metrics import FloatArray

if TYPE_CHECKING:
    from convert.comparison.compare import Measured

SCHEMA_VERSION = 1


def build_report(models: Sequence[ModelFile], listed: PhotoList, measured: Measured) -> dict[str, Any]:
    """The content of report.json.

    Args:
        models: The first is the reference.
        listed: Where the photos come from.
        measured: What the models answered; at least one photo.
    """
    answered = sorted(measured.answers)
    photos = [measured.photos[i] for i in answered]
    codes = [label.code for label in models[0].contract.labels]
    truth = Truth.of(photos, codes)
    scores = [_scores(k, model, codes, measured, answered) for k, model in enumerate(models)]
    names = distinct_names([Path(model.path) for model in models])
    described = [_describe(k, models, names[k], measured, truth, scores[k]) for k in range(len(models))]
    pairs = []
    for k in range(1, len(models)):
        pair = paired.paired(truth, scores[0], scores[k])
        problems = honesty.answer_problems(
            models[0].contract, models[k].contract, (scores[0], scores[k]), pair
        )
        described[k]["caught"] += problems
        pair["name"], pair["against"] = names[k], names[0]
        pair["same_run"] = honesty.same_network(models[0].contract, models[k].contract)
        pair["verdict"] = paired.verdict(names[k], names[0], pair, len(photos))
        if described[k]["caught"] or described[0]["caught"]:
            blamed = names[k] if described[k]["caught"] else names[0]
            pair["verdict"] = f"{blamed} is not what it says it is: do not ship it. {pair['verdict']}"
        if k in measured.layer_reports:
            pair["layers"] = measured.layer_reports[k]
        pairs.append(pair)
    return {
        "schema_version": SCHEMA_VERSION,
        "photos": {
            "manifest": str(listed.manifest),
            "split": listed.split,
            "asked": len(measured.photos),
            "answered": len(photos),
            "lesions": truth.lesions,
            "per_class": {code: int((truth.labels == i).sum()) for i, code in enumerate(codes)},
            "failures": measured.failures,
        },
        "interrupted": measured.interrupted,
        "remarks": _remarks(models, names, listed, measured) + _absent_labels(truth),
        "models": described,
        "pairs": pairs,
        "timing": {
            "answering_seconds": round(measured.answering_seconds, 2),
            "inference_seconds": round(
                sum(sum(answer.inference_ms) for answer in measured.answers.values())
                / 1000
                / measured.workers,
                2,
            ),
            "processes": measured.workers,
            "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        },
    }


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """File names without their ending, with as many parents as tell them apart."""
    resolved = [path.resolve().with_suffix("") for path in paths]
    for depth in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({i + 1})" for i, path in enumerate(resolved)]


def _scores(
    k: int, model: ModelFile, codes: Sequence[str], measured: Measured, answered: Sequence[int]
) -> FloatArray:
    """[n, labels] in the order of `codes`; rows divided by their sum, as the runtime does."""
    own = [label.code for label in model.contract.labels]
    columns = [own.index(code) for code in codes]
    rows = np.array([measured.answers[i].scores[k] for i in answered], np.float64)[:, columns]
    normalized: FloatArray = rows / np.maximum(rows.sum(axis=1, keepdims=True), sys.float_info.min)
    return normalized


def _describe(
    k: int,
    models: Sequence[ModelFile],
    name: str,
    measured: Measured,
    truth: Truth,
    scores: FloatArray,
) -> dict[str, Any]:
    model, contract = models[k], models[k].contract
    file = measured.files[k]
    caught = list(measured.golden_problems[k])
    differences = honesty.contract_differences(models[0].contract, contract) if k else []
    if differences and honesty.same_network(models[0].contract, contract):
        caught += [
            f"its contract differs from the first one's, though both are of one run: {', '.join(differences)}"
        ]
    times = measured.bench_ms[k] if measured.bench_ms else []
    return {
        "name": name,
        "file": Path(model.path).name,
        "sha256": model.sha256,
        "bytes": file.bytes,
        "model_id": contract.model_id,
        "run_id": contract.provenance.run_id,
        "recipe": contract.provenance.recipe,
        "operators": file.operator_counts(),
        "weights": file.dtype_counts(constant=True),
        "activations": file.dtype_counts(constant=False),
        "input": file.tensors[file.inputs[0]].dtype,
        "output": file.tensors[file.outputs[0]].dtype,
        "ms_per_photo": round(float(np.median(times)), 3) if times else None,
        "ms_per_photo_least": round(min(times), 3) if times else None,
        "data_licence": contract.provenance.data_licence,
        "contract_differences": differences,
        "caught": caught,
        "figures": paired.figures(truth, scores),
    }


def _remarks(
    models: Sequence[ModelFile], names: Sequence[str], listed: PhotoList, measured: Measured
) -> list[str]:
    """What a reader must know before believing the figures."""
    remarks = []
    if measured.interrupted:
        remarks.append(
            f"Interrupted: {len(measured.answers):,} of {len(measured.photos):,} photos were answered, drawn at random."
        )
    if measured.failures:
        remarks.append(f"{len(measured.failures):,} photos could not be read and are left out.")
    learnt = sum(photo.split in ("train", "val") for photo in measured.photos)
    if learnt:
        remarks.append(
            f"{learnt:,} of {len(measured.photos):,} photos stand in the train or val split: the models have learnt or "
            "been chosen by them, so the figures are too good."
        )
    elif listed.split == "all":
        remarks.append(
            "The table of photos has no splits: nothing here says from which the models have learnt."
        )
    remarks += _foreign_run(models, names, listed)
    for model, name in zip(models, names, strict=True):
        calibrated = _calibration_ids(Path(model.path)) & {photo.photo_id for photo in measured.photos}
        if calibrated:
            remarks.append(
                f"{len(calibrated):,} of the photos gave {name} its ranges; its figures are too good."
            )
    return remarks


def _absent_labels(truth: Truth) -> list[str]:
    """Of how many classes the balanced accuracy speaks, where some have no photo."""
    absent = [code for i, code in enumerate(truth.codes) if not (truth.labels == i).any()]
    if not absent:
        return []
    occurring = len(truth.codes) - len(absent)
    return [
        f"No answered photo is of {', '.join(absent)}: balanced accuracy is the mean over the other {occurring} of "
        f"{len(truth.codes)} classes, and no figure of all."
    ]


def _foreign_run(models: Sequence[ModelFile], names: Sequence[str], listed: PhotoList) -> list[str]:
    beside = listed.manifest.parent / "run.json"
    run_id = read_object(beside).get("run_id") if beside.is_file() else None
    if run_id is None:
        return []
    foreign = [
        name for model, name in zip(models, names, strict=True) if model.contract.provenance.run_id != run_id
    ]
    if not foreign:
        return []
    return [
        f"The split is that of run {run_id}; {', '.join(foreign)} comes from another run and may have learnt from "
        "these photos."
    ]


def _calibration_ids(model: Path) -> set[str]:
    """Of the photos that gave a model its ranges, as the .json beside it says; empty where there is none."""
    beside = report_path(model)
    if not beside.is_file():
        return set()
    try:
        calibration = json.loads(beside.read_text(encoding="utf-8")).get("calibration") or {}
    except (ValueError, AttributeError, EdgeError):
        return set()
    return set(calibration.get("ids", ()))
