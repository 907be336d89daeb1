"""Paired statistics of two models on the same photos. numpy, scipy.

Intervals are 95 %, by lesion (train/evaluation/intervals.py). Differences come from bootstrap draws of whole lesions
within classes; both models are measured on the same draws, so what makes a lesion hard for both cancels. A difference
is the second model's metric minus the first's: below 0 is a loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.inputs import Photo
from train.evaluation.intervals import (
    ClassRecall,
    balanced_accuracy_estimate,
    indistinct,
    mcnemar_p,
    recalls,
    share_of,
)
from train.evaluation.metrics import (
    FloatArray,
    GroupDraws,
    IntArray,
    balanced_accuracy,
    calibration_estimate,
    calibration_floor,
    expected_calibration_error,
    percentile_interval,
    recall_per_class,
    softmax,
)
from train.evaluation.subgroups import LEAST_LESIONS, place, subgroup_columns

BoolArray = npt.NDArray[np.bool_]

REPEATS = 1000
WORSE, BETTER, OTHER = "for the worse", "for the better", "wrong both times"
HISTOGRAM_EDGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
RELIABILITY_BINS = 10
# Limits of the search for the temperature between two models.
TEMPERATURE_RATIOS = (0.05, 20.0)
TEMPERATURE_PRECISION = 1e-4
LEAST_PROBABILITY = 1e-30


@dataclass(frozen=True)
class Truth:
    """Labelled photos, and bootstrap draws of their lesions."""

    photos: tuple[Photo, ...]
    codes: tuple[str, ...]
    labels: IntArray
    """[n]."""
    groups: tuple[str, ...]
    """Of each photo, the lesion."""
    draws: GroupDraws
    """Within classes, for differences and the calibration error."""

    @classmethod
    def of(cls, photos: Sequence[Photo], codes: Sequence[str], *, repeats: int = REPEATS) -> Truth:
        """Draw the lesions of photos."""
        labels = np.array([photo.label for photo in photos], dtype=np.int64)
        groups = tuple(photo.group_id for photo in photos)
        draws = GroupDraws.draw(groups, labels, repeats=repeats)
        return cls(tuple(photos), tuple(codes), labels, groups, draws)

    @property
    def lesions(self) -> int:
        """Count distinct lesions."""
        return int(self.draws.counts.shape[1])

    def among(self, inside: BoolArray) -> Truth:
        """Select photos, with draws of their own lesions."""
        chosen = [photo for photo, is_in in zip(self.photos, inside, strict=True) if is_in]
        return Truth.of(chosen, self.codes, repeats=len(self.draws.counts))

    def balanced(self, predicted: IntArray) -> list[float]:
        """Return balanced accuracy of [n] predicted labels: [value, low, high]."""
        return list(balanced_accuracy_estimate(self.recalls(predicted)) or ())

    def recalls(self, predicted: IntArray) -> list[ClassRecall]:
        """Return each class's recall."""
        return recalls(self.labels, predicted, len(self.codes), self.groups)

    def share(self, hit: BoolArray) -> list[float]:
        """Return the share of photos [n] that are hits: [value, low, high]."""
        return list(share_of(hit, self.groups).estimate() or ())

    def change(self, before: IntArray, after: IntArray) -> list[float]:
        """Return balanced accuracy of `after` minus that of `before`, on the same draws: [value, low, high]."""
        return list(self.draws.balanced_difference(self.labels, before, after, len(self.codes)))

    def agreement(self, one: IntArray, other: IntArray) -> list[float]:
        """Return the mean over true classes of the share of equal predictions: [value, low, high]."""
        # A photo counts as right where both predictions are equal: then this is a balanced accuracy.
        return self.balanced(np.where(one == other, self.labels, (self.labels + 1) % len(self.codes)))


def figures(truth: Truth, scores: FloatArray) -> dict[str, Any]:
    """Compute one model's metrics from its scores, [n, labels], rows sum to 1.

    Returns:
        Plain values; an estimate is [value, low, high], None where it cannot be computed.
    """
    predicted = scores.argmax(axis=1)
    right = predicted == truth.labels
    return {
        "balanced_accuracy": truth.balanced(predicted),
        "accuracy": truth.share(right),
        "expected_calibration_error": calibration_estimate(truth.draws, truth.labels, scores),
        "perfectly_calibrated": calibration_floor(scores),
        "recall": {
            code: (found := one.estimate()) and list(found)
            for code, one in zip(truth.codes, truth.recalls(predicted), strict=True)
        },
        "reliability": reliability(truth.labels, scores),
    }


