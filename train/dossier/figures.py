"""The dossier's further parts: main figures, parts of the photos, the embedding, robustness, the heat map. numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_runtime.errors import DataInvalid
from train.artifacts.labels import LabelSet
from train.artifacts.manifest import Photo
from train.dossier.dermatologists import shown_name
from train.evaluation.metrics import Estimate, summarize
from train.evaluation.out_of_fold import Answers
from train.evaluation.subgroups import COLUMNS, LEAST_LESIONS, Subgroup, subgroup_columns, subgroup_tables
from train.reports import charts
from train.reports import html as page
from train.reports.html import Markup
from train.reports.sections import INTERVALS, REPEATS, estimate_of

UNIT = charts.Axis(0, 1)


def summary_of(answers: Answers, labels: LabelSet) -> dict[str, Any]:
    """`metrics.summarize` of a model's answers."""
    groups = {label.code: label.group == "malignant" for label in labels.labels}
    malignant = [groups[code] for code in answers.codes]
    return summarize(answers.y_true, answers.probs, answers.codes, answers.groups, malignant, repeats=REPEATS)


def figures_part(models: Sequence[tuple[Answers, dict[str, Any]]]) -> Markup:
    """Every model's main figures, recall of each class, confusion of each."""
    names = ("balanced_accuracy", "malignant_auc", "accuracy", "expected_calibration_error")
    rows = [
        (
            shown_name(answers.model),
            *(estimate_of(summary, name) for name in names),
            summary["photos"],
            summary["lesions"],
            ", ".join(map(str, answers.fold_numbers)),
        )
        for answers, summary in models
    ]
    header = (
        "Model", "Balanced accuracy", "Malignant AUC", "Accuracy", "Calibration error", "Photos", "Groups", "Folds",
    )  # fmt: skip
    photos = {code: models[0][1]["per_class"][code]["photos"] for code in models[0][0].codes}
    recall = [
        (code, *(estimate_of(summary, "recall", code) for _, summary in models), photos[code])
        for code in photos
    ]
    blocks = [
        page.table(header, rows, caption="Out of fold"),
        page.paragraph(INTERVALS, class_="subtitle"),
        page.table(
            ("Class", *(f"Recall, {shown_name(a.model)}" for a, _ in models), "Photos"),
            recall,
            caption="Each class",
        ),
    ]
    blocks += [
        page.heat_table(
            "truth \\ answer",
            answers.codes,
            list(zip(answers.codes, summary["confusion"], strict=True)),
            caption=f"Confusion, {shown_name(answers.model)}: truth in rows",
        )
        for answers, summary in models
    ]
    return page.join(blocks)


# ------------------------------------------------------------------ parts of the photos


def parts_part(
    answers: Answers,
    labels: LabelSet,
    facts: Mapping[str, Photo],
    others: Sequence[Answers],
    skin_types: Mapping[str, Mapping[str, str]],
) -> Markup:
    """Figures by sex, age, site and kind of diagnosis; and of each further data set, by skin type where it is known."""
    photos = [facts[photo_id] for photo_id in answers.photo_ids]
    columns = {k: v for k, v in subgroup_columns(photos, answers.sources).items() if k != "source"}
    intro = (
        f"Float model, {answers.sources[0]}. Balanced accuracy is over the classes that occur in a row; rows with "
        f"other classes cannot be compared. Rows of fewer than {LEAST_LESIONS} lesions show counts only."
    )
    blocks = [page.paragraph(intro)]
    for column, rows in _tables(answers, labels, columns).items():
        blocks.append(_table(COLUMNS[column], rows, f"By {COLUMNS[column].lower()}"))
    for other in others:
        source = other.sources[0]
        types = skin_types.get(source, {})
        values = {"source": [source] * len(other.photo_ids)}
        if types:
            values["skin"] = [f"type {types[i]}" if i in types else "unknown" for i in other.photo_ids]
        for column, rows in _tables(other, labels, values).items():
            name = "Fitzpatrick" if column == "skin" else "Data set"
            caption = f"{source}, by Fitzpatrick skin type" if column == "skin" else f"{source}, all"
            blocks.append(_table(name, rows, caption))
    return page.join(blocks)


