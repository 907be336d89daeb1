"""A finished run or cross-validation, read back: whose answers, to which photos, after which epochs. numpy.

RUN/            predictions_{val,test}.csv: scores at temperature 1; history.csv, contract.json, manifest.csv
CROSSVAL/       oof.csv: logits of every photo by the network that did not learn from it, divided by its fold's
                temperature; fold0/, fold1/, ...: runs

Scores come out as a device would give them: with the temperature and the rules of the contract, fold by fold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.contract import ModelContract
from edge_runtime.errors import DataInvalid, RunInvalid
from train.artifacts.files import read_object
from train.artifacts.manifest import MANIFEST_COLUMNS, PHOTO_COLUMNS, Photo, read_rows
from train.artifacts.run import find_root, finished_state, read_contract, source_names, source_of
from train.evaluation.decisions import decide
from train.evaluation.metrics import FloatArray, IntArray, softmax

OOF = "oof.csv"
# A score may be written as 0; as train/training/crossval.py has it.
LEAST_SCORE = 1e-30
# Rounded scores may miss 1 by so much a label; more means that they are no softmax.
SUM_TOLERANCE = 1e-3
History = list[dict[str, float | str]]


@dataclass(frozen=True)
class Finished:
    """Everything that a report says of a run, in the order of its answers."""

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
    """What a reader must know before the figures."""
    folds: tuple[str, ...] = field(default=())
    """Of each photo, which fold it was held out in; empty of a run."""
    outliers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Run or fold to what metrics.json says of pictures without a lesion; empty where none were counted."""

    @property
    def codes(self) -> tuple[str, ...]:
        """Of the labels, in output order."""
        return tuple(label.code for label in self.contract.labels)

    @property
    def malignant(self) -> tuple[bool, ...]:
        """[labels] which belong to the group `malignant`."""
        return tuple(label.group == "malignant" for label in self.contract.labels)

    @property
    def source_names(self) -> tuple[str, ...]:
        """The data sets that occur, the config's first one first."""
        first = self.config.get("data", {}).get("folder")
        return tuple(sorted(set(self.sources), key=lambda name: (name != first, name)))

    def part(self, source: str) -> Finished:
        """The same of one data set's photos only.

        Raises:
            RunInvalid: No such photos.
        """
        inside = np.flatnonzero(np.asarray(self.sources) == source)
        if not len(inside):
            raise RunInvalid(
                f"{self.folder}: no photos of this data set",
                found=repr(source),
                expected=f"one of {', '.join(self.source_names)}",
            )
        return dataclasses.replace(
            self,
            of_photos=f"{self.of_photos} of {source}",
            photos=tuple(self.photos[i] for i in inside),
            groups=tuple(self.groups[i] for i in inside),
            sources=(source,) * len(inside),
            y_true=self.y_true[inside],
            probs=self.probs[inside],
            plain_probs=self.plain_probs[inside],
            decisions=tuple(self.decisions[i] for i in inside),
            folds=tuple(self.folds[i] for i in inside) if self.folds else (),
        )

    @property
    def y_pred(self) -> IntArray:
        """[n] index of the highest score."""
        return self.probs.argmax(axis=1).astype(np.int64)


def read_finished(folder: Path, *, split: str | None = None, data: Path | None = None) -> Finished:
    """Reads a run directory or a cross-validation's folder.

    Args:
        folder: Either.
        split: `test` or `val` of a run; None takes test where there is one. Cross-validations have no split.
        data: The (first) data set's folder, where it moved since.

    Raises:
        RunInvalid: Neither, not finished, or its files do not fit together.
        DataInvalid: `data` is not a folder.
    """
    if data is not None and not data.is_dir():
        raise DataInvalid(
            f"{data}: no such data folder",
            expected="the folder of the first data set",
            fix="correct --data, or leave it out: the page then has no photos",
        )
    if (folder / OOF).is_file():
        return _read_crossval(folder, data)
    return _read_run(folder, split, data)


