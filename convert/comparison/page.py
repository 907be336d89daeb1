"""The HTML page of a comparison: verdicts, charts, changed predictions, layers; its text is page.html.j2. Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convert.comparison.text import p_value
from convert.inputs import Photo
from edge_runtime.contract import ModelContract
from train.evaluation.subgroups import COLUMNS
from train.reports import charts
from train.reports import html as page
from train.reports.html import Figure, Markup, Section, signed

TEMPLATE = Path(__file__).with_name("page.html.j2")
FLIPS_WITH_PHOTOS = 48
LAYERS_SHOWN = 15


def make_page(
    report: dict[str, Any], contract: ModelContract, photos: Sequence[Photo], *, thumbnails: bool = True
) -> str:
    """Make the page of a report, with thumbnails of photos whose prediction changed; the contract says their crop."""
    paths = {photo.photo_id: photo.path for photo in photos} if thumbnails else {}
    counted, macros = report["photos"], page.macros(TEMPLATE, report["photos"]["units"])
    first = report["models"][0]
    failed = [model["name"] for model in report["models"] if model["caught"]]
    sections = [
        Section("verdict", "Verdict", [macros.verdict(report, failed, _overview(report))]),
        Section("models", "Models", [macros.models(report)]),
    ]
    for pair, second in zip(report["pairs"], report["models"][1:], strict=True):
        pictures = [
            page.thumbnail(paths[flip["photo_id"]], contract)
            for flip in pair["flips"][:FLIPS_WITH_PHOTOS]
            if flip["photo_id"] in paths
        ]
        content = [
            macros.changes(pair, _changes(pair, first, second), p_value),
            macros.changed(pair["flips"], pictures),
            macros.groups(pair["groups"], COLUMNS),
        ]
        if layers := pair.get("layers"):
            worst = sorted(layers["rows"], key=lambda row: row["snr_db"])[:LAYERS_SHOWN]
            content.append(macros.layers(layers, worst, _layer_chart(layers) if worst else ""))
        sections.append(
            Section(f"pair-{len(sections) - 1}", f"{pair['name']} against {first['name']}", content)
        )
    licences, notices = (
        dict.fromkeys(model[key] for model in report["models"]) for key in ("data_licence", "notice")
    )
    names = ", ".join(model["name"] for model in report["models"])
    subtitle = (
        f"{names}: {counted['answered']:,} photos of {counted['lesions']:,} {counted['units']}, split "
        f"{counted['split']}, {report['timing']['machine']}"
    )
    return page.page("Model comparison", subtitle, "; ".join(licences), sections, " ".join(notices))


def _overview(report: dict[str, Any]) -> list[Figure]:
    """Draw the charts of all models: difference in balanced accuracy, size, time."""
    models, title = report["models"], "Difference in balanced accuracy"
    rows = [
        (pair["name"], [100 * x for x in pair["difference"]], f"{_points(pair['difference'])} points")
        for pair in report["pairs"]
    ]
    shown = [
        Figure(
            charts.interval_chart(title, rows, f"{models[0]['name']} = 0"),
            "Balanced accuracy minus that of the first model, in points, with 95 % interval.",
            title,
        ),
        _bars("File size", [(m["name"], m["bytes"] / 1e6, f"{m['bytes'] / 1e6:.2f} MB") for m in models]),
    ]
    timed = [(m["name"], m["ms_per_photo"]) for m in models if m["ms_per_photo"] is not None]
    if timed:
        caption = f"One photo, one thread, median of several runs; {report['timing']['machine']}."
        shown.append(_bars("Inference time", [(name, ms, f"{ms:.1f} ms") for name, ms in timed], caption))
    return shown


def _bars(title: str, rows: Sequence[tuple[str, float, str]], caption: str = "") -> Figure:
    return Figure(charts.bar_chart(title, rows), caption, title)


def _changes(pair: dict[str, Any], first: dict[str, Any], second: dict[str, Any]) -> list[Figure]:
    """Draw the charts of a pair: recall by class, score changes, reliability."""
    legend, title = [(first["name"], "first"), (second["name"], "second")], "Recall by class"
    classes = [
        (
            code,
            *row["recall"],
            f"{_points(row['difference'])} of {row['photos']:,}" if row["difference"] else page.MISSING,
        )
        for code, row in pair["classes"].items()
    ]
    scores = [
        (f"{row['from']:g} to {row['to']:g}", row["photos"], f"{row['photos']:,}")
        for row in pair["score_changes"]
    ]
    return [
        Figure(charts.pair_chart(title, classes), "At the right: change in points, and n.", title, legend),
        _bars("Score change", scores, "Photos by the largest change of any of their scores."),
        Figure(
            _reliability(first, second),
            "Accuracy by top score; the dashed line is perfect calibration.",
            "Reliability diagram",
            legend,
        ),
    ]


def _reliability(first: dict[str, Any], second: dict[str, Any]) -> Markup:
    axes = charts.unit_axis("top score"), charts.unit_axis("accuracy")
    plot = charts.Plot("Reliability diagram", *axes)
    plot.line([0, 1], [0, 1], "dashed")
    for class_, model in (("first", first), ("second", second)):
        bins = model["figures"]["reliability"]
        places, heights = [row["top_score"] for row in bins], [row["accuracy"] for row in bins]
        plot.line(places, heights, class_)
        plot.points(places, heights, class_, titles=[f"{row['photos']:,} photos" for row in bins])
    return plot.svg()


def _layer_chart(layers: dict[str, Any]) -> Markup:
    rows, at = layers["rows"], layers["first_large_loss"]
    highest = min(max(row["snr_db"] for row in rows), 80.0)
    plot = charts.Plot(
        "Signal-to-noise ratio by operator",
        charts.nice_axis(0, len(rows), "operator, from input to output"),
        charts.nice_axis(min(0.0, *(row["snr_db"] for row in rows)), highest, "dB"),
    )
    places = [row["position"] + 1 for row in rows]
    heights = [min(row["snr_db"], highest) for row in rows]
    texts = [f"{row['name']} ({row['kind']}): {row['snr_db']:.1f} dB" for row in rows]
    plot.line(places, heights, "first")
    plot.points(places, heights, "first", titles=texts)
    if at is not None:
        plot.points([places[at]], [heights[at]], "worse", radii=[4.5], titles=[texts[at]])
    return plot.svg()


def _points(difference: Sequence[float]) -> str:
    return signed(100 * difference[0], 1)
