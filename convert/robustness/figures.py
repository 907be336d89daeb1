"""From answers to disturbed photos to the figures of a robustness report, which `robustness.py` describes. numpy."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.comparison.statistics import LEAST_LESIONS, REPEATS
from convert.inputs import Photo
from convert.robustness.answers import Answers, Step
from convert.robustness.disturbances import DISTURBANCES
from train.evaluation.metrics import (
    UNKNOWN,
    GroupDraws,
    IntArray,
    balanced_accuracy,
    percentile_interval,
)

ALL = "all"


def choose_evenly(photos: Sequence[Photo], limit: int, seed: int) -> tuple[Photo, ...]:
    """At most `limit` photos, as many of each class as there are until all have the same number; drawn at random.

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


@dataclass(frozen=True)
class Truth:
    """The photos that were answered."""

    labels: IntArray
    """[n]."""
    classes: int
    draws: GroupDraws

    @classmethod
    def of(cls, photos: Sequence[Photo], classes: int) -> Truth:
        """Photos, with their lesions drawn."""
        labels = np.array([photo.label for photo in photos], np.int64)
        return cls(labels, classes, GroupDraws.draw([photo.group_id for photo in photos], repeats=REPEATS))

    @property
    def lesions(self) -> int:
        """Number of different ones."""
        return int(self.draws.counts.shape[1])

    def balanced(self, answers: IntArray) -> list[float]:
        """Balanced accuracy of [n] answers, with its interval."""
        value = balanced_accuracy(self.labels, answers, self.classes)
        return [
            value,
            *percentile_interval(self.draws.balanced_accuracy(self.labels, answers, self.classes)),
        ]

    def change(self, before: IntArray, after: IntArray) -> list[float]:
        """Balanced accuracy of `after` less that of `before`, on the same draws."""
        values = [balanced_accuracy(self.labels, x, self.classes) for x in (before, after)]
        drawn = [self.draws.balanced_accuracy(self.labels, x, self.classes) for x in (before, after)]
        return [values[1] - values[0], *percentile_interval(drawn[1] - drawn[0])]

    def agreement(self, one: IntArray, other: IntArray) -> list[float]:
        """Mean over true classes of the share of equal answers."""
        # A photo counts as answered rightly where both answers are equal: then this is a balanced accuracy.
        return self.balanced(np.where(one == other, self.labels, (self.labels + 1) % self.classes))


def disturbance_figures(
    photos: Sequence[Photo], answers: Sequence[Answers], wanted: Sequence[Step], classes: int
) -> list[dict[str, Any]]:
    """The report's `disturbances`.

    Args:
        photos: Answered, at least one.
        answers: Theirs, with all versions.
        wanted: The versions behind the undisturbed one.
        classes: Number of labels.
    """
    truth = Truth.of(photos, classes)
    # [versions, models, photos]
    said = np.array([[[np.argmax(scores) for scores in row] for row in one.scores] for one in answers])
    said = said.transpose(1, 2, 0).astype(np.int64)
    place = {step: number for number, step in enumerate(wanted, start=1)}
    disturbances = []
    for name, disturbance in DISTURBANCES.items():
        points = []
        for strength in disturbance.strengths:
            version = place[name, strength] if strength != 0 else 0
            hashes = "".join(one.pixels_sha256[version] for one in answers)
            points.append(
                {
                    "strength": strength,
                    "pixels_sha256": hashlib.sha256(hashes.encode()).hexdigest(),
                    "models": [_figures(truth, said, version, k) for k in range(said.shape[1])],
                }
            )
        disturbances.append({"name": name, "unit": disturbance.unit, "points": points})
    return disturbances


def _figures(truth: Truth, said: IntArray, version: int, model: int) -> dict[str, Any]:
    answers, undisturbed = said[version, model], said[0, model]
    return {
        "balanced_accuracy": truth.balanced(answers),
        "change": truth.change(undisturbed, answers),
        "agreement": truth.agreement(undisturbed, answers),
        "with_first": truth.agreement(said[version, 0], answers),
    }


def shift_rows(
    photos: Sequence[Photo], answers: Sequence[Answers], values: Mapping[str, str], classes: int
) -> list[dict[str, Any]]:
    """The report's rows of other photos: all of them, then by value.

    Args:
        photos: Answered, at least one.
        answers: Theirs, of the undisturbed photo alone.
        values: photo_id to value; empty to give no further row.
        classes: Number of labels.
    """
    said = np.array([[np.argmax(scores) for scores in one.scores[0]] for one in answers], np.int64).T
    of_photo = [values.get(photo.photo_id) or UNKNOWN for photo in photos]
    rows = []
    for value in (ALL, *(sorted(set(of_photo)) if values else ())):
        inside = np.array([value in (ALL, other) for other in of_photo])
        truth = Truth.of([p for p, is_in in zip(photos, inside, strict=True) if is_in], classes)
        # Of fewer lesions an interval says little; the row says how many there are.
        told = value == ALL or truth.lesions >= LEAST_LESIONS
        rows.append(
            {
                "value": value,
                "photos": int(inside.sum()),
                "lesions": truth.lesions,
                "classes": len(set(truth.labels.tolist())),
                "models": [
                    {
                        "balanced_accuracy": truth.balanced(answered[inside]) if told else None,
                        "with_first": truth.agreement(said[0][inside], answered[inside]) if told else None,
                    }
                    for answered in said
                ],
            }
        )
    return rows


def counts(photos: Sequence[Photo], codes: Sequence[str]) -> dict[str, Any]:
    """Lesions, and photos of each class."""
    per_class = {code: sum(photo.label == i for photo in photos) for i, code in enumerate(codes)}
    return {"lesions": len({photo.group_id for photo in photos}), "per_class": per_class}
