"""Selection marks: what was chosen on a set of photos, whose figures are then optimistic. stdlib only.

Whoever measures photos writes `selection` beside their figures in metrics.json: what was chosen on them, `[]` for
nothing. A converted model's .json has the same for the photos that took part in choosing it, with their photo_ids.
Reports, comparisons, evaluations, cards and the evidence report print `mark` beside the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from train.artifacts.files import read_object

KEY = "selection"
TITLE = "Selection set"
OLD_VALIDATION = ("the checkpoint", "the temperature", "the thresholds")
"""Of the validation split of a run that is older than the mark."""


def mark(choices: Sequence[str], photos: str = "these photos") -> str:
    """Return `Selection set: the checkpoint and the temperature were chosen on these photos.`; nothing without them."""
    if not choices:
        return ""
    listed = " and ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))
    return f"{TITLE}: {listed} {'were' if len(choices) > 1 else 'was'} chosen on {photos}."


def choices_on(folder: Path, split: str = "") -> tuple[str, ...]:
    """Read what was chosen on a run's split or, without one, on the out-of-fold photos of a cross-validation.

    A validation split whose figures do not say it is marked all the same.
    """
    path = folder / "metrics.json"
    metrics = read_object(path) if path.is_file() else {}
    figures = metrics.get(split, {}) if split else metrics
    return tuple(map(str, figures.get(KEY, OLD_VALIDATION if split == "val" else ())))
