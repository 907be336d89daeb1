"""`python -m convert.crossval DIR --recipe NAME`: what conversion costs, on answers out of fold.

DIR is what `python -m train.training.crossval` made. Each finished fold is converted, its file answers the fold's
test photos as
a device would, and the answers are pooled beside the float ones:

  foldK/convert/NAME.tflite, NAME.json   the fold's file and its report
  foldK/convert/NAME_SHA.csv             that file's answers to the fold's test photos
  oof_NAME.csv        photo_id, source, fold, label, group_id, p_CODE
  metrics_NAME.json   the options of the conversions; both models' figures, paired on the same photos, by data set

The same command resumes: a fold whose model has not changed is neither converted nor asked again. numpy; TensorFlow
where a fold is to be converted.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from convert.export import gate as check
from convert.files import is_report, report_path
from convert.inputs import Photo, Run, read_run
from convert.pixels import read_pixels
from convert.recipes import QatSettings, Recipe, Request, add_recipe_options, request_of
from edge_runtime.contract import Decision
from edge_runtime.errors import EXIT_OK, RunInvalid
from edge_runtime.model.model_file import open_model
from train.artifacts.command import RESUMES, run_command
from train.artifacts.files import json_text, read_object, sha256_of, whole_file
from train.artifacts.run import FINISHED
from train.evaluation.decisions import NOT_A_LESION, REFER, decide
from train.evaluation.metrics import bootstrap_interval, softmax

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
RULES = (REFER, NOT_A_LESION)
SIDES = ("keras", "converted")
OOF = "oof.csv"


@dataclass(frozen=True)
class Fold:
    """A fold's test photos and what both models say to them."""

    number: int
    codes: tuple[str, ...]
    photos: tuple[Photo, ...]
    scores: dict[str, FloatArray]
    """By side: [n, labels], rows sum to 1."""
    fired: dict[str, dict[str, BoolArray]]
    """By side and rule: [n]; a rule that the contract lacks is absent."""
    model_bytes: int


