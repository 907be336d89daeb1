"""Metrics of a robustness report from the scores of disturbed photos; study.py describes them. numpy."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convert.comparison.statistics import Truth
from convert.comparison.workers import PhotoScores
from convert.inputs import ALL, Photo
from convert.robustness.disturbances import DISTURBANCES, steps
from train.evaluation.metrics import UNKNOWN, IntArray
from train.evaluation.subgroups import LEAST_LESIONS


def choose_evenly(photos: Sequence[Photo], limit: int, seed: int) -> tuple[Photo, ...]:
    """Draw at most `limit` photos at random, the same number of each class as far as there are.

    Balanced accuracy weighs classes alike, so its interval is narrowest when the photos are spread alike.
    """
    shuffled = list(photos)
    random.Random(seed).shuffle(shuffled)
    waiting: dict[int, list[Photo]] = defaultdict(list)
    for photo in shuffled:
        waiting[photo.label].append(photo)
    chosen: list[Photo] = []
    while len(chosen) < limit and any(waiting.values()):
        for label in sorted(waiting):
            if waiting[label] and len(chosen) < limit:
                chosen.append(waiting[label].pop())
    return tuple(chosen)


def disturbance_figures(
    photos: Sequence[Photo], results: Sequence[PhotoScores], codes: Sequence[str]
) -> list[dict[str, Any]]:
    """Make the report's `disturbances` from at least one photo's scores, undisturbed and at every step of `steps()`."""
    truth = Truth.of(photos, codes)
    predicted = _predicted(results)
    place = {step: number for number, step in enumerate(steps(), start=1)}
    disturbances = []
    for name, disturbance in DISTURBANCES.items():
        points = []
        for strength in disturbance.strengths:
            version = place[name, strength] if strength != 0 else 0
            hashes = "".join(result.pixels_sha256[version] for result in results)
            points.append(
                {
                    "strength": strength,
                    "pixels_sha256": hashlib.sha256(hashes.encode()).hexdigest(),
                    "models": [_figures(truth, predicted, version, k) for k in range(predicted.shape[1])],
                }
            )
        disturbances.append({"name": name, "unit": disturbance.unit, "points": points})
    return disturbances


def _predicted(results: Sequence[PhotoScores]) -> IntArray:
    """[versions, models, photos] predicted labels."""
    labels = [[[np.argmax(scores) for scores in version] for version in result.scores] for result in results]
    return np.array(labels, np.int64).transpose(1, 2, 0)


def _figures(truth: Truth, predicted: IntArray, version: int, model: int) -> dict[str, Any]:
    now, undisturbed = predicted[version, model], predicted[0, model]
    return {
        "balanced_accuracy": truth.balanced(now),
        "change": truth.change(undisturbed, now),
        "agreement": truth.agreement(undisturbed, now),
        "with_first": truth.agreement(predicted[version, 0], now),
    }


def shift_rows(
    photos: Sequence[Photo], results: Sequence[PhotoScores], values: Mapping[str, str], codes: Sequence[str]
) -> list[dict[str, Any]]:
    """Make the report's rows of other photos, at least one, undisturbed: all of them, then by value.

    Values are by photo_id; where there are none, there is one row.
    """
    (predicted,) = _predicted(results)
    every = Truth.of(photos, codes)
    of_photo = np.array([values.get(photo.photo_id) or UNKNOWN for photo in photos])
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


def counts(photos: Sequence[Photo], codes: Sequence[str]) -> dict[str, Any]:
    """Count lesions, and photos of each class."""
    per_class = {code: sum(photo.label == i for photo in photos) for i, code in enumerate(codes)}
    return {"lesions": len({photo.group_id for photo in photos}), "per_class": per_class}
