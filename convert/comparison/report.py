"""The content of report.json: metrics, pairs, integrity, layers. numpy."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convert.comparison import integrity
from convert.comparison.statistics import Truth, figures, paired, verdict
from convert.comparison.workers import PhotoScores
from convert.files import selection_marks
from convert.inputs import ALL, Photo, PhotoList
from convert.tflite.reader import TfliteFile
from edge_runtime.model.model_file import ModelFile
from train.artifacts.files import read_object
from train.artifacts.labels import units_of
from train.evaluation.intervals import few, few_note
from train.evaluation.metrics import FloatArray
from train.reports.html import distinct_names

SCHEMA_VERSION = 1


@dataclass
class Measured:
    """What came back from the models."""

    photos: tuple[Photo, ...]
    """In the order in which they were drawn."""
    files: Sequence[TfliteFile] = ()
    """By model: what is inside."""
    workers: int = 1
    """Processes."""
    results: list[PhotoScores] = field(default_factory=list)
    """Of the first photos; of all, unless Ctrl-C came."""
    bench_ms: list[list[float]] = field(default_factory=list)
    """By model: one photo, one thread, several runs, nothing beside them."""
    seconds: float = 0.0
    """For the photos."""
    interrupted: bool = False
    layer_reports: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By place of the model that is compared with the first one; see convert/comparison/layers.py."""
    golden_problems: list[list[str]] = field(default_factory=list)
    """By model; see convert/comparison/integrity.py."""

    @property
    def answered(self) -> list[tuple[Photo, PhotoScores]]:
        """List the photos that have scores."""
        return [(p, r) for p, r in zip(self.photos, self.results, strict=False) if not r.problem]

    @property
    def failures(self) -> dict[str, str]:
        """Map photo_ids to why they have no scores."""
        return {p.photo_id: r.problem for p, r in zip(self.photos, self.results, strict=False) if r.problem}


def build_report(models: Sequence[ModelFile], listed: PhotoList, measured: Measured) -> dict[str, Any]:
    """Build the content of report.json from scores of at least one photo; the first model is the reference."""
    photos = [photo for photo, _ in measured.answered]
    codes, units = models[0].contract.codes, units_of(models[0].contract.labels)
    truth = Truth.of(photos, codes)
    scores = [_scores(k, model, codes, measured) for k, model in enumerate(models)]
    names = names_of(models)
    described = [_describe(k, models, names[k], measured, figures(truth, x)) for k, x in enumerate(scores)]
    pairs = []
    for k in range(1, len(models)):
        contracts = models[0].contract, models[k].contract
        pair = paired(truth, scores[0], scores[k])
        described[k]["caught"] += integrity.answer_problems(*contracts, (scores[0], scores[k]), pair)
        pair["name"], pair["against"] = names[k], names[0]
        pair["same_run"] = integrity.same_network(*contracts)
        pair["verdict"] = verdict(names[k], names[0], pair, len(photos))
        if caught := [described[i]["name"] for i in (k, 0) if described[i]["caught"]]:
            pair["verdict"] = f"{caught[0]} failed its integrity check: do not ship it. {pair['verdict']}"
        if k in measured.layer_reports:
            pair["layers"] = measured.layer_reports[k]
        pairs.append(pair)
    inference_ms = sum(sum(result.inference_ms) for result in measured.results)
    return {
        "schema_version": SCHEMA_VERSION,
        "photos": {
            "manifest": str(listed.manifest),
            "split": listed.split,
            "asked": len(measured.photos),
            "answered": len(photos),
            "lesions": truth.lesions,
            "units": units,
            "per_class": {code: int((truth.labels == i).sum()) for i, code in enumerate(codes)},
            "failures": measured.failures,
        },
        "interrupted": measured.interrupted,
        "remarks": [*_remarks(models, names, listed, measured), *_absent_labels(truth, units)],
        "models": described,
        "pairs": pairs,
        "timing": {
            "answering_seconds": round(measured.seconds, 2),
            "inference_seconds": round(inference_ms / 1000 / measured.workers, 2),
            "processes": measured.workers,
            "machine": machine(),
        },
    }


