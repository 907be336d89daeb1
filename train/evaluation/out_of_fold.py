"""Out-of-fold predictions, read from a cross-validation's folder or its committed record. numpy.

FOLDER/
  oof.csv or oof.csv.gz               by train.training.crossval: logits, each divided by its fold's temperature
  oof_RECIPE.csv or oof_RECIPE.csv.gz by dermedge convert: the same photos' scores by the quantized files

Nothing else of the folder is needed: a record has no runs in it. Committed tables have no column `label` either: labels
are looked up in the data set, by the label set that crossval.json names.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import RunInvalid
from train.artifacts.files import read_object
from train.artifacts.run import consistent
from train.artifacts.selection import choices_on
from train.data.metadata import data_root, read_facts
from train.evaluation.metrics import FloatArray, IntArray, softmax
from train.evaluation.tables import chosen, class_indices, read_predictions, score_matrix

if TYPE_CHECKING:
    import pandas as pd

FLOAT = "float"
LOGIT, SCORE = "logit_", "p_"
COLUMNS = ("photo_id", "source", "fold", "group_id")


@dataclass(frozen=True)
class Answers:
    """Predictions on photos that the models were not trained on."""

    model: str
    """`float`, or the recipe of the quantized files."""
    codes: tuple[str, ...]
    photo_ids: tuple[str, ...]
    sources: tuple[str, ...]
    groups: tuple[str, ...]
    """Of each photo, what is never divided between folds."""
    folds: IntArray
    """[n] the fold in which each photo was held out."""
    y_true: IntArray
    probs: FloatArray
    """[n, codes], rows sum to 1."""
    selection: tuple[str, ...]
    """What was chosen on these photos, see train/artifacts/selection.py."""

    @property
    def y_pred(self) -> IntArray:
        """Return the index of the highest score, [n]."""
        return np.asarray(self.probs.argmax(axis=1), np.int64)

    @property
    def fold_numbers(self) -> tuple[int, ...]:
        """Return the folds that have predictions."""
        return tuple(sorted({int(fold) for fold in self.folds}))

    @property
    def source_names(self) -> tuple[str, ...]:
        """Return the data sets, the one with the most photos first: it is the one that the models are for."""
        return tuple(name for name, _ in Counter(self.sources).most_common())

    def where(self, inside: Sequence[bool] | npt.NDArray[np.bool_]) -> Answers:
        """Return some of the photos, by [n] booleans."""
        names = ("photo_ids", "sources", "groups", "folds", "y_true", "probs")
        return dataclasses.replace(self, **chosen(self, np.asarray(inside), names))

    def of_source(self, source: str) -> Answers:
        """Return the photos of one data set."""
        return self.where(np.asarray(self.sources) == source)


def find_answers(folder: Path, model: str) -> Path | None:
    """Return the file with a model's predictions; None if there is none."""
    paths = (folder / f"{_stem(model)}{suffix}" for suffix in ("", ".gz"))
    return next((path for path in paths if path.is_file()), None)


def _stem(model: str) -> str:
    return "oof.csv" if model == FLOAT else f"oof_{model}.csv"


def read_answers(folder: Path, model: str = FLOAT) -> Answers:
    """Read out-of-fold predictions of `float` or a recipe, sorted by photo_id, of a cross-validation or its record.

    Raises:
        RunInvalid: No such file, missing columns, a photo_id twice, an unknown label, or invalid scores.
    """
    path = find_answers(folder, model)
    if path is None:
        problem, found = f"no out-of-fold predictions of {model}", f"no {_stem(model)}"
        made = f"convert {folder} --recipe {model}"
        if model == FLOAT:
            made = f"crossval CONFIG.toml --workdir {folder}"
        expected, fix = "a cross-validation's folder or its record", f"dermedge {made}"
        raise RunInvalid(problem, where=str(folder), found=found, expected=expected, fix=fix)
    table = read_predictions(path, COLUMNS)
    if "label" not in table.columns:
        table["label"] = _labels_of(folder, table)
    table = table.sort_values("photo_id", kind="stable")
    prefix = LOGIT if model == FLOAT else SCORE
    codes = tuple(column.removeprefix(prefix) for column in table.columns if column.startswith(prefix))
    y_true = class_indices(path, table["label"], codes)
    values = score_matrix(path, table, [prefix + code for code in codes])
    total = values.sum(axis=1, keepdims=True)
    if model != FLOAT and not (total > 0).all():
        raise RunInvalid("scores of a photo are all zero", where=str(path), fix="run the predictions again")
    return Answers(
        model=model,
        codes=codes,
        photo_ids=tuple(table["photo_id"]),
        sources=tuple(table["source"]),
        groups=tuple(table["group_id"]),
        folds=score_matrix(path, table, ["fold"])[:, 0].astype(np.int64),
        y_true=y_true,
        probs=softmax(values) if model == FLOAT else values / total,
        selection=choices_on(folder),
    )


def _labels_of(folder: Path, table: pd.DataFrame) -> list[str]:
    """Look up the labels in the data sets."""
    with consistent(folder):
        label_set = str(read_object(folder / "crossval.json")["config"]["data"]["labels"])
    facts = read_facts(data_root(), sorted(set(table["source"])), label_set)
    if lacking := sum(photo_id not in facts for photo_id in table["photo_id"]):
        found = f"no column label, and {lacking} photos that no data set in {data_root()} has"
        expected = "the data sets of the predictions, in the folder that DERMEDGE_DATA names"
        fix = "put the data sets there; a cross-validation's own folder has the labels in it"
        raise RunInvalid("labels not found", where=str(folder), found=found, expected=expected, fix=fix)
    return [facts[photo_id].label for photo_id in table["photo_id"]]


def require_same_photos(first: Answers, second: Answers) -> Answers:
    """Return `first` on the photos of `second`, which may have fewer folds.

    Raises:
        RunInvalid: Other classes, or photos that `first` lacks or labels otherwise.
    """
    place = {photo_id: i for i, photo_id in enumerate(first.photo_ids)}
    astray = [photo_id for photo_id in second.photo_ids if photo_id not in place]
    if first.codes == second.codes and not astray:
        inside = np.zeros(len(first.photo_ids), bool)
        inside[[place[photo_id] for photo_id in second.photo_ids]] = True
        shared = first.where(inside)
        if (shared.y_true == second.y_true).all() and (shared.folds == second.folds).all():
            return shared
    problem = f"predictions of {first.model} and {second.model} are of different photos"
    found = "other labels or folds"
    if astray:
        found = f"{len(astray)} photos without a prediction of {first.model}: {', '.join(astray[:3])}"
    raise RunInvalid(problem, found=found, expected="one cross-validation")
