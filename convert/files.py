"""The files of a conversion: a model and its report. stdlib only."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeError, UsageError
from train.artifacts.files import read_object
from train.artifacts.selection import KEY, mark

OTHER_OUT = "choose another name or folder for --out"
WEIGHTS = ["the weights"]
TRAINED = "Trained on {}: figures on them are too good."
# Of the .json beside a converted model; no contract and no file of a run has all of them.
REPORT_KEYS = frozenset({"schema_version", "model", "options", "recipe", "run"})


def report_path(out: Path) -> Path:
    """model.json beside model.tflite."""
    return out.with_suffix(".json")


def selection_sets(report: dict[str, Any]) -> list[dict[str, Any]]:
    """List the photos by which something of a model was chosen: objects of `set`, `chosen` and `photo_ids`."""
    given: list[dict[str, Any]] = list(report.get(KEY, ()))
    if calibration := report.get("calibration"):
        ids = calibration.get("ids", [])
        given.append({"set": "calibration photos", "chosen": ["the scale of each tensor"], "photo_ids": ids})
    return given


def selection_marks(model: Path, photos: Sequence[Collection[str]]) -> list[str]:
    """Say what was trained or chosen on some of these photos, by a model's .json; nothing where it is absent.

    Args:
        model: The .tflite.
        photos: The names of each photo, any of which may be its photo_id.
    """
    try:
        sets = selection_sets(read_object(report_path(model)))
        chosen = [([*map(str, entry["chosen"])], set(entry["photo_ids"])) for entry in sets]
    except (EdgeError, AttributeError, KeyError, TypeError):
        return []
    counts = [(choices, sum(not ids.isdisjoint(names) for names in photos)) for choices, ids in chosen]
    some = [(choices, f"{count:,} of these {len(photos):,} photos") for choices, count in counts if count]
    return [TRAINED.format(of) if choices == WEIGHTS else mark(choices, of) for choices, of in some]


def require_out(out: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse a .tflite that cannot be written, or would with the report beside it overwrite an input or another file.

    Raises:
        UsageError: Not a .tflite name; its folder is missing or not writable; it or its report is a folder or an input;
            or the report would overwrite a file that is no conversion report.
    """
    if out.suffix != ".tflite":
        raise UsageError("--out: not a model file", found=str(out), expected="a name that ends in .tflite")
    if not out.parent.is_dir():
        raise UsageError("--out: no such folder", found=str(out.parent), fix="make the folder first")
    if not os.access(out.parent, os.W_OK):
        raise UsageError("--out: cannot write to the folder", found=str(out.parent), fix=OTHER_OUT)
    taken = {path.resolve() for path in inputs}
    for path, role in ((out, "--out"), (report_path(out), "--out: its report")):
        if path.is_dir():
            raise UsageError(f"{role} is a folder", found=str(path), fix=OTHER_OUT)
        if path.resolve() in taken:
            raise UsageError(
                f"{role} would overwrite an input of the conversion", found=str(path), fix=OTHER_OUT
            )
    if report_path(out).exists() and not holds_report(report_path(out)):
        problem = "--out: its report would overwrite another file"
        found, expected = str(report_path(out)), "no file, or the report of an earlier conversion"
        raise UsageError(problem, found=found, expected=expected, fix=f"{OTHER_OUT}, or move that file")


def holds_report(path: Path) -> bool:
    """Whether a file is a conversion report."""
    try:
        content = read_object(path)
    except EdgeError:
        return False
    return content.keys() >= REPORT_KEYS and all(isinstance(content[part], dict) for part in ("model", "run"))
