"""The READMEs' table of the bundled model says what the report beside the model says, in both languages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

MARKED = re.compile(r"<!-- figures:begin -->\n(.*?)<!-- figures:end -->", re.DOTALL)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
READMES = ("README.md", "README.ko.md")


def rows_of(readme: Path) -> list[list[str]]:
    """The numbers of each row, its title left out."""
    (table,) = MARKED.findall(readme.read_text(encoding="utf-8"))
    rows = [line.split("|")[2:] for line in table.splitlines()[2:]]
    return [NUMBER.findall(" ".join(cells)) for cells in rows]


@pytest.mark.parametrize("readme", READMES)
def test_the_table_agrees_with_the_report(readme: str, repository: Path) -> None:
    (report,) = (repository / "edge_runtime" / "models").glob("*.json")
    said = json.loads(report.read_text(encoding="utf-8"))
    check, rows = said["check"], rows_of(repository / readme)
    assert len(rows) == 7
    assert rows[4] == [f"{check['agreement']:.3f}"]
    float_accuracy, int8_accuracy = check["keras_balanced_accuracy"], check["converted_balanced_accuracy"]
    assert rows[5] == [f"{float_accuracy:.3f}", f"{int8_accuracy:.3f}"]
    assert rows[6][0] == f"{said['model']['bytes']:,}"


def test_both_languages_give_the_same_figures(repository: Path) -> None:
    english, korean = (rows_of(repository / name) for name in READMES)
    # The interval's 95 % stands in a title, which is not compared.
    assert sum(len(row) for row in english) > 10
    assert english == korean
