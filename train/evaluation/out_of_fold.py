"""Answers out of fold, read back from a cross-validation's folder or from what of it is committed. numpy.

FOLDER/
  oof.csv or oof.csv.gz               by train.training.crossval: logits, each divided by its fold's temperature
  oof_RECIPE.csv or oof_RECIPE.csv.gz by dermedge convert: the same photos' scores by the quantized files

Nothing else of the folder is needed: a record has no runs in it. What is committed has no column `label` either, as
labels are the data set's: they are looked up there, by the label set that crossval.json names.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.errors import RunInvalid
from train.artifacts.files import read_object
from train.data.metadata import data_root, read_facts
from train.evaluation.metrics import FloatArray, IntArray, softmax

FLOAT = "float"
LOGIT, SCORE = "logit_", "p_"
COLUMNS = ("photo_id", "source", "fold", "group_id")


@dataclass(frozen=True)
class Answers:
    """What models said to photos that they did not learn from."""

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

    @property
    def y_pred(self) -> IntArray:
        """[n] index of the highest score."""
        return self.probs.argmax(axis=1).astype(np.int64)

    @property
    def fold_numbers(self) -> tuple[int, ...]:
        """The folds that have answered."""
        return tuple(sorted({int(fold) for fold in self.folds}))

    @property
    def source_names(self) -> tuple[str, ...]:
        """Data sets, the one with the most photos first: it is the one that the models are for."""
        return tuple(name for name, _ in Counter(self.sources).most_common())

    def where(self, inside: Sequence[bool] | np.ndarray) -> Answers:
        """Some of the photos, [n] booleans."""
        rows = np.flatnonzero(np.asarray(inside))
        return dataclasses.replace(
            self,
            photo_ids=tuple(self.photo_ids[i] for i in rows),
            sources=tuple(self.sources[i] for i in rows),
            groups=tuple(self.groups[i] for i in rows),
            folds=self.folds[rows],
            y_true=self.y_true[rows],
            probs=self.probs[rows],
        )

    def of_source(self, source: str) -> Answers:
        """The photos of one data set."""
        return self.where(np.asarray(self.sources) == source)


def find_answers(folder: Path, model: str) -> Path | None:
    """The file with a model's answers; None where there is none."""
    stem = "oof.csv" if model == FLOAT else f"oof_{model}.csv"
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)


def read_answers(folder: Path, model: str = FLOAT) -> Answers:
    """Reads a model's answers, in the order of photo_id.

    Args:
        folder: Of a cross-validation, or its record.
        model: `float`, or a recipe.

    Raises:
        RunInvalid: No such file, columns are lacking, a photo_id twice, an unknown label, or scores that are none.
    """
    path = find_answers(folder, model)
    if path is None:
        raise RunInvalid(
            f"{folder}: no out-of-fold predictions of {model}",
            found="no oof.csv" if model == FLOAT else f"no oof_{model}.csv",
            expected="a cross-validation's folder or its record",
            fix=f"dermedge crossval CONFIG.toml --workdir {folder}"
            if model == FLOAT
            else f"dermedge convert {folder} --recipe {model}",
        )
    rows = _table(path)
    if "label" not in rows[0]:
        rows = _with_labels(folder, rows)
    return _parse(path, rows, model)


def _with_labels(folder: Path, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    label_set = read_object(folder / "crossval.json")["config"]["data"]["labels"]
    facts = read_facts(data_root(), sorted({row["source"] for row in rows}), label_set)
    if lacking := [row["photo_id"] for row in rows if row["photo_id"] not in facts]:
        raise RunInvalid(
            f"{folder}: the truth is not here",
            found=f"no column label, and {len(lacking)} photos that no data set in {data_root()} has",
            expected="the data sets that were answered, in the folder that DERMEDGE_DATA names",
            fix="put the data sets there; a cross-validation's own folder has the labels in it",
        )
    return [{**row, "label": facts[row["photo_id"]].label} for row in rows]


def _table(path: Path) -> list[dict[str, str]]:
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise RunInvalid(f"{path}: cannot be read", found=str(error), expected="CSV, UTF-8") from error
    rows = list(csv.DictReader(io.StringIO(text)))
    lacking = [column for column in COLUMNS if not rows or rows[0].get(column) is None]
    if lacking:
        raise RunInvalid(
            f"{path}: columns are lacking: {', '.join(lacking)}",
            found=", ".join(rows[0]) if rows else "no row",
            expected=", ".join(COLUMNS),
        )
    return rows


def _parse(path: Path, rows: list[dict[str, str]], model: str) -> Answers:
    prefix = LOGIT if model == FLOAT else SCORE
    codes = tuple(column.removeprefix(prefix) for column in rows[0] if column.startswith(prefix))
    rows = sorted(rows, key=lambda row: row["photo_id"])
    ids = [row["photo_id"] for row in rows]
    unknown = sorted({row["label"] for row in rows} - set(codes))
    if unknown or len(set(ids)) < len(ids):
        raise RunInvalid(
            f"{path}: not one answer to each photo",
            found=f"labels without a column: {', '.join(unknown)}" if unknown else "a photo_id twice",
            expected=f"a column {prefix}CODE for each label, each photo once",
        )
    try:
        values = np.array([[float(row[prefix + code]) for code in codes] for row in rows])
        folds = np.array([int(row["fold"]) for row in rows], np.int64)
    except ValueError as error:
        raise RunInvalid(f"{path}: a score or a fold is no number", found=str(error)) from error
    total = values.sum(axis=1, keepdims=True)
    if not np.isfinite(values).all() or (model != FLOAT and not (total > 0).all()):
        raise RunInvalid(f"{path}: scores are not finite, or all zero", fix="make the answers again")
    return Answers(
        model=model,
        codes=codes,
        photo_ids=tuple(ids),
        sources=tuple(row["source"] for row in rows),
        groups=tuple(row["group_id"] for row in rows),
        folds=folds,
        y_true=np.array([codes.index(row["label"]) for row in rows], np.int64),
        probs=softmax(values) if model == FLOAT else values / total,
    )


def require_same_photos(first: Answers, second: Answers) -> Answers:
    """`first` on the photos of `second`, which may have fewer folds.

    Raises:
        RunInvalid: Other labels, or photos that `first` has not answered or calls otherwise.
    """
    place = {photo_id: i for i, photo_id in enumerate(first.photo_ids)}
    astray = [photo_id for photo_id in second.photo_ids if photo_id not in place]
    if first.codes == second.codes and not astray:
        inside = np.zeros(len(first.photo_ids), bool)
        inside[[place[photo_id] for photo_id in second.photo_ids]] = True
        shared = first.where(inside)
        if (shared.y_true == second.y_true).all() and (shared.folds == second.folds).all():
            return shared
    raise RunInvalid(
        f"the answers of {first.model} and {second.model} are not to the same photos",
        found=f"{len(astray)} photos that {first.model} did not answer: {', '.join(astray[:3])}"
        if astray
        else "other labels or folds",
        expected="one cross-validation",
    )
