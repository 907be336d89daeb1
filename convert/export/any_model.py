"""Models that this project did not train: a SavedModel, or a .keras or .h5 file of tf_keras, with contract and photos.

What a run directory says, the caller says instead: the contract (what `contract.json` of a run holds), and a table of
photos with a `split` column, whose train photos calibrate and whose val photos guard the gate. stdlib only; TensorFlow
comes with convert/export/saved_model.py and convert/export/keras_export.py.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path

from convert.inputs import LooseModel, Run
from convert.photo_list import ALL, read_photo_list
from edge_runtime.contract import ModelContract
from edge_runtime.errors import DataInvalid, RunInvalid, UsageError

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
SAVED_MODEL = "saved_model.pb"
# What reading a damaged archive raises beside OSError, ValueError and KeyError.
DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError)
KINDS = "a run directory, a SavedModel folder, or a .keras or .h5 file"


def is_any_model(path: Path) -> bool:
    """Whether a path names a model itself and no run directory."""
    return path.suffix in KERAS_SUFFIXES or (path / SAVED_MODEL).is_file()


def read_any_model(
    model: Path, contract: Path | None, manifest: Path | None, data: Path | None, work_folder: Path
) -> Run:
    """A model with its contract and photos, in the form of a run.

    Args:
        model: SavedModel folder, .keras or .h5.
        contract: JSON, as contract.json of a run.
        manifest: CSV with columns path, label and split; see convert/photo_list.py.
        data: To which its paths are relative, if not to its own folder.
        work_folder: For pixels and checkpoints.

    Raises:
        UsageError: contract or manifest is missing.
        RunInvalid: No such model, or one of Keras 3.
        DataInvalid: No train or val photos.
        ContractInvalid, ContractTooNew: The contract.
    """
    for option, given in (("--contract", contract), ("--manifest", manifest)):
        if given is None:
            raise UsageError(
                f"{model}: a model of its own needs {option}",
                found="nothing",
                expected="--contract CONTRACT.json: labels, pixels and licence; --manifest TABLE.csv: photos with "
                "labels and splits, to calibrate and to check",
            )
    assert contract is not None and manifest is not None
    if not model.exists():
        raise RunInvalid(f"{model}: no such model", found="nothing", expected=KINDS)
    refuse_keras_3(model)
    try:
        told = ModelContract.from_json(contract.read_bytes(), where=str(contract))
    except OSError as error:
        raise UsageError(
            f"{contract}: the contract cannot be read", found=error.strerror or str(error)
        ) from error
    codes = [label.code for label in told.labels]
    listed = read_photo_list(manifest, codes, root=data, split=ALL)
    for split, use in (("train", "calibrates"), ("val", "guards the gate")):
        if not any(photo.split == split for photo in listed.photos):
            raise DataInvalid(
                f"{manifest}: no photo that {use}",
                found=f"no row of split {split}",
                expected="a column split with train and val",
                fix="mark which photos the model has learnt from (train) and which not (val)",
            )
    absent = [str(photo.path) for photo in listed.photos if not photo.path.is_file()]
    if absent:
        raise DataInvalid(
            f"{manifest}: {len(absent)} of {len(listed.photos)} photos are missing",
            found="; ".join(absent[:3]),
            fix="name their folder with --data DIR",
        )
    section = {"name": told.provenance.data_name, "root": str(listed.root)}
    return Run(
        model.parent,
        {"data": section},
        {},
        told,
        listed.photos,
        loose=LooseModel(model, contract, manifest, work_folder),
    )


def refuse_keras_3(path: Path) -> None:
    """Refuses a file that Keras 3 saved, by what it says of itself: loading it fails with a riddle.

    Raises:
        RunInvalid: Its metadata names Keras 3, or is damaged: tf_keras does not look at it, and what has lost a part of
            itself is not to be trusted with the rest.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            version = str(json.loads(archive.read("metadata.json")).get("keras_version", ""))
    except DAMAGED_ZIP as error:
        raise RunInvalid(
            f"{path}: damaged",
            found=f"{type(error).__name__}: {error}",
            expected="a file as tf_keras saved it",
            fix="take the file as it was saved, or save it again",
        ) from error
    except (KeyError, ValueError, AttributeError, OSError):
        return
    if version.startswith("3"):
        raise RunInvalid(
            f"{path}: a file of Keras 3",
            found=f"Keras {version}",
            expected="a .keras or .h5 file of tf_keras (Keras 2), or a SavedModel",
            fix="export it with model.export(FOLDER), which writes a SavedModel, and convert that",
        )
