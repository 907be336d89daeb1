"""Does the float model, through the contract, still give the answers that training wrote down? numpy.

The gate holds a converted file against the Keras model, and both take their pixels by the same contract: were the
contract tampered with after training (another mean, crop or order of labels), both would be wrong alike and the gate
would sleep. Training's own answers to the validation photos, RUN/predictions_val.csv, know better. They also tell the
temperature, which training fitted to them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from convert.export.gate import FloatArray, labels_of
from convert.inputs import Photo, Run
from convert.pixels import read_pixels
from edge_runtime.errors import RunInvalid
from train.data.pixels import PixelArray
from train.evaluation.decisions import fit_temperature
from train.evaluation.metrics import softmax

PREDICTIONS = "predictions_val.csv"
PHOTOS = 100
LEAST_PROBABILITY = 1e-9
# The same weights on the same pixels: only the order of sums differs between machines, and scores are written with six
# digits. On 150 photos the bundled model's scores move by 0.045 with a mean of 100 for 128, and by 0.096 with a
# crop of 0.8 for 1.
MAX_MEAN_SCORE_DIFFERENCE = 0.005
# The same fit to the same answers; they were written with six digits, the temperature with four decimals.
MAX_TEMPERATURE_DIFFERENCE = 0.01


def require_training_repeated(run: Run, keras: Callable[[PixelArray], FloatArray]) -> dict[str, Any]:
    """Asks the float model some validation photos again.

    Args:
        run: Its contract says how photos become pixels.
        keras: The float model with the contract's temperature.

    Returns:
        What model.json says of it; a note where training left no answers, or where the model is no run.

    Raises:
        RunInvalid: The answers are others than training's.
    """
    if run.foreign:
        # A file of that name beside somebody else's model is none of ours.
        return {
            "photos": 0,
            "note": "a model of its own: nothing proves that the contract is the one of training",
        }
    path = run.folder / PREDICTIONS
    if not path.is_file():
        return {
            "photos": 0,
            "note": f"no {PREDICTIONS}: nothing proves that the contract is the one of training",
        }
    codes = [label.code for label in run.contract.labels]
    written = _read(path, codes)
    val = [photo for photo in run.split("val") if photo.photo_id in written]
    chosen = [val[i * len(val) // min(PHOTOS, len(val))] for i in range(min(PHOTOS, len(val)))]
    if not chosen:
        raise RunInvalid(
            f"{path}: answers no validation photo", found=f"{len(written)} others", fix="train again"
        )
    _require_temperature(run, val, written)
    plain = np.array([written[photo.photo_id] for photo in chosen])
    expected = softmax(np.log(np.maximum(plain, LEAST_PROBABILITY)), run.contract.calibration.temperature)
    found = keras(read_pixels(chosen, run.contract, progress="training's answers"))
    difference = float(np.abs(found - expected).max(axis=1).mean())
    agreement = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
    # Written so that a NaN fails.
    if not difference <= MAX_MEAN_SCORE_DIFFERENCE:
        right = [float((scores.argmax(axis=1) == labels_of(chosen)).mean()) for scores in (expected, found)]
        raise RunInvalid(
            f"{run.folder}: the model does not give the answers that training wrote down; nothing was written",
            found=f"scores that differ by {difference:.3f} on average on {len(chosen)} validation photos, "
            f"{100 * agreement:.0f} % the same answer, {100 * right[0]:.0f} % right then, {100 * right[1]:.0f} % now",
            expected=f"a difference of at most {MAX_MEAN_SCORE_DIFFERENCE}: the normalization, crop, order of labels "
            "and weights of training",
            fix="take contract.json and model.keras as training left them, or train again",
        )
    return {"photos": len(chosen), "agreement": agreement, "mean_score_difference": difference}


def _require_temperature(run: Run, val: list[Photo], written: dict[str, list[float]]) -> None:
    """Refuses a contract whose temperature is not the one that training's answers ask for."""
    logits = np.log(np.maximum([written[photo.photo_id] for photo in val], LEAST_PROBABILITY))
    fitted, told = fit_temperature(labels_of(val), logits), run.contract.calibration.temperature
    if not abs(told / fitted - 1) <= MAX_TEMPERATURE_DIFFERENCE:
        raise RunInvalid(
            f"{run.folder}: the contract's temperature is not that of training; nothing was written",
            found=f"{told:g}",
            expected=f"{fitted:.4f}, fitted to the answers in {PREDICTIONS}",
            fix="take contract.json as training left it, or train again",
        )


def _read(path: Path, codes: list[str]) -> dict[str, list[float]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return {
                row["photo_id"]: [float(row[f"p_{code}"]) for code in codes] for row in csv.DictReader(stream)
            }
    except (KeyError, ValueError, TypeError) as error:
        raise RunInvalid(
            f"{path}: training's answers cannot be read",
            found=str(error),
            expected=f"columns photo_id, {', '.join(f'p_{code}' for code in codes)}",
            fix="take the file as training left it, or train again",
        ) from error
