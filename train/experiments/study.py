"""Variants of one config on the same folds, compared as pairs: `dermedge experiment study STUDY.toml --workdir DIR`.

A study file has a [base] table, which is a whole config (train/configs/schema.py), and [[variant]] tables: `name`,
`why`, and `set`, the keys that differ. The first variant is the baseline. A variant may have its own `folds`; metrics
are then compared on the folds that both have.

DIR/
  NAME/          a cross-validation each (train/training/crossval.py)
  pixels/        cached pixels of all of them, can be deleted
  study.json     a row per finished variant           table.md   the same for people

The same command resumes, and adds variants that the file gained. A variant that merges labels is compared with the
summed scores of the baseline.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import ConfigInvalid, RunInvalid
from train.artifacts.command import RESUMES, command_parser, run_command
from train.artifacts.files import read_toml, write_json, write_text
from train.artifacts.tables import read_rows
from train.configs.loading import parse_config
from train.configs.schema import TrainConfig
from train.evaluation.intervals import balanced_accuracy_estimate, recalls
from train.evaluation.metrics import (
    FloatArray,
    IntArray,
    balanced_accuracy,
    expected_calibration_error,
    paired_difference_interval,
    softmax,
)
from train.experiments.torch.handover import exchange
from train.training.crossval import run_crossval
from train.training.run import DATA_HELP, Maker

OOF_COLUMNS = ("photo_id", "source", "fold", "label", "group_id")
LOGIT = "logit_"


@dataclass(frozen=True)
class Variant:
    """One row of the study."""

    name: str
    why: str
    config: TrainConfig
    folds: tuple[int, ...]


@dataclass(frozen=True)
class Predictions:
    """Out-of-fold predictions of a variant on the first data set."""

    photo_ids: tuple[str, ...]
    truth: tuple[str, ...]
    groups: tuple[str, ...]
    codes: tuple[str, ...]
    probs: FloatArray
    """[photos, codes]."""


def load_study(path: Path) -> list[Variant]:
    """Read a study file.

    Raises:
        ConfigInvalid: Not readable, or a variant breaks the schema of a config; the variant is named.
    """
    try:
        table = read_toml(path)
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"{path}: not a study", found=str(error), expected="a TOML file") from error
    if problems := _problems(table):
        raise ConfigInvalid(
            f"{path}: not a study", found="; ".join(problems), expected="see train/experiments/study.py"
        )
    variants = []
    for entry in table["variant"]:
        merged = _merge({**table["base"], "name": entry["name"]}, entry.get("set", {}))
        config = parse_config(merged, f"{path}, variant {entry['name']}")
        folds = entry.get("folds", table.get("folds", list(range(config.split.folds))))
        variants.append(Variant(entry["name"], entry["why"], config, tuple(folds)))
    return variants


def _problems(table: Mapping[str, Any]) -> list[str]:
    """What keeps a TOML table from being a study, but for its configs."""
    entries = table.get("variant", [])
    if not isinstance(table.get("base"), dict) or not entries:
        return ["[base] or [[variant]] is missing"]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return ["variant is no array of tables: [[variant]], in two pairs of brackets"]
    problems = [f"{key} is unknown" for key in table if key not in ("base", "variant", "folds")]
    problems += _folds_problems("", table)
    for entry in entries:
        name = entry.get("name")
        of = f"variant {name!r}: "
        problems += [of + f"{key} is unknown" for key in entry if key not in ("name", "why", "set", "folds")]
        if not name or not entry.get("why"):
            problems.append(f"variant {name!r} lacks its name or why")
        elif not isinstance(name, str) or Path(name).name != name:
            problems.append(of + "its name is no plain name of a folder")
        if not isinstance(entry.get("set", {}), dict):
            problems.append(of + "set is no table")
        problems += _folds_problems(of, entry)
    names = [str(entry.get("name")) for entry in entries]
    return problems + [
        f"variant {name!r} occurs twice" for name in sorted({n for n in names if names.count(n) > 1})
    ]


def _folds_problems(of: str, table: Mapping[str, Any]) -> list[str]:
    folds = table.get("folds", [0])
    if isinstance(folds, list) and folds and all(type(fold) is int for fold in folds):
        return []
    return [f"{of}folds is {folds!r}, not an array of whole numbers"]


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` laid over `base`, table by table; arrays are replaced whole."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def run_study(
    path: Path,
    workdir: Path,
    data_folder: Path | None = None,
    *,
    only: Sequence[str] = (),
    pixels: Path | None = None,
    make: Maker | None = None,
) -> list[dict[str, Any]]:
    """Train what is not finished, variant by variant, and compare.

    Args:
        path: The study file.
        workdir: Made if absent.
        data_folder: Of the first data set.
        only: Names of variants to train; all if empty.
        pixels: Pixel cache; None is workdir/pixels.
        make: Makes the weights of each run in place of training, as for `run_experiment`.

    Returns:
        The rows of study.json; none while `make` leaves runs to be finished by a later call.
    """
    variants = load_study(path)
    if astray := sorted(set(only) - {variant.name for variant in variants}):
        raise ConfigInvalid("no such variant", found=", ".join(astray))
    first = variants[0].name
    if only and first not in only and not (workdir / first).is_dir():
        raise _no_baseline(workdir, first)
    rows: list[dict[str, Any]] = []
    for variant in variants:
        if only and variant.name not in only:
            continue
        print(f"--- {variant.name}: {variant.why}", flush=True)
        finished = run_crossval(
            path,
            workdir / variant.name,
            data_folder,
            folds=variant.folds,
            pixels=pixels or workdir / "pixels",
            config=variant.config,
            make=make,
            selection=("the variant",),
        )
        if finished:
            rows = compare(variants, workdir)
    return rows


def compare(variants: Sequence[Variant], workdir: Path) -> list[dict[str, Any]]:
    """Write study.json and table.md from the variants that have predictions."""
    first = variants[0]
    if not (workdir / first.name / "oof.csv").is_file():
        raise _no_baseline(workdir, first.name)
    baseline = read_predictions(workdir / first.name, first.config.data.folder)
    rows = []
    for variant in variants:
        folder = workdir / variant.name
        if (folder / "oof.csv").is_file():
            predictions = read_predictions(folder, variant.config.data.folder)
            rows.append(
                _row(variant, folder, predictions, _in_labels_of(variant.config, baseline, predictions))
            )
    write_json(workdir / "study.json", rows)
    write_text(workdir / "table.md", as_table(rows))
    return rows


def _no_baseline(workdir: Path, first: str) -> RunInvalid:
    return RunInvalid(
        f"{workdir}: nothing to compare with",
        found=f"no predictions of {first}",
        expected="the study's first variant, trained",
        fix=f"train {first} first: name it with --only",
    )


def read_predictions(folder: Path, source: str) -> Predictions:
    """The out-of-fold predictions in a cross-validation's folder on one data set."""
    rows = [row for row in read_rows(folder / "oof.csv", OOF_COLUMNS) if row["source"] == source]
    codes = tuple(key.removeprefix(LOGIT) for key in rows[0] if key.startswith(LOGIT))
    logits = np.array([[float(row[LOGIT + code]) for code in codes] for row in rows])
    return Predictions(
        tuple(row["photo_id"] for row in rows),
        tuple(row["label"] for row in rows),
        tuple(row["group_id"] for row in rows),
        codes,
        softmax(logits),
    )


