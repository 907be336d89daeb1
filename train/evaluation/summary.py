"""All metrics of a set of photos with their intervals, ready for metrics.json. numpy, scipy, scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from train.evaluation.intervals import (
    ClassRecall,
    auc_estimate,
    balanced_accuracy_estimate,
    few,
    recalls,
    share_of,
)
from train.evaluation.metrics import (
    CALIBRATION_BINS,
    Estimate,
    FloatArray,
    GroupDraws,
    IntArray,
    calibration_estimate,
    calibration_floor,
)

Estimates = dict[str, Estimate | None]


class Measured(NamedTuple):
    """All metrics of a set of photos; None where one cannot be computed."""

    whole: Estimates
    """`balanced_accuracy`, `accuracy`, `expected_calibration_error`."""
    of_sides: Estimates
    """AUC of some classes against the others, by the sides' names."""
    of_class: dict[str, Estimates]
    """Code to `recall`, `precision` and `auc`."""
    recalls: dict[str, ClassRecall]
    """Code to what its recall rests on."""
    confusion: list[list[int]]
    """[classes][classes] photos, truth in rows."""


def measure(
    y_true: IntArray,
    probs: FloatArray,
    codes: Sequence[str],
    groups: Sequence[str],
    sides: Mapping[str, Sequence[bool]],
    *,
    repeats: int = 1000,
) -> Measured:
    """Compute all metrics of one set of photos; arguments as `summarize`, sides are names to [classes]."""
    # Late: scikit-learn takes 1.5 s to import.
    from sklearn.metrics import confusion_matrix

    y_pred = probs.argmax(axis=1).astype(np.int64)
    draws = GroupDraws.draw(groups, y_true, repeats=repeats)
    of_classes = recalls(y_true, y_pred, len(codes), groups)
    masks = {name: np.asarray(side, dtype=bool) for name, side in sides.items()}
    precisions = recalls(y_pred, y_true, len(codes), groups)
    return Measured(
        whole={
            "balanced_accuracy": balanced_accuracy_estimate(of_classes),
            "accuracy": share_of(y_true == y_pred, groups).estimate(),
            "expected_calibration_error": calibration_estimate(draws, y_true, probs),
        },
        of_sides={
            name: auc_estimate(draws, mask[y_true], probs[:, mask].sum(axis=1))
            for name, mask in masks.items()
        },
        of_class={
            code: {
                "recall": of_classes[i].estimate(),
                "precision": precisions[i].estimate(),
                "auc": auc_estimate(draws, y_true == i, probs[:, i]),
            }
            for i, code in enumerate(codes)
        },
        recalls=dict(zip(codes, of_classes, strict=True)),
        confusion=confusion_matrix(y_true, y_pred, labels=range(len(codes))).tolist(),
    )


def summarize(
    y_true: IntArray,
    probs: FloatArray,
    codes: Sequence[str],
    groups: Sequence[str],
    malignant: Sequence[bool] | None = None,
    *,
    repeats: int = 1000,
) -> dict[str, Any]:
    """Return all metrics of one split, ready for metrics.json; `malignant`, [classes] booleans, adds an AUC.

    Returns:
        Plain numbers, lists and dicts; a figure that cannot be computed is None. `intervals` repeats the names of the
        figures, each with [low, high] at 95 % (train/evaluation/intervals.py); `perfectly_calibrated` is
        `calibration_floor`, `classes_few` the classes of few lesions.
    """
    sides = {} if malignant is None else {"malignant_auc": malignant}
    found = measure(y_true, probs, codes, groups, sides, repeats=repeats)
    values, intervals = _divided(found.whole | found.of_sides)
    divided = {code: _divided(estimates) for code, estimates in found.of_class.items()}
    return {
        "photos": len(y_true),
        "lesions": len(set(groups)),
        **values,
        "balanced_accuracy_interval": intervals.pop("balanced_accuracy"),
        "calibration_bins": CALIBRATION_BINS,
        "perfectly_calibrated": calibration_floor(probs),
        "classes_few": few(codes, list(found.recalls.values())),
        "per_class": {
            code: {"photos": one.photos, "lesions": one.lesions, **divided[code][0]}
            for code, one in found.recalls.items()
        },
        "confusion": found.confusion,
        "intervals": {**intervals, "per_class": {code: parts[1] for code, parts in divided.items()}},
    }


def _divided(
    estimates: Mapping[str, Estimate | None],
) -> tuple[dict[str, float | None], dict[str, list[float] | None]]:
    """Divide estimates into values and intervals, None where there is none."""
    return (
        {name: None if found is None else found.value for name, found in estimates.items()},
        {name: None if found is None else [found.low, found.high] for name, found in estimates.items()},
    )
