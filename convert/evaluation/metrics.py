"""What is said of a model on labelled photos, with what each figure rests on. numpy.

Balanced accuracy and recall have intervals that hold for few lesions (train.evaluation.intervals); a class of fewer
than `FEW_LESIONS` lesions is named. The calibration error stands beside the value that a perfectly calibrated model
would show on as many photos: it is a sum of absolute values, and never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from edge_runtime.contract import ModelContract
from train.evaluation.intervals import FEW_LESIONS, balanced_accuracy_estimate, recalls
from train.evaluation.metrics import (
    FloatArray,
    GroupDraws,
    IntArray,
    age_band,
    area_under_roc,
    calibration_error_interval,
    expected_calibration_error,
    percentile_interval,
)

BINS = 15
FLOOR_DRAWS = 400
LEAST_LESIONS = 20
"""Of a subgroup, for figures beside its counts."""
MOST_VALUES = 20
SUBGROUPS = {
    "dx_type": "Ground truth", "diagnosis_confirm_type": "Ground truth", "biopsed": "Biopsy", "sex": "Sex",
    "gender": "Sex", "age": "Age", "age_approx": "Age", "localization": "Site", "site": "Site", "region": "Site",
    "anatom_site_general": "Site", "fitspatrick": "Skin type", "skin_type": "Skin type", "source": "Dataset",
}  # fmt: skip
Figures = dict[str, Any]


def figures(
    table: pd.DataFrame, scores: FloatArray, decisions: Sequence[str], contract: ModelContract
) -> Figures:
    """All figures of one model, ready for JSON.

    The table has n rows with label, group and the ground truth's further columns; scores are [n, labels], rows sum to
    1; decisions are [n] `answer`, `refer` or `not_a_lesion`.

    Returns:
        Plain values; an estimate is [value, low, high] at 95 %, None where it cannot be computed.
    """
    labels = table["label"].to_numpy(np.int64)
    made = _whole(labels, scores, table["group"].tolist(), contract)
    kinds = ("answer", "refer", "not_a_lesion")
    made["decisions"] = {kind: int(sum(one == kind for one in decisions)) for kind in kinds}
    made["subgroups"] = {
        title: _by(_values(table, column), labels, scores, table["group"], contract)
        for column, title in SUBGROUPS.items()
        if column in table and table[column].nunique() > 1 and len(set(_values(table, column))) <= MOST_VALUES
    }
    return made


def _values(table: pd.DataFrame, column: str) -> list[str]:
    values = [str(value).strip() or "unknown" for value in table[column]]
    return [age_band(value) for value in values] if column.startswith("age") else values


def _whole(labels: IntArray, scores: FloatArray, groups: list[str], contract: ModelContract) -> Figures:
    codes = [label.code for label in contract.labels]
    predicted = scores.argmax(axis=1).astype(np.int64)
    draws = GroupDraws.draw(groups)
    of_classes = recalls(labels, predicted, len(codes), groups)
    right = predicted == labels
    error = expected_calibration_error(labels, scores, BINS)
    error_interval = calibration_error_interval(draws.calibration_error(labels, scores, BINS), error)
    members = {
        group: np.array([label.group == group for label in contract.labels])
        for group in sorted({label.group for label in contract.labels})
    }
    per_class = {
        code: {
            "photos": one.photos,
            "lesions": one.lesions,
            "few": bool(one.photos) and one.few,
            "recall": _listed(one.estimate()),
            "auc": _auc(draws, labels == i, scores[:, i]),
        }
        for i, (code, one) in enumerate(zip(codes, of_classes, strict=True))
    }
    return {
        "photos": len(labels),
        "lesions": len(set(groups)),
        "balanced_accuracy": _listed(balanced_accuracy_estimate(of_classes)),
        "classes_present": sum(1 for one in of_classes if one.photos),
        "classes_few": [code for code, one in per_class.items() if one["few"]],
        "few_lesions": FEW_LESIONS,
        "accuracy": [float(right.mean()), *percentile_interval(draws.mean(right))],
        "calibration": {
            "bins": BINS,
            "error": [error, *error_interval],
            "perfectly_calibrated": _calibration_floor(scores),
        },
        "per_class": per_class,
        "groups": {
            group: _auc(draws, inside[labels], scores[:, inside].sum(axis=1))
            for group, inside in members.items()
        },
        "confusion": _confusion(labels, predicted, len(codes)),
    }


def _confusion(labels: IntArray, predicted: IntArray, classes: int) -> list[list[int]]:
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    rows: list[list[int]] = counts.tolist()
    return rows


def _calibration_floor(scores: FloatArray, seed: int = 0) -> list[float]:
    """Mean and central 95 % of the calibration error if the scores were the true probabilities."""
    rng = np.random.default_rng(seed)
    top = scores.max(axis=1)
    which = np.minimum((top * BINS).astype(np.int64), BINS - 1)
    errors = []
    for _ in range(FLOOR_DRAWS):
        gap = top - (rng.random(len(top)) < top)
        errors.append(np.abs(np.bincount(which, weights=gap, minlength=BINS)).sum() / len(top))
    low, high = np.quantile(errors, [0.025, 0.975])
    return [float(np.mean(errors)), float(low), float(high)]


def _auc(
    draws: GroupDraws, positive: np.ndarray[Any, np.dtype[np.bool_]], score: FloatArray
) -> list[float] | None:
    value = area_under_roc(positive, score)
    return None if value is None else [value, *percentile_interval(draws.auc(positive, score))]


def _by(
    values: list[str], labels: IntArray, scores: FloatArray, groups: pd.Series[str], contract: ModelContract
) -> list[Figures]:
    rows = []
    for value in sorted(set(values)):
        inside = np.array([one == value for one in values])
        row: Figures = {"value": value, "photos": int(inside.sum()), "lesions": int(groups[inside].nunique())}
        if row["lesions"] >= LEAST_LESIONS:
            part = _whole(labels[inside], scores[inside], groups[inside].tolist(), contract)
            row |= {name: part[name] for name in ("balanced_accuracy", "accuracy", "groups", "classes_few")}
            row["classes_absent"] = [code for code, one in part["per_class"].items() if not one["photos"]]
        rows.append(row)
    return rows


def _listed(estimate: Sequence[float] | None) -> list[float] | None:
    return None if estimate is None else list(estimate)
