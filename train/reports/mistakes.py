"""The most confident errors of a run, with thumbnails where the photos are on this machine. numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.evaluation.metrics import FloatArray
from train.evaluation.results import Finished
from train.reports import html as page

MISTAKES_SHOWN = 24
MISSED_SHOWN = 16


def mistakes(run: Finished, root: Path | None) -> list[dict[str, Any]]:
    """List the wrong predictions with the highest scores, and the malignant lesions predicted benign.

    Returns:
        What the macro `errors` of run.html.j2 shows: `measure` (`score` or `benign`), numbers and photos of each list,
        with thumbnails where there is a root.
    """
    top, malignant = run.probs.max(axis=1), np.asarray(run.malignant)
    side, wrong = malignant[run.y_true], run.y_pred != run.y_true
    errors = {
        "measure": "score",
        "wrong": int(wrong.sum()),
        "among": len(wrong),
        "photos": [_entry(run, i, top, root) for i in _worst(run, wrong, top, MISTAKES_SHOWN)],
    }
    if not malignant.any():
        return [errors]
    missed, benign = side & ~malignant[run.y_pred], 1 - run.probs[:, malignant].sum(axis=1)
    return [
        errors,
        {
            "measure": "benign",
            "wrong": int(missed.sum()),
            "among": int(side.sum()),
            "photos": [_entry(run, i, benign, root) for i in _worst(run, missed, benign, MISSED_SHOWN)],
        },
    ]


def _worst(run: Finished, among: npt.NDArray[Any], score: FloatArray, most: int) -> list[int]:
    """Indices by falling score, one of each lesion."""
    chosen: dict[str, int] = {}
    for i in np.argsort(-score, kind="stable"):
        if among[i]:
            chosen.setdefault(run.groups[i], int(i))
        if len(chosen) == most:
            break
    return list(chosen.values())


def _entry(run: Finished, i: int, score: FloatArray, root: Path | None) -> dict[str, Any]:
    photo, truth = run.photos[i], run.y_true[i]
    return {
        "photo": photo,
        "truth": run.codes[truth],
        "prediction": run.codes[run.y_pred[i]],
        "score": float(score[i]),
        "truth_score": float(run.probs[i, truth]),
        "picture": root and page.thumbnail(root / photo.path, run.contract),
    }
