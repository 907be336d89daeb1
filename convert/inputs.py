"""What `convert` reads: a run directory (`read_run`), any table of labelled photos (`read_photo_list`), scores.

Where a run's photos are, says `train.artifacts.run.require_root`. Importing this needs the standard library only.
"""

from __future__ import annotations

import io
import os
import random
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.contract import ModelContract
from edge_runtime.errors import DataInvalid, RunInvalid, RunNotFound, UsageError
from train.artifacts.bounded import read_table_bytes
from train.artifacts.files import csv_value, is_file, read_object
from train.artifacts.run import consistent, finished_state, require_root, source_names, source_of
from train.artifacts.tables import read_rows

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "val", "test")
COLUMNS = ("photo_id", "path", "label", "group_id", "split")
# Columns of subgroups; absent or empty values count as unknown.
SUBGROUP_COLUMNS = ("dx_type", "sex", "age", "site")
# Files of training that are read. Conversions may be written beside them, but never over them.
NEEDED_FILES = ("run.json", "contract.json", "manifest.csv", "model.keras")
RUN_FILES = (*NEEDED_FILES, "config.json", "split.json", "metrics.json")
ALL, TEST = "all", "test"
NAMED_PROBLEMS = 5
"""So many missing photos or invalid rows are named; the rest are counted."""


@dataclass(frozen=True)
class Sampling:
    """How often training drew each photo."""

    sampling_exponent: float = 0.0
    """Its weight was (photos of its class) ** this ..."""
    lesion_exponent: float = 0.0
    """... times (photos of its lesion) ** this ..."""
    oversampling: float = 0.0
    """... or, above 0, filled its class up to this share of the commonest class ..."""
    source_draw: Mapping[str, float] = field(default_factory=dict)
    """... times the factor of its data set; 1 where none is given."""


@dataclass(frozen=True)
class Photo:
    """One row of manifest.csv."""

    photo_id: str
    path: Path
    """Absolute."""
    label: int
    """Index in the contract's labels."""
    group_id: str
    """Lesion, or lesions joined by near-duplicates: the unit of resampling."""
    split: str
    sex: str
    age: str
    site: str
    source: str = ""
    """Name of its data set."""
    dx_type: str = ""
    """Kind of ground truth."""


@dataclass(frozen=True)
class Run:
    """A checked run directory, or a foreign model in its form; see export/any_model.py."""

    folder: Path
    run: dict[str, Any]
    """run.json."""
    config: dict[str, Any]
    """config.json, empty if there is none."""
    contract: ModelContract
    photos: tuple[Photo, ...]
    model_path: Path
    """The float model: a Keras file, or the folder of a SavedModel."""
    contract_path: Path
    manifest_path: Path
    work_folder: Path
    """Of pixels and QAT checkpoints; can be deleted at any time."""
    foreign: bool = False

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files that a conversion reads and must not overwrite, without photos."""
        named = (self.model_path, self.contract_path, self.manifest_path)
        return named if self.foreign else (*named, *(self.folder / name for name in RUN_FILES))

    @property
    def sampling(self) -> Sampling:
        """How training drew photos."""
        imbalance = self.config.get("imbalance", {})
        with consistent(self.folder):
            draws = {
                entry["folder"]: float(entry.get("draw", 1.0)) for entry in self.config.get("source", [])
            }
        return Sampling(
            float(imbalance.get("sampling_exponent", 0.0)),
            float(imbalance.get("lesion_exponent", 0.0)),
            float(imbalance.get("oversampling", 0.0)),
            draws,
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of its data sets, the config's first one first."""
        return source_names(self.run)

    def split(self, name: str) -> tuple[Photo, ...]:
        """The photos of one split, in manifest order."""
        return tuple(photo for photo in self.photos if photo.split == name)


def is_crossval(folder: Path) -> bool:
    """Whether a folder holds the runs of a cross-validation, and is not a run itself."""
    return any(folder.glob("fold*/run.json")) and not (folder / "run.json").exists()


