"""The dossier's part on robustness: what `dermedge robustness` wrote, as curves and tables. stdlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_runtime.errors import RunInvalid
from train.evaluation.metrics import Estimate
from train.reports import charts
from train.reports import html as page
from train.reports.html import Markup

SCHEMA_VERSION = 1
# Colour and, for those who do not see it, dashes; a third model would be shown in the tables only.
LINES = ("first", "second broken")
MEASURES = {"balanced_accuracy": "Balanced accuracy", "agreement": "Agreement with the undisturbed answer"}
Report = Mapping[str, Any]


def robustness_part(report: Report) -> Markup:
    """Curves over each disturbance, and other photos as a true shift.

    Args:
        report: The content of robustness.json; its fields stand in convert/robustness/study.py.

    Raises:
        RunInvalid: Another version of it, or fields are lacking.
    """
    if report.get("schema_version") != SCHEMA_VERSION:
        raise RunInvalid(
            "robustness.json cannot be read",
            found=f"schema_version {report.get('schema_version')}",
            expected=str(SCHEMA_VERSION),
            fix="run dermedge robustness of this checkout",
        )
    try:
        return _part(report)
    except (KeyError, TypeError, IndexError) as error:
        raise RunInvalid(
            "robustness.json cannot be read",
            found=f"{type(error).__name__}: {error}",
            expected="what dermedge robustness writes",
        ) from error


def _part(report: Report) -> Markup:
    counted = report["photos"]
    names = [model["name"] for model in report["models"]]
    intro = (
        f"{counted['answered']:,} photos of {counted['lesions']:,} lesions, held out (split {counted['split']}), "
        "chosen evenly over the classes; every disturbed version went through every file as a device runs it. "
        "Agreement is the mean over true classes of the share answered as without the disturbance. Intervals: 95 %, "
        "draws of whole lesions."
    )
    caught = [f"{model['name']}: {problem}" for model in report["models"] for problem in model["caught"]]
    blocks = [page.paragraph(intro), *map(page.note, caught), _legend(names)]
    for disturbance in report["disturbances"]:
        title = disturbance["name"].replace("_", " ").capitalize()
        figures = [_chart(report, disturbance, measure, title) for measure in MEASURES]
        blocks += [
            page.element("h3", title),
            page.grid(*figures, size="wide"),
            _table(names, disturbance, title),
        ]
    blocks.append(_shift(names, report["shift"]))
    return page.join(blocks)


def _legend(names: Sequence[str]) -> Markup:
    return page.legend([(f"{name} (pale: 95 %)", line) for name, line in zip(names, LINES, strict=False)])


def _chart(report: Report, disturbance: Report, measure: str, title: str) -> Markup:
    points = disturbance["points"]
    strengths = [point["strength"] for point in points]
    last = [point["models"][0][measure] for point in (points[0], points[-1])]
    said = f"{title}: {MEASURES[measure].lower()} over {disturbance['unit']}, from {last[0][0]:.3f} to {last[1][0]:.3f}"
    axis = charts.Axis(strengths[0], strengths[-1], disturbance["unit"], strengths)
    curves = [
        (model["name"], line, [point["models"][k][measure] for point in points])
        for k, (model, line) in enumerate(zip(report["models"], LINES, strict=False))
    ]
    return page.figure(charts.curve_chart(said, axis, curves), title=MEASURES[measure])


def _table(names: Sequence[str], disturbance: Report, title: str) -> Markup:
    header = ["Strength"]
    for name in names:
        header += [f"{name}: balanced accuracy", "change", "agreement"]
    header.append(f"agreement of {names[-1]} with {names[0]}")
    rows = []
    for point in disturbance["points"]:
        cells: list[page.Cell] = [f"{point['strength']:g}".replace("-", "−")]
        for figures in point["models"]:
            cells += [
                _estimate(figures["balanced_accuracy"]),
                _signed(figures["change"]),
                _estimate(figures["agreement"]),
            ]
        rows.append([*cells, _estimate(point["models"][-1]["with_first"])])
    table = page.table(header, rows, caption=f"{title}, strength in {disturbance['unit']}")
    return page.details(f"{title} in numbers", table)


def _shift(names: Sequence[str], shift: Report | None) -> Markup:
    if shift is None:
        return page.note(
            "Other photos as a true shift were not asked about (--shift of dermedge robustness)."
        )
    said = (
        f"{shift['photos']:,} photos of {shift['lesions']:,} lesions or patients that are of another kind, "
        "undisturbed. Balanced accuracy is over the classes that occur in a row; of fewer than 20 lesions no figure is "
        "given."
    )
    header = ["Photos", "Number", "Lesions", "Classes", *(f"{name}: balanced accuracy" for name in names)]
    rows = [
        (row["value"], row["photos"], row["lesions"], str(row["classes"]),
         *(_estimate(figures["balanced_accuracy"]) for figures in row["models"]))
        for row in shift["rows"]
    ]  # fmt: skip
    caption = f"A true shift{', by ' + shift['by'] if shift['by'] else ''}"
    return page.join([page.paragraph(said), page.table(header, rows, caption=caption)])


def _estimate(value: Sequence[float] | None) -> Estimate | None:
    return None if value is None else Estimate(*value)


def _signed(value: Sequence[float] | None) -> page.Cell:
    return None if value is None else page.estimate(Estimate(*value), sign=True)
