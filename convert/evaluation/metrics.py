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

from convert.evaluation.truth import GROUP_COLUMNS, LABEL_COLUMNS, OWN_COLUMNS, PHOTO_COLUMNS
from edge_runtime.contract import ModelContract
from train.evaluation.intervals import few
from train.evaluation.metrics import (
    CALIBRATION_BINS,
    FEW_LESIONS,
    FloatArray,
    IntArray,
    age_band,
    calibration_floor,
)
from train.evaluation.subgroups import LEAST_LESIONS
from train.evaluation.summary import measure

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
        Plain values; an estimate is (value, low, high) at 95 %, None where it cannot be computed.
    """
    labels = table["label"].to_numpy(np.int64)
    made = _whole(labels, scores, table["group"].tolist(), contract)
    kinds = ["answer", *(kind for kind in ("refer", "not_a_lesion") if getattr(contract.decision, kind))]
    made["decisions"] = {kind: int(sum(one == kind for one in decisions)) for kind in kinds}
    made["subgroups"] = subgroups = {}
    for column in _further_columns(table, contract):
        values, title = _values(table, column), SUBGROUPS.get(column, column)
        if 1 < len(set(values)) <= MOST_VALUES:
            # Of two columns with one title the second keeps its name.
            shown = column if title in subgroups else title
            subgroups[shown] = _by(values, labels, scores, table["group"], contract)
    return made


def _further_columns(table: pd.DataFrame, contract: ModelContract) -> list[str]:
    """Columns that name neither photo, label nor group; those of SUBGROUPS first."""
    others = {*PHOTO_COLUMNS, *LABEL_COLUMNS, *GROUP_COLUMNS, *OWN_COLUMNS}
    others |= {code.lower() for code in contract.codes}
    given = [str(column) for column in table if str(column).lower() not in others]
    return sorted(given, key=lambda column: column not in SUBGROUPS)


def _values(table: pd.DataFrame, column: str) -> list[str]:
    values = [str(value).strip() or "unknown" for value in table[column]]
    return [age_band(value) for value in values] if column.startswith("age") else values


def _whole(labels: IntArray, scores: FloatArray, groups: list[str], contract: ModelContract) -> Figures:
    codes, names = contract.codes, sorted(contract.groups)
    # Of two groups the first one's AUC is that of the other.
    sides = {name: [x.group == name for x in contract.labels] for name in names[len(names) == 2 :]}
    found = measure(labels, scores, codes, groups, sides)
    scarce = few(codes, list(found.recalls.values()))
    return {
        "photos": len(labels),
        "lesions": len(set(groups)),
        "balanced_accuracy": found.whole["balanced_accuracy"],
        "classes_present": sum(1 for one in found.recalls.values() if one.photos),
        "classes_few": scarce,
        "few_lesions": FEW_LESIONS,
        "accuracy": found.whole["accuracy"],
        "calibration": {
            "bins": CALIBRATION_BINS,
            "error": found.whole["expected_calibration_error"],
            "perfectly_calibrated": calibration_floor(scores),
        },
        "per_class": {
            code: {"photos": one.photos, "lesions": one.lesions, "few": code in scarce}
            | {name: found.of_class[code][name] for name in ("recall", "auc")}
            for code, one in found.recalls.items()
        },
        "groups": found.of_sides,
        "confusion": found.confusion,
    }


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
