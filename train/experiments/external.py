"""`dermedge experiment external`: evaluate float models on a dataset that none of them was trained on. TensorFlow.

Several runs are measured one by one and as an ensemble, by the mean of their calibrated scores. Nothing is fitted here.
Classes that occur in no photo can be predicted all the same; balanced accuracy is over the classes that occur, and
`among_present` is what it would be if only these could be predicted.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.contract import ModelContract
from edge_runtime.errors import RunInvalid
from train.artifacts.command import NOTHING_WRITTEN, command_parser, run_command
from train.artifacts.files import write_json
from train.artifacts.keras_file import load_keras
from train.artifacts.labels import LabelSet
from train.artifacts.manifest import Manifest, read_parts
from train.artifacts.run import read_contract
from train.configs.schema import READERS
from train.data.pixels import cached_pixels
from train.data.readers import read_photos
from train.data.split import require_unseen
from train.evaluation.decisions import fires
from train.evaluation.metrics import FloatArray, balanced_accuracy, softmax
from train.evaluation.summary import summarize
from train.experiments.networks import VIEWS, network_file, views_of


def measure_runs(
    runs: Sequence[Path], reader: str, folder: Path, *, views: int = 1, pixels: Path
) -> dict[str, Any]:
    """Return metrics of each run and of their ensemble.

    Args:
        runs: Finished run directories with the same labels, none of which was trained on these photos.
        reader: Format of the dataset, see train/data/readers.
        folder: The data set's own folder.
        views: Turned and mirrored views that are averaged, see train/evaluation/predict.py.
        pixels: Folder for cached pixels.

    Raises:
        RunInvalid: A run is not finished, or has other labels than the first. SplitLeaks: A run was trained on some
            of these photos, by their photo_ids. And what `read_photos` raises.
    """
    figures: dict[str, Any] = {}
    scores = []
    for run in runs:
        network_file(run)  # Refused now, not after the photos of those before it.
    contracts = [read_contract(run) for run in runs]
    for run, contract in zip(runs, contracts, strict=True):
        if (found := contract.labels) != (expected := contracts[0].labels):
            raise RunInvalid(
                f"other labels than {runs[0]}",
                where=str(run),
                found=", ".join(label.code for label in found),
                expected=", ".join(label.code for label in expected),
            )
    for run, contract in zip(runs, contracts, strict=True):
        manifest, labels, probs = _predict(run, contract, reader, folder, views, pixels)
        scores.append(probs)
        figures[str(run)] = _figures(manifest, labels, probs, contract)
    if len(runs) > 1:
        figures["ensemble"] = _figures(manifest, labels, np.mean(scores, axis=0), None)
    return figures


def _predict(
    run: Path, contract: ModelContract, reader: str, folder: Path, views: int, pixels: Path
) -> tuple[Manifest, LabelSet, FloatArray]:
    from train.evaluation.predict import predict_logits

    model = load_keras(network_file(run))
    provenance = contract.provenance
    labels = LabelSet(
        provenance.data_name,
        provenance.data_licence,
        provenance.model_licence,
        contract.intended_use,
        contract.labels,
    )
    manifest = read_photos(reader, folder, labels, name=folder.name, on_problem="refuse", every_class=False)
    ids = [photo.photo_id for photo in manifest.photos]
    require_unseen(run, read_parts(run), dict.fromkeys(ids, "test"))
    pixels_u8 = cached_pixels(manifest, ids, contract, contract.input.height_px, pixels)
    probs = np.mean(
        [
            softmax(
                predict_logits(model, view, contract.normalization).astype(np.float64),
                contract.calibration.temperature,
            )
            for view in views_of(pixels_u8, views)
        ],
        axis=0,
    )
    return manifest, labels, probs


def _figures(
    manifest: Manifest, labels: LabelSet, probs: FloatArray, contract: ModelContract | None
) -> dict[str, Any]:
    y_true = np.array([labels.index(photo.label) for photo in manifest.photos], np.int64)
    malignant = [label.group == "malignant" for label in labels.labels]
    groups = [photo.lesion_id for photo in manifest.photos]
    figures = summarize(y_true, probs, labels.codes, groups, malignant)
    present = np.unique(y_true)
    among = present[probs[:, present].argmax(axis=1)]
    figures["balanced_accuracy_among_present"] = balanced_accuracy(y_true, among, len(labels.codes))
    if contract is not None:
        rules = (("referred", contract.decision.refer), ("not_a_lesion", contract.decision.not_a_lesion))
        for name, rule in rules:
            if rule is not None:
                figures[f"{name}_share"] = float(fires(rule, probs).mean())
    return figures


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    made = command_parser(
        "experiment external",
        "Evaluate float models, and their ensemble, on a dataset that none was trained on.",
        "example:\n  dermedge experiment external runs/a --reader csv --data photos",
    )
    made.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="Finished run directories")
    made.add_argument("--reader", required=True, choices=READERS, help="Format of the dataset (required)")
    made.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="Folder of the dataset (required)"
    )
    made.add_argument(
        "--views",
        type=int,
        choices=VIEWS,
        default=1,
        help="Number of turned and mirrored views to average (default: %(default)s)",
    )
    made.add_argument("--out", type=Path, metavar="FILE.json", help="File for all metrics (default: none)")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 2 refused, 130 interrupted."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: _measure(arguments), interrupted=NOTHING_WRITTEN)


def _measure(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as pixels:
        figures = measure_runs(
            arguments.runs,
            arguments.reader,
            arguments.data,
            views=arguments.views,
            pixels=Path(pixels),
        )
    if arguments.out:
        write_json(arguments.out, figures)
    for name, row in figures.items():
        low, high = row["balanced_accuracy_interval"]
        rest = {
            "among present": row["balanced_accuracy_among_present"],
            "malignant AUC": row["malignant_auc"],
            "ECE": row["expected_calibration_error"],
            "referred": row.get("referred_share"),
            "not a lesion": row.get("not_a_lesion_share"),
        }
        rest_text = ", ".join(f"{key} {value:.3f}" for key, value in rest.items() if value is not None)
        print(
            f"{name}: balanced accuracy {row['balanced_accuracy']:.4f} ({low:.4f} to {high:.4f}), {rest_text}"
        )
    return 0
