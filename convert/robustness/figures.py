"""Metrics of a robustness report from the scores of disturbed photos; README.md describes them. numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convert.comparison.report import Measured
from convert.comparison.statistics import Truth
from convert.inputs import ALL, Photo, draw_photos
from convert.quantization.calibration import take_turns
from convert.robustness.disturbances import DISTURBANCES, steps
from train.evaluation.metrics import UNKNOWN, IntArray
from train.evaluation.subgroups import LEAST_LESIONS


def choose_evenly(photos: Sequence[Photo], limit: int, seed: int) -> tuple[Photo, ...]:
    """Draw at most `limit` photos at random, the same number of each class as far as there are.

    Balanced accuracy weighs classes alike, so its interval is narrowest when the photos are spread alike.
    """
    shuffled = draw_photos(photos, None, seed)[::-1]
    labels = sorted({photo.label for photo in photos})
    return take_turns([[photo for photo in shuffled if photo.label == label] for label in labels], limit)


def disturbance_figures(measured: Measured, codes: Sequence[str]) -> list[dict[str, Any]]:
    """Make the report's `disturbances` from at least one photo's scores, undisturbed and at every step of `steps()`."""
    truth, predicted = _predicted(measured, codes)
    place = {step: number for number, step in enumerate(steps(), start=1)}
    disturbances = []
    for name, disturbance in DISTURBANCES.items():
        points = []
        for strength in disturbance.strengths:
            version = place[name, strength] if strength != 0 else 0
            hashes = "".join(result.pixels_sha256[version] for _, result in measured.answered)
            points.append(
                {
                    "strength": strength,
                    "pixels_sha256": hashlib.sha256(hashes.encode()).hexdigest(),
                    "models": [_figures(truth, predicted, version, k) for k in range(predicted.shape[1])],
                }
            )
        disturbances.append({"name": name, "unit": disturbance.unit, "points": points})
    return disturbances


def _predicted(measured: Measured, codes: Sequence[str]) -> tuple[Truth, IntArray]:
    """The readable photos, and [versions, models, photos] predicted labels."""
    photos, results = zip(*measured.answered, strict=True)
    labels = [[[np.argmax(scores) for scores in version] for version in result.scores] for result in results]
    return Truth.of(photos, codes), np.array(labels, np.int64).transpose(1, 2, 0)


def _figures(truth: Truth, predicted: IntArray, version: int, model: int) -> dict[str, Any]:
    now, undisturbed = predicted[version, model], predicted[0, model]
    return {
        "balanced_accuracy": truth.balanced(now),
        "change": truth.change(undisturbed, now),
        "agreement": truth.agreement(undisturbed, now),
        "with_first": truth.agreement(predicted[version, 0], now),
    }


def shift_rows(measured: Measured, values: Mapping[str, str], codes: Sequence[str]) -> list[dict[str, Any]]:
    """Make the report's rows of other photos, at least one, undisturbed: all of them, then by value.

    Values are by photo_id; where there are none, there is one row.
    """
    every, (predicted,) = _predicted(measured, codes)
    of_photo = np.array([values.get(photo.photo_id) or UNKNOWN for photo in every.photos])
    rows = []
    for value in (ALL, *(sorted(set(of_photo.tolist())) if values else ())):
        inside = (of_photo == value) | (value == ALL)
        truth = every.among(inside)
        # Of fewer lesions an interval says little; the row says how many there are.
        shown = value == ALL or truth.lesions >= LEAST_LESIONS
        first = predicted[0][inside]
        rows.append(
            {
                "value": value,
                "photos": int(inside.sum()),
                "lesions": truth.lesions,
                "classes": len(set(truth.labels.tolist())),
                "models": [
                    {
                        "balanced_accuracy": truth.balanced(of_model[inside]) if shown else None,
                        "with_first": truth.agreement(first, of_model[inside]) if shown else None,
                    }
                    for of_model in predicted
                ],
            }
        )
    return rows


def counts(measured: Measured, codes: Sequence[str], total: str) -> dict[str, Any]:
    """Count readable photos, as `total`, their lesions, and those of each class; say why others failed."""
    photos = [photo for photo, _ in measured.answered]
    return {
        total: len(photos),
        "lesions": len({photo.group_id for photo in photos}),
        "per_class": {code: sum(photo.label == i for photo in photos) for i, code in enumerate(codes)},
        "failures": measured.failures,
    }
