"""The evaluation as a page and as lines for a terminal, whose texts are page.html.j2 and text.txt.j2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.comparison.text import estimate_text, terminal_safe
from edge_runtime.contract import ModelContract
from train.artifacts.selection import KEY
from train.evaluation.intervals import few_note
from train.reports import html
from train.reports.html import Section

TEMPLATE, LINES = (Path(__file__).with_name(name) for name in ("page.html.j2", "text.txt.j2"))
UNGROUPED = "No column says which photos show the same object: intervals treat every photo as its own."
NOT_RECOGNIZED = "Training photos are recognized only by names in the model's .json: leave out all others."


def sample_text(report: Mapping[str, Any]) -> str:
    """Count photos, and what intervals draw."""
    photos, units = f"{report['photos']:,} photos", report["data"]["units"]
    return photos if units == "photos" else f"{photos} of {report['lesions']:,} {units}"


def notes_of(report: Mapping[str, Any]) -> list[str]:
    """List what limits the figures."""
    units = report["data"]["units"]
    notes = [*report["data"][KEY], NOT_RECOGNIZED]
    if few := few_note(report["classes_few"], units):
        notes.append(few)
    if units == "photos":
        notes.append(UNGROUPED)
    if left := report["data"]["left_out"]:
        notes.append(f"{left:,} photos of labels that the model does not have were left out.")
    if failures := report["data"]["failures"]:
        notes.append(f"{len(failures):,} photos could not be read.")
    return notes


def make_page(report: Mapping[str, Any], contract: ModelContract) -> str:
    """Make the page of the content of evaluation.json and of the model's contract."""
    macros = html.macros(TEMPLATE)
    units = report["data"]["units"]
    confusion = macros.confusion(list(report["per_class"]), report["confusion"])
    decisions = macros.decisions(report["decisions"], report["photos"])
    sections = [
        Section("summary", "Summary", [macros.summary(report, sample_text(report), notes_of(report))]),
        Section("classes", "Labels", [macros.classes(report["per_class"], units)]),
        Section("confusion", "Confusion matrix", [confusion]),
        Section("decisions", "Decisions", [decisions]),
    ]
    if report["subgroups"]:
        tables = [macros.subgroup(title, rows, units) for title, rows in report["subgroups"].items()]
        sections.append(Section("subgroups", "Subgroup analysis", tables))
    subtitle = f"{report['model']['name']} ({report['model']['model_id']}) on {report['data']['folder']}"
    return html.page("Evaluation", subtitle, contract.provenance.data_licence, sections, contract.notice)


def terminal_summary(report: Mapping[str, Any]) -> str:
    """Format the figures for a terminal."""
    text = {**report, "sample": sample_text(report), "notes": notes_of(report)}
    return html.render_text(LINES, terminal_safe(text), {"estimate": estimate_text}).rstrip()
