"""The trees in train/taxonomy/taxonomies, and everything that is no tree."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import DataInvalid
from train.artifacts.labels import LABELS_DIR, load_labels
from train.taxonomy.tree import TAXONOMIES_DIR, load_taxonomy, make_taxonomy

NINE = {
    "benign_epidermal", "benign_melanocytic", "benign_dermal", "malignant_epidermal", "malignant_melanocytic",
    "malignant_dermal", "malignant_lymphoid", "genodermatosis", "inflammatory",
}  # fmt: skip


def table(*nodes: tuple[str, Any], **labels: dict[str, str]) -> dict[str, Any]:
    entries = [{"code": c, "name": c.upper()} | ({} if p is None else {"parent": p}) for c, p in nodes]
    return {"name": "small", "source": "a test", "node": entries, "labels": labels}


def test_every_tree_of_the_house_loads() -> None:
    files = sorted(TAXONOMIES_DIR.glob("*.toml"))
    assert [file.stem for file in files] == ["clinical33", "nature2017"]
    for file in files:
        assert load_taxonomy(file.stem).name == file.stem


def test_the_papers_levels() -> None:
    tree = load_taxonomy("nature2017")
    assert tree.roots == ("benign", "malignant", "non_neoplastic")
    assert set(tree.level(2)) == NINE


def test_every_label_of_the_label_set_has_a_node_under_the_root_of_its_group() -> None:
    tree, labels = load_taxonomy("nature2017"), load_labels("ham10000")
    assert set(tree.labels["ham10000"]) == set(labels.codes)
    for label in labels.labels:
        assert tree.ancestor(tree.node_of("ham10000", label.code), 1) == label.group


def test_phone_photos_stand_where_the_readers_mapping_puts_them() -> None:
    tree = load_taxonomy("nature2017")
    source = tomllib.loads((LABELS_DIR / "sources" / "pad_ufes_20.toml").read_text(encoding="utf-8"))
    assert set(tree.labels["pad_ufes_20"]) == set(source["codes"])
    for own, code in source["codes"].items():
        # Finer than HAM10000's label, or the same: never beside it.
        assert tree.node_of("pad_ufes_20", own) in tree.descendants(tree.node_of("ham10000", code))


def test_a_large_clinical_collection() -> None:
    tree = load_taxonomy("clinical33")
    leaves = {node.code for node in tree.nodes if not tree.children(node.code)}
    assert leaves == set(tree.labels["clinical33"].values())
    assert len(leaves) == 33
    assert "normal" in tree.roots


def test_ways_through_a_tree() -> None:
    tree = make_taxonomy(
        table(("a", None), ("b", "a"), ("c", "a"), ("d", "c"), ("e", None), clinic={"x": "d"}), "here"
    )
    assert tree.roots == ("a", "e")
    assert tree.path("d") == ("a", "c", "d")
    assert tree.descendants("a") == ("a", "b", "c", "d")
    assert tree.level(2) == ("b", "c")
    assert tree.ancestor("d", 2) == "c"
    assert tree.node_of("clinic", "x") == "d"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (table(("a", "b"), ("b", "c"), ("c", "a")), "a cycle: a in b in c in a"),
        (table(("a", "a")), "a cycle: a in a"),
        (table(("a", None), ("b", "gone")), "b is an orphan: there is no node gone"),
        (table(("a", None), ("b", None), ("c", "a"), ("c", "b")), "c has 2 parents: a, b"),
        (table(("a", None), ("b", None), ("c", ["a", "b"])), "c has 2 parents: a, b"),
        (table(("a", None), ("a", None)), "a occurs twice"),
        (table(("a", None), clinic={"x": "gone"}), "the label x of clinic has no node: there is no 'gone'"),
        (table(), "no [[node]]"),
        (table(("", None)), "node 1: code is missing"),
        (table(("a", None)) | {"more": 1}, "more is unknown"),
        (table(("a", None)) | {"labels": {"clinic": "a"}}, "labels is not a table of tables"),
    ],
)
def test_what_is_no_tree_is_named(content: dict[str, Any], told: str) -> None:
    with pytest.raises(DataInvalid) as caught:
        make_taxonomy(content, "here")
    assert caught.value.where == "here"
    assert told in "; ".join(caught.value.details)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(DataInvalid) as caught:
        make_taxonomy(
            table(("a", "gone"), ("b", "c"), ("c", "b"), clinic={"x": "nowhere"}),
            "here",
        )
    for part, problem in zip(("orphan", "a cycle", "no node"), caught.value.details, strict=True):
        assert part in problem


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid) as caught:
        load_taxonomy("natur")
    assert caught.value.where == "natur"
    broken = tmp_path / "broken.toml"
    broken.write_text("[[node", encoding="utf-8")
    with pytest.raises(DataInvalid) as caught:
        load_taxonomy(str(broken))
    assert caught.value.where == str(broken)


def test_nodes_and_labels_that_do_not_exist() -> None:
    tree = make_taxonomy(table(("apple", None), ("b", "apple"), clinic={"x": "b"}), "here")
    with pytest.raises(DataInvalid) as caught:
        tree.path("aple")
    assert "apple" in caught.value.fix
    with pytest.raises(DataInvalid) as caught:
        tree.ancestor("apple", 2)
    assert caught.value.found == "depth 1"
    with pytest.raises(DataInvalid) as caught:
        tree.node_of("clinic", "y")
    assert caught.value.found == "'y'"
    with pytest.raises(DataInvalid) as caught:
        tree.node_of("another", "x")
    assert caught.value.expected == "[labels.another]"