def _tables(
    answers: Answers, labels: LabelSet, columns: Mapping[str, Sequence[str]]
) -> dict[str, list[Subgroup]]:
    group_of = {label.code: label.group for label in labels.labels}
    malignant = [group_of[code] == "malignant" for code in answers.codes]
    return subgroup_tables(
        answers.y_true, answers.probs, answers.codes, answers.groups, malignant, columns, repeats=REPEATS
    )


def _table(name: str, rows: Sequence[Subgroup], caption: str) -> Markup:
    header = (
        name,
        "Photos",
        "Groups",
        "Balanced accuracy",
        "Malignant AUC",
        "Malignant photos",
        "Absent classes",
    )
    cells = [
        (row.value, row.photos, row.lesions, row.balanced_accuracy, row.malignant_auc, row.malignant,
         ", ".join(row.absent) or "none")
        for row in rows
    ]  # fmt: skip
    return page.table(header, cells, caption=caption, texts=(6,))


# ------------------------------------------------------------------ embedding


def embedding_part(found: Mapping[str, Any], names: Mapping[str, str]) -> Markup:
    """A panel for each label, its photos dark among all others: no colour has to be told from another.

    Args:
        found: The content of embedding.json.
        names: Label to name.
    """
    points = {label: np.array(text.split(), float).reshape(-1, 2) for label, text in found["points"].items()}
    panels = []
    for label, own in points.items():
        rest = np.concatenate([places for other, places in points.items() if other != label])
        share = len(own) / found["photos"]
        agreement = found["same_label_neighbour"][label]
        plot = charts.Plot(
            f"t-SNE of {found['about']['photos']}: {len(own)} of {names.get(label, label)} among the others. Nearest "
            f"neighbour of the same label: {agreement:.2f}",
            UNIT, UNIT, width=220, height=200,
        )  # fmt: skip
        plot.dots(rest[:, 0], rest[:, 1], "pale")
        plot.dots(own[:, 0], own[:, 1], "first")
        told = (
            f"{page.counted(len(own), 'photo')}; the nearest photo of another lesion has the same label for "
            f"{page.share(agreement)} of them (by chance {page.share(share)})."
        )
        panels.append(page.figure(plot.svg(), told, title=f"{label}: {names.get(label, label)}"))
    about = found["about"]
    intro = (
        f"The last layer before the decision, of {about['network']} ({about['weights']}), for {about['photos']} that "
        f"it did not learn from. {found['method']}. Sizes of clusters and distances between them mean nothing in such "
        "a picture; the shares below each panel are counted in the full space. Photos of the data set are not shown "
        "here: python -m train.taxonomy.embedding RUN --page FILE.html makes the picture with thumbnails on a machine that has "  # noqa: E501
        "them."
    )
    return page.join([page.paragraph(intro), page.grid(*panels)])


# ------------------------------------------------------------------ heat map


def explanation_part(picture: Path) -> Markup:
    """The heat map that the int8 file made of a generated photo, as a JPEG inside the page.

    Raises:
        DataInvalid: Not a picture.
    """
    try:
        with Image.open(picture) as image:
            pixels = image.convert("RGB")
    except OSError as error:
        raise DataInvalid(f"{picture}: not a picture", found=str(error), expected="a PNG or JPEG") from error
    description = "A generated photo of one lesion with the heat map that the int8 file made of it"
    shown = page.picture(pixels, description, most_px=480)
    caption = "A generated lesion, no patient's photo: where the int8 file itself found what it answered."
    return page.figure(shown, caption)


# ------------------------------------------------------------------ tiles


def tile(name: str, value: Estimate | None, note: str) -> tuple[str, object, str]:
    """A main figure."""
    return name, page.estimate(value), note