def _in_labels_of(config: TrainConfig, baseline: Predictions, predictions: Predictions) -> Predictions:
    """The baseline's predictions on the same photos, its scores summed where the variant merges labels."""
    place = {photo_id: i for i, photo_id in enumerate(baseline.photo_ids)}
    rows = [place[photo_id] for photo_id in predictions.photo_ids if photo_id in place]
    code_of = {code: merged.code for merged in config.merge for code in merged.labels}
    sums = np.zeros((len(rows), len(predictions.codes)))
    for column, code in enumerate(baseline.codes):
        sums[:, predictions.codes.index(code_of.get(code, code))] += baseline.probs[rows, column]
    return Predictions(
        tuple(baseline.photo_ids[i] for i in rows),
        tuple(code_of.get(baseline.truth[i], baseline.truth[i]) for i in rows),
        tuple(baseline.groups[i] for i in rows),
        predictions.codes,
        sums,
    )


def _row(variant: Variant, folder: Path, predictions: Predictions, baseline: Predictions) -> dict[str, Any]:
    state = json.loads((folder / "crossval.json").read_text(encoding="utf-8"))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    truth = _indices(predictions, predictions.truth)
    classes = len(predictions.codes)
    chosen = predictions.probs.argmax(axis=1)
    balanced = balanced_accuracy_estimate(recalls(truth, chosen, classes, predictions.groups))
    assert balanced is not None
    place = {photo_id: i for i, photo_id in enumerate(predictions.photo_ids)}
    shared = [place[photo_id] for photo_id in baseline.photo_ids]
    compared: dict[str, Any] = dict.fromkeys(
        ("baseline_balanced_accuracy", "difference", "difference_interval")
    )
    if shared:
        theirs = baseline.probs.argmax(axis=1)
        difference = paired_difference_interval(
            truth[shared], theirs, chosen[shared], classes, baseline.groups
        )
        compared = {
            "baseline_balanced_accuracy": balanced_accuracy(truth[shared], theirs, classes),
            "difference": difference.value,
            "difference_interval": [difference.low, difference.high],
        }
    seconds = [s for s in state["seconds_by_fold"] if s]
    return {
        "name": variant.name,
        "why": variant.why,
        "folds": state["folds"],
        "photos": len(truth),
        "balanced_accuracy": balanced.value,
        "balanced_accuracy_interval": [balanced.low, balanced.high],
        **compared,
        "accuracy": float((truth == chosen).mean()),
        "train_balanced_accuracy": float(np.mean(metrics["train_balanced_accuracy_by_fold"])),
        "expected_calibration_error": expected_calibration_error(truth, predictions.probs),
        "malignant_auc": metrics.get("malignant_auc"),
        "seconds_per_fold": float(np.mean(seconds)) if seconds else None,
        "sources": {name: _brief(figures) for name, figures in metrics.get("sources", {}).items()},
        "commit": state["commit"],
    }


