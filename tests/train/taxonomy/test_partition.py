"""The partition of a tree and the sums over it: what must hold for any tree, on generated ones."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.errors import DataInvalid
from train.taxonomy.partition import label_classes, node_probabilities, partition
from train.taxonomy.tree import Node, Taxonomy, load_taxonomy, make_taxonomy

TREES = 60
HAM10000 = {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142}


def grow(seed: int) -> tuple[Taxonomy, dict[str, int], int]:
    """A random forest, photos at some of its nodes, inner ones too, and a limit."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 40))
    parents = [None if i == 0 or rng.random() < 0.15 else f"n{rng.integers(i)}" for i in range(size)]
    order = rng.permutation(size)
    entries = [
        {"code": f"n{i}", "name": f"N{i}"} | ({} if parents[i] is None else {"parent": parents[i]})
        for i in order
    ]
    counts = {f"n{i}": int(rng.integers(0, 300)) for i in range(size) if rng.random() < 0.7}
    tree = make_taxonomy({"name": "grown", "source": "a test", "node": entries}, "here")
    return tree, counts, int(rng.integers(1, 500))


@pytest.mark.parametrize("seed", range(TREES))
def test_no_class_is_too_large_and_every_photo_is_in_one(seed: int) -> None:
    tree, counts, most = grow(seed)
    classes = partition(tree, counts, most)
    assert all(0 < entry.photos <= most for entry in classes)
    assert sum(entry.photos for entry in classes) == sum(counts.values())
    # Photos of a node are in the classes that name it, and in no other.
    for code, own in counts.items():
        holding = [entry for entry in classes if code in entry.nodes]
        if own:
            assert len({entry.node for entry in holding}) == 1
            whole = sum(counts.get(node, 0) for node in holding[0].nodes)
            assert sum(entry.photos for entry in holding) == whole
    assert len({entry.name for entry in classes}) == len(classes)


@pytest.mark.parametrize("seed", range(TREES))
def test_classes_are_as_coarse_as_the_limit_allows(seed: int) -> None:
    tree, counts, most = grow(seed)
    for entry in partition(tree, counts, most):
        parent = tree.by_code[entry.node].parent
        if parent is not None:
            assert sum(counts.get(node, 0) for node in tree.descendants(parent)) > most
        if entry.parts > 1:
            # One part fewer would be too large.
            assert -(-counts[entry.node] // (entry.parts - 1)) > most


@pytest.mark.parametrize("seed", range(TREES))
def test_sums_over_the_tree(seed: int) -> None:
    tree, counts, most = grow(seed)
    classes = partition(tree, counts, most)
    if not classes:
        assert not any(counts.values())
        return
    probs = np.random.default_rng(seed).dirichlet(np.ones(len(classes)), size=5)
    assert node_probabilities(tree, classes, probs, tree.roots).sum(axis=1) == pytest.approx(np.ones(5))
    within = {node for entry in classes for node in entry.nodes if node != entry.node}
    for code in {node.code for node in tree.nodes} - within:
        children = [child for child in tree.children(code) if child not in within]
        own = sum((probs[:, i] for i, e in enumerate(classes) if e.node == code), np.zeros(5))
        below = node_probabilities(tree, classes, probs, children).sum(axis=1) if children else 0
        assert node_probabilities(tree, classes, probs, [code])[:, 0] == pytest.approx(own + below)


def test_the_partition_of_ham10000() -> None:
    tree = load_taxonomy("nature2017")
    counts = {tree.node_of("ham10000", label): photos for label, photos in HAM10000.items()}
    classes = partition(tree, counts, 1000)
    assert {entry.node: entry.parts for entry in classes} == {
        "benign_keratosis": 2, "nevus": 7, "benign_dermal": 1, "malignant_epidermal": 1, "melanoma": 2,
    }  # fmt: skip
    assert [entry.name for entry in classes][:3] == ["benign_keratosis/1", "benign_keratosis/2", "nevus/1"]
    assert partition(tree, counts, sum(HAM10000.values()))[0].node == "benign"


def test_a_class_may_be_as_large_as_the_limit() -> None:
    tree = load_taxonomy("nature2017")
    counts = {"melanoma": 30, "basal_cell_carcinoma": 70}
    assert [entry.node for entry in partition(tree, counts, 100)] == ["malignant"]
    assert len(partition(tree, counts, 99)) == 2


def test_labels_as_classes() -> None:
    tree = load_taxonomy("nature2017")
    labels = tuple(HAM10000)
    probs = np.eye(len(labels))
    sums = node_probabilities(tree, label_classes(tree, "ham10000", labels), probs, tree.level(2))
    assert sums.sum() == len(labels)
    assert sums[labels.index("bcc"), tree.level(2).index("malignant_epidermal")] == 1
    assert sums[:, tree.level(2).index("inflammatory")].sum() == 0


def test_a_label_at_an_inner_node_stands_for_itself_where_another_lies_below() -> None:
    nodes = (Node("a", "A", None), Node("b", "B", "a"), Node("c", "C", "a"))
    tree = Taxonomy("t", "a test", nodes, {"clinic": {"x": "a", "y": "b", "z": "a"}})
    first, second = label_classes(tree, "clinic", ("x", "y"))
    assert first.nodes == ("a",)
    assert second.nodes == ("b",)
    assert node_probabilities(tree, (first, second), np.array([[0.3, 0.7]]), ("a", "b", "c")).tolist() == [
        [1.0, 0.7, 0.0]
    ]
    with pytest.raises(DataInvalid) as caught:
        label_classes(tree, "clinic", ("x", "z"))
    assert caught.value.found == "a"


def test_what_cannot_be_computed() -> None:
    tree = load_taxonomy("nature2017")
    classes = partition(tree, {"dermatofibroma": 5, "vascular_lesion": 5}, 20)
    with pytest.raises(DataInvalid) as caught:
        node_probabilities(tree, classes, np.ones((1, 1)), ["dermatofibroma"])
    assert caught.value.problem.startswith("dermatofibroma ")
    for counts, most in (({"gone": 1}, 5), ({"nevus": 1}, 0), ({"nevus": -1}, 5)):
        with pytest.raises(DataInvalid) as caught:
            partition(tree, counts, most)
        assert caught.value.where == "taxonomy nature2017"