def run_crossval(
    folder: Path,
    recipe: Recipe,
    settings: QatSettings,
    *,
    folds: Sequence[int] | None = None,
    data: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Converts folds, asks their files, and writes oof_NAME.csv and metrics_NAME.json.

    Args:
        folder: DIR.
        recipe: Of the files.
        settings: Of fine-tuning.
        folds: Which ones; every finished one if None.
        data: The first data set's folder, if it is not where the folds say.
        seed: Of the choice of calibration photos.

    Returns:
        The content of metrics_NAME.json.

    Raises:
        RunInvalid: No finished fold, or DIR/oof.csv does not answer its test photos.
        ConversionRefused: As for one run; folds that are done stay done.
    """
    numbers = _finished(folder) if folds is None else sorted(set(folds))
    if not numbers:
        raise RunInvalid(
            f"{folder}: no fold is finished",
            expected="fold0, fold1, ... with status done",
            fix="let `python -m train.training.crossval` finish",
        )
    float_logits = _read_oof(folder / OOF)
    done, first_source = [], ""
    for number in numbers:
        run = read_run(folder / f"fold{number}", data)
        first_source = run.sources[0]
        done.append(_answer(run, number, recipe, settings, seed, float_logits))
        print(f"fold {number}: agreement {_agreement(done[-1]):.4f}", file=sys.stderr)
    with whole_file(folder / f"oof_{recipe.name}.csv") as temporary:
        _write_answers(temporary, done)
    options = Request(recipe, settings, seed).options()
    metrics = {"recipe": recipe.name, "options": options, **pooled_report(done, first_source)}
    with whole_file(folder / f"metrics_{recipe.name}.json") as temporary:
        temporary.write_text(json_text(metrics), encoding="utf-8")
    return metrics


def _finished(folder: Path) -> list[int]:
    numbers = []
    for path in folder.glob("fold*/run.json"):
        matched = re.fullmatch(r"fold(\d+)", path.parent.name)
        if matched and read_object(path).get("status") == FINISHED:
            numbers.append(int(matched[1]))
    return sorted(numbers)


def _read_oof(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        raise RunInvalid(
            f"{path}: the float models' answers are not here",
            found="nothing",
            expected="the file that `python -m train.training.crossval` writes when a fold ends",
            fix="run it again; finished folds are not trained again",
        )
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return {row["photo_id"]: row for row in csv.DictReader(stream, restval="")}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise RunInvalid(
            f"{path}: the float models' answers cannot be read",
            found=f"no column {error}" if isinstance(error, KeyError) else str(error),
            expected="UTF-8 text with columns photo_id and logit_CODE",
            fix="run `python -m train.training.crossval` again; finished folds are not trained again",
        ) from error


# -------------------------------------------------------------------- one fold


def _answer(
    run: Run,
    number: int,
    recipe: Recipe,
    settings: QatSettings,
    seed: int,
    float_logits: dict[str, dict[str, str]],
) -> Fold:
    photos = run.split("test")
    codes = tuple(label.code for label in run.contract.labels)
    columns = [f"logit_{code}" for code in codes]
    lacking = [p.photo_id for p in photos if not set(columns) <= set(float_logits.get(p.photo_id, ()))]
    if lacking or not photos:
        raise RunInvalid(
            f"{run.folder.parent / OOF}: does not answer the test photos of fold {number}",
            found=f"{len(lacking)} of {len(photos)} without an answer: {', '.join(lacking[:3])}",
            expected=f"columns {', '.join(columns)} for every test photo",
            fix="run `python -m train.training.crossval` again; finished folds are not trained again",
        )
    out = run.work_folder / f"{recipe.name}.tflite"
    out.parent.mkdir(exist_ok=True)
    if not _is_current(run, out, recipe, settings, seed):
        from convert.export.conversion import convert_run

        convert_run(run, Request(recipe, settings, seed, test_report=False), out)
    contract = open_model(out).contract
    logits = _logits(run, photos, columns, float_logits)
    scores = {"keras": softmax(logits), "converted": _ask(run, out, photos)}
    contracts = {"keras": run.contract, "converted": contract}
    fired = {side: _fired(contracts[side].decision, scores[side]) for side in SIDES}
    return Fold(number, codes, photos, scores, fired, out.stat().st_size)


def _logits(
    run: Run, photos: Sequence[Photo], columns: Sequence[str], float_logits: dict[str, dict[str, str]]
) -> FloatArray:
    """[n, labels] of oof.csv."""
    try:
        return np.array([[float(float_logits[p.photo_id][name]) for name in columns] for p in photos])
    except ValueError as error:
        raise RunInvalid(
            f"{run.folder.parent / OOF}: an answer of {run.folder.name} is no number",
            found=str(error),
            fix="run `python -m train.training.crossval` again; finished folds are not trained again",
        ) from error


def _is_current(run: Run, out: Path, recipe: Recipe, settings: QatSettings, seed: int) -> bool:
    """Whether the file was made from this run as it is, with these options, and is whole."""
    report = _report(report_path(out)) if report_path(out).is_file() else {}
    if not out.is_file():
        return False
    files = {"model_keras": "model.keras", "contract_json": "contract.json", "manifest_csv": "manifest.csv"}
    return (
        bool(report)
        and report["options"] == Request(recipe, settings, seed).options()
        and report["model"].get("sha256") == sha256_of(out)
        and all(
            report["run"].get(f"{name}_sha256") == sha256_of(run.folder / file)
            for name, file in files.items()
        )
    )


def _report(path: Path) -> dict[str, Any]:
    """A fold's report; empty, and the file removed, where it is damaged: the fold is then converted again."""
    try:
        content = read_object(path)
        if is_report(content):
            return content
        why = "not the report of a conversion"
    except RunInvalid as error:
        why = error.found
    print(f"{path}: {why}; this fold is converted again", file=sys.stderr)
    path.unlink()
    return {}


def _ask(run: Run, model: Path, photos: Sequence[Photo]) -> FloatArray:
    """The file's scores [n, labels], each row divided by its sum as the runtime does; kept, and read back."""
    kept = model.with_name(f"{model.stem}_{sha256_of(model)[:12]}.csv")
    codes = [label.code for label in run.contract.labels]
    if not kept.is_file():
        scores = check.run_file(model, read_pixels(photos, run.contract, progress="test"), progress="asked")
        with whole_file(kept) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["photo_id", *(f"p_{code}" for code in codes)])
            for photo, row in zip(photos, scores, strict=True):
                writer.writerow([photo.photo_id, *(f"{value:.6g}" for value in row)])
    with kept.open(newline="", encoding="utf-8") as stream:
        answers = {row["photo_id"]: row for row in csv.DictReader(stream)}
    found = np.array([[float(answers[photo.photo_id][f"p_{code}"]) for code in codes] for photo in photos])
    normalized: FloatArray = found / found.sum(axis=1, keepdims=True)
    return normalized


def _fired(decision: Decision, scores: FloatArray) -> dict[str, BoolArray]:
    """Return which photos each rule of a contract catches, as the runtime decides: not a lesion before refer."""
    decided = np.array(decide(scores, decision))
    rules = {REFER: decision.refer, NOT_A_LESION: decision.not_a_lesion}
    return {name: decided == name for name, rule in rules.items() if rule is not None}