def _brief(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {key: figures.get(key) for key in ("photos", "balanced_accuracy", "malignant_auc")}


def _indices(predictions: Predictions, labels: Sequence[str]) -> IntArray:
    return np.array([predictions.codes.index(label) for label in labels], np.int64)


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a line per variant, the difference to the first one with its interval."""
    lines = [
        "| variant | folds | balanced accuracy | less the baseline, paired | accuracy | on training photos | "
        "malignant AUC | ECE | s per fold |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for i, row in enumerate(rows):
        low, high = row["balanced_accuracy_interval"]
        change = "baseline"
        if i and row["difference"] is None:
            change = "no photo in common"
        elif i:
            change = "{:+.3f} ({:+.3f} to {:+.3f})".format(row["difference"], *row["difference_interval"])
        seconds = f"{row['seconds_per_fold']:.0f}" if row["seconds_per_fold"] is not None else ""
        auc = f"{row['malignant_auc']:.3f}" if row["malignant_auc"] is not None else ""
        lines.append(
            f"| {row['name']} | {len(row['folds'])} | {row['balanced_accuracy']:.3f} ({low:.3f} to {high:.3f}) | "
            f"{change} | {row['accuracy']:.3f} | {row['train_balanced_accuracy']:.3f} | {auc} | "
            f"{row['expected_calibration_error']:.3f} | {seconds} |"
        )
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = command_parser(
        "experiment study",
        "Compare variants of a config by cross-validation on the same folds. The same command resumes.",
        "example:\n  dermedge experiment study train/experiments/studies/switches.toml --workdir runs/study",
    )
    parser.add_argument("study", type=Path, metavar="STUDY.toml", help="study, see train/experiments/studies")
    parser.add_argument(
        "--workdir", type=Path, required=True, metavar="DIR", help="folder of the study (required)"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help=DATA_HELP)
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="NAME", help="variants to train (default: all)"
    )
    parser.add_argument(
        "--pixels",
        type=Path,
        metavar="DIR",
        help="pixel cache to share with other runs (default: inside --workdir)",
    )
    parser.add_argument(
        "--torch",
        action="store_true",
        help="prepare the runs for PyTorch; given again, finish them (default: no)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 2 refused, 130 interrupted."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: _compare_variants(arguments), interrupted=RESUMES)


def _compare_variants(arguments: argparse.Namespace) -> int:
    rows = run_study(
        arguments.study,
        arguments.workdir,
        arguments.data,
        only=arguments.only,
        pixels=arguments.pixels,
        make=exchange if arguments.torch else None,
    )
    if rows:
        print(as_table(rows), end="")
    return 0
