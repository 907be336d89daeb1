"""The intervals cover what the record says, and README and pages claim no more than the record."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from tests.benchmarks.interval_coverage import COLUMNS, RECORD, TRUE_RECALL, cases, coverage
from train.reports.html import TEMPLATES

README = Path(__file__).parents[2] / "train/README.md"
CLAIM = (0.93, 0.97)
# Standard errors of a share of so many sets that a row may be beyond what it claims.
ERRORS = 2
SETS = 150


@pytest.fixture(scope="module")
def record() -> pd.DataFrame:
    return pd.read_csv(RECORD)


def error(row: pd.Series, column: str, sets: int) -> float:
    """The standard error of a row's coverage among so many sets, not below that of one miss."""
    share = min(float(row[column]), 1 - 1 / sets)
    return float((share * (1 - share) / sets) ** 0.5)


def test_the_record_is_of_these_cases(record: pd.DataFrame) -> None:
    assert tuple(record) == COLUMNS
    rows = [(lesions[0], others, true) for others, _, true, lesions, _ in cases()]
    assert list(zip(record["lesions"], record["others"], record["true_recall"], strict=True)) == rows
    assert (record["sets"] >= 1000).all()
    assert record["seed"].is_unique and not set(record["seed"]) & {101, 102}


def test_what_is_claimed_holds_in_the_record(record: pd.DataFrame) -> None:
    clinic = record[record["others"] != "3 to 200"]
    several = clinic[clinic["photos_a_lesion"] == "1 to 3"]
    low, high = CLAIM
    for column, claimed in (
        ("recall", several[several["lesions"] >= 20]),
        ("balanced_accuracy", clinic[clinic["lesions"] >= 20]),
    ):
        assert len(claimed) >= 15
        for _, row in claimed.iterrows():
            allowed = ERRORS * error(row, column, row["sets"])
            assert low - allowed <= row[column] <= high + allowed, row.to_dict()
    ten = several[several["lesions"] == 10]
    assert (ten["recall"] <= 0.98).all() and (ten["balanced_accuracy"] <= 0.98).all()
    assert (ten["recall"] >= low).all() and (ten["balanced_accuracy"] >= low).all()
    assert (record[record["lesions"] < 10]["recall"] >= high).all()


@pytest.mark.parametrize("index", [4, 10, 20])
def test_the_record_is_repeated(index: int, record: pd.DataFrame) -> None:
    """On other seeds and fewer sets: a method that no longer covers is found."""
    _, photos, _, lesions, recall = list(cases())[index]
    found = coverage(lesions, recall, SETS, 7, photos)
    for value, column in zip(found, ("recall", "balanced_accuracy"), strict=False):
        row = record.iloc[index]
        assert value == pytest.approx(row[column], abs=4 * error(row, column, SETS))


def test_the_readme_has_the_records_rows(record: pd.DataFrame) -> None:
    text = README.read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- figures:begin -->\n(.*?)<!-- figures:end -->", text, re.S)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    of_clinic = record[record["others"] == "40 to 200"]
    expected = []
    for lesions, part in of_clinic.groupby("lesions"):
        cells = [str(lesions)]
        for _, row in part.sort_values(
            ["photos_a_lesion", "true_recall"], ascending=[False, True]
        ).iterrows():
            cells.append(f"{row['recall']:.3f}, {row['balanced_accuracy']:.3f}")
        expected.append(cells)
    assert rows == expected
    assert len(rows[0]) == 1 + 2 * len(TRUE_RECALL)
    (sets,) = set(record["sets"])
    assert f"{sets:,} simulated test sets" in text


def test_pages_claim_what_is_tested() -> None:
    claim = (TEMPLATES / "blocks.html.j2").read_text(encoding="utf-8")
    assert "in 93 to 97 % of test sets from 20 {{ units }} a class on" in claim
