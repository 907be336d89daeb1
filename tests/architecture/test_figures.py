"""The figures of the READMEs are values of train/records/published_figures.json and of the model's report."""

from __future__ import annotations

import json
import re
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from convert.cards.card import _table, write_card
from convert.cards.sources import Sources
from edge_runtime.model.model_file import bundled_model_path, open_model
from train.reports.published import HEADER, published_rows

MARKED = re.compile(r"<!-- figures:begin -->\n(.*?)<!-- figures:end -->", re.DOTALL)
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
READMES = ("README.md", "README.ko.md")


@pytest.fixture(scope="module")
def published(repository: Path) -> dict[str, Any]:
    text = (repository / "train/records/published_figures.json").read_text(encoding="utf-8")
    figures: dict[str, Any] = json.loads(text)
    return figures


def rows_of(readme: Path) -> list[list[str]]:
    """The numbers of each row, its title left out."""
    (table,) = MARKED.findall(readme.read_text(encoding="utf-8"))
    rows = [line.split("|")[2:] for line in table.splitlines()[2:]]
    return [NUMBER.findall(" ".join(cells)) for cells in rows]


def model_section(readme: Path) -> str:
    """The section that holds the table."""
    text = readme.read_text(encoding="utf-8")
    return next(part for part in re.split(r"^## ", text, flags=re.M) if "figures:begin" in part)


def test_the_table_is_that_of_the_records(repository: Path, published: dict[str, Any]) -> None:
    english, korean = (repository / name for name in READMES)
    (table,) = MARKED.findall(english.read_text(encoding="utf-8"))
    assert table == _table(HEADER, published_rows(published)) + "\n"
    assert rows_of(korean) == rows_of(english)


@pytest.mark.parametrize("readme", READMES)
def test_the_text_agrees_with_the_records(readme: str, repository: Path, published: dict[str, Any]) -> None:
    section = model_section(repository / readme)
    assert f"{bundled_model_path().stat().st_size:,}" in section
    assert published["sealed"]["bundled_sha256"][:6] in (repository / readme).read_text(encoding="utf-8")
    assert published["sealed"]["date"] in section
    for key in ("nevus_recall", "nevus_recall_other_photos"):
        assert f"{published['histology'][key]:.2f}" in section


def test_the_sealed_figures_are_of_the_bundled_graph(published: dict[str, Any]) -> None:
    content = bundled_model_path().read_bytes()
    with zipfile.ZipFile(bundled_model_path()) as archive:
        start = min(entry.header_offset for entry in archive.infolist())
    assert sha256(content[:start]).hexdigest() == published["sealed"]["graph_sha256"]
    assert sha256(content).hexdigest() == published["sealed"]["bundled_sha256"]


def test_the_bundled_card_is_the_generated_one(repository: Path) -> None:
    model, record = bundled_model_path(), repository / "train/records/ham10000_lite0_bundled"
    files = {name: json.loads((record / f"{name}.json").read_bytes()) for name in ("run", "split", "metrics")}
    files["config"] = tomllib.loads((record / "config.toml").read_text(encoding="utf-8"))
    report = json.loads(model.with_suffix(".json").read_bytes())
    sources = Sources(Path("settled_bundled"), model.name, open_model(model).contract, report=report, **files)
    assert model.with_suffix(".md").read_text(encoding="utf-8") == write_card(sources)


def test_both_languages_give_the_same_figures(repository: Path) -> None:
    sections = [
        re.sub(r"^.*(?:\bDDI\b|figures:).*$", "", model_section(repository / name)) for name in READMES
    ]
    english, korean = (sorted(NUMBER.findall(re.sub(r"`[^`]*`|\w*-\d+", "", text))) for text in sections)
    assert len(english) > 20
    assert english == korean


# Photos, balanced accuracy with its interval, accuracy, malignant AUC, calibration error, record.
FIGURE = r"(0\.\d{3})"
ROW = re.compile(
    rf"\| ([\d,]+) \| {FIGURE} \({FIGURE} to {FIGURE}\)" + rf" \| {FIGURE}" * 3 + r" \| `(\w+)` \|"
)


def test_the_study_gives_the_figures_of_the_records(repository: Path) -> None:
    rows = ROW.findall((repository / "train/STUDY.md").read_text(encoding="utf-8"))
    assert len(rows) == 8
    for photos, *figures, record in rows:
        text = (repository / "train/records" / record / "metrics.json").read_text(encoding="utf-8")
        found = json.loads(text)
        values = [
            found["balanced_accuracy"],
            *found["balanced_accuracy_interval"],
            found["accuracy"],
            found["malignant_auc"],
            found["expected_calibration_error"],
        ]
        assert photos == f"{found['photos']:,}", record
        assert figures == [f"{value:.3f}" for value in values], record


def test_the_study_names_records_that_exist(repository: Path) -> None:
    study = (repository / "train/STUDY.md").read_text(encoding="utf-8")
    kept = {path.name for path in (repository / "train/records").iterdir() if path.is_dir()}
    introduction, tables = study.split("## Reference")
    named = dict(re.findall(r"`((?:ham10000|founding)_\w+)(?:/[\w.]+)?`( †)?", tables))
    assert {name for name, gone in named.items() if not gone} <= kept
    assert not {name for name, gone in named.items() if gone} & kept
    assert "54ddce0" in introduction
