"""Soft labels of a teacher (`distill.teacher`): a CSV (.gz) of photo_id and p_CODE columns, copied to the run.

Take them from out-of-fold predictions (train/experiments/teach.py), so that no photo is judged by a network that was
trained on it.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from edge_runtime.errors import ConfigInvalid, RunInvalid
from train.artifacts.files import whole_file
from train.artifacts.manifest import Manifest
from train.configs.paths import find_file
from train.configs.schema import DistillConfig

COPY_NAME = "teacher.csv.gz"


def keep_teacher(config: DistillConfig, run: Path, manifest: Manifest, rows: npt.NDArray[np.int64]) -> None:
    """Copy the soft labels to the run directory, unless a resumed run has its copy already.

    Args:
        config: Names the file; may name none.
        run: The run directory.
        manifest: All photos.
        rows: Which of them are trained on: each needs soft labels.

    Raises:
        ConfigInvalid: No such file, other labels, no probabilities, or training photos without soft labels.
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
    """Read what `keep_teacher` copied.

    Returns:
        [photos, classes] probabilities, rows of other photos uniform; None without a teacher.

    Raises:
        ConfigInvalid: They do not fit these photos.
        RunInvalid: The copy is missing.
    """
    if not config.teacher:
        return None
    copy = run / COPY_NAME
    if not copy.is_file():
        raise RunInvalid(
            f"{copy}: missing",
            expected="the soft labels of the prepared run",
            fix="copy the whole run directory",
        )
    return _probabilities(copy.read_bytes(), manifest, rows)


def _probabilities(packed: bytes, manifest: Manifest, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    columns = [f"p_{code}" for code in manifest.labels.codes]
    try:
        text = io.StringIO(gzip.decompress(packed).decode("utf-8"))
        table = pd.read_csv(
            text, dtype={"photo_id": str}, float_precision="round_trip", keep_default_na=False
        )
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise _invalid(str(error)) from error
    if lacking := [name for name in ("photo_id", *columns) if name not in table.columns]:
        raise _invalid(f"no column {', '.join(lacking)}")
    table = table.drop_duplicates("photo_id", keep="last").set_index("photo_id")
    ids = [manifest.photos[i].photo_id for i in rows]
    if absent := [photo_id for photo_id in ids if photo_id not in table.index]:
        raise _invalid(f"{len(absent)} training photos without soft labels ({', '.join(absent[:3])})")
    probs = np.full((len(manifest.photos), len(columns)), 1 / len(columns), np.float32)
    try:
        probs[rows] = table.loc[ids, columns].to_numpy(np.float64)
    except ValueError as error:
        raise _invalid(str(error)) from error
    sums = probs.sum(axis=1)
    # Files are rounded. Written so that a NaN fails.
    if not (np.allclose(sums, 1, atol=1e-2) and probs.min() >= 0):
        raise _invalid(f"probabilities from {probs.min():.3g}, sums of {sums.min():.3g} to {sums.max():.3g}")
    return probs / sums[:, None]


def _invalid(found: str) -> ConfigInvalid:
    return ConfigInvalid(
        "distill.teacher: invalid soft labels",
        found=found,
        expected="CSV with photo_id and p_CODE columns, a row of probabilities for each training photo",
        fix="make the soft labels from a cross-validation on the same data",
    )
