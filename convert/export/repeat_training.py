"""Reproducibility check: does the float model, through the contract, still predict what training wrote down? numpy.

The acceptance test compares a converted file with the Keras model, and both take their pixels by the same contract. If
the contract was changed after training (mean, crop, label order), both are wrong alike and that test passes. Training's
own predictions for the validation photos, RUN/predictions_val.csv, show it; they also show the temperature, which
training fitted to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from convert.export.gate import labels_of
from convert.inputs import Photo, Run, read_scores
from convert.pixels import read_pixels
from edge_runtime.errors import RunInvalid
from train.data.pixels import PixelArray
from train.evaluation.decisions import fit_temperature
from train.evaluation.metrics import FloatArray, softmax

PREDICTIONS = "predictions_val.csv"
PHOTOS = 100
LEAST_PROBABILITY = 1e-9
# The same weights on the same pixels: only the order of sums differs between machines, and scores are written with six
# digits. A wrong mean (100 for 128) or crop (0.8 for 1) moves the bundled model's scores by ten times as much.
MAX_MEAN_SCORE_DIFFERENCE = 0.005
# The same fit to the same predictions, written with six digits; the temperature has four decimals.
MAX_TEMPERATURE_DIFFERENCE = 0.01


def require_training_repeated(run: Run, keras: Callable[[PixelArray], FloatArray]) -> dict[str, Any]:
    """Compare the predictions of `keras`, the float model at the contract's temperature, with those of training.

    Returns:
        The entry of model.json; a note where training left no predictions, or for a foreign model.

    Raises:
        RunInvalid: The predictions or the temperature differ from training's.
    """
    if run.foreign:
        # A file of that name beside a foreign model is not from this toolkit.
        return {"photos": 0, "note": "foreign model: the contract cannot be compared with training"}
    path = run.folder / PREDICTIONS
    if not path.is_file():
        return {"photos": 0, "note": f"no {PREDICTIONS}: the contract cannot be compared with training"}
    written = read_scores(path, run.contract.codes)
    val = [photo for photo in run.split("val") if photo.photo_id in written.index]
    chosen = [val[i * len(val) // min(PHOTOS, len(val))] for i in range(min(PHOTOS, len(val)))]
    if not chosen:
        raise RunInvalid(
            f"{path}: no predictions for validation photos", found=f"{len(written)} others", fix="train again"
        )
    _require_temperature(run, val, written)
    plain = written.loc[[photo.photo_id for photo in chosen]].to_numpy()
    expected = softmax(np.log(np.maximum(plain, LEAST_PROBABILITY)), run.contract.calibration.temperature)
    found = keras(read_pixels(chosen, run.contract, progress="reproducibility check"))
    difference = float(np.abs(found - expected).max(axis=1).mean())
    agreement = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
    # Written so that a NaN fails.
    if not difference <= MAX_MEAN_SCORE_DIFFERENCE:
        right = [float((scores.argmax(axis=1) == labels_of(chosen)).mean()) for scores in (expected, found)]
        raise RunInvalid(
            f"{run.folder}: reproducibility check failed: predictions differ from {PREDICTIONS}; nothing was written",
            found=f"mean score difference {difference:.3f} on {len(chosen)} validation photos, top-1 agreement "
            f"{100 * agreement:.0f} %, accuracy {100 * right[0]:.0f} % then and {100 * right[1]:.0f} % now",
            expected=f"at most {MAX_MEAN_SCORE_DIFFERENCE}: normalization, crop, label order and weights of training",
            fix="restore contract.json and model.keras as training wrote them, or train again",
        )
    return {"photos": len(chosen), "agreement": agreement, "mean_score_difference": difference}


def _require_temperature(run: Run, val: list[Photo], written: pd.DataFrame) -> None:
    """Refuse a contract whose temperature does not fit training's predictions."""
    scores = written.loc[[photo.photo_id for photo in val]].to_numpy()
    logits = np.log(np.maximum(scores, LEAST_PROBABILITY))
    fitted, given = fit_temperature(labels_of(val), logits), run.contract.calibration.temperature
    if not abs(given / fitted - 1) <= MAX_TEMPERATURE_DIFFERENCE:
        raise RunInvalid(
            f"{run.folder}: reproducibility check failed: the contract's temperature is not training's; nothing was "
            "written",
            found=f"{given:g}",
            expected=f"{fitted:.4f}, fitted to {PREDICTIONS}",
            fix="restore contract.json as training wrote it, or train again",
        )