def read_run(folder: Path, data: Path | None = None) -> Run:
    """Read a finished run directory; `data` is the (first) data set's folder, if it is not where run.json says.

    Raises:
        RunInvalid: Something is missing, unfinished or contradictory; or photos are missing; or training marked the run
            as not for conversion.
        ContractInvalid, ContractTooNew: RUN/contract.json.
    """
    if not folder.is_dir():
        found, fix = "a file" if folder.exists() else "nothing", "name a folder that dermedge train wrote"
        raise RunNotFound("not a run directory", where=str(folder), found=found, fix=fix)
    if missing := [name for name in NEEDED_FILES if not (folder / name).is_file()]:
        raise RunInvalid(
            f"{folder}: incomplete run directory",
            found=f"no {', no '.join(missing)}",
            fix="rerun its dermedge train command, which resumes",
        )
    run = finished_state(folder)
    config = read_object(folder / "config.json") if (folder / "config.json").is_file() else {}
    path = folder / "contract.json"
    contract = ModelContract.from_json(path.read_bytes(), where=str(path))
    if reason := run.get("not_for_conversion"):
        raise RunInvalid(f"{folder}: not for conversion", found=str(reason), fix="train with another config")
    root, manifest = require_root(run, data, folder), folder / "manifest.csv"
    photos = _read_manifest(manifest, root, contract, source_names(run))
    absent = [os.path.relpath(photo.path, root) for photo in photos if not is_file(photo.path)]
    if absent:
        problem = f"{root}: {len(absent)} of the run's {len(photos)} photos are missing"
        raise RunInvalid(problem, found=_some(absent), fix="name the data set's folder with --data DIR")
    model, work_folder = folder / "model.keras", folder / "convert"
    return Run(folder, run, config, contract, photos, model, path, manifest, work_folder)


def _read_manifest(
    path: Path, root: Path, contract: ModelContract, sources: Sequence[str]
) -> tuple[Photo, ...]:
    codes = contract.codes
    photos: list[Photo] = []
    problems: list[str] = []
    try:
        rows = read_rows(path, COLUMNS)
    except DataInvalid as error:
        raise RunInvalid(error.what, found=error.found, expected=error.expected, fix="train again") from error
    for line, row in enumerate(rows, start=2):
        if row["label"] not in codes:
            problems.append(f"line {line}: label {row['label']!r} is not in the contract")
        elif row["split"] not in SPLITS:
            problems.append(f"line {line}: unknown split {row['split']!r}")
        else:
            photos.append(_photo(row, root, codes, source_of(row["path"], sources)))
    for split in ("train", "val"):
        if not any(photo.split == split for photo in photos):
            problems.append(f"no photo in split {split}")
    if problems:
        problem = f"{path}: {len(problems)} problems"
        expected = f"labels {', '.join(codes)}; splits {', '.join(SPLITS)}"
        raise RunInvalid(problem, found=_some(problems), expected=expected, fix="train again")
    return tuple(photos)


def _photo(row: Mapping[str, str], root: Path, codes: Sequence[str], source: str = "") -> Photo:
    photo_id = row.get("photo_id") or row["path"]
    return Photo(
        photo_id,
        root / row["path"],
        codes.index(row["label"]),
        row.get("group_id") or row.get("lesion_id") or photo_id,
        row.get("split", ""),
        **{column: row.get(column, "") for column in SUBGROUP_COLUMNS},
        source=source,
    )


def _some(problems: list[str]) -> str:
    shown = "; ".join(problems[:NAMED_PROBLEMS])
    rest = len(problems) - NAMED_PROBLEMS
    return shown if rest <= 0 else f"{shown}; and {rest} more"


def require_float_contract(run: Run) -> None:
    """Refuse a contract that a conversion has already filled.

    Raises:
        RunInvalid: Its recipe is not `none`, or it holds self-test vectors.
    """
    found = run.contract.provenance.recipe
    if found != "none" or run.contract.golden:
        raise RunInvalid(
            f"{run.contract_path}: contract of a converted model",
            found=f"recipe {found!r}, {len(run.contract.golden)} self-test vectors",
            expected="recipe 'none', no self-test vectors",
            fix="name the contract of the float model" if run.foreign else "train again",
        )


def read_scores(path: Path, codes: Sequence[str], *, prefix: str = "p_") -> pd.DataFrame:
    """Scores of photos by photo_id: a CSV, gzipped if its name ends in .gz, with the columns photo_id and p_CODE.

    Returns:
        [photos, codes] float64, exactly as written; of several rows of a photo the last one.

    Raises:
        RunInvalid: It is missing, damaged, or lacks a column.
    """
    import pandas as pd

    columns = [f"{prefix}{code}" for code in codes]
    kinds: dict[str, Any] = {"photo_id": str, **dict.fromkeys(columns, float)}
    try:
        # A photo may be called NA.
        table = pd.read_csv(
            io.BytesIO(read_table_bytes(path)),
            usecols=list(kinds),
            dtype=kinds,
            index_col="photo_id",
            keep_default_na=False,
            na_values=dict.fromkeys(columns, ""),
            float_precision="round_trip",
        ).rename(index=csv_value)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        found = getattr(error, "strerror", None) or str(error)
        expected = f"columns photo_id, {', '.join(columns)}"
        fix = "restore the file as training wrote it, or train again"
        raise RunInvalid(f"{path}: cannot read scores", found=found, expected=expected, fix=fix) from error
    return table.loc[~table.index.duplicated(keep="last"), columns]


