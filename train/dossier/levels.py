"""The tree in the evidence report: evaluation at coarse levels, fine against coarse classes. numpy, scikit-learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import confusion_matrix

from train.dossier.binary_tasks import data_set_of
from train.evaluation.intervals import balanced_accuracy_estimate, recalls, share_of
from train.evaluation.metrics import Estimate, IntArray, balanced_accuracy
from train.evaluation.out_of_fold import Answers
from train.reports.html import MISSING
from train.taxonomy.partition import label_classes, node_probabilities, partition
from train.taxonomy.tree import Taxonomy

# The paper's largest training class.
MOST_PHOTOS = 1000


@dataclass(frozen=True)
class LevelResult:
    """One model's predictions at one depth of the tree, as far as its nodes occur."""

    model: str
    depth: int
    nodes: tuple[str, ...]
    """That have photos."""
    absent: tuple[str, ...]
    """Of the same depth, without a photo: never the truth, never predicted."""
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


def level_result(answers: Answers, taxonomy: Taxonomy, depth: int) -> LevelResult:
    """Sum scores on one dataset to the nodes of a depth (1: the roots) and evaluate them there."""
    data_set = data_set_of(taxonomy, answers.codes)
    above = [taxonomy.ancestor(taxonomy.node_of(data_set, code), depth) for code in answers.codes]
    occurring = {above[y] for y in answers.y_true}
    nodes = tuple(node for node in taxonomy.level(depth) if node in occurring)
    classes = label_classes(taxonomy, data_set, answers.codes)
    y_pred = node_probabilities(taxonomy, classes, answers.probs, nodes).argmax(axis=1).astype(np.int64)
    y_true: IntArray = np.array([nodes.index(above[y]) for y in answers.y_true], np.int64)
    count = len(nodes)
    balanced = balanced_accuracy_estimate(recalls(y_true, y_pred, count, answers.groups))
    accuracy = share_of(y_true == y_pred, answers.groups).estimate()
    assert balanced is not None and accuracy is not None
    folds = [answers.folds == fold for fold in answers.fold_numbers]
    return LevelResult(
        model=answers.model,
        depth=depth,
        nodes=nodes,
        absent=tuple(node for node in taxonomy.level(depth) if node not in occurring),
        photos=len(y_true),
        groups=len(set(answers.groups)),
        balanced_accuracy=balanced,
        accuracy=accuracy,
        by_fold=tuple(balanced_accuracy(y_true[inside], y_pred[inside], count) for inside in folds),
        confusion=tuple(tuple(row) for row in confusion_matrix(y_true, y_pred, labels=range(count)).tolist()),
    )


def tree_rows(taxonomy: Taxonomy, photos: Mapping[str, int]) -> list[tuple[str, object, str]]:
    """List the tree's nodes, indented, with the photos below each and the labels that are mapped to it."""
    labels_of: dict[str, list[str]] = {}
    for name, mapped in taxonomy.labels.items():
        for label, code in mapped.items():
            labels_of.setdefault(code, []).append(f"{name} {label}")
    rows: list[tuple[str, object, str]] = []
    for root in taxonomy.roots:
        for code in taxonomy.descendants(root):
            below = sum(photos.get(node, 0) for node in taxonomy.descendants(code))
            indent = "\N{NO-BREAK SPACE}" * 3 * (len(taxonomy.path(code)) - 1)
            name = indent + taxonomy.by_code[code].name
            rows.append((name, below or MISSING, ", ".join(labels_of.get(code, []))))
    return rows


def partition_rows(taxonomy: Taxonomy, photos: Mapping[str, int]) -> list[tuple[str, int, int, str]]:
    """List the training classes that the paper's partition makes of the photos of each node."""
    classes = {entry.node: entry for entry in partition(taxonomy, photos, MOST_PHOTOS)}
    return [
        (
            taxonomy.by_code[code].name,
            entry.parts,
            -(-photos[code] // entry.parts) if entry.parts > 1 else entry.photos,
            ", ".join(taxonomy.by_code[node].name for node in entry.nodes if photos.get(node)),
        )
        for code, entry in classes.items()
    ]


def photos_of_nodes(taxonomy: Taxonomy, answers: Answers) -> Counter[str]:
    """Count the photos that are labelled with each node."""
    data_set = data_set_of(taxonomy, answers.codes)
    return Counter(taxonomy.node_of(data_set, answers.codes[y]) for y in answers.y_true)
