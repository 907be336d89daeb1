"""The evaluation as a page, whose text is page.html.j2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_runtime.contract import ModelContract
from train.reports import html
from train.reports.html import Section

TEMPLATE = Path(__file__).with_name("page.html.j2")


def make_page(report: Mapping[str, Any], contract: ModelContract) -> str:
    """Make the page of the content of evaluation.json and of the model's contract."""
    macros = html.macros(TEMPLATE)
    sample = f"{report['photos']:,} photos of {report['lesions']:,} lesions"
    confusion = macros.confusion(list(report["per_class"]), report["confusion"])
    decisions = macros.decisions(report["decisions"], report["photos"])
    sections = [
        Section("summary", "Summary", [macros.summary(report, sample)]),
        Section("classes", "Labels", [macros.classes(report["per_class"])]),
        Section("confusion", "Confusion matrix", [confusion]),
        Section("decisions", "Decisions", [decisions]),
    ]
    if report["subgroups"]:
        tables = [macros.subgroup(title, rows) for title, rows in report["subgroups"].items()]
        sections.append(Section("subgroups", "Subgroup analysis", tables))
    subtitle = f"{report['model']['name']} ({report['model']['model_id']}) on {report['data']['folder']}"
    return html.page("Evaluation", subtitle, contract.provenance.data_licence, sections)
