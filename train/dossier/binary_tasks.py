"""The paper's two binary tasks on out-of-fold predictions: curves, operating points, dermatologists. numpy.

A task is about two nodes of the taxonomy and evaluated on their photos alone, since the readers knew that it was one or
the other. The score is the positive node's share of both: P+ / (P+ + P-), fixed before any figure was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.errors import DataInvalid
from train.dossier.dermatologists import BIOPSY, DIAGNOSIS, Question, ReaderTest
from train.evaluation.metrics import Estimate, FloatArray
from train.evaluation.out_of_fold import FLOAT, Answers
from train.evaluation.roc import (
    BoolArray,
    Curve,
    OperatingPoint,
    above_readers,
    auc_difference,
    make_curve,
    operating_point,
    readers_under,
    sensitivity_of,
    threshold_for_sensitivity,
    youden_threshold,
)
from train.reports import charts
from train.reports.html import Figure
from train.taxonomy.partition import label_classes, node_probabilities
from train.taxonomy.tree import Taxonomy

# A quantized file's scores have steps of 1/256; where both sides are 0 the score is a half.
HALF_STEP = 1 / 512
# A sensitivity for screening.
HIGH_SENSITIVITY = 0.95
# Line of each model: colour and, for the colour-blind, dashes.
LINES = ("first", "second broken")
MARKS = [
    ("dermatologist, diagnosis", "circle"),
    ("dermatologist, whether to biopsy", "ring"),
    ("mean dermatologist, diagnosis", "cross"),
]


@dataclass(frozen=True)
class Against:
    """A model's curve against one test's dermatologists."""

    test: ReaderTest
    reached: Estimate
    """Sensitivity of the curve at the readers' mean specificity."""
    above_mean: Estimate
    """Sensitivity of the curve at the readers' mean specificity, less their mean sensitivity."""
    share_under: Estimate
    """Of the readers, below the curve at their own specificity."""


@dataclass(frozen=True)
class BinaryResult:
    """One model on one task and one dataset."""

    question: Question
    model: str
    source: str
    photos_of: Mapping[str, int]
    """Label to photos, of both sides."""
    curve: Curve
    against: tuple[Against, ...]
    points: tuple[OperatingPoint, ...]
    """Empty where there are too few folds."""


def shown_name(model: str) -> str:
    """Return `float`, or `int8_qat file`."""
    return model if model == FLOAT else f"{model} file"


def data_set_of(taxonomy: Taxonomy, codes: Sequence[str]) -> str:
    """Find the dataset whose labels the codes are.

    Raises:
        DataInvalid: None of those that the taxonomy maps.
    """
    for name, labels in taxonomy.labels.items():
        if set(labels) == set(codes):
            return name
    raise DataInvalid(
        "unknown labels", where=f"taxonomy {taxonomy.name}", found=", ".join(codes),
        expected="; ".join(f"{name}: {', '.join(labels)}" for name, labels in taxonomy.labels.items()),
        fix="Add a [labels.NAME] table with them",
    )  # fmt: skip


def side_scores(
    answers: Answers, taxonomy: Taxonomy, positive: str, negative: str
) -> tuple[BoolArray, BoolArray, FloatArray]:
    """Select the photos of a task between two nodes and score them.

    Returns:
        inside [photos]; then of those inside: positive [n], score [n] in [0, 1].
    """
    data_set = data_set_of(taxonomy, answers.codes)
    classes = label_classes(taxonomy, data_set, answers.codes)
    sums = node_probabilities(taxonomy, classes, answers.probs, (positive, negative))
    nodes = [taxonomy.node_of(data_set, code) for code in answers.codes]
    of_node = [
        np.array([node in taxonomy.descendants(side) for node in nodes]) for side in (positive, negative)
    ]
    inside = (of_node[0] | of_node[1])[answers.y_true]
    score = (sums[:, 0] + HALF_STEP) / (sums.sum(axis=1) + 2 * HALF_STEP)
    return inside, of_node[0][answers.y_true][inside], score[inside]


def evaluate_task(
    answers: Answers,
    taxonomy: Taxonomy,
    question: Question,
    tests: Mapping[tuple[str, str], ReaderTest],
    *,
    narrow: bool = False,
    repeats: int = 1000,
) -> BinaryResult | None:
    """Evaluate one model's predictions on one task and one dataset; None where a side has no photo.

    Args:
        answers: The predictions.
        taxonomy: Its tree.
        question: The task.
        tests: The dermatologists; those of other tasks are ignored, and there may be none.
        narrow: Whether the task's narrow node is the positive side.
        repeats: Bootstrap draws.
    """
    node = question.narrow if narrow and question.narrow else question.positive
    inside, positive, score = side_scores(answers, taxonomy, node, question.negative)
    if positive.all() or not positive.any():
        return None
    chosen = answers.where(inside)
    named = [(code, decision) for code in question.tests for decision in (DIAGNOSIS, BIOPSY)]
    own = [tests[name] for name in named if name in tests]
    places = np.array([s for test in own for s in (test.mean[1], *test.points[:, 1].tolist())])
    curve = make_curve(positive, score, chosen.groups, specificities=places, repeats=repeats)
    against = tuple(
        Against(
            test,
            sensitivity_of(curve, test.mean[1]),
            above_readers(curve, test.points, test.seen),
            readers_under(curve, test.points),
        )
        for test in own
    )
    return BinaryResult(
        question=question,
        model=answers.model,
        source=chosen.sources[0],
        photos_of={
            chosen.codes[i]: int(count) for i, count in enumerate(np.bincount(chosen.y_true)) if count
        },
        curve=curve,
        against=against,
        points=_points(curve, chosen, against),
    )


