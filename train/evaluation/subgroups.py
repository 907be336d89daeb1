"""Metrics by subgroup: sex, age band, site, kind of diagnosis, data set. numpy.

A class may be absent from a subgroup, or have two photos in it: absent ones are named, every metric has an interval by
lesion, and a subgroup of few lesions gets counts only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from train.evaluation.intervals import auc_estimate, balanced_accuracy_estimate, recalls, share_of
from train.evaluation.metrics import AGE_BANDS, UNKNOWN, Estimate, FloatArray, GroupDraws, IntArray, age_band

BoolArray = npt.NDArray[np.bool_]
# Below this an interval is not informative, and one person may make up the whole row.
LEAST_LESIONS = 20
COLUMNS = {"dx_type": "Ground truth", "sex": "Sex", "age": "Age", "site": "Site", "source": "Data set"}


class Described(Protocol):
    """A photo whose patient and site are described; `convert` has its own."""

    @property
    def dx_type(self) -> str:
        """Kind of ground truth: histology, follow-up, consensus, confocal; empty if unknown."""

    @property
    def sex(self) -> str:
        """Empty if unknown."""

    @property
    def age(self) -> str:
        """In years; empty if unknown."""

    @property
    def site(self) -> str:
        """Empty if unknown."""


@dataclass(frozen=True)
class Subgroup:
    """One row of a table. Figures are None below LEAST_LESIONS, or where they cannot be computed."""

    value: str
    """What its photos have in common: `female`, `40-59`; `unknown` where the data set does not say."""
    photos: int
    lesions: int
    malignant: int | None
    """Photos of malignant lesions; None when no label is called malignant."""
    absent: tuple[str, ...]
    """Codes of the classes without a photo; balanced accuracy is the mean over the others."""
    balanced_accuracy: Estimate | None
    accuracy: Estimate | None
    malignant_auc: Estimate | None


def subgroup_columns(photos: Sequence[Described], sources: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the values by which photos are grouped: each key of COLUMNS to [n] texts.

    Unknown columns and a single data set are left out: they would be tables of one row.
    """
    columns = {
        "dx_type": [photo.dx_type or UNKNOWN for photo in photos],
        "sex": [photo.sex or UNKNOWN for photo in photos],
        "age": [age_band(photo.age) for photo in photos],
        "site": [photo.site or UNKNOWN for photo in photos],
    }
    known = {name: values for name, values in columns.items() if set(values) != {UNKNOWN}}
    return known | ({"source": list(sources)} if len(set(sources)) > 1 else {})


def subgroup_tables(
    y_true: IntArray,
    probs: FloatArray,
    codes: Sequence[str],
    groups: Sequence[str],
    malignant: Sequence[bool],
    columns: Mapping[str, Sequence[str]],
    *,
    least_lesions: int = LEAST_LESIONS,
    repeats: int = 1000,
) -> dict[str, list[Subgroup]]:
    """Return metrics of each subgroup, by columns as `subgroup_columns` gives them; other arguments as `summarize`.

    Subgroups of fewer than `least_lesions` get counts only; bootstrap draws are of a subgroup's own lesions.

    Returns:
        Column to rows: age bands in order, else the largest first; `unknown` last.
    """
    lesions, malignant_labels = np.asarray(groups), np.asarray(malignant, dtype=bool)

    def row_of(value: str, inside: BoolArray) -> Subgroup:
        some, of_lesions = y_true[inside], lesions[inside].tolist()
        counts = np.bincount(some, minlength=len(codes))
        figures: list[Estimate | None] = [None, None, None]
        if len(set(of_lesions)) >= least_lesions:
            figures = _figures(some, probs[inside], malignant_labels, of_lesions, repeats)
        return Subgroup(
            value,
            len(some),
            len(set(of_lesions)),
            int(malignant_labels[some].sum()) if malignant_labels.any() else None,
            tuple(code for code, count in zip(codes, counts, strict=True) if count == 0),
            *figures,
        )

    tables = {}
    for column, values in columns.items():
        texts = np.asarray(values)
        rows = [row_of(value, texts == value) for value in set(values)]
        tables[column] = sorted(rows, key=lambda row: place(row.value, row.photos))
    return tables


def place(value: str, photos: int) -> tuple[bool, int, int, str]:
    """Return the sort key of a row: age bands in order, else the largest first; `unknown` last."""
    bands = [name for _, name in AGE_BANDS]
    band = bands.index(value) if value in bands else len(bands)
    return value == UNKNOWN, band, -photos, value


def _figures(
    y_true: IntArray, probs: FloatArray, malignant: BoolArray, lesions: list[str], repeats: int
) -> list[Estimate | None]:
    """Return balanced accuracy, accuracy and malignant AUC."""
    y_pred = probs.argmax(axis=1).astype(np.int64)
    side, score = malignant[y_true], probs[:, malignant].sum(axis=1)
    draws = GroupDraws.draw(lesions, y_true, repeats=repeats)
    return [
        balanced_accuracy_estimate(recalls(y_true, y_pred, probs.shape[1], lesions)),
        share_of(y_true == y_pred, lesions).estimate(),
        auc_estimate(draws, side, score),
    ]
