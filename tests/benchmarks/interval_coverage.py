"""Coverage of the intervals of train.evaluation.intervals: `python -m tests.benchmarks.interval_coverage`.

Simulated test sets: each class has a true recall, each lesion one to three photos, and photos of one lesion share their
outcome in part (a lesion's own recall is Beta distributed around the class's, intraclass correlation 0.5). The true
value is known, so coverage is counted.
"""

from __future__ import annotations

import argparse

import numpy as np

from train.evaluation.intervals import balanced_accuracy_estimate, recalls
from train.evaluation.metrics import GroupDraws, percentile_interval

LESIONS = (1, 3, 8, 40, 200)
TRUE_RECALL = (0.6, 0.8, 0.95)
CORRELATION = 0.5


def sample(
    rng: np.random.Generator, lesions: list[int], recall: list[float]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels, predictions and lesion names of one simulated test set."""
    labels: list[int] = []
    hits: list[bool] = []
    names: list[str] = []
    factor = 1 / CORRELATION - 1
    for index, (count, true) in enumerate(zip(lesions, recall, strict=True)):
        for lesion in range(count):
            own = rng.beta(true * factor, (1 - true) * factor)
            photos = int(rng.integers(1, 4))
            labels += [index] * photos
            hits += list(rng.random(photos) < own)
            names += [f"{index}-{lesion}"] * photos
    y_true = np.array(labels)
    y_pred = np.where(hits, y_true, (y_true + 1) % max(len(lesions), 2))
    return y_true, y_pred, names


def coverage(
    lesions: list[int], recall: list[float], repeats: int, seed: int = 0
) -> tuple[float, float, float]:
    """Coverage of the first class's recall, of balanced accuracy, and of the latter's bootstrap within classes."""
    rng = np.random.default_rng(seed)
    classes = len(lesions)
    found = np.zeros(3)
    truth = float(np.mean(recall))
    for repeat in range(repeats):
        y_true, y_pred, names = sample(rng, lesions, recall)
        of_classes = recalls(y_true, y_pred, classes, names)
        first = of_classes[0].estimate()
        whole = balanced_accuracy_estimate(of_classes, seed=repeat)
        draws = GroupDraws.draw(names, y_true, repeats=200, seed=repeat)
        low, high = percentile_interval(draws.balanced_accuracy(y_true, y_pred, classes))
        assert first is not None and whole is not None
        found += [
            first.low <= recall[0] <= first.high,
            whole.low <= truth <= whole.high,
            low <= truth <= high,
        ]
    a, b, c = found / repeats
    return float(a), float(b), float(c)


def main(argv: list[str] | None = None) -> int:
    """Prints a table of coverages."""
    parser = argparse.ArgumentParser(description="Measure the coverage of intervals on simulated test sets.")
    parser.add_argument("--repeats", type=int, default=2000, help="simulated test sets a row (default: 2000)")
    arguments = parser.parse_args(argv)
    print(
        "lesions of the class | true recall | recall | balanced accuracy of 7 classes | bootstrap within classes"
    )
    for count in LESIONS:
        for true in TRUE_RECALL:
            # Seven classes as unequal as those of a clinic: the first has `count` lesions.
            lesions, recall = [count, 200, 40, 40, 100, 100, 40], [true, 0.9, 0.7, 0.8, 0.75, 0.6, 0.85]
            row = coverage(lesions, recall, arguments.repeats)
            print(f"{count:5} | {true:.2f} | " + " | ".join(f"{value:.3f}" for value in row))
    lesions, recall = [1, 3, 8, 40, 200], [0.8, 0.6, 0.7, 0.75, 0.9]
    print(
        "1, 3, 8, 40, 200 together |",
        " | ".join(f"{v:.3f}" for v in coverage(lesions, recall, arguments.repeats)),
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
