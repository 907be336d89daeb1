"""`dermedge convert FOLDS --recipe NAME`: convert every fold of a cross-validation, pool predictions out of fold.

FOLDS is the folder of `dermedge crossval`. Each finished fold is converted, its file runs on the fold's test photos as
on a device, and the predictions are pooled beside the float ones:

  foldK/convert/NAME.tflite, NAME.json   the fold's file and its report
  foldK/convert/NAME_SHA.csv             that file's scores of the fold's test photos
  oof_NAME.csv        photo_id, source, fold, label, group_id, p_CODE
  metrics_NAME.json   the options of the conversions; both models' metrics, paired on the same photos, by dataset

The same command resumes: a fold whose model has not changed is neither converted nor run again. numpy, pandas;
TensorFlow where a fold is to be converted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from convert.export import gate
from convert.files import holds_report, report_path
from convert.inputs import Photo, Run, read_run, read_scores
from convert.pixels import read_pixels
from convert.recipes import Request
from edge_runtime.contract import Decision
from edge_runtime.errors import RunInvalid, escaped
from edge_runtime.model.model_file import open_model
from train.artifacts.files import csv_cell, read_object, sha256_of, whole_file, write_json
from train.artifacts.run import FINISHED
from train.artifacts.selection import KEY, choices_on
from train.artifacts.writer import sole_writer
from train.evaluation.decisions import NOT_A_LESION, REFER, decide
from train.evaluation.metrics import FloatArray, softmax

BoolArray = npt.NDArray[np.bool_]
RULES = (REFER, NOT_A_LESION)
SIDES = ("keras", "converted")
OOF = "oof.csv"
RESUME = "Run dermedge crossval again; finished folds are not trained again"
# A fold's file is current while these are those of its report.
RUN_HASHES = {"model_keras": "model.keras", "contract_json": "contract.json", "manifest_csv": "manifest.csv"}


@dataclass(frozen=True)
class Fold:
    """A fold's test photos with the scores of both models."""

    number: int
    codes: tuple[str, ...]
    photos: tuple[Photo, ...]
    scores: dict[str, FloatArray]
    """By side: [n, labels], rows sum to 1."""
    fired: dict[str, dict[str, BoolArray]]
    """By side and rule: [n]; a rule that the contract lacks is absent."""
    model_bytes: int

    @property
    def agreement(self) -> float:
        """Return the share of equal predictions."""
        keras, converted = (self.scores[side].argmax(axis=1) for side in SIDES)
        return float((keras == converted).mean())


def run_crossval(
    folder: Path, request: Request, *, folds: Sequence[int] | None = None, data: Path | None = None
) -> dict[str, Any]:
    """Convert folds, by default every finished one, run their files, and write oof_NAME.csv and metrics_NAME.json.

    Returns:
        The content of metrics_NAME.json.

    Raises:
        RunInvalid: No finished fold, or FOLDS/oof.csv lacks test photos.
        ConversionRefused: As for one run; folds that are done stay done.
    """
    numbers = _finished(folder) if folds is None else sorted(set(folds))
    if not numbers:
        expected = f"fold0, fold1, ... with status {FINISHED}"
        raise RunInvalid(f"{folder}: no finished fold", expected=expected, fix="Let dermedge crossval finish")
    done, first_source, name = [], "", request.recipe.name
    for number in numbers:
        run = read_run(folder / f"fold{number}", data)
        first_source = run.sources[0]
        with sole_writer(run.folder):
            done.append(_fold(run, number, request))
        print(f"fold {number}: agreement {done[-1].agreement:.4f}", file=sys.stderr)
    _write_csv(folder / f"oof_{name}.csv", pd.concat(map(_oof_rows, done)))
    chosen = {KEY: list(choices_on(folder))}
    metrics = {"recipe": name, "options": request.options(), **chosen, **pooled_report(done, first_source)}
    write_json(folder / f"metrics_{name}.json", metrics)
    return metrics


def _finished(folder: Path) -> list[int]:
    numbers = []
    for path in folder.glob("fold*/run.json"):
        matched = re.fullmatch(r"fold(\d+)", path.parent.name)
        if matched and read_object(path).get("status") == FINISHED:
            numbers.append(int(matched[1]))
    return sorted(numbers)


