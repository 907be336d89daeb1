"""The figures of the READMEs are values of train/records/published_figures.json and of the model's report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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


@pytest.mark.parametrize("readme", READMES)
def test_the_table_agrees_with_the_records(readme: str, repository: Path, published: dict[str, Any]) -> None:
    sealed, histology = published["sealed"], published["histology"]
    test, phone = sealed["isic2018_task3_test"], sealed["pad_ufes_20_other_patients"]
    assert rows_of(repository / readme) == [
        [f"{test['photos']:,}", *_three(test["balanced_accuracy"]), f"{test['malignant_auc']:.3f}"],
        [
            f"{histology['photos']:,}",
            *_three(histology["balanced_accuracy"]),
            f"{histology['malignant_auc']:.3f}",
        ],
        [
            str(phone["photos"]),
            *(f"{phone[key]:.3f}" for key in ("balanced_accuracy", "malignant_auc", "cancer_auc")),
        ],
        [f"{sealed['isic2017_test']['melanoma_auc']:.3f}"],
        [f"{100 * sealed['ordinary_pictures']['refused_share']:.1f}"],
    ]


def _three(estimate: list[float]) -> list[str]:
    return [f"{value:.3f}" for value in estimate]


@pytest.mark.parametrize("readme", READMES)
def test_the_text_agrees_with_the_records(readme: str, repository: Path, published: dict[str, Any]) -> None:
    section = model_section(repository / readme)
    (report,) = (repository / "edge_runtime" / "models").glob("*_int8_qat.json")
    written = json.loads(report.read_text(encoding="utf-8"))
    assert f"{written['model']['bytes']:,}" in section
    assert written["model"]["sha256"] == published["sealed"]["model_sha256"]
    for key in ("nevus_recall", "nevus_recall_other_photos"):
        assert f"{published['histology'][key]:.2f}" in section


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


@pytest.mark.real_data
def test_the_histology_figures_follow_from_the_record(
    repository: Path, data_root: Path, published: dict[str, Any]
) -> None:
    import pandas as pd

    from train.evaluation.metrics import (
        GroupDraws,
        area_under_roc,
        balanced_accuracy,
        percentile_interval,
        recall_per_class,
        softmax,
    )

    metadata = pd.read_csv(data_root / "HAM10000" / "HAM10000_metadata.csv")
    codes = sorted(metadata["dx"].unique())
    malignant = np.array([code in ("akiec", "bcc", "mel") for code in codes])
    for key in ("histology", "all_out_of_fold"):
        said = published[key]
        table = pd.read_csv(repository / "train/records" / said["record"] / "oof.csv.gz")
        rows = table.merge(metadata, left_on="photo_id", right_on="image_id")
        rows = rows[rows["dx_type"] == "histo"] if key == "histology" else rows
        y_true = rows["dx"].map(codes.index).to_numpy()
        probs = softmax(rows[[f"logit_{code}" for code in codes]].to_numpy(float))
        y_pred = probs.argmax(1)
        lesions = rows["group_id"].tolist()
        interval = percentile_interval(GroupDraws.draw(lesions).balanced_accuracy(y_true, y_pred, len(codes)))
        estimate = [balanced_accuracy(y_true, y_pred, len(codes)), *interval]
        assert [len(rows), len(set(lesions))] == [said["photos"], said["lesions"]]
        assert [round(value, 3) for value in estimate] == said["balanced_accuracy"]
        if key == "histology":
            auc = area_under_roc(malignant[y_true], probs[:, malignant].sum(1))
            assert auc is not None
            assert round(auc, 3) == said["malignant_auc"]
            nevus = recall_per_class(y_true, y_pred, len(codes))[codes.index("nv")]
            assert round(float(nevus), 2) == said["nevus_recall"]
