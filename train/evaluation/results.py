"""A finished run or cross-validation, read back: predictions, photos and epochs. numpy, pandas.

RUN/            predictions_{val,test}.csv: scores at temperature 1; history.csv, contract.json, manifest.csv
CROSSVAL/       oof.csv: out-of-fold logits of every photo, divided by its fold's temperature; fold0/, fold1/, ...: runs

Scores are those of a device: with the temperature and the rules of the contract, fold by fold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_runtime.contract import ModelContract
from edge_runtime.errors import DataInvalid, RunInvalid
from train.artifacts.files import read_object
from train.artifacts.manifest import MANIFEST_COLUMNS, PHOTO_COLUMNS, Photo
from train.artifacts.run import find_root, finished_state, read_contract, source_names, source_of
from train.artifacts.selection import choices_on, mark
from train.artifacts.tables import read_rows, read_table
from train.evaluation.decisions import decide
from train.evaluation.metrics import FloatArray, IntArray, softmax
from train.evaluation.tables import chosen, class_indices, read_predictions, score_matrix

if TYPE_CHECKING:
    import pandas as pd

OOF = "oof.csv"
# A score may be written as 0; as train/training/crossval.py has it.
LEAST_SCORE = 1e-30
# Rounded scores may miss 1 by so much a label; more means that they are no softmax.
SUM_TOLERANCE = 1e-3
OF_PHOTOS = ("photos", "groups", "sources", "y_true", "probs", "plain_probs", "decisions", "folds")
History = list[dict[str, Any]]
"""Epochs: what a row of history.csv holds, in order."""


@dataclass(frozen=True)
class Finished:
    """Everything that a report shows of a run, in the order of its predictions."""

    folder: Path
    name: str
    """The folder's own."""
    of_photos: str
    """Which photos these are: `test photos`, `validation photos`, `out-of-fold photos of 5 folds`."""
    contract: ModelContract
    """Of a cross-validation the first fold's: labels, geometry and licence are those of all."""
    photos: tuple[Photo, ...]
    groups: tuple[str, ...]
    """Of each photo, the lesion or the near-duplicates that are never divided."""
    sources: tuple[str, ...]
    """Of each photo, the data set."""
    y_true: IntArray
    probs: FloatArray
    """[n, labels], calibrated."""
    plain_probs: FloatArray
    """[n, labels] at temperature 1."""
    decisions: tuple[str, ...]
    """Of each photo `answer`, `refer` or `not_a_lesion`, by its contract's rules."""
    contracts: tuple[ModelContract, ...]
    """Of all folds; one of a run."""
    histories: dict[str, History]
    """Run or fold to its epochs."""
    config: dict[str, Any]
    state: dict[str, Any]
    """run.json."""
    root: Path | None = None
    """Of the photos' paths; None where they are not on this machine."""
    remarks: tuple[str, ...] = field(default=())
    """Cautions, shown before the metrics."""
    folds: tuple[str, ...] = field(default=())
    """Of each photo, which fold it was held out in; empty of a run."""
    outliers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Run or fold to the OOD metrics in metrics.json; empty where there are none."""

    @property
    def codes(self) -> tuple[str, ...]:
        """Return the labels' codes in output order."""
        return self.contract.codes

    @property
    def malignant(self) -> tuple[bool, ...]:
        """Return which labels belong to the group `malignant`, [labels]."""
        return tuple(label.group == "malignant" for label in self.contract.labels)

    @property
    def source_names(self) -> tuple[str, ...]:
        """Return the data sets that occur, the config's first one first."""
        first = self.config.get("data", {}).get("folder")
        return tuple(sorted(set(self.sources), key=lambda name: (name != first, name)))

    def part(self, source: str) -> Finished:
        """Return the same of one data set's photos only.

        Raises:
            RunInvalid: No such photos.
        """
        inside = np.asarray(self.sources) == source
        if not inside.any():
            where, expected = str(self.folder), f"one of {', '.join(self.source_names)}"
            raise RunInvalid("no photos of this data set", where=where, found=repr(source), expected=expected)
        return dataclasses.replace(
            self, of_photos=f"{self.of_photos} of {source}", **chosen(self, inside, OF_PHOTOS)
        )

    @property
    def y_pred(self) -> IntArray:
        """Return the index of the highest score, [n]."""
        return np.asarray(self.probs.argmax(axis=1), np.int64)


def read_finished(folder: Path, *, split: str | None = None, data: Path | None = None) -> Finished:
    """Read a run directory or a cross-validation's folder.

    Args:
        folder: Either.
        split: `test` or `val` of a run; None takes test where there is one. Cross-validations have no split.
        data: The (first) data set's folder, where it moved since.

    Raises:
        RunInvalid: Neither, not finished, or its files do not fit together.
        DataInvalid: `data` is not a folder.
    """
    if data is not None and not data.is_dir():
        expected = "the folder of the first data set"
        fix = "correct --data, or leave it out: the page then has no photos"
        raise DataInvalid("no such data folder", where=str(data), expected=expected, fix=fix)
    if (folder / OOF).is_file():
        return _read_crossval(folder, data)
    return _read_run(folder, split, data)


# ------------------------------------------------------------------ a run


