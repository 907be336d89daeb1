"""A comparison as a page that a person would rather look at: verdicts, charts, flipped photos, layers. Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convert.comparison.text import p_value
from convert.inputs import Photo
from edge_runtime.contract import ModelContract
from train.reports import charts
from train.reports import html as page
from train.reports.html import Markup, Section, element, estimate, number, paragraph, signed, table

FLIPS_WITH_PHOTOS = 48
LAYERS_SHOWN = 15
COLUMN_NAMES = {"sex": "Sex", "age": "Age", "site": "Site"}
INTERVALS = (
    "Intervals are 95 %, from 1,000 draws of whole lesions; differences are measured on the same draws for both "
    "models, so an interval that holds 0 does not show a difference."
)


def make_page(
    report: dict[str, Any], contract: ModelContract, photos: Sequence[Photo], *, thumbnails: bool = True
) -> str:
    """The page.

    Args:
        report: What `comparison.build_report` made.
        contract: Of the first model; says how thumbnails are cropped.
        photos: Where to find them.
        thumbnails: Whether to show flipped photos.
    """
    by_id = {photo.photo_id: photo for photo in photos} if thumbnails else {}
    counted = report["photos"]
    first = report["models"][0]["name"]
    sections = [
        Section("verdict", "Verdict", [_verdicts(report)]),
        Section("models", "The models", [_models(report)]),
    ]
    for i, pair in enumerate(report["pairs"]):
        content = (_changes(report, i), _flips(pair, contract, by_id), _groups(pair), _layers(pair))
        sections.append(Section(f"pair-{i + 1}", f"{pair['name']} against {first}", content))
    licences = list(dict.fromkeys(model["data_licence"] for model in report["models"]))
    names = ", ".join(model["name"] for model in report["models"])
    subtitle = (
        f"{names}: {counted['answered']:,} photos of {counted['lesions']:,} lesions, split {counted['split']}, "
        f"{report['timing']['machine']}"
    )
    return page.page("What the conversion cost", subtitle, "; ".join(licences), sections)


def _verdicts(report: dict[str, Any]) -> Markup:
    blocks = []
    caught = {model["name"] for model in report["models"] if model["caught"]}
    for pair in report["pairs"]:
        marked = "verdict error" if {pair["name"], pair["against"]} & caught else "verdict"
        blocks.append(paragraph(pair["verdict"], class_=marked))
    for model in report["models"]:
        blocks += [
            paragraph(element("strong", model["name"]), ": ", problem, class_="note error")
            for problem in model["caught"]
        ]
    blocks += [paragraph(remark, class_="note") for remark in report["remarks"]]
    rows = [
        (pair["name"], _points(pair["difference"]), f"{_signed_points(pair['difference'][0])} points")
        for pair in report["pairs"]
    ]
    told = "Balanced accuracy minus that of the first model, in points, with its 95 % interval."
    chart = charts.interval_chart(
        "Difference in balanced accuracy", rows, zero=f"{report['models'][0]['name']} = 0"
    )
    sizes = [(m["name"], m["bytes"] / 1e6, f"{m['bytes'] / 1e6:.2f} MB") for m in report["models"]]
    times = [
        (m["name"], m["ms_per_photo"], f"{m['ms_per_photo']:.1f} ms")
        for m in report["models"]
        if m["ms_per_photo"] is not None
    ]
    figures = [
        page.figure(chart, told, title="Difference in balanced accuracy"),
        page.figure(_bars("File size", sizes), title="File size"),
    ]
    if times:
        told = f"Inference alone, one thread, median of one photo again and again; {report['timing']['machine']}."
        figures.append(page.figure(_bars("Inference time", times), told, title="Inference time"))
    return page.join((*blocks, page.grid(*figures, size="wide"), paragraph(INTERVALS, class_="subtitle")))


def _bars(title: str, rows: Sequence[tuple[str, float, str]]) -> Markup:
    names, values, texts = zip(*rows, strict=True)
    return charts.bar_chart(title, names, [[value] for value in values], texts)


def _models(report: dict[str, Any]) -> Markup:
    codes = list(report["photos"]["per_class"])
    header = (
        "Model",
        "Recipe",
        "MB",
        "Operators",
        "ms",
        "Balanced accuracy",
        "Accuracy",
        "Calibration error",
    )
    rows = []
    for model in report["models"]:
        figures = model["figures"]
        rows.append(
            (
                model["name"],
                model["recipe"],
                f"{model['bytes'] / 1e6:.2f}",
                sum(model["operators"].values()),
                number(model["ms_per_photo"], 1),
                estimate(figures["balanced_accuracy"]),
                estimate(figures["accuracy"]),
                estimate(figures["expected_calibration_error"]),
            )
        )
    recall = [
        (model["name"], *(estimate(model["figures"]["recall"][code]) for code in codes))
        for model in report["models"]
    ]
    counts = report["photos"]["per_class"]
    inside = [
        (
            model["name"],
            f"{model['input']} to {model['output']}",
            _counts(model["weights"]),
            _counts(model["activations"]),
            _counts(model["operators"]),
            model["run_id"],
            element("code", model["sha256"][:16]),
        )
        for model in report["models"]
    ]
    columns = [page.join((code, element("small", f"{counts[code]:,} photos"))) for code in codes]
    return page.join(
        (
            table(header, rows, caption="Figures", texts=(1,)),
            table(("Model", *columns), recall, caption="Recall of each class"),
            element(
                "details",
                element("summary", "What is inside the files"),
                table(
                    (
                        "Model",
                        "Input, output",
                        "Constant tensors",
                        "Computed tensors",
                        "Operators",
                        "Run",
                        "sha256",
                    ),
                    inside,
                    caption="Inside",
                    texts=(1, 2, 3, 4, 5, 6),
                ),
            ),
        )
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _changes(report: dict[str, Any], i: int) -> Markup:
    pair, first, second = report["pairs"][i], report["models"][0], report["models"][i + 1]
    agreement, largest = pair["agreement"], pair["largest_score_change"]
    facts = [
        ("Balanced accuracy", estimate(pair["difference"], sign=True)),
        ("Accuracy", estimate(pair["accuracy_difference"], sign=True)),
        ("Calibration error", estimate(pair["calibration_error_difference"], sign=True)),
        ("Same answer", estimate(agreement)),
        ("Answers changed", f"{pair['answers_changed']:,}"),
        ("... for the worse", f"{pair['for_the_worse']:,}"),
        ("... for the better", f"{pair['for_the_better']:,}"),
        ("... wrong both times", f"{pair['wrong_both_times']:,}"),
        ("McNemar's exact p", p_value(pair["mcnemar_p"])),
        ("Mean score change", number(pair["mean_score_change"], 4)),
        ("Largest score change", f"{number(largest['value'])} ({largest['label']} of {largest['photo_id']})"),
    ]
    classes = [
        (
            code,
            row["recall"][0],
            row["recall"][1],
            f"{_signed_points(row['difference'][0])} of {row['photos']:,}"
            if row["difference"]
            else page.MISSING,
        )
        for code, row in pair["classes"].items()
    ]
    marks = page.legend([(first["name"], "first"), (second["name"], "second")])
    scores = [
        (f"{row['from']:g} to {row['to']:g}", row["photos"], f"{row['photos']:,}")
        for row in pair["score_changes"]
    ]
    figures = [
        page.figure(
            page.join((marks, charts.pair_chart("Recall by class", classes))),
            "At the right: change in points, and the class's photos.",
            title="Recall by class",
        ),
        page.figure(
            _bars("Largest change of any score, by photo", scores),
            "Photos by the largest change of any of their scores.",
            title="Score change",
        ),
        page.figure(
            page.join((marks, _reliability(first, second))),
            "Share of right answers over the top score; the dashed line is perfect calibration.",
            title="Reliability diagram",
        ),
    ]
    return page.join(
        (
            table(("Change to the first model", "Value"), facts, caption="What changed"),
            page.grid(*figures, size="wide"),
            _class_table(pair),
        )
    )


def _class_table(pair: dict[str, Any]) -> Markup:
    rows = [
        (
            code,
            row["photos"],
            number(row["recall"][0]),
            number(row["recall"][1]),
            estimate(row["difference"], sign=True),
            row["answers_changed"],
        )
        for code, row in pair["classes"].items()
    ]
    header = ("Class", "Photos", "Recall before", "after", "Difference", "Answers changed")
    return element(
        "details", element("summary", "Each class in figures"), table(header, rows, caption="Recall by class")
    )


def _reliability(first: dict[str, Any], second: dict[str, Any]) -> Markup:
    plot = charts.Plot(
        "Share of right answers over the top score",
        charts.unit_axis("top score"),
        charts.unit_axis("share right"),
    )
    plot.line([0, 1], [0, 1], "dashed")
    for class_, model in (("first", first), ("second", second)):
        bins = model["figures"]["reliability"]
        places, heights = [row["top_score"] for row in bins], [row["accuracy"] for row in bins]
        plot.line(places, heights, class_)
        plot.points(places, heights, class_, titles=[f"{row['photos']:,} photos" for row in bins])
    return plot.svg()


def _flips(pair: dict[str, Any], contract: ModelContract, by_id: dict[str, Photo]) -> Markup:
    flips = pair["flips"]
    if not flips:
        return page.join((element("h3", "Flipped photos"), paragraph("No answer changed.")))
    blocks: list[object] = [element("h3", "Flipped photos")]
    with_photos = flips[:FLIPS_WITH_PHOTOS] if by_id else []
    if with_photos:
        cards = [_card(flip, contract, by_id.get(flip["photo_id"])) for flip in with_photos]
        told = (
            f"All {len(flips):,} answers that changed"
            if len(with_photos) == len(flips)
            else f"{len(with_photos):,} of the {len(flips):,} answers that changed"
        )
        blocks.append(paragraph(f"{told}: for the worse first, the largest change of a score first."))
        blocks.append(element("div", *cards, class_="photos"))
    header = ("Photo", "Truth", "Before", "After", "Kind", "Score before", "after", "Largest change")
    rows = [
        (
            flip["photo_id"],
            flip["truth"],
            flip["first"],
            flip["second"],
            _kind(flip),
            number(flip["first_score"]),
            number(flip["second_score"]),
            number(flip["score_change"]),
        )
        for flip in flips
    ]
    listed = table(header, rows, caption="Answers that changed", texts=(1, 2, 3, 4))
    blocks.append(element("details", element("summary", f"The list of all {len(flips):,}"), listed))
    return page.join(blocks)


def _kind(flip: dict[str, Any]) -> Markup:
    class_ = {"for the worse": "worse", "for the better": "better"}.get(flip["kind"])
    return element("span", flip["kind"], class_=class_)


def _card(flip: dict[str, Any], contract: ModelContract, photo: Photo | None) -> Markup:
    lines = (
        page.join(("truth ", element("b", flip["truth"]))),
        page.join((f"{flip['first']} {number(flip['first_score'], 2)} → ", element("b", flip["second"]))),
        page.join((f"at {number(flip['second_score'], 2)}, ", _kind(flip))),
        flip["photo_id"],
    )
    picture = None if photo is None else page.thumbnail(photo.path, contract)
    described = f"{flip['photo_id']}: {flip['truth']}, {flip['first']} before, {flip['second']} after"
    return page.photo_card(picture, *lines, description=described)


def _groups(pair: dict[str, Any]) -> Markup:
    if not pair["groups"]:
        return Markup("")
    blocks: list[object] = [element("h3", "Parts of the photos")]
    header = (
        "",
        "Photos",
        "Lesions",
        "Classes",
        "Before",
        "After",
        "Difference",
        "Answers changed",
        "Same answer",
    )
    for column, rows in pair["groups"].items():
        shown = [
            (
                row["value"],
                row["photos"],
                row["lesions"],
                row["classes"],
                number(row["balanced_accuracy"][0]) if row["balanced_accuracy"] else None,
                number(row["balanced_accuracy"][1]) if row["balanced_accuracy"] else None,
                estimate(row["difference"], sign=True),
                row["answers_changed"],
                number(row["agreement"]),
            )
            for row in rows
        ]
        blocks.append(table(header, shown, caption=COLUMN_NAMES.get(column, column)))
    told = (
        "Balanced accuracy over the classes that occur in a part. Parts of fewer than 20 lesions get counts only. With "
        "so many rows, one interval in twenty leaves 0 out by chance."
    )
    return page.join((*blocks, paragraph(told, class_="subtitle")))


def _layers(pair: dict[str, Any]) -> Markup:
    layers = pair.get("layers")
    if layers is None:
        return Markup("")
    heading = element("h3", "Layer by layer")
    rows = layers["rows"]
    if not rows:
        return page.join((heading, paragraph(f"Not measured: {layers['problem']}.")))
    at = layers["first_large_loss"]
    told: list[object] = [
        f"Signal-to-noise ratio of every operator's output against the first file's, over {layers['photos']} photos, "
        "on built-in kernels. 20 dB are 1 % of the signal's power. "
    ]
    if at is None:
        told.append("No single operator adds as much as 1 % of the signal's power as noise.")
    else:
        row = rows[at]
        told += [
            "The first large loss enters at ",
            element("b", row["name"]),
            f" ({row['kind']}, operator {at + 1} of {len(rows)}): {row['snr_db']:.1f} dB are left of its output.",
        ]
    worst = sorted(rows, key=lambda row: row["snr_db"])[:LAYERS_SHOWN]
    header = ("Operator", "Kind", "Number", "Output", "dB left", "Noise it adds", "Gain")
    shown = [
        (
            row["name"],
            row["kind"],
            row["position"] + 1,
            " × ".join(map(str, row["shape"])),
            number(row["snr_db"], 1),
            f"{100 * row['added']:.2f} %",
            number(row["gain"]),
        )
        for row in worst
    ]
    return page.join(
        (
            heading,
            paragraph(*told),
            page.figure(_layer_chart(rows, at)),
            table(header, shown, caption="Worst first", texts=(1,)),
        )
    )


def _layer_chart(rows: Sequence[dict[str, Any]], at: int | None) -> Markup:
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


def _points(value: Sequence[float] | None) -> list[float] | None:
    return None if value is None else [100 * x for x in value]


def _signed_points(value: float) -> str:
    return signed(100 * value, 1)