# ------------------------------------------------------------------ a run


def _read_run(folder: Path, split: str | None, data: Path | None) -> Finished:
    state = finished_state(folder)
    contract = read_contract(folder)
    part = split or ("test" if (folder / "predictions_test.csv").is_file() else "val")
    path = folder / f"predictions_{part}.csv"
    rows, codes = _rows(path, ("photo_id", "label")), [label.code for label in contract.labels]
    plain = _floats(path, rows, [f"p_{code}" for code in codes])
    sums = plain.sum(axis=1)
    if not (np.abs(sums - 1) <= SUM_TOLERANCE * len(codes)).all():
        raise RunInvalid(
            f"{path}: scores do not sum to 1",
            found=f"sums from {sums.min():.3f} to {sums.max():.3f}",
            expected="a softmax in each row",
            fix="train again",
        )
    logits = np.log(np.maximum(plain, LEAST_SCORE))
    probs = softmax(logits, contract.calibration.temperature)
    manifest = read_photos_of(folder)
    config = read_object(folder / "config.json")
    photos, groups = _join(path, rows, manifest)
    remarks = _remarks(config, state)
    if part == "val":
        remarks += (
            "These are the validation photos: epochs, temperature and thresholds were chosen on them, so the "
            "figures flatter.",
        )
    return Finished(
        folder=folder,
        name=folder.resolve().name,
        of_photos={"test": "test photos", "val": "validation photos"}[part],
        contract=contract,
        photos=photos,
        groups=groups,
        sources=tuple(source_of(photo.path, source_names(state)) for photo in photos),
        y_true=_truth(path, rows, codes),
        probs=probs,
        plain_probs=softmax(logits),
        decisions=decide(probs, contract.decision),
        contracts=(contract,),
        histories={"": _read_history(folder)},
        config=config,
        state=state,
        root=find_root(state, data),
        remarks=remarks,
        outliers={"": found} if (found := _outliers(folder)) else {},
    )