def reliability(labels: IntArray, scores: FloatArray) -> list[dict[str, float]]:
    """Return mean top score and accuracy in each occupied bin of the top score."""
    top, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    which = np.minimum((top * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    return [
        {
            "photos": int((which == i).sum()),
            "top_score": float(top[which == i].mean()),
            "accuracy": float(right[which == i].mean()),
        }
        for i in range(RELIABILITY_BINS)
        if (which == i).any()
    ]


def paired(truth: Truth, first: FloatArray, second: FloatArray) -> dict[str, Any]:
    """Compare the second model's scores with the first's, both [n, labels] in the same order, rows sum to 1.

    Returns:
        Plain values; see the module's head for their signs.
    """
    before, after = first.argmax(axis=1), second.argmax(axis=1)
    right, right_after = before == truth.labels, after == truth.labels
    changed = before != after
    worse, better = int((right & ~right_after).sum()), int((~right & right_after).sum())
    moved = np.abs(second - first)
    largest = moved.max(axis=1)
    photo, (counts, _) = int(largest.argmax()), np.histogram(largest, bins=HISTOGRAM_EDGES)
    errors = [expected_calibration_error(truth.labels, scores) for scores in (first, second)]
    error_draws = [truth.draws.calibration_error(truth.labels, scores) for scores in (first, second)]
    gain = right_after.astype(float) - right.astype(float)
    return {
        "difference": truth.change(before, after),
        "accuracy_difference": _estimate(float(right_after.mean() - right.mean()), truth.draws.mean(gain)),
        "calibration_error_difference": _estimate(errors[1] - errors[0], error_draws[1] - error_draws[0]),
        "agreement": truth.share(~changed),
        "answers_changed": int(changed.sum()),
        "for_the_worse": worse,
        "for_the_better": better,
        "wrong_both_times": int((changed & ~right & ~right_after).sum()),
        "mcnemar_p": mcnemar_p(worse, better),
        "mean_score_change": float(largest.mean()),
        "largest_score_change": {
            "value": float(largest[photo]),
            "photo_id": truth.photos[photo].photo_id,
            "label": truth.codes[int(moved[photo].argmax())],
        },
        "score_changes": [
            {"from": low, "to": high, "photos": count}
            for (low, high), count in zip(pairwise(HISTOGRAM_EDGES), counts.tolist(), strict=True)
        ],
        "classes": _per_class(truth, before, after),
        "groups": _per_group(truth, before, after),
        "flips": _flips(truth, first, second),
    }


def implied_temperature(first: FloatArray, second: FloatArray) -> float:
    """Find the temperature that brings the first model's scores nearest to the second's; 1 if they are equally sharp.

    Both are [n, labels] in the same order of labels, rows sum to 1.
    """
    logits = np.log(np.maximum(first, LEAST_PROBABILITY))
    wanted = float((second * logits).sum(axis=1).mean())
    # The cross-entropy is convex in the inverse temperature; its slope is what the logits are worth on average under
    # the scores at that temperature, less `wanted`, and grows: halving the interval finds where it is 0.
    low, high = (np.log(1 / ratio) for ratio in reversed(TEMPERATURE_RATIOS))
    while high - low > TEMPERATURE_PRECISION:
        middle = (low + high) / 2
        found = float((softmax(logits, float(np.exp(-middle))) * logits).sum(axis=1).mean())
        low, high = (middle, high) if found < wanted else (low, middle)
    return float(np.exp(-(low + high) / 2))


def at_temperature(scores: FloatArray, temperature: float) -> FloatArray:
    """Apply a temperature to the logits of probabilities [n, labels]."""
    return softmax(np.log(np.maximum(scores, LEAST_PROBABILITY)), temperature)


def _per_class(truth: Truth, before: IntArray, after: IntArray) -> dict[str, dict[str, Any]]:
    classes = len(truth.codes)
    recall = [recall_per_class(truth.labels, predicted, classes) for predicted in (before, after)]
    draws = truth.draws.recall_difference(truth.labels, before, after, classes)
    rows = {}
    for i, code in enumerate(truth.codes):
        inside = truth.labels == i
        rows[code] = {
            "photos": int(inside.sum()),
            "recall": [float(one[i]) if inside.any() else None for one in recall],
            "difference": _estimate(recall[1][i] - recall[0][i], draws[:, i]),
            "answers_changed": int((inside & (before != after)).sum()),
        }
    return rows


def _per_group(truth: Truth, before: IntArray, after: IntArray) -> dict[str, list[dict[str, Any]]]:
    tables = {}
    for column, values in subgroup_columns(truth.photos).items():
        cells = np.array(values)
        rows = [_group_row(value, cells == value, truth, before, after) for value in set(values)]
        tables[column] = sorted(rows, key=lambda row: place(row["value"], row["photos"]))
    return tables


def _group_row(
    value: str, inside: BoolArray, truth: Truth, before: IntArray, after: IntArray
) -> dict[str, Any]:
    part, pair = truth.among(inside), (before[inside], after[inside])
    accuracies = [balanced_accuracy(part.labels, predicted, len(part.codes)) for predicted in pair]
    shown = part.lesions >= LEAST_LESIONS
    return {
        "value": value,
        "photos": len(part.photos),
        "lesions": part.lesions,
        "classes": len(set(part.labels.tolist())),
        "balanced_accuracy": accuracies if shown else None,
        "difference": part.change(*pair) if shown else None,
        "answers_changed": int((pair[0] != pair[1]).sum()),
        "agreement": float((pair[0] == pair[1]).mean()),
    }


def _flips(truth: Truth, first: FloatArray, second: FloatArray) -> list[dict[str, Any]]:
    """List photos whose prediction changed: to wrong first, in each kind the largest score change first."""
    before, after = first.argmax(axis=1), second.argmax(axis=1)
    largest = np.abs(second - first).max(axis=1)
    rows = []
    for i in np.flatnonzero(before != after):
        label, old, new = int(truth.labels[i]), int(before[i]), int(after[i])
        rows.append(
            {
                "photo_id": truth.photos[i].photo_id,
                "group_id": truth.photos[i].group_id,
                "truth": truth.codes[label],
                "first": truth.codes[old],
                "second": truth.codes[new],
                "first_score": float(first[i, old]),
                "second_score": float(second[i, new]),
                "truth_scores": [float(first[i, label]), float(second[i, label])],
                "score_change": float(largest[i]),
                "kind": WORSE if old == label else BETTER if new == label else OTHER,
            }
        )
    kinds = (WORSE, BETTER, OTHER)
    return sorted(
        rows, key=lambda row: (kinds.index(str(row["kind"])), -float(row["score_change"]), row["photo_id"])
    )


def exchanged_labels(first: FloatArray, second: FloatArray) -> dict[int, int]:
    """Find exchanged labels: the assignment of the second's predictions to the first's that agrees best.

    Returns:
        Second's label to first's, only those that differ; empty when no assignment agrees clearly better than the
        labels as they are.
    """
    classes = first.shape[1]
    together = np.zeros((classes, classes))
    np.add.at(together, (second.argmax(axis=1), first.argmax(axis=1)), 1)
    # A tenth of the photos is far beyond what two correct models of the same labels gain by any assignment.
    least = max(0.1 * len(first), 3)
    if together.max(axis=1).sum() - np.trace(together) < least:
        return {}
    # Late: importing scipy.optimize takes as long as 50 photos, and correct models do not come here.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-together)
    if together[rows, columns].sum() - np.trace(together) < least:
        return {}
    return {int(i): int(j) for i, j in zip(rows, columns, strict=True) if i != j and together[i, j] > 0}


def verdict(name: str, reference: str, pair: Mapping[str, Any], photos: int) -> str:
    """Make one sentence: difference in points with its interval, and the predictions that changed."""
    value, low, high = (100 * x for x in pair["difference"])
    difference = (
        f"{name}: {_points(value)} points of balanced accuracy against {reference} "
        f"(95 % CI {_points(low)} to {_points(high)})"
    )
    if told := indistinct(reference, pair["difference"], pair["mcnemar_p"]):
        difference += f", {told}"
    return (
        f"{difference}; {pair['answers_changed']:,} of {photos:,} predictions changed, {pair['for_the_worse']:,} to "
        f"wrong, {pair['for_the_better']:,} to right."
    )


def _points(value: float) -> str:
    text = f"{value:.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def _estimate(value: float, draws: FloatArray) -> list[float] | None:
    if np.isnan(value) or np.isnan(draws).all():
        return None
    return [float(value), *percentile_interval(draws)]