def _read_run(folder: Path, split: str | None, data: Path | None) -> Finished:
    finished_state(folder)
    contract = read_contract(folder)
    part = split or ("test" if (folder / "predictions_test.csv").is_file() else "val")
    path = folder / f"predictions_{part}.csv"
    table, codes = read_predictions(path, ("photo_id", "label")), contract.codes
    plain = score_matrix(path, table, [f"p_{code}" for code in codes])
    sums = plain.sum(axis=1)
    if not (np.abs(sums - 1) <= SUM_TOLERANCE * len(codes)).all():
        problem, found = "scores do not sum to 1", f"sums from {sums.min():.3f} to {sums.max():.3f}"
        raise RunInvalid(
            problem, where=str(path), found=found, expected="a softmax in each row", fix="train again"
        )
    logits = np.log(np.maximum(plain, LEAST_SCORE))
    probs = softmax(logits, contract.calibration.temperature)
    return _finished(
        folder,
        path,
        table,
        {"": folder},
        data,
        of_photos={"test": "test photos", "val": "validation photos"}[part],
        contracts=(contract,),
        probs=probs,
        plain_probs=softmax(logits),
        decisions=decide(probs, contract.decision),
        selection=choices_on(folder, part),
    )


# ------------------------------------------------------------------ a cross-validation


def _read_crossval(folder: Path, data: Path | None) -> Finished:
    path = folder / OOF
    table = read_predictions(path, ("photo_id", "fold", "label"))
    folds = sorted(set(table["fold"]), key=lambda fold: (len(fold), fold))
    runs = {f"fold {fold}": folder / f"fold{fold}" for fold in folds}
    for run in runs.values():
        if not run.is_dir():
            problem = "a fold's run directory is missing"
            expected = f"the folds that {OOF} names: {', '.join(folds)}"
            raise RunInvalid(problem, where=str(folder), found=f"no {run.name}", expected=expected)
    contracts = [read_contract(run) for run in runs.values()]
    codes = contracts[0].codes
    logits = score_matrix(path, table, [f"logit_{code}" for code in codes])
    probs, plain_probs = softmax(logits), np.empty_like(logits)
    decisions = np.empty(len(table), dtype=object)
    for fold, contract in zip(folds, contracts, strict=True):
        inside = (table["fold"] == fold).to_numpy()
        plain_probs[inside] = softmax(logits[inside] * contract.calibration.temperature)
        decisions[inside] = decide(probs[inside], contract.decision)
    return _finished(
        folder,
        path,
        table,
        runs,
        data,
        of_photos=f"out-of-fold photos of {len(folds)} folds",
        contracts=tuple(contracts),
        probs=probs,
        plain_probs=plain_probs,
        decisions=tuple(decisions.tolist()),
        selection=choices_on(folder),
        folds=tuple("fold " + table["fold"]),
    )


# ------------------------------------------------------------------ both


def _finished(
    folder: Path,
    path: Path,
    table: pd.DataFrame,
    runs: Mapping[str, Path],
    data: Path | None,
    *,
    contracts: tuple[ModelContract, ...],
    selection: tuple[str, ...],
    **predicted: Any,
) -> Finished:
    """Add what the first run's files say of the photos and of its training."""
    run = next(iter(runs.values()))
    state, config, known = finished_state(run), read_object(run / "config.json"), read_photos_of(run)
    if astray := [photo_id for photo_id in table["photo_id"] if photo_id not in known]:
        problem = "photos that are not in the run's manifest.csv"
        expected = "photos of the manifest, each once"
        raise RunInvalid(problem, where=str(path), found=", ".join(astray[:5]), expected=expected)
    photos, groups = zip(*(known[photo_id] for photo_id in table["photo_id"]), strict=True)
    names = source_names(state)
    return Finished(
        folder=folder,
        name=folder.resolve().name,
        contract=contracts[0],
        contracts=contracts,
        photos=photos,
        groups=groups,
        sources=tuple(source_of(photo.path, names) for photo in photos),
        y_true=class_indices(path, table["label"], contracts[0].codes),
        histories={name: read_history(run / "history.csv") for name, run in runs.items()},
        config=config,
        state=state,
        root=find_root(state, data),
        remarks=_remarks(config, state, mark(selection)),
        outliers={name: found for name, run in runs.items() if (found := _outliers(run))},
        **predicted,
    )


def _remarks(config: Mapping[str, Any], state: Mapping[str, Any], marked: str) -> tuple[str, ...]:
    remarks = [marked] if marked else []
    if config.get("split", {}).get("method", "grouped") != "grouped":
        remarks.append(
            "Random split, leaky by design: photos of one lesion are in training and in test, so every metric here is "
            "too high."
        )
    if reason := state.get("not_for_conversion"):
        remarks.append(f"This run is not to be converted: {reason}.")
    return tuple(remarks)


def read_photos_of(run: Path) -> dict[str, tuple[Photo, str]]:
    """Return photo_id to photo and group, from a run's manifest.csv.

    Raises:
        DataInvalid: No such table.
    """
    table = read_table(run / "manifest.csv", MANIFEST_COLUMNS)
    groups = table["group_id"].where(table["group_id"] != "", table["lesion_id"])
    photos = (Photo(*row) for row in table[list(PHOTO_COLUMNS)].itertuples(index=False))
    return {photo.photo_id: (photo, group) for photo, group in zip(photos, groups, strict=True)}


def _outliers(run: Path) -> dict[str, Any]:
    path = run / "metrics.json"
    found = read_object(path).get("outliers", {}) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def read_history(path: Path) -> History:
    """Read a history.csv with numbers as numbers; no rows if there is no such file.

    Raises:
        DataInvalid: It is no history.
    """
    # Averaged weights have none, which is written as an empty file.
    if not path.exists() or (path.is_file() and not path.read_bytes().strip()):
        return []
    return [
        {key: _parse(text) for key, text in row.items()}
        for row in read_rows(path, ("stage", "epoch", "name"))
    ]


def _parse(text: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
