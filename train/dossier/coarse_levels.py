"""Three-way and nine-way validation: a network's label scores summed up the tree, out of fold. numpy, scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import confusion_matrix

from train.dossier.binary_tasks import data_set_of
from train.evaluation.metrics import Estimate, GroupDraws, IntArray, balanced_accuracy, percentile_interval
from train.evaluation.out_of_fold import Answers
from train.taxonomy.partition import label_classes, node_probabilities
from train.taxonomy.tree import Taxonomy


@dataclass(frozen=True)
class LevelResult:
    """One model's answers at one depth of the tree, as far as its nodes occur."""

    model: str
    depth: int
    nodes: tuple[str, ...]
    """That have photos."""
    absent: tuple[str, ...]
    """Of the same depth, without a photo: never the truth, never an answer."""
    photos: int
    groups: int
    balanced_accuracy: Estimate
    accuracy: Estimate
    by_fold: tuple[float, ...]
    """Balanced accuracy of each fold."""
    confusion: tuple[tuple[int, ...], ...]
    """[nodes][nodes], truth in rows."""

    @property
    def spread(self) -> tuple[float, float] | None:
        """Mean and standard deviation over folds, as the paper gives them; None of one fold."""
        if len(self.by_fold) < 2:
            return None
        return float(np.mean(self.by_fold)), float(np.std(self.by_fold, ddof=1))


def level_result(answers: Answers, taxonomy: Taxonomy, depth: int, *, repeats: int = 1000) -> LevelResult:
    """Sums a model's scores to the nodes of a depth, and counts its answers there.

    Args:
        answers: Of one data set.
        taxonomy: Knows the labels.
        depth: 1 for the roots, 2 for the nodes below them.
        repeats: Bootstrap draws of whole groups.
    """
    data_set = data_set_of(taxonomy, answers.codes)
    above = [taxonomy.ancestor(taxonomy.node_of(data_set, code), depth) for code in answers.codes]
    occurring = {above[y] for y in answers.y_true}
    every = taxonomy.level(depth)
    nodes = tuple(node for node in every if node in occurring)
    classes = label_classes(taxonomy, data_set, answers.codes)
    y_pred = node_probabilities(taxonomy, classes, answers.probs, nodes).argmax(axis=1).astype(np.int64)
    y_true: IntArray = np.array([nodes.index(above[y]) for y in answers.y_true], np.int64)
    draws = GroupDraws.draw(answers.groups, repeats=repeats)
    count = len(nodes)
    right = y_true == y_pred
    return LevelResult(
        model=answers.model,
        depth=depth,
        nodes=nodes,
        absent=tuple(node for node in every if node not in occurring),
        photos=len(y_true),
        groups=len(set(answers.groups)),
        balanced_accuracy=Estimate(
            balanced_accuracy(y_true, y_pred, count),
            *percentile_interval(draws.balanced_accuracy(y_true, y_pred, count)),
        ),
        accuracy=Estimate(float(right.mean()), *percentile_interval(draws.mean(right))),
        by_fold=tuple(_by_fold(answers, y_true, y_pred, count)),
        confusion=tuple(tuple(row) for row in confusion_matrix(y_true, y_pred, labels=range(count)).tolist()),
    )


def _by_fold(answers: Answers, y_true: IntArray, y_pred: IntArray, count: int) -> Sequence[float]:
    folds = [answers.folds == fold for fold in answers.fold_numbers]
    return [balanced_accuracy(y_true[inside], y_pred[inside], count) for inside in folds]
