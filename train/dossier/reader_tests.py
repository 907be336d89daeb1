"""The dermatologists of Esteva et al., Nature 542 (2017), as points of sensitivity and specificity. stdlib, numpy.

The points are a table of numbers beside the data sets (`readers/`, DERMEDGE_DATA); which question of ours a test
belongs to stands in train/dossier/evidence/reader_tests.toml.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.errors import DataInvalid
from train.artifacts.run import DATA_VARIABLE
from train.artifacts.tables import read_rows
from train.data.sources import DEVELOPER_DATA
from train.evaluation.metrics import FloatArray

EVIDENCE_DIR = Path(__file__).parent / "evidence"
READER_POINTS = Path("readers") / "esteva2017_reader_points.csv"
COLUMNS = ("test", "reader", "sensitivity", "specificity")
# What they were asked: what it is, or what they would do.
DIAGNOSIS, BIOPSY = "diagnosis", "biopsy"


@dataclass(frozen=True)
class ReaderTest:
    """One test, its photos, and what each dermatologist reached in it."""

    code: str
    title: str
    decision: str
    """`diagnosis` or `biopsy`."""
    points: FloatArray
    """[readers, 2] sensitivity and specificity."""

    @property
    def mean(self) -> tuple[float, float]:
        """Mean sensitivity and mean specificity."""
        sensitivity, specificity = self.points.mean(axis=0)
        return float(sensitivity), float(specificity)


@dataclass(frozen=True)
class Question:
    """Two nodes of a taxonomy between which a model and a dermatologist choose."""

    code: str
    title: str
    positive: str
    negative: str
    tests: tuple[str, ...]
    narrow: str | None = None
    """A part of `positive` by which the question is asked again."""


def load_questions() -> tuple[str, tuple[Question, ...], dict[str, str]]:
    """The taxonomy's name, the questions, and the tests' titles."""
    table = tomllib.loads((EVIDENCE_DIR / "reader_tests.toml").read_text(encoding="utf-8"))
    questions = tuple(Question(**entry | {"tests": tuple(entry["tests"])}) for entry in table["question"])
    return table["taxonomy"], questions, {entry["code"]: entry["title"] for entry in table["test"]}


def find_reader_points(path: Path | None = None) -> Path:
    """The table's place: the one given, or that beside the data sets."""
    if path is not None:
        return path
    root = Path(os.environ[DATA_VARIABLE]) if DATA_VARIABLE in os.environ else DEVELOPER_DATA
    return root / READER_POINTS


def read_reader_tests(path: Path) -> dict[tuple[str, str], ReaderTest]:
    """Test and decision to its dermatologists.

    The table names a test `melanoma_dermoscopy_111img_71mal_40ben__diagnosis(dermoscopy)`: one of our codes, counts,
    and what was asked.

    Raises:
        DataInvalid: No such table, columns are lacking, a test that is not known, or no share.
    """
    titles = load_questions()[2]
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in read_rows(path, COLUMNS):
        name, _, asked = row["test"].partition("__")
        code = next((code for code in titles if name.startswith(code)), None)
        decision = next((d for d in (DIAGNOSIS, BIOPSY) if asked.startswith(d)), None)
        try:
            point = float(row["sensitivity"]), float(row["specificity"])
        except ValueError:
            point = (np.nan, np.nan)
        if code is None or decision is None or not all(0 <= value <= 1 for value in point):
            raise DataInvalid(
                f"{path}: a row that is no reader's point",
                found=", ".join(row[column] for column in COLUMNS),
                expected=f"a test that starts with one of {', '.join(titles)} and asks __{DIAGNOSIS} or __{BIOPSY}; "
                "shares from 0 to 1",
            )
        points.setdefault((code, decision), []).append(point)
    return {
        (code, decision): ReaderTest(code, titles[code], decision, np.array(found))
        for (code, decision), found in points.items()
    }