def _fold(run: Run, number: int, request: Request) -> Fold:
    photos, oof = run.split("test"), run.folder.parent / OOF
    codes = run.contract.codes
    logits = read_scores(oof, codes, prefix="logit_").reindex([photo.photo_id for photo in photos])
    lacking = logits.index[logits.isna().any(axis=1)]
    if len(lacking) or not photos:
        problem = f"{oof}: lacks test photos of fold {number}"
        found = f"{len(lacking)} of {len(photos)} without logits: {', '.join(lacking[:3])}"
        expected = f"numbers logit_{', logit_'.join(codes)} for every test photo"
        raise RunInvalid(problem, found=found, expected=expected, fix=RESUME)
    out = run.work_folder / f"{request.recipe.name}.tflite"
    out.parent.mkdir(exist_ok=True)
    if not _is_current(run, out, request):
        from convert.export.conversion import convert_run

        convert_run(run, request, out)
    scores = {"keras": softmax(logits.to_numpy()), "converted": _converted_scores(run, out, photos)}
    decisions = {"keras": run.contract.decision, "converted": open_model(out).contract.decision}
    fired = {side: _fired(decisions[side], scores[side]) for side in SIDES}
    return Fold(number, codes, photos, scores, fired, out.stat().st_size)


def _is_current(run: Run, out: Path, request: Request) -> bool:
    """Check whether the file was made from this run as it is, with these options, and is whole."""
    report = _report(report_path(out))
    return (
        out.is_file()
        and report.get("options") == request.options()
        and report["model"].get("sha256") == sha256_of(out)
        and all(
            report["run"].get(f"{name}_sha256") == sha256_of(run.folder / file)
            for name, file in RUN_HASHES.items()
        )
    )


def _report(path: Path) -> dict[str, Any]:
    """Read a fold's report; {} where there is none. A damaged one is removed: the fold is then converted again."""
    if holds_report(path):
        return read_object(path)
    if path.is_file():
        text = escaped(f"{path}: not the report of a conversion; this fold is converted again")
        print(text, file=sys.stderr)
        path.unlink()
    return {}


def _converted_scores(run: Run, model: Path, photos: Sequence[Photo]) -> FloatArray:
    """Return the file's scores [n, labels], each row divided by its sum as the runtime does; kept, and read back."""
    kept = model.with_name(f"{model.stem}_{sha256_of(model)[:12]}.csv")
    codes, ids = run.contract.codes, [photo.photo_id for photo in photos]
    if not kept.is_file():
        pixels_u8 = read_pixels(photos, run.contract, progress="test")
        scores = gate.run_model(open_model(model, vouched=True), pixels_u8, progress="test")
        columns = [f"p_{code}" for code in codes]
        _write_csv(kept, pd.DataFrame(scores, pd.Index(ids, name="photo_id"), columns))
    found: FloatArray = read_scores(kept, codes).loc[ids].to_numpy()
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _fired(decision: Decision, scores: FloatArray) -> dict[str, BoolArray]:
    """Return which photos each rule of a contract catches, as the runtime decides: not a lesion before refer."""
    decided = np.array(decide(scores, decision))
    rules = {REFER: decision.refer, NOT_A_LESION: decision.not_a_lesion}
    return {name: decided == name for name, rule in rules.items() if rule is not None}


def pooled_report(folds: Sequence[Fold], first_source: str) -> dict[str, Any]:
    """Pool the metrics of all folds: of the first dataset, and below `sources` of each further one."""
    photos = [photo for fold in folds for photo in fold.photos]
    scores = {side: np.concatenate([fold.scores[side] for fold in folds]) for side in SIDES}
    fired = {
        rule: {side: np.concatenate([fold.fired[side][rule] for fold in folds]) for side in SIDES}
        for rule in RULES
        if all(rule in fold.fired[side] for fold in folds for side in SIDES)
    }
    by_source = {}
    for source in dict.fromkeys([first_source, *sorted({photo.source for photo in photos})]):
        if chosen := [photo for photo in photos if photo.source == source]:
            inside = np.array([photo.source == source for photo in photos])
            keras, converted = (scores[side][inside] for side in SIDES)
            report = gate.paired_report(chosen, keras, converted, folds[0].codes)
            report["subgroups"] = gate.subgroup_report(chosen, keras, converted)
            for rule, of_side in fired.items():
                report[f"{rule}_share"] = {side: float(of_side[side][inside].mean()) for side in SIDES}
            by_source[source] = report
    return {
        "folds": [fold.number for fold in folds],
        "bytes_by_fold": [fold.model_bytes for fold in folds],
        "agreement_by_fold": [fold.agreement for fold in folds],
        **by_source.pop(first_source, {}),
        "sources": by_source,
    }


def _oof_rows(fold: Fold) -> pd.DataFrame:
    rows = [(p.photo_id, p.source, fold.number, fold.codes[p.label], p.group_id) for p in fold.photos]
    named = pd.DataFrame(rows, columns=["photo_id", "source", "fold", "label", "group_id"])
    named[[f"p_{code}" for code in fold.codes]] = fold.scores["converted"]
    return named.set_index("photo_id")


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with whole_file(path) as temporary:
        table.map(csv_cell).rename(index=csv_cell).to_csv(temporary, float_format="%.6g")
