"""Cross-validation: each photo is predicted by a model that was not trained on it.

DIR/
  fold0/ fold1/ ...  a run directory each (train/artifacts/run.py); test is that fold
  pixels/            cached pixels of all of them, can be deleted
  oof.csv            photo_id, source, fold, label, group_id, logit_CODE: out-of-fold logits, each divided by its
                     fold's temperature, so that their softmax is that fold's calibrated scores
  metrics.json       metrics of these predictions pooled, by data set, with the spread over folds
  crossval.json      config, folds, commit, seconds

Groups and classes are dealt to the folds once (train/data/split.py), so folds of equal number and seed are the same for
every config, and variants can be compared as pairs. The same command resumes; finished folds are not trained again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import ConfigInvalid, RunInvalid
from train.artifacts.command import RESUMES, command_parser, run_command
from train.artifacts.files import read_object, write_json, write_rows
from train.artifacts.labels import LabelSet
from train.artifacts.manifest import Manifest
from train.artifacts.run import consistent, git_commit, read_contract, source_names, source_of
from train.artifacts.selection import KEY
from train.artifacts.tables import read_rows
from train.artifacts.writer import sole_writer
from train.configs.loading import load_config
from train.configs.schema import TrainConfig
from train.data.sources import find_data, merged_labels, read_sources
from train.evaluation.metrics import softmax
from train.evaluation.results import read_history
from train.evaluation.summary import summarize
from train.training.run import Maker, add_run_options, run_experiment

Row = dict[str, Any]


def run_crossval(
    config_path: Path,
    workdir: Path,
    data_folder: Path | None = None,
    *,
    folds: Sequence[int] | None = None,
    pixels: Path | None = None,
    config: TrainConfig | None = None,
    make: Maker | None = None,
    selection: Sequence[str] = (),
) -> dict[str, Any]:
    """Train the folds of a config and pool their predictions.

    Args:
        config_path: The experiment; its split.test_fold is replaced by each fold in turn.
        workdir: Made if absent.
        data_folder: Of the first data set, as for `run_experiment`.
        folds: Which ones; all if None. Metrics are pooled over the folds that are finished in workdir.
        pixels: Pixel cache; None is workdir/pixels.
        config: The experiment where it differs from the file: a variant of a study.
        make: Makes the weights of each fold in place of training, as for `run_experiment`.
        selection: What is chosen by the pooled figures, see train/artifacts/selection.py.

    Returns:
        The content of metrics.json; empty where `make` left a fold to be finished by a later call.

    Raises:
        ConfigInvalid: No such fold; and what `run_experiment` raises.
    """
    config = config or load_config(config_path)
    if config.distribute.strategy == "multi_worker":
        problem = "a cross-validation cannot be divided over several workers"
        found, fix = "distribute.strategy multi_worker", "give each machine folds of its own with --folds"
        raise ConfigInvalid(problem, found=found, expected="none or mirrored", fix=fix)
    chosen = list(range(config.split.folds)) if folds is None else sorted(set(folds))
    if astray := [fold for fold in chosen if not 0 <= fold < config.split.folds]:
        found, expected = ", ".join(map(str, astray)), f"0 to {config.split.folds - 1}"
        raise ConfigInvalid("no such fold", found=found, expected=expected)
    workdir.mkdir(parents=True, exist_ok=True)
    manifests: list[Manifest] | None = None
    complete = True
    for fold in chosen:
        run = workdir / f"fold{fold}"
        if manifests is None and not (run / "manifest.csv").exists():
            manifests = read_sources(config, find_data(config, data_folder))
        started = time.monotonic()
        try:
            metrics = run_experiment(
                config_path,
                run,
                data_folder,
                pixels=pixels or workdir / "pixels",
                config=config.with_test_fold(fold),
                manifests=manifests,
                make=make,
            )
        finally:
            _note_seconds(run, time.monotonic() - started)
        if metrics:
            print(f"fold {fold}: balanced accuracy {metrics['test']['balanced_accuracy']:.4f}")
        complete = complete and bool(metrics)
    return pool(config, workdir, selection) if complete else {}


def pool(config: TrainConfig, workdir: Path, selection: Sequence[str] = ()) -> dict[str, Any]:
    """Write oof.csv, metrics.json and crossval.json from the finished folds.

    Raises:
        RunInvalid: No fold is finished, or a fold's files do not fit together.
    """
    with consistent(workdir):
        return _pool(config, workdir, selection)


def _pool(config: TrainConfig, workdir: Path, selection: Sequence[str]) -> dict[str, Any]:
    labels = merged_labels(config)
    runs = {fold: workdir / f"fold{fold}" for fold in range(config.split.folds)}
    states = {f: read_object(run / "run.json") for f, run in runs.items() if (run / "run.json").is_file()}
    done = [fold for fold, state in states.items() if state.get("status") == "done"]
    if not done:
        raise RunInvalid(f"{workdir}: no fold is finished", expected="fold0, fold1, ... with status done")
    rows = [row for fold in done for row in _fold_rows(runs[fold], fold, labels, states[fold])]
    write_rows(workdir / "oof.csv", rows)
    by_fold = {fold: read_object(runs[fold] / "metrics.json") for fold in done}
    rows_of = {name: [row for row in rows if row["source"] == name] for name in config.folders}
    sources = {name: _pooled_figures(labels, some) for name, some in rows_of.items() if some}
    per_fold = [metrics["test"]["balanced_accuracy"] for metrics in by_fold.values()]
    first = sources.pop(config.data.folder)
    metrics = {
        **first,
        KEY: list(selection),
        "folds": done,
        "balanced_accuracy_by_fold": per_fold,
        "balanced_accuracy_std": float(np.std(per_fold, ddof=1)) if len(per_fold) > 1 else None,
        # On the last epoch's augmented training photos.
        "train_balanced_accuracy_by_fold": [
            float(read_history(runs[fold] / "history.csv")[-1]["train_balanced_accuracy"]) for fold in done
        ],
        "sources": sources,
        "by_fold": {str(fold): _brief(metrics) for fold, metrics in by_fold.items()},
    }
    write_json(workdir / "metrics.json", metrics)
    noted = {
        "name": config.name,
        "folds": done,
        "of": config.split.folds,
        "seconds_by_fold": [states[fold].get("seconds") for fold in done],
        "commit": git_commit(),
        "config": config.to_dict(),
    }
    write_json(workdir / "crossval.json", noted)
    return metrics


def _fold_rows(run: Path, fold: int, labels: LabelSet, state: dict[str, Any]) -> list[Row]:
    temperature = read_contract(run).calibration.temperature
    table = read_rows(run / "manifest.csv", ("photo_id", "path", "group_id"))
    photos, rows = {row["photo_id"]: row for row in table}, []
    for row in read_rows(run / "predictions_test.csv", ("photo_id", "label")):
        photo = photos[row["photo_id"]]
        probs = np.array([float(row[f"p_{code}"]) for code in labels.codes])
        logits = np.log(np.maximum(probs, 1e-30)) / temperature
        rows.append(
            {
                "photo_id": row["photo_id"],
                "source": source_of(photo["path"], source_names(state)),
                "fold": fold,
                "label": row["label"],
                "group_id": photo["group_id"],
                **{f"logit_{c}": f"{x:.5g}" for c, x in zip(labels.codes, logits, strict=True)},
            }
        )
    return rows


def _pooled_figures(labels: LabelSet, rows: Sequence[Row]) -> dict[str, Any]:
    """Metrics of rows as oof.csv has them, all of one data set."""
    logits = np.array([[float(row[f"logit_{code}"]) for code in labels.codes] for row in rows])
    y_true = np.array([labels.index(row["label"]) for row in rows])
    malignant = [label.group == "malignant" for label in labels.labels]
    return summarize(y_true, softmax(logits), labels.codes, [row["group_id"] for row in rows], malignant)


def _brief(metrics: dict[str, Any]) -> dict[str, Any]:
    """What of a fold's own metrics the pooled file repeats: those that depend on its thresholds."""

    def kept(figures: dict[str, Any]) -> dict[str, Any]:
        names = ("photos", "balanced_accuracy", "referred_share", "not_a_lesion_share")
        return {key: figures[key] for key in names if key in figures}

    sources = {name: kept(figures) for name, figures in metrics["test"].get("sources", {}).items()}
    brief = {**kept(metrics["test"]), "sources": sources}
    return brief | ({"outliers": metrics["outliers"]} if "outliers" in metrics else {})


