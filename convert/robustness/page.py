"""A robustness report as a page and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from train.reports import charts
from train.reports import html as page
from train.reports.html import Markup, Section, estimate, number, paragraph, table

CLASSES = ("first", "second broken", "third", "fourth")
"""Of lines, by model; a further model takes the last."""
NAMES = {
    "zoom": "Zoom",
    "rotation": "Rotation",
    "brightness": "Brightness",
    "white_balance": "White balance",
    "blur": "Blur",
    "jpeg": "JPEG",
}
INTERVALS = (
    "Intervals are 95 %, from 1,000 draws of whole lesions. Agreement is the mean over true classes of the share of "
    "photos that are answered as without the disturbance."
)
Report = Mapping[str, Any]


def make_page(report: Report, licence: str) -> str:
    """The page, self-contained."""
    counted = report["photos"]
    sections = [Section("models", "Models", [_models(report)])]
    for disturbance in report["disturbances"]:
        name = disturbance["name"]
        sections.append(Section(name, NAMES[name], [_disturbance(report, disturbance)]))
    if report["shift"] is not None:
        sections.append(Section("shift", "Other photos", [_shift(report)]))
    subtitle = (
        f"{counted['answered']:,} photos of {counted['lesions']:,} lesions, split {counted['split']}, chosen evenly "
        f"over the classes (seed {counted['seed']}); {report['machine']}"
    )
    return page.page("What is left when photos get worse", subtitle, licence, sections)


def _models(report: Report) -> Markup:
    undisturbed = report["disturbances"][0]["points"][_zero(report["disturbances"][0])]
    rows = [
        (
            model["name"],
            model["recipe"],
            estimate(figures["balanced_accuracy"]),
            estimate(figures["with_first"]),
            "; ".join(model["caught"]) or "nothing",
        )
        for model, figures in zip(report["models"], undisturbed["models"], strict=True)
    ]
    header = ("Model", "Recipe", "Balanced accuracy", f"Agreement with {_name(report, 0)}", "Caught")
    shown = table(header, rows, caption="On the photos as they are", texts={1, 4})
    return page.join((paragraph(INTERVALS), shown))


def _disturbance(report: Report, disturbance: Report) -> Markup:
    legend = page.legend((model["name"], _class(k)) for k, model in enumerate(report["models"]))
    figures = [
        page.figure(
            _curves(report, disturbance, measure, f"{NAMES[disturbance['name']]}: {title.lower()}"),
            title=title,
        )
        for title, measure in (
            ("Balanced accuracy", "balanced_accuracy"),
            ("Agreement with the undisturbed answer", "agreement"),
        )
    ]
    header = ["Strength"]
    for model in report["models"]:
        header += [f"{model['name']}: balanced accuracy", "change", "agreement", "with the first"]
    rows = [
        (
            f"{point['strength']:g}",
            *(
                estimate(figures[name], sign=name == "change")
                for figures in point["models"]
                for name in ("balanced_accuracy", "change", "agreement", "with_first")
            ),
        )
        for point in disturbance["points"]
    ]
    caption = f"{NAMES[disturbance['name']]}, strength in {disturbance['unit']}"
    return page.join((legend, page.grid(*figures, size="wide"), table(header, rows, caption=caption)))


def _curves(report: Report, disturbance: Report, measure: str, title: str) -> Markup:
    strengths = [point["strength"] for point in disturbance["points"]]
    axis = charts.Axis(strengths[0], strengths[-1], disturbance["unit"], strengths)
    curves = [
        (model["name"], _class(k), [point["models"][k][measure] for point in disturbance["points"]])
        for k, model in enumerate(report["models"])
    ]
    return charts.curve_chart(title, axis, curves)


def _shift(report: Report) -> Markup:
    shift = report["shift"]
    said = (
        f"{shift['photos']:,} photos of {shift['lesions']:,} lesions or patients from {shift['manifest']}. "
        + (f"Broken down by {shift['by']}. " if shift["by"] else "")
        + "Balanced accuracy is over the classes that occur in a row, so rows with other classes do not compare; where "
        "there are fewer than 20 lesions no figure is given."
    )
    header = ["Photos", "Number", "Lesions", "Classes"]
    for model in report["models"]:
        header += [f"{model['name']}: balanced accuracy", "with the first"]
    rows = [
        (
            row["value"],
            row["photos"],
            row["lesions"],
            row["classes"],
            *(estimate(f[name]) for f in row["models"] for name in ("balanced_accuracy", "with_first")),
        )
        for row in shift["rows"]
    ]
    return page.join((paragraph(said), table(header, rows, caption="Photos from elsewhere")))


def summary(report: Report) -> str:
    """The strongest of each disturbance, for the terminal."""
    names: Sequence[str] = [model["name"] for model in report["models"]]
    lines = []
    for model in report["models"]:
        lines += [f"{model['name']}: {problem}" for problem in model["caught"]]
    zero = report["disturbances"][0]["points"][_zero(report["disturbances"][0])]
    lines.append(f"{'undisturbed':<24} " + _row(names, zero))
    for disturbance in report["disturbances"]:
        for point in disturbance["points"]:
            if point["strength"] != 0:
                lines.append(f"{disturbance['name']:<14} {point['strength']:>8g}  " + _row(names, point))
    for row in (report["shift"] or {}).get("rows", ()):
        told = [
            f"{name} {number(figures['balanced_accuracy'] and figures['balanced_accuracy'][0])}"
            for name, figures in zip(names, row["models"], strict=True)
        ]
        lines.append(
            f"other photos, {row['value']}: {row['photos']} photos, {row['classes']} classes: {', '.join(told)}"
        )
    return "\n".join(lines)


def _row(names: Sequence[str], point: Report) -> str:
    return "; ".join(
        f"{name} {figures['balanced_accuracy'][0]:.3f}, agreement {figures['agreement'][0]:.3f}"
        for name, figures in zip(names, point["models"], strict=True)
    )


def _zero(disturbance: Report) -> int:
    return [point["strength"] for point in disturbance["points"]].index(0)


def _name(report: Report, k: int) -> str:
    return str(report["models"][k]["name"])


def _class(k: int) -> str:
    return CLASSES[min(k, len(CLASSES) - 1)]
