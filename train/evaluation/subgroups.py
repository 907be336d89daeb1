"""How a model does in parts of the photos: by sex, age band, site, how the diagnosis was made, data set. numpy.

A class may be absent from a part, or have two photos in it: the absent ones are named, intervals by lesion stand
beside every figure, and a part of few lesions gets counts only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from train.evaluation.metrics import (
    AGE_BANDS,
    UNKNOWN,
    Estimate,
    FloatArray,
    GroupDraws,
    IntArray,
    age_band,
    area_under_roc,
    balanced_accuracy,
    percentile_interval,
)

# Of fewer lesions an interval says little, and one person may stand for the whole row.
LEAST_LESIONS = 20
COLUMNS = {
    "sex": "Sex",
    "age": "Age",
    "site": "Site",
    "dx_type": "Kind of diagnosis",
    "source": "Data set",
}


class Described(Protocol):
    """A photo whose patient and site are described; `convert` has its own."""

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
    """Codes of the classes without a photo here; balanced accuracy is the mean over the others."""
    balanced_accuracy: Estimate | None
    accuracy: Estimate | None
    malignant_auc: Estimate | None


def subgroup_columns(photos: Sequence[Described], sources: Sequence[str] = ()) -> dict[str, list[str]]:
    """The values by which photos are grouped: each key of COLUMNS to [n] texts.

    Columns of which nothing is known, and a single data set, are left out: they would be tables of one row.
    """
    columns = {
        "sex": [photo.sex or UNKNOWN for photo in photos],
        "age": [age_band(photo.age) for photo in photos],
        "site": [photo.site or UNKNOWN for photo in photos],
        "dx_type": [getattr(photo, "dx_type", "") or UNKNOWN for photo in photos],
    }
    told = {name: values for name, values in columns.items() if set(values) != {UNKNOWN}}
    return told | ({"source": list(sources)} if len(set(sources)) > 1 else {})


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
    seed: int = 0,
) -> dict[str, list[Subgroup]]:
    """Figures of each part of the photos.

    Args:
        y_true: [n] class indices.
        probs: [n, classes], rows sum to 1.
        codes: [classes] label codes.
        groups: [n] lesion of each photo, for intervals.
        malignant: [classes] which labels are malignant.
        columns: Name to [n] values, as `subgroup_columns` gives them.
        least_lesions: Parts of fewer get no figures.
        repeats: Bootstrap draws, of the part's own lesions.
        seed: Of the draws.

    Returns:
        Column to rows: age bands in order, else the largest first; `unknown` last.
    """
    lesions, malignant_labels = np.asarray(groups), np.asarray(malignant, dtype=bool)
    tables: dict[str, list[Subgroup]] = {}
    for column, values in columns.items():
        texts = np.asarray(values)
        rows = []
        for value in set(texts.tolist()):
            inside = texts == value
            rows.append(
                _subgroup(
                    value,
                    y_true[inside],
                    probs[inside],
                    codes,
                    lesions[inside].tolist(),
                    malignant_labels,
                    least_lesions,
                    repeats,
                    seed,
                )
            )
        tables[column] = sorted(rows, key=lambda row: place(row.value, row.photos))
    return tables


def place(value: str, photos: int) -> tuple[bool, int, int, str]:
    """Return the sort key of a row: age bands in order, else the largest first; `unknown` last."""
    bands = [name for _, name in AGE_BANDS]
    band = bands.index(value) if value in bands else len(bands)
    return value == UNKNOWN, band, -photos, value


def _subgroup(
    value: str,
    y_true: IntArray,
    probs: FloatArray,
    codes: Sequence[str],
    groups: Sequence[str],
    malignant: npt.NDArray[np.bool_],
    least_lesions: int,
    repeats: int,
    seed: int,
) -> Subgroup:
    counts = np.bincount(y_true, minlength=len(codes))
    figures: list[Estimate | None] = [None, None, None]
    if len(set(groups)) >= least_lesions:
        draws = GroupDraws.draw(groups, repeats=repeats, seed=seed)
        figures = _figures(draws, y_true, probs, malignant)
    return Subgroup(
        value,
        len(y_true),
        len(set(groups)),
        int(malignant[y_true].sum()) if malignant.any() else None,
        tuple(code for code, count in zip(codes, counts, strict=True) if count == 0),
        *figures,
    )


def _figures(
    draws: GroupDraws, y_true: IntArray, probs: FloatArray, malignant: npt.NDArray[np.bool_]
) -> list[Estimate | None]:
    """Balanced accuracy, accuracy, malignant AUC."""
    classes = probs.shape[1]
    y_pred = probs.argmax(axis=1).astype(np.int64)
    right = y_true == y_pred
    side, score = malignant[y_true], probs[:, malignant].sum(axis=1)
    auc = area_under_roc(side, score)
    return [
        Estimate(
            balanced_accuracy(y_true, y_pred, classes),
            *percentile_interval(draws.balanced_accuracy(y_true, y_pred, classes)),
        ),
        Estimate(float(right.mean()), *percentile_interval(draws.mean(right))),
        None if auc is None else Estimate(auc, *percentile_interval(draws.auc(side, score))),
    ]