def _note_seconds(run: Path, seconds: float) -> None:
    """Add the seconds of this call to those before: an interrupted fold's time is the sum of its parts."""
    if seconds > 1 and (run / "run.json").is_file():
        with sole_writer(run):
            state = read_object(run / "run.json")
            write_json(run / "run.json", {**state, "seconds": round(state.get("seconds", 0) + seconds, 1)})


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = command_parser(
        "crossval",
        "Train and evaluate every fold of a config. The same command resumes.",
        "example:\n  dermedge crossval train/configs/ham10000_lite0.toml --workdir runs/folds",
    )
    add_run_options(parser, "DIR", "folder of the folds")
    parser.add_argument("--folds", type=int, nargs="+", metavar="K", help="folds to train (default: all)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 2 refused, 130 interrupted."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: _cross_validate(arguments), interrupted=RESUMES)


def _cross_validate(arguments: argparse.Namespace) -> int:
    given = arguments.config, arguments.workdir, arguments.data
    metrics = run_crossval(*given, folds=arguments.folds, pixels=arguments.pixels)
    low, high = metrics["balanced_accuracy_interval"]
    print(
        f"out of fold ({len(metrics['folds'])} folds): balanced accuracy {metrics['balanced_accuracy']:.4f} "
        f"({low:.4f} to {high:.4f}), {metrics['photos']} photos of {metrics['lesions']} lesions"
    )
    return 0
