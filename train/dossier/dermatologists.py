"""The dermatologists of Esteva et al., Nature 542 (2017), as points of sensitivity and specificity. stdlib, numpy.

The points are a table of numbers beside the datasets (`readers/`, DERMEDGE_DATA). Which of our binary tasks a test
belongs to is declared in train/dossier/evidence/reader_tests.toml.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import DataInvalid
from train.artifacts.tables import read_rows
from train.data.metadata import data_root
from train.evaluation.metrics import FloatArray

EVIDENCE_DIR = Path(__file__).parent / "evidence"
READER_POINTS = Path("readers") / "esteva2017_reader_points.csv"
COLUMNS = ("test", "reader", "sensitivity", "specificity")
# The decision that a test required: what it is, or what to do.
DIAGNOSIS, BIOPSY = "diagnosis", "biopsy"
HISTOLOGY = "histo"
"""Kind of ground truth of the paper's test photos, as HAM10000 calls it: photos of this kind come first."""
PHOTOS_SEEN = re.compile(r"_(\d+)mal_(\d+)ben$")


@dataclass(frozen=True)
class ReaderTest:
    """One test and the result of each dermatologist."""

    code: str
    title: str
    decision: str
    """`diagnosis` or `biopsy`."""
    points: FloatArray
    """[readers, 2] sensitivity and specificity."""
    seen: tuple[int, int]
    """Positive and negative photos that each reader judged."""

    @property
    def mean(self) -> tuple[float, float]:
        """Mean sensitivity and mean specificity."""
        sensitivity, specificity = self.points.mean(axis=0)
        return float(sensitivity), float(specificity)


ReaderTests = Mapping[tuple[str, str], ReaderTest]
"""Code and decision to the test."""


@dataclass(frozen=True)
class Question:
    """A binary task: two nodes of a taxonomy between which a model and a dermatologist choose."""

    code: str
    title: str
    positive: str
    negative: str
    tests: tuple[str, ...]
    narrow: str | None = None
    """A part of `positive`, for a second evaluation with it alone as the positive side."""


def load_evidence(name: str) -> dict[str, Any]:
    """Read a table of train/dossier/evidence."""
    return tomllib.loads((EVIDENCE_DIR / f"{name}.toml").read_text(encoding="utf-8"))


def load_questions() -> tuple[str, tuple[Question, ...], dict[str, str]]:
    """Read the taxonomy's name, the tasks, and the tests' titles."""
    table = load_evidence("reader_tests")
    questions = tuple(Question(**entry | {"tests": tuple(entry["tests"])}) for entry in table["question"])
    return table["taxonomy"], questions, {entry["code"]: entry["title"] for entry in table["test"]}


def find_reader_points(root: Path | None = None) -> Path:
    """Return the table's place in the folder that holds the datasets."""
    return (root or data_root()) / READER_POINTS


def read_reader_tests(path: Path) -> dict[tuple[str, str], ReaderTest]:
    """Read the dermatologists of each test and decision.

    The table names a test `melanoma_dermoscopy_111img_71mal_40ben__diagnosis(dermoscopy)`: one of our codes, counts,
    and the decision.

    Raises:
        DataInvalid: No such table, missing columns, an unknown test, or a share outside 0 to 1.
    """
    titles = load_questions()[2]
    points: dict[tuple[str, str, tuple[int, int]], list[tuple[float, float]]] = {}
    for row in read_rows(path, COLUMNS):
        name, _, task = row["test"].partition("__")
        code = next((code for code in titles if name.startswith(code)), None)
        decision = next((d for d in (DIAGNOSIS, BIOPSY) if task.startswith(d)), None)
        try:
            point = float(row["sensitivity"]), float(row["specificity"])
        except ValueError:
            point = (np.nan, np.nan)
        counts = PHOTOS_SEEN.search(name)
        if code is None or decision is None or counts is None or not all(0 <= value <= 1 for value in point):
            raise DataInvalid(
                "not a point of a reader", where=str(path), found=", ".join(row[column] for column in COLUMNS),
                expected=f"a test CODE..._NUMBERmal_NUMBERben__{DIAGNOSIS} or __{BIOPSY} with CODE one of "
                f"{', '.join(titles)}, and shares from 0 to 1",
            )  # fmt: skip
        points.setdefault((code, decision, (int(counts[1]), int(counts[2]))), []).append(point)
    return {
        (code, decision): ReaderTest(code, titles[code], decision, np.array(found), seen)
        for (code, decision, seen), found in points.items()
    }
