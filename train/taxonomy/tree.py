"""A tree of diseases as data: nodes, parents, and which node a data set's label belongs to. stdlib only.

Trees are TOML files in train/taxonomy/taxonomies. train/taxonomy/partition.py says what they are for.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_runtime.errors import DataInvalid
from train.artifacts.files import read_named_toml
from train.artifacts.labels import is_text, text_problems

TAXONOMIES_DIR = Path(__file__).parent / "taxonomies"
TEXTS = ("name", "source")
NODE_TEXTS = ("code", "name")
PARENT = "parent"


@dataclass(frozen=True)
class Node:
    """A disease, or a group of diseases."""

    code: str
    name: str
    parent: str | None
    """None of a root."""


@dataclass(frozen=True)
class Taxonomy:
    """A forest whose every node has at most one parent; `load_taxonomy` and `make_taxonomy` check that."""

    name: str
    source: str
    nodes: tuple[Node, ...]
    labels: Mapping[str, Mapping[str, str]]
    """Dataset to label to the code of its node."""

    @cached_property
    def by_code(self) -> dict[str, Node]:
        """Code to node."""
        return {node.code: node for node in self.nodes}

    @cached_property
    def _children(self) -> dict[str | None, tuple[str, ...]]:
        children: dict[str | None, list[str]] = defaultdict(list)
        for node in self.nodes:
            children[node.parent].append(node.code)
        return {parent: tuple(codes) for parent, codes in children.items()}

    @property
    def roots(self) -> tuple[str, ...]:
        """Codes of the nodes without a parent, in the file's order."""
        return self.children(None)

    def children(self, code: str | None) -> tuple[str, ...]:
        """List the codes below a node, in the file's order; the roots below None."""
        return self._children.get(code, ())

    def path(self, code: str) -> tuple[str, ...]:
        """List the codes from the root to the node, both included.

        Raises:
            DataInvalid: No such node.
        """
        codes = [code]
        while (parent := self._node(codes[0]).parent) is not None:
            codes.insert(0, parent)
        return tuple(codes)

    def descendants(self, code: str) -> tuple[str, ...]:
        """List the node and everything below it, parents before children.

        Raises:
            DataInvalid: No such node.
        """
        found, waiting = [], [self._node(code).code]
        while waiting:
            found.append(waiting.pop())
            waiting.extend(reversed(self.children(found[-1])))
        return tuple(found)

    def level(self, depth: int) -> tuple[str, ...]:
        """List the codes of the nodes at a depth; the roots are 1."""
        return tuple(node.code for node in self.nodes if len(self.path(node.code)) == depth)

    def ancestor(self, code: str, depth: int) -> str:
        """Return the node of that depth on the path from the root to `code`.

        Raises:
            DataInvalid: `code` stands above that depth, or is no node.
        """
        path = self.path(code)
        if not 1 <= depth <= len(path):
            expected = "a depth from 1 (the root) to its own"
            raise self.invalid(f"{code} has no ancestor at depth {depth}", f"depth {len(path)}", expected)
        return path[depth - 1]

    def node_of(self, data_set: str, label: str) -> str:
        """Return the node that a dataset's label belongs to.

        Raises:
            DataInvalid: A dataset that is not mapped, or a label without a node.
        """
        table = f"[labels.{data_set}]"
        if data_set not in self.labels:
            found, fix = f"[labels.{'], [labels.'.join(self.labels)}]", "Add the table to the taxonomy's file"
            raise self.invalid(f"no labels of {data_set}", found, table, fix)
        if label not in self.labels[data_set]:
            expected = f"one of {', '.join(self.labels[data_set])}"
            raise self.invalid(
                f"a label of {data_set} without a node", repr(label), expected, f"Add it to {table}"
            )
        return self.labels[data_set][label]

    def _node(self, code: str) -> Node:
        if code not in self.by_code:
            near = difflib.get_close_matches(code, self.by_code, n=1)
            fix = f"Did you mean {near[0]}?" if near else ""
            raise self.invalid("no such node", repr(code), f"one of its {len(self.nodes)} codes", fix)
        return self.by_code[code]

    def invalid(self, problem: str, found: str, expected: str = "", fix: str = "") -> DataInvalid:
        """Return an error about this taxonomy."""
        return DataInvalid(problem, where=f"taxonomy {self.name}", found=found, expected=expected, fix=fix)


