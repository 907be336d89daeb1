"""Figures of the evidence report: metrics, subgroups, the feature embedding, robustness curves. numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_runtime.errors import DataInvalid
from train.artifacts.labels import LabelSet
from train.artifacts.manifest import Photo
from train.dossier.binary_tasks import LINES
from train.evaluation.metrics import FloatArray, IntArray
from train.evaluation.out_of_fold import Answers
from train.evaluation.subgroups import COLUMNS, Subgroup, subgroup_columns, subgroup_tables
from train.evaluation.summary import summarize
from train.reports import charts
from train.reports import html as page
from train.reports.html import Figure, Markup
from train.reports.sections import REPEATS

METRICS = ("balanced_accuracy", "malignant_auc", "accuracy", "expected_calibration_error")
MEASURES = {
    "balanced_accuracy": "Balanced accuracy",
    "agreement": "Agreement with the undisturbed prediction",
}
UNIT = charts.Axis(0, 1)
HEAT_MAP_PX = 480
SubgroupTable = tuple[str, str, list[Subgroup]]


def _inputs(
    answers: Answers, labels: LabelSet
) -> tuple[IntArray, FloatArray, Sequence[str], Sequence[str], list[bool]]:
    """The first arguments of `summarize` and `subgroup_tables`."""
    group_of = {label.code: label.group for label in labels.labels}
    malignant = [group_of[code] == "malignant" for code in answers.codes]
    return answers.y_true, answers.probs, answers.codes, answers.groups, malignant


def summary_of(answers: Answers, labels: LabelSet) -> dict[str, Any]:
    """Compute `metrics.summarize` of a model's predictions."""
    return summarize(*_inputs(answers, labels), repeats=REPEATS)


def subgroups(
    answers: Answers,
    labels: LabelSet,
    facts: Mapping[str, Photo],
    others: Sequence[Answers],
    skin_types: Mapping[str, Mapping[str, str]],
) -> list[SubgroupTable]:
    """Evaluate by sex, age, site and kind of diagnosis; further datasets whole, and by skin type where it is known.

    Returns:
        Name of the first column, caption and rows of each table.
    """
    photos = [facts[photo_id] for photo_id in answers.photo_ids]
    columns = {k: v for k, v in subgroup_columns(photos, answers.sources).items() if k != "source"}
    tables = [
        (COLUMNS[column], f"By {COLUMNS[column].lower()}", rows)
        for column, rows in subgroup_tables(*_inputs(answers, labels), columns, repeats=REPEATS).items()
    ]
    for other in others:
        source = other.sources[0]
        types = skin_types.get(source, {})
        columns = {"source": [source] * len(other.photo_ids)}
        if types:
            columns["skin"] = [f"type {types[i]}" if i in types else "unknown" for i in other.photo_ids]
        names = {
            "source": ("Dataset", f"{source}, all"),
            "skin": ("Fitzpatrick", f"{source}, by Fitzpatrick skin type"),
        }
        found = subgroup_tables(*_inputs(other, labels), columns, repeats=REPEATS)
        tables += [(*names[column], rows) for column, rows in found.items()]
    return tables


def embedding_panels(found: Mapping[str, Any], names: Mapping[str, str]) -> list[Figure]:
    """Draw a panel for each label of embedding.json, its photos dark among all others: no colours to distinguish."""
    points = {label: np.array(text.split(), float).reshape(-1, 2) for label, text in found["points"].items()}
    panels = []
    for label, own in points.items():
        rest = np.concatenate([places for other, places in points.items() if other != label])
        agreement, name = found["same_label_neighbour"][label], names.get(label, label)
        description = (
            f"t-SNE of {found['about']['photos']}: {len(own)} of {name} among the others. Nearest neighbour of the "
            f"same label: {agreement:.2f}"
        )
        plot = charts.Plot(description, UNIT, UNIT, width=220, height=200)
        plot.dots(rest[:, 0], rest[:, 1], "pale")
        plot.dots(own[:, 0], own[:, 1], "first")
        caption = (
            f"{page.counted(len(own), 'photo')}; the nearest photo of another lesion has the same label for "
            f"{page.share(agreement)} of them (by chance {page.share(len(own) / found['photos'])})."
        )
        panels.append(Figure(plot.svg(), caption, f"{label}: {name}"))
    return panels


def heat_map(path: Path) -> Markup:
    """Embed the heat map that the int8 file made of a generated photo.

    Raises:
        DataInvalid: Not a picture.
    """
    try:
        with Image.open(path) as image:
            pixels = image.convert("RGB")
    except OSError as error:
        raise DataInvalid(
            "not a picture", where=str(path), found=str(error), expected="a PNG or JPEG"
        ) from error
    description = "A generated photo of one lesion with the heat map that the int8 file made of it"
    return page.picture(pixels, description, most_px=HEAT_MAP_PX)


def robustness_charts(report: Mapping[str, Any]) -> list[list[Figure]]:
    """Draw each disturbance's curves, one for each of MEASURES; a third model stands in the tables only."""
    return [
        [_robustness_chart(report, disturbance, measure) for measure in MEASURES]
        for disturbance in report["disturbances"]
    ]


def _robustness_chart(report: Mapping[str, Any], disturbance: Mapping[str, Any], measure: str) -> Figure:
    points, unit, title = disturbance["points"], disturbance["unit"], MEASURES[measure]
    strengths = [point["strength"] for point in points]
    ends = [points[i]["models"][0][measure][0] for i in (0, -1)]
    name = disturbance["name"].replace("_", " ").capitalize()
    curves = [
        (model["name"], line, [point["models"][k][measure] for point in points])
        for k, (model, line) in enumerate(zip(report["models"], LINES, strict=False))
    ]
    description = f"{name}: {title.lower()} over {unit}, from {ends[0]:.3f} to {ends[1]:.3f}"
    axis = charts.Axis(strengths[0], strengths[-1], unit, strengths)
    return Figure(charts.curve_chart(description, axis, curves), title=title)