def _points(curve: Curve, chosen: Answers, against: Sequence[Against]) -> tuple[OperatingPoint, ...]:
    rules = {
        "largest sum of both (Youden)": youden_threshold,
        f"sensitivity {HIGH_SENSITIVITY:g}": threshold_for_sensitivity(HIGH_SENSITIVITY),
    }
    if against:
        target = against[0].test.mean[0]
        name = f"the readers' mean sensitivity, {target:.3f}"
        rules = {name: threshold_for_sensitivity(target)} | rules
    found = (operating_point(name, rule, curve, chosen.folds) for name, rule in rules.items())
    return tuple(point for point in found if point is not None)


def reader_claim(differences: Sequence[Estimate]) -> str:
    """Return what the differences to the mean reader, on histology photos and on all photos, show alike."""
    for side, sign in (("above", 1), ("below", -1)):
        if len(differences) > 1 and all(min(sign * d.low, sign * d.high) > 0 for d in differences):
            return f"On both sets of photos the curve lies {side} the mean reader, with its whole interval."
    return "Nothing follows: histology photos and all photos do not show the same side with their whole intervals."


# ------------------------------------------------------------------ charts


def legend(results: Sequence[BinaryResult]) -> list[tuple[str, str]]:
    """Name the lines and marks of the charts, each with its class."""
    lines = zip(results, LINES, strict=False)
    entries = [(f"{shown_name(result.model)} (pale: 95 %)", line) for result, line in lines]
    return entries + MARKS if results[0].against else entries


def task_charts(results: Sequence[BinaryResult]) -> list[Figure]:
    """Draw the curves of one task: once for each test of readers, or once without readers."""
    codes = dict.fromkeys(against.test.code for against in results[0].against)
    return [_chart(results, code) for code in codes or (None,)]


def auc_differences(results: Sequence[BinaryResult]) -> list[Estimate | None]:
    """Subtract the first model's AUC from each model's, paired; None where photos differ, and for the first."""
    first = results[0].curve
    return [None] + [
        auc_difference(first, result.curve) if len(result.curve.score) == len(first.score) else None
        for result in results[1:]
    ]


def _chart(results: Sequence[BinaryResult], code: str | None) -> Figure:
    tests = [against.test for against in results[0].against if against.test.code == code]
    areas = "; ".join(f"{shown_name(r.model)} AUC {r.curve.auc.value:.3f}" for r in results)
    description = f"{results[0].question.title}: sensitivity over specificity. {areas}."
    title, caption = "Curves", ""
    if tests:
        name, (sensitivity, specificity) = tests[0].title, tests[0].mean
        mean = f"mean sensitivity {sensitivity:.3f} at mean specificity {specificity:.3f}"
        description += f" Dermatologists on {name}: {mean}."
        numbers = " and ".join(f"{len(test.points)} ({test.decision})" for test in tests)
        title = f"Against readers of {name}"
        caption = f"Readers: {numbers}; photos of the paper's own test, {name}."
    axes = charts.unit_axis("specificity"), charts.unit_axis("sensitivity")
    plot = charts.Plot(description, *axes, height=300)
    for result, line in zip(results, LINES, strict=False):
        plot.band(result.curve.specificity, *result.curve.band, line.split(" ")[0])
    for result, line in zip(results, LINES, strict=False):
        plot.line(result.curve.specificity, result.curve.sensitivity, line)
    for test in tests:
        _mark_readers(plot, test)
    return Figure(plot.svg(), caption, title)


def _mark_readers(plot: charts.Plot, test: ReaderTest) -> None:
    shape = "circle" if test.decision == DIAGNOSIS else "ring"
    titles = [f"{test.decision}: sensitivity {s:.3f}, specificity {p:.3f}" for s, p in test.points]
    plot.marks(test.points[:, 1], test.points[:, 0], shape, "plain", titles=titles)
    if test.decision == DIAGNOSIS:
        sensitivity, specificity = test.mean
        title = f"mean of {len(test.points)}: sensitivity {sensitivity:.3f}, specificity {specificity:.3f}"
        plot.marks([specificity], [sensitivity], "cross", "second", titles=[title])
