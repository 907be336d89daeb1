"""Convert trained or foreign models to .tflite files with a contract inside, and compare them.

    from convert import compare, convert
    report = convert("runs/x", "int8_qat", "model.tflite")

Importing this loads no TensorFlow; it makes tf_keras TensorFlow's Keras.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convert.comparison.compare import compare

__all__ = ["compare", "convert"]

# Must stand before TensorFlow's first import: tensorflow-model-optimization works on tf_keras only.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# As in train: the kernels that TensorFlow takes by itself only on newer processors.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def convert(
    run: str | os.PathLike[str],
    recipe: str,
    out: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    contract: str | os.PathLike[str] | None = None,
    manifest: str | os.PathLike[str] | None = None,
    seed: int = 0,
    keep_float: str | None = None,
    max_loss: float | None = None,
    test_report: bool = True,
    **fine_tuning: float | None,
) -> dict[str, Any]:
    """Convert a run directory, or a foreign model with a contract and photos, to a .tflite.

    Args:
        run: Run directory, SavedModel folder, or .keras or .h5 file of tf_keras.
        recipe: A name in `convert.recipes.RECIPES`, for example `int8_qat`.
        out: The .tflite to write; its report is written beside it as .json.
        data: Folder of the (first) dataset's photos, if not where the run or the manifest says.
        contract: Contract JSON; for foreign models only.
        manifest: CSV with columns path, label and split (train and val); for foreign models only.
        seed: Of calibration photos and fine-tuning, at least 0.
        keep_float: `auto` for mixed precision: the fewest layers in float that hold `max_loss` (int8_ptq only).
        max_loss: Largest share of predictions that may change, 0 to 1 (0.02 if None).
        test_report: Whether to evaluate both models on the test split.
        **fine_tuning: Of int8_qat: epochs, patience, batch, learning_rate, distillation_weight, hard_label_weight,
            soft_label_weight.

    Returns:
        The report, as in the .json: sha256, tensors, calibration, acceptance test (`check`), test split (`test`).

    Raises:
        UsageError: An argument (also a `ValueError`).
        RunInvalid, DataInvalid, ContractInvalid, ContractTooNew: The run, its photos or its contract.
        ImageError: A photo cannot be read.
        RunBusy, DiskFull: Another process writes to the run, or a disk is full. Nothing is written.
        ConversionRefused: The model cannot be converted, or the file fails the acceptance test. Nothing is written.
        OSError: The file system; nothing is written.
    """
    from convert.export.any_model import read_source, remove_work_folder
    from convert.recipes import make_request
    from train.artifacts.writer import sole_writer

    request = make_request(
        recipe, seed=seed, keep_float=keep_float, max_loss=max_loss, test_report=test_report, **fine_tuning
    )
    paths = [None if path is None else Path(path) for path in (contract, manifest, data)]
    source = read_source(Path(run), *paths, out=Path(out))
    # Late, so that usage errors and --help do not wait for TensorFlow.
    from convert.export.conversion import convert_run

    with sole_writer(source.work_folder if source.foreign else source.folder):
        # An interrupted conversion keeps its work folder and resumes there.
        try:
            report = convert_run(source, request, Path(out))
        except Exception:
            remove_work_folder(source)
            raise
        remove_work_folder(source)
    return report


def __getattr__(name: str) -> Any:
    if name == "compare":
        from convert.comparison.compare import compare

        return compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
