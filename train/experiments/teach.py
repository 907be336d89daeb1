"""Soft labels of a teacher: `dermedge experiment soft-labels DIR [DIR ...] --out teacher.csv.gz`.

The teacher is the ensemble of one or several cross-validations (train/training/crossval.py): each photo is predicted by
the fold models that were not trained on it, in several views, and their calibrated scores are averaged. A student that
is trained on them (distill.teacher in a config) sees scores as uncertain as those of new photos, not as sure as those
of memorized ones.

Of a cross-validation whose runs are gone the record is enough (train/records): it holds the scores of one view.

A student that is itself cross-validated against them is not quite independent of its test photos: they were among the
training photos of the teacher that judged the student's training photos. Its metrics are to be confirmed on photos
that no teacher was trained on.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.contract import ModelContract
from edge_runtime.errors import ConfigInvalid, RunInvalid
from train.artifacts.command import command_parser, run_command
from train.artifacts.files import whole_file
from train.artifacts.keras_file import load_keras
from train.configs.loading import parse_config
from train.data.pixels import cached_pixels
from train.data.sources import find_data, merged_labels, reread
from train.evaluation.metrics import FloatArray, balanced_accuracy, softmax
from train.evaluation.out_of_fold import read_answers
from train.evaluation.predict import predict_logits
from train.experiments.networks import VIEWS, network_file, views_of
from train.training.run import DATA_HELP


def fold_scores(
    run: Path, folder: Path, views: int, pixels: Path
) -> tuple[list[str], list[int], list[FloatArray]]:
    """A fold model's calibrated scores for its own test photos.

    Args:
        run: A finished run directory.
        folder: Of the first data set.
        views: How many views are averaged.
        pixels: The cache of pixels.

    Returns:
        The photo_ids, their class indices, and the mean scores of the first 1, 2, ... views, each [n, classes].
    """
    config = parse_config(json.loads((run / "config.json").read_text(encoding="utf-8")), str(run))
    contract = ModelContract.from_json((run / "contract.json").read_text(encoding="utf-8"))
    data = reread(config, run / "manifest.csv", folder)
    ids = data.ids("test")
    pixels_u8 = cached_pixels(data.manifest, ids, contract, contract.input.height_px, pixels)
    model = load_keras(network_file(run))
    sums, means = np.zeros((len(ids), len(data.manifest.labels.codes))), []
    for count, view in enumerate(views_of(pixels_u8, views), start=1):
        logits = predict_logits(model, view, contract.normalization).astype(np.float64)
        sums = sums + softmax(logits, contract.calibration.temperature)
        means.append(sums / count)
    label_of = {photo.photo_id: data.manifest.labels.index(photo.label) for photo in data.manifest.photos}
    return ids, [label_of[photo_id] for photo_id in ids], means


def teach(folders: Sequence[Path], data_folder: Path | None, views: int) -> tuple[dict[str, FloatArray], Any]:
    """Mean scores by photo over all cross-validations.

    Returns:
        photo_id to [classes], and a report: balanced accuracy of one view, of all views, and of the ensemble.

    Raises:
        RunInvalid: A folder is no cross-validation with all of its folds finished, or labels differ.
    """
    scores: dict[str, list[FloatArray]] = {}
    truth: dict[str, int] = {}
    report: dict[str, Any] = {"cross_validations": []}
    codes: tuple[str, ...] = ()
    for folder in folders:
        state = _finished(folder)
        config = parse_config(state["config"], str(folder))
        labels = merged_labels(config)
        if codes and codes != labels.codes:
            raise RunInvalid(
                f"{folder}: other labels", found=", ".join(labels.codes), expected=", ".join(codes)
            )
        codes = labels.codes
        if not any((folder / f"fold{fold}").is_dir() for fold in state["folds"]):
            recorded = read_answers(folder)
            for photo_id, row in zip(recorded.photo_ids, recorded.probs, strict=True):
                scores.setdefault(photo_id, []).append(row)
            truth.update(zip(recorded.photo_ids, recorded.y_true.tolist(), strict=True))
            score = _score(recorded.y_true, recorded.probs)
            report["cross_validations"].append(
                {"name": state["name"], "one_view": score, "views": 1, "all_views": score}
            )
            continue
        place = find_data(config, data_folder)
        one, many, true = [], [], []
        for fold in state["folds"]:
            run = folder / f"fold{fold}"
            ids, indices, means = fold_scores(run, place, views, folder / "pixels")
            for photo_id, row in zip(ids, means[-1], strict=True):
                scores.setdefault(photo_id, []).append(row)
            truth.update(zip(ids, indices, strict=True))
            one.append(means[0])
            many.append(means[-1])
            true += indices
        report["cross_validations"].append(
            {
                "name": state["name"],
                "one_view": _score(true, np.concatenate(one)),
                "views": views,
                "all_views": _score(true, np.concatenate(many)),
            }
        )
    if lacking := [photo_id for photo_id, rows in scores.items() if len(rows) != len(folders)]:
        raise RunInvalid(
            "the cross-validations are of different photos",
            found=f"{len(lacking)} photos that some of them lack",
            expected="the same data and all folds",
        )
    means_of = {photo_id: np.mean(rows, axis=0) for photo_id, rows in scores.items()}
    report["ensemble"] = _score([truth[i] for i in means_of], np.stack(list(means_of.values())))
    report["codes"] = list(codes)
    return means_of, report


def _score(truth: npt.ArrayLike, probs: FloatArray) -> float:
    return balanced_accuracy(np.asarray(truth), probs.argmax(axis=1), probs.shape[1])


def _finished(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((folder / "crossval.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunInvalid(
            f"{folder}: no cross-validation", found=str(error), expected="crossval.json"
        ) from error
    if len(state["folds"]) != state["of"]:
        raise RunInvalid(
            f"{folder}: folds are missing",
            found=f"{len(state['folds'])} of {state['of']}",
            expected="all, so that every photo has scores",
            fix="give the training command again: it resumes",
        )
    return state


def write_soft_labels(path: Path, scores: dict[str, FloatArray], codes: Sequence[str]) -> None:
    """A gzipped CSV of photo_id and p_CODE, whole or not at all; equal scores give equal bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["photo_id", *(f"p_{code}" for code in codes)])
    for photo_id in sorted(scores):
        writer.writerow([photo_id, *(f"{p:.4f}" for p in scores[photo_id])])
    with whole_file(path) as temporary:
        temporary.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = command_parser(
        "experiment soft-labels",
        "Write the out-of-fold scores of cross-validations as soft labels for distill.teacher.",
        "example:\n  dermedge experiment soft-labels runs/folds --out teacher.csv.gz",
    )
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="DIR", help="finished cross-validations, or records of such"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.csv.gz", help="soft labels (required)"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help=DATA_HELP)
    parser.add_argument(
        "--views",
        type=int,
        choices=VIEWS,
        default=8,
        help="turned and mirrored views to average (default: 8)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 2 refused, 130 interrupted."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: _write_labels(arguments))


def _write_labels(arguments: argparse.Namespace) -> int:
    if arguments.out.suffix != ".gz":
        raise ConfigInvalid("--out is not gzipped", found=arguments.out.name, expected="a name in .csv.gz")
    scores, report = teach(arguments.folders, arguments.data, arguments.views)
    write_soft_labels(arguments.out, scores, report["codes"])
    for row in report["cross_validations"]:
        print(
            f"{row['name']}: balanced accuracy {row['one_view']:.4f} with one view, "
            f"{row['all_views']:.4f} with {row['views']}"
        )
    print(f"ensemble: {report['ensemble']:.4f} on {len(scores)} photos; wrote {arguments.out}")
    return 0
