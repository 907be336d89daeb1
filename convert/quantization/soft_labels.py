"""Soft labels of a run's teacher, as the exported model should predict them. numpy.

A distilled run (`distill.teacher` in its config) keeps its teacher's out-of-fold scores in RUN/teacher.csv.gz. Training
compares them with the network's logits as they are; the model that is converted has a prior taken out of its bias and
a temperature folded in, so the same is done to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from convert.inputs import Photo, Run, read_scores
from edge_runtime.errors import RunInvalid
from train.evaluation.metrics import softmax

FILE_NAME = "teacher.csv.gz"
LEAST_PROBABILITY = 1e-9
# Files are rounded.
SUM_TOLERANCE = 1e-2


def read_soft_labels(
    run: Run, photos: Sequence[Photo], drawn: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32] | None:
    """The teacher's scores of photos; `drawn`, [n], is how likely training drew each of them: the prior.

    Returns:
        [n, labels] probabilities; None if the run had no teacher.

    Raises:
        RunInvalid: The file is missing or unreadable, lacks photos or labels, or holds no probabilities.
    """
    if not run.config.get("distill", {}).get("teacher"):
        return None
    probs = _read(run, photos)
    logits = np.log(np.maximum(probs, LEAST_PROBABILITY)) - _taken_out(run, photos, drawn)
    return softmax(logits, run.contract.calibration.temperature).astype(np.float32)


def _taken_out(run: Run, photos: Sequence[Photo], drawn: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[labels] that the run's [decision] subtracted from its logits, as `prior_correction` of training.

    A mean of runs (train/experiments/soup.py) subtracts nothing again, and records what they did.
    """
    decision = run.run.get("prior_of_runs") or run.config.get("decision", {})
    exponent = float(decision.get("prior_correction", 0.0))
    prior = _log_prior(run, photos, drawn)
    if decision.get("prior_of", "all") == "all":
        return exponent * prior
    first = _log_prior(run, photos, drawn * np.array([photo.source == run.sources[0] for photo in photos]))
    adjustment = float(run.config.get("imbalance", {}).get("logit_adjustment", 0.0))
    return adjustment * (first - prior) + exponent * first


def _log_prior(run: Run, photos: Sequence[Photo], drawn: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    sums = np.bincount([photo.label for photo in photos], weights=drawn, minlength=len(run.contract.labels))
    shares: npt.NDArray[np.float64] = np.log(np.maximum(sums / sums.sum(), LEAST_PROBABILITY))
    return shares


def _read(run: Run, photos: Sequence[Photo]) -> npt.NDArray[np.float64]:
    path = run.folder / FILE_NAME
    table = read_scores(path, run.contract.codes)
    probs = table.reindex([photo.photo_id for photo in photos]).to_numpy()
    sums = probs.sum(axis=1)
    # Written so that a NaN, which stands for a photo without scores, fails.
    valid = (probs >= 0).all(axis=1) & (np.abs(sums - 1) <= SUM_TOLERANCE)
    if not valid.all():
        first = int(np.argmin(valid))
        raise RunInvalid(
            f"{path}: {int((~valid).sum())} of {len(photos)} train photos have no valid soft labels",
            found=f"{photos[first].photo_id}: sum {sums[first]:.3g}",
            expected="probabilities that sum to 1, for every train photo",
            fix="train again, or copy the file from the teacher's cross-validation",
        )
    normalized: npt.NDArray[np.float64] = probs / sums[:, np.newaxis]
    return normalized
