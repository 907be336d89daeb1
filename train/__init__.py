"""Photos and labels to a trained run directory: `train.run(config, workdir)`, or `dermedge train`."""

from __future__ import annotations

import os
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["run"]

# tfmot quantizes Keras 2 models only; this must be set before TensorFlow's first import.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# Its start-up notes (no CUDA here, which CPU instructions) bury what a user should read.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow takes oneDNN's kernels by itself only where a processor has AVX512-VNNI; elsewhere too they halve a step.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def run(
    config: str | Path,
    workdir: str | Path,
    data: str | Path | None = None,
    *,
    pixels: str | Path | None = None,
    test_split: bool = True,
) -> dict[str, Any]:
    """Train a classifier into a run directory; called again, resume an interrupted run.

    Args:
        config: The experiment's TOML, see train/configs.
        workdir: The run directory, made if absent. It holds the network (model.keras), its contract, predictions and
            metrics; `convert` reads it.
        data: Folder of the (first) data set; None looks in the folder that DERMEDGE_DATA names.
        pixels: Folder of a pixel cache to share with other runs; None is workdir/pixels.
        test_split: False trains on all data but the validation split, for a final model.

    Returns:
        The content of workdir/metrics.json: for `val` and, where there is one, `test`, among others
        `balanced_accuracy` with its 95 % interval, `accuracy`, `per_class`, `confusion`, `photos`.

    Raises:
        edge_runtime.errors.ConfigInvalid: The config is invalid; all problems are listed.
        edge_runtime.errors.DataInvalid: Photos or labels are unusable; all problems are listed.
        edge_runtime.errors.SplitLeaks: A lesion occurs in two splits.
        edge_runtime.errors.RunInvalid: The run directory is another config's, or damaged.
    """
    from train.configs.loading import load_config
    from train.data.sources import NO_TEST
    from train.training.run import run_experiment

    given = load_config(Path(config))
    return run_experiment(
        Path(config),
        Path(workdir),
        None if data is None else Path(data),
        pixels=None if pixels is None else Path(pixels),
        config=given if test_split else given.with_test_fold(NO_TEST),
    )