# -------------------------------------------------------------------- any table of photos


@dataclass(frozen=True)
class PhotoList:
    """Labelled photos."""

    manifest: Path
    root: Path
    """The folder to which the paths were relative."""
    split: str
    """`all`, or the split that was chosen."""
    photos: tuple[Photo, ...]
    values: dict[str, str] = field(default_factory=dict)
    """photo_id to the cell of a further column."""
    option: str = "--photos"
    """What names `root` on the command line."""


def read_photo_list(
    data: Path,
    codes: Sequence[str],
    *,
    root: Path | None = None,
    split: str | None = None,
    column: str = "",
    option: str = "--photos",
) -> PhotoList:
    """Read labelled photos, for a comparison or a foreign model.

    Args:
        data: A run directory, or a CSV with columns path and label; optional are photo_id (else the path), group_id or
            lesion_id (else the photo_id), split, sex, age and site.
        codes: Of the models' labels.
        root: The folder of the paths. Else: where the run.json beside the CSV says; else the CSV's folder.
        split: Its name; None takes `test`, or everything of a CSV without splits.
        column: A further column whose cells are returned; none if empty.
        option: What names `root` on the command line, for errors.

    Raises:
        DataInvalid: No such table, an unknown label, a photo twice, or no photo of the split.
        RunInvalid: run.json names a folder that does not exist.
        UsageError: The table has splits but no test split, and none was named; or no such split.
    """
    manifest = data / "manifest.csv" if data.is_dir() else data
    rows = read_rows(manifest, ["path", "label", *([column] if column else [])])
    chosen = _choose_split(sorted({row.get("split", "") for row in rows} - {""}), split, manifest)
    folder = _root(manifest, root, option)
    rows = [row for row in rows if chosen in (ALL, row.get("split"))]
    _require_labels(rows, codes, manifest)
    photos = tuple(_photo(row, folder, codes) for row in rows)
    _require_distinct(photos, chosen, manifest)
    values = {photo.photo_id: row[column] for photo, row in zip(photos, rows, strict=True)} if column else {}
    return PhotoList(manifest, folder, chosen, photos, values, option)


def draw_photos(photos: Sequence[Photo], limit: int | None, seed: int) -> tuple[Photo, ...]:
    """Shuffle photos, so that an interrupted comparison has a random sample, and keep at most `limit`."""
    shuffled = list(photos)
    random.Random(seed).shuffle(shuffled)
    return tuple(shuffled if limit is None else shuffled[:limit])


def _choose_split(known: Sequence[str], split: str | None, manifest: Path) -> str:
    if split is None:
        if known and TEST not in known:
            found, fix = f"splits {', '.join(known)}", f"Name one with --split {'|'.join([*known, ALL])}"
            raise UsageError(f"--split is required: {manifest} has no test split", found=found, fix=fix)
        return TEST if known else ALL
    if split != ALL and split not in known:
        problem, found = f"--split: {manifest} has no split {split!r}", ", ".join(known) or "no splits"
        raise UsageError(problem, found=found, expected=f"one of {', '.join([*known, ALL])}")
    return split


def _root(manifest: Path, root: Path | None, option: str) -> Path:
    beside = manifest.parent / "run.json"
    if beside.is_file():
        return require_root(read_object(beside), root, manifest.parent, option)
    if root is not None and not root.is_dir():
        raise UsageError(f"{option}: not a folder", found=str(root))
    return (root or manifest.parent).resolve()


def _require_labels(rows: Sequence[Mapping[str, str]], codes: Sequence[str], manifest: Path) -> None:
    if unknown := sorted({row["label"] for row in rows} - set(codes)):
        problem = f"{manifest}: labels that the models do not have"
        expected, fix = ", ".join(codes), "Use photos of these labels, or a model of those labels"
        raise DataInvalid(problem, found=", ".join(unknown[:NAMED_PROBLEMS]), expected=expected, fix=fix)


def _require_distinct(photos: Sequence[Photo], chosen: str, manifest: Path) -> None:
    counts = Counter(photo.photo_id for photo in photos)
    if repeated := [name for name, times in counts.items() if times > 1]:
        raise DataInvalid(f"{manifest}: duplicate photos", found=", ".join(repeated[:NAMED_PROBLEMS]))
    if not photos:
        raise DataInvalid(f"{manifest}: no photos in split {chosen}", fix="Name another --split")
