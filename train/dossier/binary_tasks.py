"""The paper's two questions, asked of out-of-fold answers: curves, operating points, dermatologists. numpy.

A question is about two nodes of the taxonomy, and only their photos are asked about, as the readers knew that it was
one or the other. The score is the positive node's share of both: P+ / (P+ + P-), fixed before any figure was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.errors import DataInvalid
from train.dossier.reader_tests import BIOPSY, DIAGNOSIS, Question, ReaderTest
from train.evaluation.metrics import Estimate, FloatArray
from train.evaluation.out_of_fold import Answers
from train.evaluation.roc import (
    BoolArray,
    Curve,
    OperatingPoint,
    above_reader,
    make_curve,
    operating_point,
    readers_under,
    threshold_for_sensitivity,
    youden_threshold,
)
from train.taxonomy.partition import TrainingClass, label_classes, node_probabilities
from train.taxonomy.tree import Taxonomy

# A quantized file's scores have steps of 1/256; where both sides are 0 it has no opinion, which is a half.
HALF_STEP = 1 / 512
# Finds nearly all, as a screening would want it.
HIGH_SENSITIVITY = 0.95


@dataclass(frozen=True)
class Against:
    """A model's curve against one test's dermatologists."""

    test: ReaderTest
    above_mean: Estimate
    """Sensitivity of the curve at the readers' mean specificity, less their mean sensitivity."""
    share_under: Estimate
    """Of the readers, below the curve at their own specificity."""


@dataclass(frozen=True)
class BinaryResult:
    """One model, one question, one data set."""

    question: Question
    model: str
    source: str
    photos_of: Mapping[str, int]
    """Label to photos, of both sides."""
    curve: Curve
    against: tuple[Against, ...]
    points: tuple[OperatingPoint, ...]
    """Empty where there are too few folds."""


def data_set_of(taxonomy: Taxonomy, codes: Sequence[str]) -> str:
    """The data set whose labels the codes are.

    Raises:
        DataInvalid: None of those that the taxonomy maps.
    """
    for name, labels in taxonomy.labels.items():
        if set(labels) == set(codes):
            return name
    raise DataInvalid(
        f"taxonomy {taxonomy.name} does not know these labels",
        found=", ".join(codes),
        expected="; ".join(f"{name}: {', '.join(labels)}" for name, labels in taxonomy.labels.items()),
        fix="add a [labels.NAME] table with them",
    )


def side_scores(
    answers: Answers, taxonomy: Taxonomy, positive: str, negative: str
) -> tuple[BoolArray, BoolArray, FloatArray]:
    """Which photos a question is about, on which side they are, and how the model answers it.

    Args:
        answers: Any.
        taxonomy: Knows the labels.
        positive: Node that is looked for.
        negative: Node that it is told from.

    Returns:
        inside [photos]; then of those inside: positive [n], score [n] in [0, 1].
    """
    data_set = data_set_of(taxonomy, answers.codes)
    sums = node_probabilities(
        taxonomy, _classes(taxonomy, data_set, answers), answers.probs, (positive, negative)
    )
    nodes = [taxonomy.node_of(data_set, code) for code in answers.codes]
    of_node = [
        np.array([node in taxonomy.descendants(side) for node in nodes]) for side in (positive, negative)
    ]
    inside = (of_node[0] | of_node[1])[answers.y_true]
    score = (sums[:, 0] + HALF_STEP) / (sums.sum(axis=1) + 2 * HALF_STEP)
    return inside, of_node[0][answers.y_true][inside], score[inside]


def _classes(taxonomy: Taxonomy, data_set: str, answers: Answers) -> tuple[TrainingClass, ...]:
    return label_classes(taxonomy, data_set, answers.codes)


def ask(
    answers: Answers,
    taxonomy: Taxonomy,
    question: Question,
    tests: Mapping[tuple[str, str], ReaderTest],
    *,
    narrow: bool = False,
    repeats: int = 1000,
) -> BinaryResult | None:
    """One question to one model about the photos of one data set.

    Args:
        answers: Of one data set.
        taxonomy: Its tree.
        question: Which.
        tests: The dermatologists; those of other questions are ignored, and there may be none.
        narrow: With the question's narrow node as the positive side.
        repeats: Bootstrap draws.

    Returns:
        None where a side has no photo.
    """
    looked_for = question.narrow if narrow and question.narrow else question.positive
    inside, positive, score = side_scores(answers, taxonomy, looked_for, question.negative)
    if positive.all() or not positive.any():
        return None
    asked = answers.where(inside)
    own = [
        test
        for code in question.tests
        for decision in (DIAGNOSIS, BIOPSY)
        if (test := tests.get((code, decision))) is not None
    ]
    places = np.array([s for test in own for s in (test.mean[1], *test.points[:, 1].tolist())])
    curve = make_curve(positive, score, asked.groups, specificities=places, repeats=repeats)
    against = tuple(
        Against(test, above_reader(curve, *test.mean), readers_under(curve, test.points)) for test in own
    )
    return BinaryResult(
        question=question,
        model=answers.model,
        source=asked.sources[0],
        photos_of={
            code: int((asked.y_true == i).sum()) for i, code in enumerate(asked.codes) if i in asked.y_true
        },
        curve=curve,
        against=against,
        points=_points(curve, asked, against),
    )


def _points(curve: Curve, asked: Answers, against: Sequence[Against]) -> tuple[OperatingPoint, ...]:
    rules = {
        "largest sum of both (Youden)": youden_threshold,
        f"sensitivity {HIGH_SENSITIVITY:g}": threshold_for_sensitivity(HIGH_SENSITIVITY),
    }
    if against:
        target = against[0].test.mean[0]
        name = f"the readers' mean sensitivity, {target:.3f}"
        rules = {name: threshold_for_sensitivity(target)} | rules
    found = (operating_point(name, rule, curve, asked.folds) for name, rule in rules.items())
    return tuple(point for point in found if point is not None)