def _remarks(config: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[str, ...]:
    remarks = []
    if config.get("split", {}).get("method", "grouped") != "grouped":
        remarks.append(
            "This run was split at random, on purpose: photos of one lesion stand in training and in test, and every "
            "figure here is too high."
        )
    if reason := state.get("not_for_conversion"):
        remarks.append(f"This run is not to be converted: {reason}.")
    return tuple(remarks)


# ------------------------------------------------------------------ a cross-validation


def _read_crossval(folder: Path, data: Path | None) -> Finished:
    path = folder / OOF
    rows = _rows(path, ("photo_id", "fold", "label"))
    folds = sorted({row["fold"] for row in rows}, key=lambda fold: (len(fold), fold))
    runs = {fold: folder / f"fold{fold}" for fold in folds}
    for run in runs.values():
        if not run.is_dir():
            raise RunInvalid(
                f"{folder}: a fold's run directory is missing",
                found=f"no {run.name}",
                expected=f"the folds that {OOF} names: {', '.join(folds)}",
            )
    contracts = {fold: read_contract(run) for fold, run in runs.items()}
    first = contracts[folds[0]]
    codes = [label.code for label in first.labels]
    logits = _floats(path, rows, [f"logit_{code}" for code in codes])
    probs, plain_probs = softmax(logits), np.empty_like(logits)
    decisions = np.empty(len(rows), dtype=object)
    fold_of = np.array([row["fold"] for row in rows])
    for fold, contract in contracts.items():
        inside = fold_of == fold
        plain_probs[inside] = softmax(logits[inside] * contract.calibration.temperature)
        decisions[inside] = decide(probs[inside], contract.decision)
    manifest = read_photos_of(runs[folds[0]])
    config, state = read_object(runs[folds[0]] / "config.json"), finished_state(runs[folds[0]])
    photos, groups = _join(path, rows, manifest)
    return Finished(
        folder=folder,
        name=folder.resolve().name,
        of_photos=f"out-of-fold photos of {len(folds)} folds",
        contract=first,
        photos=photos,
        groups=groups,
        sources=tuple(source_of(photo.path, source_names(state)) for photo in photos),
        y_true=_truth(path, rows, codes),
        probs=probs,
        plain_probs=plain_probs,
        decisions=tuple(decisions.tolist()),
        contracts=tuple(contracts.values()),
        histories={f"fold {fold}": _read_history(run) for fold, run in runs.items()},
        config=config,
        state=state,
        root=find_root(state, data),
        remarks=_remarks(config, state),
        folds=tuple(f"fold {row['fold']}" for row in rows),
        outliers={f"fold {fold}": found for fold, run in runs.items() if (found := _outliers(run))},
    )


# ------------------------------------------------------------------ their files


def read_photos_of(run: Path) -> dict[str, tuple[Photo, str]]:
    """photo_id to photo and group, from a run's manifest.csv.

    Raises:
        DataInvalid: No such table.
    """
    rows = read_rows(run / "manifest.csv", MANIFEST_COLUMNS)
    return {
        row["photo_id"]: (
            Photo(**{column: row[column] for column in PHOTO_COLUMNS}),
            row["group_id"] or row["lesion_id"],
        )
        for row in rows
    }


def _outliers(run: Path) -> dict[str, Any]:
    path = run / "metrics.json"
    found = read_object(path).get("outliers", {}) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _read_history(run: Path) -> History:
    """Rows of history.csv with numbers as numbers; empty where the run kept none."""
    path = run / "history.csv"
    if not path.is_file():
        return []

    def value(text: str) -> float | str:
        try:
            return float(text)
        except ValueError:
            return text

    return [{key: value(text) for key, text in row.items()} for row in read_rows(path, ("stage", "name"))]


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        rows = read_rows(path, columns)
    except DataInvalid as error:
        raise RunInvalid(error.what, found=error.found, expected=error.expected) from error
    if not rows:
        raise RunInvalid(f"{path}: no answer in it", expected="a row for each photo")
    return rows


def _floats(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> FloatArray:
    lacking = [column for column in columns if column not in rows[0]]
    if lacking:
        raise RunInvalid(
            f"{path}: columns are lacking: {', '.join(lacking)}",
            found=", ".join(rows[0]),
            expected="a column for each label of the contract",
        )
    try:
        values = np.array([[float(row[column]) for column in columns] for row in rows])
    except ValueError as error:
        raise RunInvalid(f"{path}: a score is no number", found=str(error)) from error
    if not np.isfinite(values).all():
        raise RunInvalid(f"{path}: scores are not finite", found="NaN or infinity", fix="train again")
    return values


def _truth(path: Path, rows: Sequence[Mapping[str, str]], codes: Sequence[str]) -> IntArray:
    unknown = sorted({row["label"] for row in rows} - set(codes))
    if unknown:
        raise RunInvalid(
            f"{path}: labels that the contract does not have",
            found=", ".join(map(repr, unknown[:5])),
            expected=", ".join(codes),
        )
    return np.array([codes.index(row["label"]) for row in rows], np.int64)


def _join(
    path: Path, rows: Sequence[Mapping[str, str]], manifest: Mapping[str, tuple[Photo, str]]
) -> tuple[tuple[Photo, ...], tuple[str, ...]]:
    ids = [row["photo_id"] for row in rows]
    astray = [photo_id for photo_id in ids if photo_id not in manifest]
    if astray or len(set(ids)) != len(ids):
        raise RunInvalid(
            f"{path}: does not fit the run's manifest.csv",
            found=f"not in it: {', '.join(astray[:5])}" if astray else "a photo_id twice",
            expected="photos of the manifest, each once",
        )
    return tuple(manifest[i][0] for i in ids), tuple(manifest[i][1] for i in ids)
