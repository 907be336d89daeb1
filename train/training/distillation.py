"""Soft labels of a teacher (`distill.teacher`): a CSV (.gz) of photo_id and p_CODE columns, copied to the run.

Take them from out-of-fold predictions (train/experiments/teach.py), so that no photo is judged by a network that was
trained on it.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ConfigInvalid
from train.artifacts.files import whole_file
from train.artifacts.manifest import Manifest
from train.artifacts.tables import read_table
from train.configs.loading import find_path
from train.configs.schema import DistillConfig

COPY_NAME = "teacher.csv.gz"
FIX = "make the soft labels from a cross-validation on the same data"
SoftLabels = npt.NDArray[np.float32]


def read_soft_labels(
    config: DistillConfig, run: Path, manifest: Manifest, rows: npt.NDArray[np.int64]
) -> SoftLabels | None:
    """Read the teacher's soft labels, and copy them to the run directory: a resumed run keeps those it began with.

    Returns:
        [photos, classes] probabilities, uniform in other rows than the given training photos'; None without a teacher.

    Raises:
        ConfigInvalid: No such file, other labels, no probabilities, or training photos without soft labels.
    """
    if not config.teacher:
        return None
    path = copy = run / COPY_NAME
    if not copy.is_file():
        path = find_path(config.teacher, "distill.teacher", "a CSV (.gz) of soft labels")
    probs = _probabilities(path, manifest, rows)
    if path != copy:
        content = path.read_bytes()
        with whole_file(copy) as temporary:
            temporary.write_bytes(content if path.suffix == ".gz" else gzip.compress(content, mtime=0))
    return probs


def _probabilities(path: Path, manifest: Manifest, rows: npt.NDArray[np.int64]) -> SoftLabels:
    columns = [f"p_{code}" for code in manifest.labels.codes]
    probs = np.full((len(manifest.photos), len(columns)), 1 / len(columns), np.float32)
    ids = [manifest.photos[i].photo_id for i in rows]
    table = read_table(path, ("photo_id", *columns), error=ConfigInvalid, fix=FIX)
    table = table.drop_duplicates("photo_id", keep="last").set_index("photo_id")
    if absent := [photo_id for photo_id in ids if photo_id not in table.index]:
        raise _invalid(f"{len(absent)} training photos without soft labels ({', '.join(absent[:3])})")
    try:
        probs[rows] = table.loc[ids, columns].to_numpy(np.float64)
    except ValueError as error:
        raise _invalid(str(error)) from error
    sums = probs.sum(axis=1)
    # Files are rounded. Written so that a NaN fails.
    if not (np.allclose(sums, 1, atol=1e-2) and probs.min() >= 0):
        raise _invalid(f"probabilities from {probs.min():.3g}, sums of {sums.min():.3g} to {sums.max():.3g}")
    return np.asarray(probs / sums[:, None])


def _invalid(found: str) -> ConfigInvalid:
    return ConfigInvalid(
        "distill.teacher: invalid soft labels",
        found=found,
        expected="CSV with photo_id and p_CODE columns, a row of probabilities for each training photo",
        fix=FIX,
    )
