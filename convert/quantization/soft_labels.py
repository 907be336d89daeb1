"""The soft labels of a run's teacher, as the exported model should answer them. numpy.

A run that was distilled (`distill.teacher` in its config) keeps a copy of the teacher's out-of-fold answers: RUN/
teacher.csv.gz, with columns photo_id and p_CODE. Training compares them with the network's logits as they are; the
model that is converted has a prior taken out of its bias and a temperature folded in, so the same is done to them.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from convert.inputs import Photo, Run
from edge_runtime.errors import RunInvalid
from train.evaluation.metrics import softmax

FILE_NAME = "teacher.csv.gz"
LEAST_PROBABILITY = 1e-9
# Files are rounded.
SUM_TOLERANCE = 1e-2


def read_soft_labels(
    run: Run, photos: Sequence[Photo], drawn: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32] | None:
    """The teacher's answers to photos.

    Args:
        run: Its config says whether there is a teacher, and how much of the prior was taken out.
        photos: Each needs an answer.
        drawn: [n] how likely training drew each photo: the prior.

    Returns:
        [n, labels] probabilities; None if the run had no teacher.

    Raises:
        RunInvalid: The file is missing or unreadable, lacks photos or labels, or holds no probabilities.
    """
    if not run.config.get("distill", {}).get("teacher"):
        return None
    codes = [label.code for label in run.contract.labels]
    probs = _read(run, photos, [f"p_{code}" for code in codes])
    logits = np.log(np.maximum(probs, LEAST_PROBABILITY)) - _taken_out(run, photos, drawn)
    return softmax(logits, run.contract.calibration.temperature).astype(np.float32)


def _taken_out(run: Run, photos: Sequence[Photo], drawn: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[labels] that the run's [decision] took out of its logits, as train/training/inputs.py `prior_correction`.

    A mean of runs (train/experiments/soup.py) takes nothing out again, and notes what they did.
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


def _read(run: Run, photos: Sequence[Photo], columns: list[str]) -> npt.NDArray[np.float64]:
    path = run.folder / FILE_NAME
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
        answers = {row["photo_id"]: row for row in csv.DictReader(io.StringIO(text))}
        probs = np.array([[float(answers[photo.photo_id][name]) for name in columns] for photo in photos])
    except OSError as error:
        raise _invalid(run, error.strerror or str(error)) from error
    except KeyError as error:
        raise _invalid(run, f"no {error.args[0]}") from error
    except (ValueError, TypeError, EOFError) as error:
        raise _invalid(run, str(error)) from error
    sums = probs.sum(axis=1)
    # Written so that a NaN fails.
    if not (probs.min() >= 0 and np.abs(sums - 1).max() <= SUM_TOLERANCE):
        raise _invalid(run, f"rows that sum to {sums.min():.3g} to {sums.max():.3g}")
    normalized: npt.NDArray[np.float64] = probs / sums[:, np.newaxis]
    return normalized


def _invalid(run: Run, found: str) -> RunInvalid:
    return RunInvalid(
        f"{run.folder / FILE_NAME}: the teacher's answers cannot be used",
        found=found,
        expected="a gzipped CSV of photo_id and p_CODE that answers every training photo",
        fix="train again, or copy the file from the teacher's cross-validation",
    )
