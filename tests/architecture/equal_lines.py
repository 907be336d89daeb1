"""Find code that stands in two files: windows of equal lines.

Lines are compared without their indentation; blank lines, comments and imports do not count. Two files are reported
with their longest run of equal consecutive lines, if it has at least `WINDOW` lines.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations

WINDOW = 12


def counted_lines(source: str) -> list[str]:
    """Return the lines of Python source that count, stripped."""
    imports = {
        number
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = ((number, line.strip()) for number, line in enumerate(source.splitlines(), start=1))
    return [line for number, line in lines if line and not line.startswith("#") and number not in imports]


def equal_runs(sources: Mapping[str, str], window: int = WINDOW) -> dict[tuple[str, str], int]:
    """Return the pairs of files that share at least `window` consecutive lines, with the length of the longest run."""
    lines_of = {name: counted_lines(source) for name, source in sources.items()}
    places: dict[tuple[str, ...], set[tuple[str, int]]] = defaultdict(set)
    for name, lines in lines_of.items():
        for start in range(len(lines) - window + 1):
            places[tuple(lines[start : start + window])].add((name, start))
    longest: dict[tuple[str, str], int] = {}
    for found in places.values():
        for (first, at), (second, also_at) in combinations(sorted(found), 2):
            if first != second:
                length = _run_length(lines_of[first][at:], lines_of[second][also_at:])
                longest[first, second] = max(length, longest.get((first, second), 0))
    return longest


def _run_length(first: list[str], second: list[str]) -> int:
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