# ------------------------------------------------------------------ reading


def load_taxonomy(name_or_path: str) -> Taxonomy:
    """Read a taxonomy by its name in train/taxonomy/taxonomies, without the suffix, or by the path of a TOML file.

    Raises:
        DataInvalid: No such file, not TOML, or no forest: cycles, orphans, nodes with two parents, labels without a
            node and malformed entries are listed together.
    """
    path, table = read_named_toml(name_or_path, TAXONOMIES_DIR, "taxonomy")
    return make_taxonomy(table, str(path))


def make_taxonomy(table: Mapping[str, Any], where: str) -> Taxonomy:
    """Make a taxonomy from the content of its file, which errors name `where`.

    It has `name`, `source`, `node` (code, name and, but for roots, parent) and `labels` (dataset to label to code).

    Raises:
        DataInvalid: As `load_taxonomy`.
    """
    if problems := _malformed(table) or [*_no_forest(table["node"]), *_labels_without_node(table)]:
        node = f"[[node]] with {', '.join(NODE_TEXTS)} and one {PARENT}, none for a root"
        expected = f"{', '.join(TEXTS)}; {node}; [labels.DATA_SET] with label = code"
        raise DataInvalid(
            "not a tree", where=where, details=problems, expected=expected, fix="correct the file"
        )
    nodes = tuple(Node(entry["code"], entry["name"], entry.get(PARENT)) for entry in table["node"])
    labels = {name: dict(codes) for name, codes in table.get("labels", {}).items()}
    return Taxonomy(table["name"], table["source"], nodes, labels)


def _malformed(table: Mapping[str, Any]) -> list[str]:
    """List malformed entries; the tree is only checked where there are none."""
    problems = text_problems(table, TEXTS, "", ("node", "labels"))
    entries = table.get("node")
    if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) for e in entries):
        return [*problems, "no [[node]]"]
    for i, entry in enumerate(entries):
        code, parent = entry.get("code"), entry.get(PARENT)
        name = code if is_text(code) else f"node {i + 1}"
        problems += text_problems(entry, NODE_TEXTS, f"{name}: ", (PARENT,))
        if isinstance(parent, list) and len(parent) > 1:
            problems.append(f"{name} has {len(parent)} parents: {', '.join(map(str, parent))}")
        elif parent is not None and not is_text(parent):
            problems.append(f"{name}: parent is not a text")
    labels = table.get("labels", {})
    if not isinstance(labels, dict) or not all(isinstance(codes, dict) for codes in labels.values()):
        problems.append("labels is not a table of tables")
    elif not all(isinstance(code, str) for codes in labels.values() for code in codes.values()):
        problems.append("labels has a code that is not a text")
    return problems


def _no_forest(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    parents_of: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        parents_of[entry["code"]].append(str(entry.get(PARENT, "none")))
    problems = []
    for code, given in parents_of.items():
        if len(parents := sorted(set(given))) > 1:
            problems.append(f"{code} has {len(parents)} parents: {', '.join(parents)}")
        elif len(given) > 1:
            problems.append(f"{code} occurs twice")
    parent_of = {entry["code"]: entry.get(PARENT) for entry in entries}
    problems += [
        f"{code} is an orphan: there is no node {parent}"
        for code, parent in parent_of.items()
        if parent is not None and parent not in parent_of
    ]
    in_cycles: set[str] = set()
    for code in parent_of:
        path = [code]
        while (at := parent_of[path[-1]]) in parent_of and at not in path:
            path.append(at)
        if at in path and at not in in_cycles:
            cycle = path[path.index(at) :]
            in_cycles.update(cycle)
            problems.append(f"a cycle: {' in '.join([*cycle, cycle[0]])}")
    return problems


def _labels_without_node(table: Mapping[str, Any]) -> list[str]:
    codes = {entry["code"] for entry in table["node"]}
    return [
        f"the label {label} of {data_set} has no node: there is no {code!r}"
        for data_set, mapped in table.get("labels", {}).items()
        for label, code in mapped.items()
        if code not in codes
    ]
