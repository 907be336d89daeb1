"""A teacher's probabilities for the photos to learn from: a CSV of photo_id and p_CODE columns. numpy.

Such a file is made by `python -m train.experiments.teach` from the out-of-fold predictions of one or several
cross-validations, so
that no photo is judged by a network that has learnt from it.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ConfigInvalid, RunInvalid
from train.artifacts.manifest import Manifest
from train.artifacts.run import whole_file
from train.configs.paths import find_file
from train.configs.schema import DistillConfig

COPY_NAME = "teacher.csv.gz"


def keep_teacher(config: DistillConfig, run: Path, manifest: Manifest, rows: npt.NDArray[np.int64]) -> None:
    """Copies the teacher's answers to the run directory, if they fit and none lie there: a resumed run keeps its own.

    Args:
        config: Names the file; may name none.
        run: The run directory.
        manifest: All photos.
        rows: Which of them are trained on: each needs an answer.

    Raises:
        ConfigInvalid: No such file, other labels, no distribution, or training photos without an answer.
    """
    copy = run / COPY_NAME
    if not config.teacher or copy.is_file():
        return
    content = find_file(config.teacher, "distill.teacher", "a CSV (.gz) of soft labels").read_bytes()
    packed = content if config.teacher.endswith(".gz") else gzip.compress(content, mtime=0)
    _probabilities(packed, manifest, rows)
    with whole_file(copy) as temporary:
        temporary.write_bytes(packed)


def read_soft_labels(
    config: DistillConfig, run: Path, manifest: Manifest, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32] | None:
    """The answers that `keep_teacher` copied.

    Args:
        config: Names the file; may name none.
        run: The run directory.
        manifest: All photos.
        rows: Which of them are trained on.

    Returns:
        [photos, classes] probabilities, rows of other photos uniform; None without a teacher.

    Raises:
        ConfigInvalid: They do not fit these photos. RunInvalid: The run lost them.
    """
    if not config.teacher:
        return None
    copy = run / COPY_NAME
    try:
        packed = copy.read_bytes()
    except FileNotFoundError as error:
        raise RunInvalid(
            f"{copy}: the teacher's answers are not there",
            expected="what was copied when the run was prepared",
            fix="bring the whole run directory, or prepare the run anew in another one",
        ) from error
    return _probabilities(packed, manifest, rows)


def _probabilities(packed: bytes, manifest: Manifest, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    try:
        text = gzip.decompress(packed).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConfigInvalid(
            "distill.teacher cannot be read",
            found=str(error),
            expected="a CSV in UTF-8, gzipped if its name ends in .gz",
        ) from error
    answers = {row["photo_id"]: row for row in csv.DictReader(io.StringIO(text))}
    columns = [f"p_{code}" for code in manifest.labels.codes]
    probs = np.full((len(manifest.photos), len(columns)), 1 / len(columns), np.float32)
    lacking = [manifest.photos[i].photo_id for i in rows if manifest.photos[i].photo_id not in answers]
    if lacking or not set(columns) <= set(next(iter(answers.values()), {})):
        raise ConfigInvalid(
            "distill.teacher does not fit the data",
            found=f"{len(lacking)} training photos without an answer ({', '.join(lacking[:3])})"
            if lacking
            else f"columns {', '.join(next(iter(answers.values()), {}))}",
            expected=f"every training photo, and the columns {', '.join(columns)}",
            fix="make the soft labels from a cross-validation on the same data",
        )
    for i in rows:
        row = answers[manifest.photos[i].photo_id]
        probs[i] = [float(row[column]) for column in columns]
    sums = probs.sum(axis=1)
    if not np.allclose(sums, 1, atol=1e-2) or probs.min() < 0:
        raise ConfigInvalid(
            "distill.teacher holds no probabilities",
            found=f"rows that sum to {sums.min():.3g} to {sums.max():.3g}",
            expected="rows that sum to 1, nothing below 0",
        )
    return probs / sums[:, None]
