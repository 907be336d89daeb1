"""All metrics of a set of photos with their intervals, ready for metrics.json. numpy, scipy, scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.evaluation.intervals import auc_estimate, balanced_accuracy_estimate, few, recalls, share_of
from train.evaluation.metrics import (
    CALIBRATION_BINS,
    Estimate,
    FloatArray,
    GroupDraws,
    IntArray,
    calibration_error_interval,
    calibration_floor,
    expected_calibration_error,
)


def summarize(
    y_true: IntArray,
    probs: FloatArray,
    codes: Sequence[str],
    groups: Sequence[str],
    malignant: Sequence[bool] | None = None,
    *,
    repeats: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return all metrics of one split, ready for metrics.json.

    Args:
        y_true: [n] class indices.
        probs: [n, classes], rows sum to 1.
        codes: [classes] label codes.
        groups: [n] lesion of each photo, for intervals.
        malignant: [classes] which labels are malignant; None leaves that AUC out.
        repeats: Bootstrap draws.
        seed: Of the draws.

    Returns:
        Plain numbers, lists and dicts; a figure that cannot be computed is None. `intervals` repeats the names of the
        figures, each with [low, high] at 95 % (train/evaluation/intervals.py); `perfectly_calibrated` is
        `calibration_floor`, `classes_few` the classes of few lesions.
    """
    # Late: scikit-learn takes 1.5 s to import.
    from sklearn.metrics import confusion_matrix

    y_pred = probs.argmax(axis=1).astype(np.int64)
    draws = GroupDraws.draw(groups, y_true, repeats=repeats, seed=seed)
    of_classes = recalls(y_true, y_pred, len(codes), groups)
    balanced = balanced_accuracy_estimate(of_classes)
    error = expected_calibration_error(y_true, probs)
    estimates: dict[str, Estimate | None] = {
        "balanced_accuracy": balanced,
        "accuracy": share_of(y_true == y_pred, groups).estimate(),
        "expected_calibration_error": Estimate(
            error, *calibration_error_interval(draws.calibration_error(y_true, probs), error)
        ),
    }
    if malignant is not None:
        is_malignant = np.asarray(malignant, dtype=bool)
        side, score = is_malignant[y_true], probs[:, is_malignant].sum(axis=1)
        estimates["malignant_auc"] = auc_estimate(draws, side, score)
    of_class: dict[str, dict[str, Estimate | None]] = {
        code: {
            "recall": recall.estimate(),
            "precision": precision.estimate(),
            "auc": auc_estimate(draws, y_true == i, probs[:, i]),
        }
        for i, (code, recall, precision) in enumerate(
            zip(codes, of_classes, recalls(y_pred, y_true, len(codes), groups), strict=True)
        )
    }
    values, intervals = _divided(estimates)
    divided = {code: _divided(found) for code, found in of_class.items()}
    return {
        "photos": len(y_true),
        "lesions": len(set(groups)),
        **values,
        "balanced_accuracy_interval": intervals.pop("balanced_accuracy"),
        "calibration_bins": CALIBRATION_BINS,
        "perfectly_calibrated": calibration_floor(probs),
        "classes_few": few(codes, of_classes),
        "per_class": {
            code: {"photos": one.photos, "lesions": one.lesions, **divided[code][0]}
            for code, one in zip(codes, of_classes, strict=True)
        },
        "confusion": confusion_matrix(y_true, y_pred, labels=range(len(codes))).tolist(),
        "intervals": {**intervals, "per_class": {code: found[1] for code, found in divided.items()}},
    }


def _divided(
    estimates: Mapping[str, Estimate | None],
) -> tuple[dict[str, float | None], dict[str, list[float] | None]]:
    """Divide estimates into values and intervals, None where there is none."""
    return (
        {name: None if found is None else found.value for name, found in estimates.items()},
        {name: None if found is None else [found.low, found.high] for name, found in estimates.items()},
    )
