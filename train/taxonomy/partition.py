"""From a disease tree to training classes, and from their scores to any node's probability. numpy.

Esteva et al., Nature 542 (2017), trained on fine classes found by a partition of the tree, and predicted coarse
classes by summing the probabilities of a node's descendants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from train.evaluation.metrics import FloatArray
from train.taxonomy.tree import Taxonomy


@dataclass(frozen=True)
class TrainingClass:
    """One class that a network is trained on."""

    node: str
    """The highest node in it."""
    nodes: tuple[str, ...]
    """Whose photos belong to it: the whole of a subtree, or `node` alone where its children are classes themselves."""
    photos: int
    part: int = 0
    parts: int = 1
    """A node with more photos of its own than a class may have is divided into that many parts."""

    @property
    def name(self) -> str:
        """The node's code, with the part where there are several: `nevus/3`."""
        return self.node if self.parts == 1 else f"{self.node}/{self.part + 1}"


def partition(taxonomy: Taxonomy, photos: Mapping[str, int], most: int) -> tuple[TrainingClass, ...]:
    """Divide the tree into training classes of at most `most` photos, as coarse as that allows.

    The paper's recursive algorithm: from each root downwards, a node becomes one class with all of its descendants if
    they have few enough photos; else its children are visited. The paper leaves a single disease with too many
    photos as it is. Here its photos are divided into equal parts, so that the limit holds for any tree and counts;
    which photo goes to which part is the caller's choice.

    Args:
        taxonomy: Any.
        photos: Node to the photos that are labelled with it, not with a descendant; absent is 0.
        most: The largest class, 1 or more.

    Returns:
        Classes with photos, in the order of the tree.

    Raises:
        DataInvalid: `most` below 1, a negative count, or photos of a node that the tree does not have.
    """
    unknown = [code for code in photos if code not in taxonomy.by_code]
    if most < 1 or unknown or min(photos.values(), default=0) < 0:
        found = f"no node {unknown[0]!r}" if unknown else f"at most {most} photos, counts {dict(photos)}"
        expected = "counts of its nodes, 0 or more, and classes of 1 photo or more"
        raise taxonomy.invalid("cannot be divided into training classes", found, expected)
    classes: list[TrainingClass] = []
    waiting = list(reversed(taxonomy.roots))
    while waiting:
        code = waiting.pop()
        nodes = taxonomy.descendants(code)
        total, own = sum(photos.get(node, 0) for node in nodes), photos.get(code, 0)
        if 0 < total <= most:
            classes.append(TrainingClass(code, nodes, total))
        elif total:
            parts = -(-own // most)
            sizes = [(own + parts - 1 - part) // parts for part in range(parts)]
            classes += [TrainingClass(code, (code,), size, part, parts) for part, size in enumerate(sizes)]
            waiting.extend(reversed(taxonomy.children(code)))
    return tuple(classes)


def node_probabilities(
    taxonomy: Taxonomy, classes: Sequence[TrainingClass], probs: FloatArray, nodes: Sequence[str]
) -> FloatArray:
    """Sum the probabilities of the training classes among each node's descendants.

    Args:
        taxonomy: The tree.
        classes: The network's outputs.
        probs: [n, classes], rows sum to 1.
        nodes: Of which; their probabilities sum to 1 where they divide the tree between them, as the roots do.

    Returns:
        [n, nodes]. An ancestor's own class counts for that ancestor alone.

    Raises:
        DataInvalid: A node inside a training class, which the network cannot distinguish from the rest.
    """
    sums = np.zeros((len(probs), len(nodes)))
    for j, code in enumerate(nodes):
        inside = set(taxonomy.descendants(code))
        for i, entry in enumerate(classes):
            if entry.node in inside:
                sums[:, j] += probs[:, i]
            elif code in entry.nodes:
                found = f"it is a part of the class {entry.name}"
                expected = "a class's own node, or one above it"
                raise taxonomy.invalid(f"{code} is finer than the training classes", found, expected)
    return sums


def label_classes(taxonomy: Taxonomy, data_set: str, labels: Sequence[str]) -> tuple[TrainingClass, ...]:
    """Treat a dataset's labels as training classes, for `node_probabilities` of a network with those outputs.

    A label at an inner node stands for the node alone if another label lies below it.

    Raises:
        DataInvalid: A label without a node, or two labels at one node.
    """
    codes = [taxonomy.node_of(data_set, label) for label in labels]
    if twice := [code for code, count in Counter(codes).items() if count > 1]:
        raise taxonomy.invalid(f"two labels of {data_set} at one node", twice[0])
    classes = []
    for code in codes:
        below = taxonomy.descendants(code)
        divided = any(other in below for other in codes if other != code)
        classes.append(TrainingClass(code, (code,) if divided else below, 0))
    return tuple(classes)
