"""Coverage of the intervals of train.evaluation.intervals: `python -m tests.benchmarks.interval_coverage`.

Simulated test sets of seven classes as unequal as those of a clinic: the first has as many lesions and as high a recall
as the row says. Photos of one lesion share their outcome in part (a lesion's own recall is Beta distributed around the
class's, intraclass correlation 0.5). The true value is known, so coverage is counted. The method was chosen on other
seeds (101 and 102). The rows are reference/interval_coverage.csv.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from train.evaluation.intervals import balanced_accuracy_estimate, recalls
from train.evaluation.metrics import GroupDraws, percentile_interval

RECORD = Path(__file__).parent / "reference" / "interval_coverage.csv"
COLUMNS = (
    "lesions", "others", "photos_a_lesion", "true_recall", "sets", "seed", "recall", "balanced_accuracy", "bootstrap",
)  # fmt: skip
LESIONS = (1, 3, 8, 10, 20, 40, 200)
TRUE_RECALL = (0.6, 0.8, 0.95)
CORRELATION = 0.5
OTHERS, THEIR_RECALL = (200, 40, 40, 100, 100, 40), (0.9, 0.7, 0.8, 0.75, 0.6, 0.85)
SEED, SETS = 2027, 2000
# The bootstrap is there for comparison.
DRAWS, BOOTSTRAPPED = 200, 400


def sample(
    rng: np.random.Generator, lesions: Sequence[int], recall: Sequence[float], most_photos: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and lesions of one simulated test set; 1 to `most_photos` photos a lesion."""
    label, true = np.repeat(np.arange(len(lesions)), lesions), np.repeat(recall, lesions)
    factor = 1 / CORRELATION - 1
    own = rng.beta(true * factor, (1 - true) * factor)
    of_photo = np.repeat(np.arange(len(label)), rng.integers(1, most_photos + 1, len(label)))
    hits = rng.random(len(of_photo)) < own[of_photo]
    y_true = label[of_photo]
    y_pred = np.where(hits, y_true, (y_true + 1) % max(len(lesions), 2))
    return y_true, y_pred, of_photo


def coverage(
    lesions: Sequence[int], recall: Sequence[float], sets: int, seed: int = 0, most_photos: int = 3
) -> tuple[float, float, float]:
    """Coverage of the first class's recall, of balanced accuracy, and of the latter's bootstrap within classes."""
    rng = np.random.default_rng(seed)
    classes = len(lesions)
    found = np.zeros(3)
    truth = float(np.mean(recall))
    for one in range(sets):
        y_true, y_pred, lesion = sample(rng, lesions, recall, most_photos)
        of_classes = recalls(y_true, y_pred, classes, lesion)
        first, whole = of_classes[0].estimate(), balanced_accuracy_estimate(of_classes)
        assert first is not None and whole is not None
        found[:2] += first.low <= recall[0] <= first.high, whole.low <= truth <= whole.high
        if one < BOOTSTRAPPED:
            draws = GroupDraws.draw(lesion.tolist(), y_true, repeats=DRAWS, seed=one)
            low, high = percentile_interval(draws.balanced_accuracy(y_true, y_pred, classes))
            found[2] += low <= truth <= high
    a, b, c = found / (sets, sets, min(sets, BOOTSTRAPPED))
    return float(a), float(b), float(c)


def cases() -> Iterator[tuple[str, int, float, list[int], list[float]]]:
    """Name of the other classes, photos a lesion, true recall of the first class; lesions and recall of all."""
    for photos in (3, 1):
        for count in LESIONS:
            for true in TRUE_RECALL:
                yield "40 to 200", photos, true, [count, *OTHERS], [true, *THEIR_RECALL]
        for count in (3, 10, 20, 40):
            for true in TRUE_RECALL:
                yield "the same", photos, true, [count] * 7, [true] * 7
        yield "3 to 200", photos, 0.8, [1, 3, 8, 40, 200], [0.8, 0.6, 0.7, 0.75, 0.9]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the rows of the record."""
    parser = argparse.ArgumentParser(description="Measure the coverage of intervals on simulated test sets.")
    parser.add_argument("--sets", type=int, default=SETS, help=f"simulated test sets a row (default: {SETS})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the first row (default: {SEED})")
    arguments = parser.parse_args(argv)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(COLUMNS)
    for row, (others, photos, true, lesions, recall) in enumerate(cases()):
        seed = arguments.seed + row
        found = coverage(lesions, recall, arguments.sets, seed, photos)
        named = "1 to 3" if photos > 1 else "1"
        figures = [f"{value:.3f}" for value in found]
        table.writerow([lesions[0], others, named, true, arguments.sets, seed, *figures])
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
