"""What a conversion reads: a run directory, or a foreign model (SavedModel, .keras or .h5 of tf_keras). stdlib only.

A foreign model brings a contract (as `contract.json` of a run) and a table of photos with a `split` column: train
photos calibrate, val photos serve the acceptance test. TensorFlow comes with saved_model.py and keras_export.py.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

from convert.files import require_out
from convert.inputs import ALL, RUN_FILES, Run, read_photo_list, read_run
from edge_runtime.contract import ModelContract
from edge_runtime.errors import DataInvalid, RunInvalid, UsageError
from train.artifacts.bounded import DAMAGED_ZIP, MAX_TEXT_BYTES
from train.artifacts.files import is_file

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
SAVED_MODEL = "saved_model.pb"


def read_source(
    path: Path, contract: Path | None, manifest: Path | None, data: Path | None, *, out: Path
) -> Run:
    """A run directory, or a foreign model in the form of a run; arguments are those of `convert.convert`.

    A foreign model's pixels and checkpoints go beside `out`.

    Raises:
        UsageError: `out` cannot be written or is an input; contract or manifest is missing.
        RunInvalid, DataInvalid, ContractInvalid, ContractTooNew: The run or model, its photos or contract.
    """
    given = [named for named in (contract, manifest) if named is not None]
    require_out(out, [path, *given, *(path / name for name in RUN_FILES)])
    if not given and path.suffix not in KERAS_SUFFIXES and not (path / SAVED_MODEL).is_file():
        return read_run(path, data)
    run = _read_foreign(path, contract, manifest, data, out.with_suffix(".convert"))
    # It is removed at the end, so that nothing of the user's may stand in it.
    if any(named.resolve().is_relative_to(run.work_folder.resolve()) for named in run.inputs):
        problem = "--out: its work folder holds an input of the conversion"
        raise UsageError(problem, found=str(run.work_folder), fix="choose another name or folder for --out")
    return run


def remove_work_folder(run: Run) -> None:
    """Remove pixels and checkpoints of a foreign model; those of a run stay in RUN/convert."""
    if run.foreign:
        shutil.rmtree(run.work_folder, ignore_errors=True)


def _read_foreign(
    model: Path, contract: Path | None, manifest: Path | None, data: Path | None, work_folder: Path
) -> Run:
    if contract is None or manifest is None:
        raise UsageError(
            f"{model}: a foreign model needs a contract and photos",
            found=f"no {'--contract' if contract is None else '--manifest'}",
            expected="--contract CONTRACT.json and --manifest TABLE.csv",
        )
    if not model.exists():
        expected = "a run directory, a SavedModel folder, or a .keras or .h5 file"
        raise RunInvalid(f"{model}: no such model", expected=expected, fix="correct the path")
    refuse_keras_3(model)
    try:
        known = ModelContract.from_json(contract.read_bytes(), where=str(contract))
    except OSError as error:
        raise UsageError(f"{contract}: cannot read", found=error.strerror or str(error)) from error
    listed = read_photo_list(manifest, known.codes, root=data, split=ALL, option="--data")
    for split, use in (("train", "calibration"), ("val", "the acceptance test")):
        if not any(photo.split == split for photo in listed.photos):
            problem, found = f"{manifest}: no photos for {use}", f"no row of split {split}"
            fix = "mark training photos with train and unseen photos with val"
            raise DataInvalid(problem, found=found, expected="a column split with train and val", fix=fix)
    absent = [str(photo.path) for photo in listed.photos if not is_file(photo.path)]
    if absent:
        raise DataInvalid(
            f"{manifest}: {len(absent)} of {len(listed.photos)} photos are missing",
            found="; ".join(absent[:3]),
            fix="name their folder with --data DIR",
        )
    section = {"name": known.provenance.data_name, "root": str(listed.root)}
    run, paths = {"data": section}, (model, contract, manifest, work_folder)
    return Run(model.parent, run, {}, known, listed.photos, *paths, foreign=True)


def refuse_keras_3(path: Path) -> None:
    """Refuse a file that Keras 3 saved, by its own metadata: tf_keras cannot load it and does not say why.

    Raises:
        RunInvalid: Its metadata names Keras 3, or is damaged.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo("metadata.json")
            if member.file_size > MAX_TEXT_BYTES:
                raise zipfile.BadZipFile(f"{member.filename}: {member.file_size:,} bytes")
            version = str(json.loads(archive.read(member)).get("keras_version", ""))
    except DAMAGED_ZIP as error:
        problem = f"{path}: damaged"
        found, fix = f"{type(error).__name__}: {error}", "copy the file again, or save it again"
        raise RunInvalid(problem, found=found, expected="a file as tf_keras saved it", fix=fix) from error
    except (KeyError, ValueError, AttributeError, OSError):
        return
    if version.startswith("3"):
        found, expected = f"Keras {version}", "a .keras or .h5 file of tf_keras (Keras 2), or a SavedModel"
        fix = "export it with model.export(FOLDER), which writes a SavedModel, and convert that"
        raise RunInvalid(f"{path}: Keras 3 files are not supported", found=found, expected=expected, fix=fix)