def machine() -> str:
    """Name the processor, the system and the Python version."""
    return f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"


def names_of(models: Sequence[ModelFile]) -> list[str]:
    """Return the files' names without their ending, with as many parents as make them distinct."""
    return distinct_names([Path(model.path).resolve().with_suffix("") for model in models])


def _scores(k: int, model: ModelFile, codes: Sequence[str], measured: Measured) -> FloatArray:
    """[n, labels] in the order of `codes`; rows divided by their sum, as the runtime does."""
    own = model.contract.codes
    found = [result.scores[0][k] for _, result in measured.answered]
    rows = np.array(found, np.float64)[:, [own.index(code) for code in codes]]
    return np.asarray(rows / np.maximum(rows.sum(axis=1, keepdims=True), sys.float_info.min))


def _describe(
    k: int, models: Sequence[ModelFile], name: str, measured: Measured, metrics: dict[str, Any]
) -> dict[str, Any]:
    model, contract = models[k], models[k].contract
    file = measured.files[k]
    caught = list(measured.golden_problems[k])
    differences = integrity.contract_differences(models[0].contract, contract) if k else []
    if differences and integrity.same_network(models[0].contract, contract):
        caught.append(f"contract differs from the first model's, of the same run: {', '.join(differences)}")
    times = measured.bench_ms[k] if measured.bench_ms else []
    return {
        "name": name,
        "file": Path(model.path).name,
        "sha256": model.sha256,
        "bytes": len(file.data),
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
        "notice": contract.notice,
        "contract_differences": differences,
        "caught": caught,
        "figures": metrics,
    }


def _remarks(
    models: Sequence[ModelFile], names: Sequence[str], listed: PhotoList, measured: Measured
) -> Iterator[str]:
    """Say what limits the metrics."""
    photos, done = measured.photos, len(measured.answered)
    if measured.interrupted:
        yield f"Interrupted: {done:,} of {len(photos):,} photos are done, in random order."
    if measured.failures:
        yield f"{len(measured.failures):,} photos could not be read and are left out."
    if seen := sum(photo.split in ("train", "val") for photo in photos):
        yield (
            f"{seen:,} of {len(photos):,} photos are of the train or val split, on which the models were trained or "
            "selected: the metrics are optimistic."
        )
    elif listed.split == ALL:
        yield "The dataset has no splits: models may have been trained on its photos."
    yield from _foreign_run(models, names, listed)
    ids = [(photo.photo_id,) for photo in photos]
    for model, name in zip(models, names, strict=True):
        yield from (f"{name}: {marked}" for marked in selection_marks(Path(model.path), ids))


def _absent_labels(truth: Truth, units: str) -> Iterator[str]:
    """Say over which classes the balanced accuracy is, where some have no photo, or few lesions."""
    codes = truth.codes
    if few_classes := few_note(few(codes, truth.recalls(truth.labels)), units):
        yield few_classes
    if absent := [code for i, code in enumerate(codes) if i not in truth.labels]:
        yield (
            f"No photo is of {', '.join(absent)}: balanced accuracy is the mean over the other "
            f"{len(codes) - len(absent)} of {len(codes)} classes."
        )


def _foreign_run(models: Sequence[ModelFile], names: Sequence[str], listed: PhotoList) -> list[str]:
    beside = listed.manifest.parent / "run.json"
    run_id = read_object(beside).get("run_id") if beside.is_file() else None
    run_ids = [model.contract.provenance.run_id for model in models]
    foreign = [name for own, name in zip(run_ids, names, strict=True) if own != run_id]
    if run_id is None or not foreign:
        return []
    return [
        f"The split is of run {run_id}; {', '.join(foreign)} is of another run and may have been trained on these "
        "photos."
    ]
