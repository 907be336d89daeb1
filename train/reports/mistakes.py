"""The most confident errors of a run, with thumbnails where the photos are on this machine. numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.evaluation.metrics import FloatArray
from train.evaluation.results import Finished
from train.reports import html as page
from train.reports.html import Markup

MISTAKES_SHOWN = 24
MISSED_SHOWN = 16


def mistakes(run: Finished, root: Path | None) -> Markup:
    """Show the wrong predictions with the highest scores, and the malignant lesions predicted benign.

    Args:
        run: Its predictions.
        root: Of the photos' paths; None gives tables without thumbnails.
    """
    wrong = run.y_pred != run.y_true
    malignant = np.asarray(run.malignant)
    missed = malignant[run.y_true] & ~malignant[run.y_pred]
    benign_score = 1 - run.probs[:, malignant].sum(axis=1)
    blocks = _mistake_list(
        run,
        "Most confident errors",
        _worst(run, wrong, run.probs.max(axis=1), MISTAKES_SHOWN),
        f"{wrong.sum():,} of {page.counted(len(wrong), 'photo')} are predicted wrongly "
        f"({page.share(wrong.mean())}); these have the highest scores, one photo a lesion.",
        ("score", run.probs.max(axis=1)),
        root,
    )
    if malignant.any():
        side = malignant[run.y_true]
        blocks += _mistake_list(
            run,
            "Malignant lesions predicted benign",
            _worst(run, missed, benign_score, MISSED_SHOWN),
            f"{missed.sum():,} of {page.counted(int(side.sum()), 'photo')} of malignant lesions "
            f"({page.share(missed.sum(), side.sum())}); these have the highest benign score (the sum over the benign "
            "classes), one photo a lesion.",
            ("benign", benign_score),
            root,
        )
    return page.join(blocks)


def _worst(run: Finished, among: npt.NDArray[Any], score: FloatArray, most: int) -> list[int]:
    """Indices by falling score, one of each lesion."""
    chosen: dict[str, int] = {}
    for i in np.argsort(-score, kind="stable"):
        if among[i]:
            chosen.setdefault(run.groups[i], int(i))
        if len(chosen) == most:
            break
    return list(chosen.values())


def _mistake_list(
    run: Finished,
    title: str,
    chosen: Sequence[int],
    intro: str,
    measure: tuple[str, FloatArray],
    root: Path | None,
) -> list[Markup]:
    heading = page.element("h3", title)
    if not chosen:
        return [heading, page.paragraph("None.")]
    measured, values = measure
    if root is None:
        header = ("Photo", "Truth", "Prediction", "Metadata", measured.capitalize(), "Score of the truth")
        rows = [
            (
                run.photos[i].photo_id,
                run.codes[run.y_true[i]],
                run.codes[run.y_pred[i]],
                _facts(run, i),
                page.number(float(values[i])),
                page.number(float(run.probs[i, run.y_true[i]])),
            )
            for i in chosen
        ]
        return [heading, page.paragraph(intro), page.table(header, rows, caption=title, texts=(1, 2, 3))]
    cards = []
    for i in chosen:
        photo, truth, prediction = run.photos[i], run.codes[run.y_true[i]], run.codes[run.y_pred[i]]
        cards.append(
            page.photo_card(
                page.thumbnail(root / photo.path, run.contract),
                page.join(
                    (
                        page.element("b", truth, class_="truth"),
                        " predicted ",
                        page.element("b", prediction, class_="prediction"),
                    )
                ),
                f"{measured} {values[i]:.3f}",
                f"score of the truth {run.probs[i, run.y_true[i]]:.3f}",
                _facts(run, i),
                photo.photo_id,
                description=f"{photo.photo_id}: {truth} predicted {prediction}",
            )
        )
    return [heading, page.paragraph(intro), page.photo_row(cards)]


def _facts(run: Finished, i: int) -> str:
    photo = run.photos[i]
    age = photo.age.removesuffix(".0")
    return ", ".join(filter(None, (photo.sex, age, photo.site, photo.dx_type.replace("_", "-"))))
