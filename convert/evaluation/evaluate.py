"""`dermedge evaluate MODEL --data FOLDER`: a model file on labelled photos of any origin, as a device runs it.

Balanced accuracy, recall, AUC and calibration with intervals, decisions, and subgroups go to the terminal, to
DIR/evaluation.json and to DIR/evaluation.html. Nothing is chosen here.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convert.comparison.compare import write_results
from convert.comparison.workers import Workers
from convert.files import selection_marks
from edge_runtime.engines.opening import add_model_options, open_requested
from edge_runtime.errors import EXIT_OK, DataInvalid, UsageError, escaped
from edge_runtime.model.model_file import ModelFile, open_model
from edge_runtime.result import decide
from train.artifacts.command import NOTHING_WRITTEN, command_parser, positive, run_command
from train.artifacts.files import json_text, require_out_folder
from train.artifacts.selection import KEY

SCHEMA_VERSION = 1
REPORT_NAME, PAGE_NAME = "evaluation.json", "evaluation.html"
EXIT_UNREADABLE = 1


def evaluate(
    model: str | Path | ModelFile,
    data: str | Path,
    out: str | Path | None = None,
    *,
    labels: str | Path | None = None,
    mapping: Mapping[str, str] | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Run a model on labelled photos and compute its figures.

    Args:
        model: A .tflite with a contract, or an opened one.
        data: A folder of photos; without `labels` each photo's folder is named by its label.
        out: Folder for evaluation.json and evaluation.html; None writes nothing.
        labels: A CSV of true labels, see `convert.evaluation.truth`.
        mapping: Label of the data to code of the model, "" to leave photos out.
        workers: Processes; by default one a core.

    Returns:
        The content of evaluation.json; estimates are (value, low, high) at 95 %.

    Raises:
        UsageError, DataInvalid: The photos cannot be used.
        ModelFileError, InterpreterError: The model cannot be used.
    """
    opened = model if isinstance(model, ModelFile) else open_model(model)
    contract = opened.contract
    with Workers([opened], workers) as pool:
        import numpy as np
        from tqdm import tqdm

        from convert.evaluation.metrics import figures
        from convert.evaluation.truth import read_truth

        truth = read_truth(Path(data), contract.codes, labels=labels, mapping=mapping)
        if out is not None:
            require_out_folder(Path(out))
        paths = list(truth.table["path"])
        results = list(tqdm(pool.run(paths), total=len(paths), desc="photos", unit="photo", mininterval=0.5))
    failures = {str(path): one.problem for path, one in zip(paths, results, strict=True) if one.problem}
    kept = [i for i, one in enumerate(results) if not one.problem]
    if not kept:
        raise DataInvalid(f"{data}: no photo could be read", found=next(iter(failures.values())))
    rows = [results[i].scores[0][0] for i in kept]
    scores = np.array(rows, dtype=np.float64)
    decisions = [decide(contract.decision, row)[0] for row in rows]
    table, path, data = truth.table.iloc[kept].reset_index(drop=True), Path(opened.path), Path(data)
    # What a reader of train/data/readers may have called each photo.
    names = [(one.stem, one.relative_to(data).with_suffix("").as_posix()) for one in table["path"]]
    report = {
        "schema": SCHEMA_VERSION,
        "model": {"name": path.name, "model_id": contract.model_id, "sha256": opened.sha256},
        "data": {
            "folder": str(data),
            "labels": None if labels is None else str(labels),
            "mapping": dict(mapping or {}),
            "left_out": truth.left_out,
            "units": truth.units,
            "failures": failures,
            KEY: selection_marks(path, names),
        },
        **figures(table, scores / scores.sum(axis=1, keepdims=True), decisions, contract),
    }
    if out is not None:
        from convert.evaluation.page import make_page

        write_results(Path(out), {REPORT_NAME: json_text(report), PAGE_NAME: make_page(report, contract)})
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 evaluated; 1 evaluated, but photos are unreadable; 2 usage or data; 3 model unusable; 130 interrupted.
    """
    arguments = parser().parse_args(argv)
    return run_command(lambda: _command(arguments), interrupted=NOTHING_WRITTEN)


def _command(arguments: argparse.Namespace) -> int:
    from convert.evaluation.page import terminal_summary

    (arguments.model,) = open_requested(arguments, arguments.model)
    arguments.mapping = _mapping(arguments.mapping)
    # The other options are the function's.
    report = evaluate(**vars(arguments))
    print(terminal_summary(report))
    print("", *(escaped(str(arguments.out / name)) for name in (REPORT_NAME, PAGE_NAME)), sep="\n")
    return EXIT_UNREADABLE if report["data"]["failures"] else EXIT_OK


def _mapping(pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        label, equals, code = pair.partition("=")
        if not equals or not label:
            raise UsageError("--map: not LABEL=CODE", found=pair)
        found[label] = code
    return found


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    made = command_parser(
        "evaluate",
        "Evaluate a model file on labelled photos: recall, AUC, calibration, decisions, subgroups.",
        "example:\n  dermedge evaluate model.tflite --data ISIC2018_Test --labels ISIC2018_GroundTruth.csv",
    )
    add = made.add_argument
    add("model", type=Path, metavar="MODEL", help="Model file (.tflite) with a contract")
    text = "Dataset: a folder of photos, by label without --labels (required)"
    add("--data", type=Path, required=True, metavar="FOLDER", help=text)
    text = (
        "Table of true labels: a column of photos, and one of labels or one for each label (default: the photos' "
        "folders)"
    )
    add("--labels", type=Path, metavar="FILE.csv", help=text)
    text = (
        "Take a label of the data for a label of the model; LABEL= leaves its photos out; may be repeated "
        "(default: none)"
    )
    add("--map", dest="mapping", action="append", default=[], metavar="LABEL=CODE", help=text)
    add("--workers", type=positive, metavar="N", help="Number of processes (default: one per core)")
    text = f"Folder for {REPORT_NAME} and {PAGE_NAME} (default: evaluation)"
    add("--out", type=Path, default=Path("evaluation"), metavar="DIR", help=text)
    add_model_options(made)
    return made