# -------------------------------------------------------------------- all folds


def pooled_report(folds: Sequence[Fold], first_source: str) -> dict[str, Any]:
    """Figures of all folds' test photos together: of the first data set, and below `sources` of each further one."""
    sources = list(dict.fromkeys([first_source, *sorted({p.source for fold in folds for p in fold.photos})]))
    by_source = {source: figures for source in sources if (figures := _figures(folds, source))}
    return {
        "folds": [fold.number for fold in folds],
        "bytes_by_fold": [fold.model_bytes for fold in folds],
        "agreement_by_fold": [_agreement(fold) for fold in folds],
        **by_source.pop(first_source, {}),
        "sources": by_source,
    }


def _figures(folds: Sequence[Fold], source: str) -> dict[str, Any]:
    inside = [np.array([photo.source == source for photo in fold.photos]) for fold in folds]
    photos = [p for fold in folds for p in fold.photos if p.source == source]
    if not photos:
        return {}

    def joined(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.concatenate([array[chosen] for array, chosen in zip(arrays, inside, strict=True)])

    scores = {side: joined([fold.scores[side] for fold in folds]) for side in SIDES}
    groups = [photo.group_id for photo in photos]
    report = check.paired_report(
        check.labels_of(photos), groups, scores["keras"], scores["converted"], folds[0].codes
    )
    same = scores["keras"].argmax(axis=1) == scores["converted"].argmax(axis=1)
    report["agreement_interval"] = bootstrap_interval(lambda x: float(x.mean()), groups, same)
    changed = (report["right_to_wrong"], report["wrong_to_right"])
    # McNemar's exact test: among the answers that changed sides, both directions alike?
    report["mcnemar_p"] = float(binomtest(changed[0], sum(changed)).pvalue) if sum(changed) else 1.0
    for rule in RULES:
        if all(rule in fold.fired[side] for fold in folds for side in SIDES):
            report[f"{rule}_share"] = {
                side: float(joined([fold.fired[side][rule] for fold in folds]).mean()) for side in SIDES
            }
    return report


def _agreement(fold: Fold) -> float:
    return float((fold.scores["keras"].argmax(axis=1) == fold.scores["converted"].argmax(axis=1)).mean())


def _write_answers(path: Path, folds: Sequence[Fold]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        codes = folds[0].codes
        writer.writerow(["photo_id", "source", "fold", "label", "group_id", *(f"p_{code}" for code in codes)])
        for fold in folds:
            for photo, row in zip(fold.photos, fold.scores["converted"], strict=True):
                named = [photo.photo_id, photo.source, fold.number, codes[photo.label], photo.group_id]
                writer.writerow([*named, *(f"{value:.6g}" for value in row)])


# -------------------------------------------------------------------- the command


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status is that of `python -m convert`."""
    arguments = _parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return run_command(
        lambda: _cross_validate(arguments),
        interrupted=RESUMES,
    )


def _cross_validate(arguments: argparse.Namespace) -> int:
    request = request_of(arguments)
    metrics = run_crossval(
        arguments.folder,
        request.recipe,
        request.qat,
        folds=arguments.folds,
        data=arguments.data,
        seed=arguments.seed,
    )
    print(_summary(metrics))
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m convert.crossval",
        description="Converts every fold of a cross-validation and compares it with the float model, out of fold.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="folder made by python -m train.training.crossval"
    )
    parser.add_argument(
        "--folds", type=int, nargs="+", metavar="K", help="which (default: every finished one)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the photos' folder, if not where the folds say"
    )
    add_recipe_options(parser)
    return parser


def _summary(metrics: dict[str, Any]) -> str:
    lines = []
    for name, figures in (("", metrics), *metrics["sources"].items()):
        low, high = figures["balanced_accuracy_loss_interval"]
        agreement = figures["agreement_interval"]
        lines.append(
            f"{name + ': ' if name else ''}{figures['photos']} photos out of fold: balanced accuracy "
            f"{figures['keras']['balanced_accuracy']:.4f} -> {figures['converted']['balanced_accuracy']:.4f}, loss "
            f"{figures['balanced_accuracy_loss']:.4f} ({low:.4f} to {high:.4f}); agreement "
            f"{figures['agreement']:.4f} ({agreement[0]:.4f} to {agreement[1]:.4f}), {figures['right_to_wrong']} "
            f"answers for the worse, {figures['wrong_to_right']} for the better (p {figures['mcnemar_p']:.2f}); "
            f"calibration error {figures['keras']['expected_calibration_error']:.4f} -> "
            f"{figures['converted']['expected_calibration_error']:.4f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
