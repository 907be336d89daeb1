"""Figures of a classifier from labels and probabilities. numpy and scikit-learn, no TensorFlow: convert uses it too.

Balanced accuracy (mean recall over classes, Brodersen et al. 2010) comes first everywhere. Photos of one lesion are
not independent, so intervals come from a bootstrap that draws whole lesions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, roc_auc_score

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def recall_per_class(y_true: IntArray, y_pred: IntArray, classes: int) -> FloatArray:
    """Share of each class's photos that are answered rightly.

    Args:
        y_true: [n] class indices.
        y_pred: [n] class indices.
        classes: Number of classes.

    Returns:
        [classes] in [0, 1]; NaN where a class has no photo.
    """
    counts = np.bincount(y_true, minlength=classes).astype(np.float64)
    hits = np.bincount(y_true[y_true == y_pred], minlength=classes).astype(np.float64)
    return np.divide(hits, counts, out=np.full(classes, np.nan), where=counts > 0)


def precision_per_class(y_true: IntArray, y_pred: IntArray, classes: int) -> FloatArray:
    """Share of each class's answers that are right, [classes]; NaN where a class is never answered."""
    return recall_per_class(y_pred, y_true, classes)


def balanced_accuracy(y_true: IntArray, y_pred: IntArray, classes: int) -> float:
    """Mean recall over the classes that occur in y_true, in [0, 1]."""
    return float(np.nanmean(recall_per_class(y_true, y_pred, classes)))


def expected_calibration_error(y_true: IntArray, probs: FloatArray, bins: int = 15) -> float:
    """Mean gap between top score and accuracy over equal-width bins, weighted by count (Guo et al. 2017)."""
    top_score = probs.max(axis=1)
    right = probs.argmax(axis=1) == y_true
    which = np.minimum((top_score * bins).astype(int), bins - 1)
    gaps = np.bincount(which, weights=top_score - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(y_true))


def softmax(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """Probabilities [n, classes] of logits [n, classes] divided by a temperature."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def bootstrap_interval(
    statistic: Callable[..., float],
    groups: Sequence[str],
    *arrays: npt.NDArray[Any],
    repeats: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a statistic when whole groups are drawn with replacement.

    Args:
        statistic: Called with the resampled arrays.
        groups: [n] lesion of each photo.
        *arrays: Each [n, ...].
        repeats: Draws.
        seed: Of the draws.
        level: Of the interval.

    Returns:
        (low, high).
    """
    _, group_index = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(group_index, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(group_index[order])) + 1)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(repeats):
        drawn = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        values.append(statistic(*(array[drawn] for array in arrays)))
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


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
    """All figures of one split, ready for metrics.json.

    Args:
        y_true: [n] class indices.
        probs: [n, classes], rows sum to 1.
        codes: [classes] label codes.
        groups: [n] lesion of each photo, for intervals.
        malignant: [classes] which labels are malignant; None leaves that AUC out.
        repeats: Bootstrap draws.
        seed: Of the draws.

    Returns:
        Plain numbers, lists and dicts; a figure that cannot be computed is None.
    """
    classes = len(codes)
    y_pred = probs.argmax(axis=1).astype(np.int64)
    low, high = bootstrap_interval(
        lambda t, p: balanced_accuracy(t, p, classes), groups, y_true, y_pred, repeats=repeats, seed=seed
    )
    recall = recall_per_class(y_true, y_pred, classes)
    precision = precision_per_class(y_true, y_pred, classes)
    counts = np.bincount(y_true, minlength=classes)
    summary: dict[str, Any] = {
        "photos": len(y_true),
        "lesions": len(set(groups)),
        "balanced_accuracy": balanced_accuracy(y_true, y_pred, classes),
        "balanced_accuracy_interval": [low, high],
        "accuracy": float((y_true == y_pred).mean()),
        "expected_calibration_error": expected_calibration_error(y_true, probs),
        "per_class": {
            code: {
                "photos": int(counts[i]),
                "recall": _number(recall[i]),
                "precision": _number(precision[i]),
                "auc": _auc(y_true == i, probs[:, i]),
            }
            for i, code in enumerate(codes)
        },
        "confusion": confusion_matrix(y_true, y_pred, labels=range(classes)).tolist(),
    }
    if malignant is not None:
        is_malignant = np.asarray(malignant, dtype=bool)
        summary["malignant_auc"] = _auc(is_malignant[y_true], probs[:, is_malignant].sum(axis=1))
    return summary


def _auc(positive: npt.NDArray[np.bool_], score: FloatArray) -> float | None:
    """Area under the ROC curve; None when one side is empty."""
    if positive.all() or not positive.any():
        return None
    return float(roc_auc_score(positive, score))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
