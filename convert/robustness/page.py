"""A robustness report as a page, from page.html.j2, and as lines for the terminal, from text.txt.j2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.contract import ModelContract
from train.artifacts.labels import units_of
from train.artifacts.selection import KEY
from train.reports import charts
from train.reports import html as page
from train.reports.html import Figure, Section, number

TEMPLATE = Path(__file__).with_name("page.html.j2")
TEXT_TEMPLATE = Path(__file__).with_name("text.txt.j2")
CLASSES = ("first", "second broken", "third", "fourth")
"""Of lines, by model; a further model takes the last."""
MEASURES = (
    ("Balanced accuracy", "balanced_accuracy"),
    ("Agreement with the undisturbed prediction", "agreement"),
)
Report = Mapping[str, Any]


def make_page(report: Report, contract: ModelContract) -> str:
    """Make the page."""
    units = units_of(contract.labels)
    counted, macros = report["photos"], page.macros(TEMPLATE, units)
    names = [model["name"] for model in report["models"]]
    rows = list(zip(report["models"], _undisturbed(report)["models"], strict=True))
    notes = map(page.note, counted[KEY])
    sections = [Section("models", "Models", [*notes, macros.models(rows, names[0])])]
    legend = [(name, _class(k)) for k, name in enumerate(names)]
    for disturbance in report["disturbances"]:
        title = _title(disturbance)
        caption = f"{title}, strength in {disturbance['unit']}"
        curves = _curves(disturbance, names)
        content = macros.disturbance(disturbance["points"], names, caption, legend, curves)
        sections.append(Section(disturbance["name"], title, [content]))
    if shift := report["shift"]:
        sections.append(Section("shift", "Other photos", [macros.shift(shift, names)]))
    subtitle = (
        f"{counted['answered']:,} photos of {counted['lesions']:,} {units}, split {counted['split']}, chosen "
        f"evenly over the classes (seed {counted['seed']}); {report['machine']}"
    )
    licence = contract.provenance.data_licence
    return page.page("Robustness to disturbed photos", subtitle, licence, sections, contract.notice)


def _curves(disturbance: Report, names: Sequence[str]) -> list[Figure]:
    points = disturbance["points"]
    strengths = [point["strength"] for point in points]
    axis = charts.Axis(strengths[0], strengths[-1], disturbance["unit"], strengths)
    shown = []
    for title, measure in MEASURES:
        curves = [
            (name, _class(k), [point["models"][k][measure] for point in points])
            for k, name in enumerate(names)
        ]
        described = f"{_title(disturbance)}: {title.lower()}"
        shown.append(Figure(charts.curve_chart(described, axis, curves), title=title))
    return shown


def summary(report: Report) -> str:
    """Format all disturbances for the terminal."""
    filters = {"figure": lambda estimate: number(estimate and estimate[0])}
    return page.render_text(TEXT_TEMPLATE, report, filters).rstrip("\n")


def _title(disturbance: Report) -> str:
    name: str = disturbance["name"]
    return "JPEG" if name == "jpeg" else name.replace("_", " ").capitalize()


def _undisturbed(report: Report) -> Report:
    points: list[Report] = report["disturbances"][0]["points"]
    return next(point for point in points if point["strength"] == 0)


def _class(k: int) -> str:
    return CLASSES[min(k, len(CLASSES) - 1)]
