"""Reads and checks a run directory: what training left and where its photos are. stdlib only.

From RUN/ these are read: run.json, contract.json, manifest.csv, model.keras, and config.json where there is one.
The photos' folder is, in this order: `--data DIR`; the root that run.json names; `$DERMEDGE_DATA/<data name>`. A run on
several data sets (name A+B) has paths that start with a data set's folder; its root is the parent of the first one's.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.contract import ModelContract
from edge_runtime.errors import RunInvalid
from train.artifacts.files import read_object
from train.artifacts.run import finished_state, require_root, source_names, source_of

SPLITS = ("train", "val", "test")
COLUMNS = ("photo_id", "path", "label", "group_id", "split")
# Columns by which the model card breaks figures down; absent or empty values count as unknown.
SUBGROUP_COLUMNS = ("sex", "age", "site")
# What training leaves and this room reads. Conversions may lie beside it, but not in its place.
RUN_FILES = (
    "run.json",
    "config.json",
    "split.json",
    "metrics.json",
    "contract.json",
    "manifest.csv",
    "model.keras",
)
NAMED_PROBLEMS = 5
"""So many missing photos or bad rows are named; the rest are counted."""


@dataclass(frozen=True)
class Sampling:
    """Which photos training saw more often than others."""

    sampling_exponent: float = 0.0
    """A photo was drawn with weight (photos of its class) ** this ..."""
    lesion_exponent: float = 0.0
    """... times (photos of its lesion) ** this ..."""
    oversampling: float = 0.0
    """... or, above 0, so often that its class fills this share of the commonest ..."""
    source_draw: Mapping[str, float] = field(default_factory=dict)
    """... and in both cases times its data set's factor; 1 where none stands."""


@dataclass(frozen=True)
class Photo:
    """One row of manifest.csv."""

    photo_id: str
    path: Path
    """Absolute."""
    label: int
    """Index in the contract's labels."""
    group_id: str
    """Lesion, or lesions joined by near-duplicates: the unit of every interval."""
    split: str
    sex: str
    age: str
    site: str
    source: str = ""
    """Name of its data set."""


@dataclass(frozen=True)
class LooseModel:
    """Paths of a model that is no run directory; see convert/export/any_model.py."""

    model: Path
    """A Keras file, or the folder of a SavedModel."""
    contract: Path
    manifest: Path
    work_folder: Path


@dataclass(frozen=True)
class Run:
    """A checked run directory."""

    folder: Path
    run: dict[str, Any]
    """run.json."""
    config: dict[str, Any]
    """config.json, empty if there is none."""
    contract: ModelContract
    photos: tuple[Photo, ...]
    loose: LooseModel | None = None
    """Where things are of a model that is no run directory."""

    @property
    def foreign(self) -> bool:
        """Whether this is no run directory but a model of its own."""
        return self.loose is not None

    @property
    def model_path(self) -> Path:
        """The float model: a Keras file, or the folder of a SavedModel."""
        return self.loose.model if self.loose else self.folder / "model.keras"

    @property
    def contract_path(self) -> Path:
        """The contract as JSON."""
        return self.loose.contract if self.loose else self.folder / "contract.json"

    @property
    def manifest_path(self) -> Path:
        """The table of photos."""
        return self.loose.manifest if self.loose else self.folder / "manifest.csv"

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files that a conversion reads, and that it must not write to; photos aside."""
        named = (self.model_path, self.contract_path, self.manifest_path)
        return named if self.loose else (*named, *(self.folder / name for name in RUN_FILES))

    @property
    def work_folder(self) -> Path:
        """Where conversion keeps pixels and QAT checkpoints; can be deleted at any time."""
        return self.loose.work_folder if self.loose else self.folder / "convert"

    @property
    def sampling(self) -> Sampling:
        """How training drew photos."""
        imbalance = self.config.get("imbalance", {})
        return Sampling(
            float(imbalance.get("sampling_exponent", 0.0)),
            float(imbalance.get("lesion_exponent", 0.0)),
            float(imbalance.get("oversampling", 0.0)),
            {entry["folder"]: float(entry.get("draw", 1.0)) for entry in self.config.get("source", [])},
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """Its data sets, the first one first."""
        return source_names(self.run)

    def split(self, name: str) -> tuple[Photo, ...]:
        """The photos of one split, in manifest order."""
        return tuple(photo for photo in self.photos if photo.split == name)


def read_run(folder: Path, data: Path | None = None) -> Run:
    """Reads a finished run directory.

    Args:
        folder: RUN.
        data: The (first) data set's folder, if it is not where run.json says.

    Raises:
        RunInvalid: Something is missing, unfinished or contradictory; or photos are missing; or training says that
            the run is not for conversion.
        ContractInvalid, ContractTooNew: RUN/contract.json.
    """
    if not folder.is_dir():
        raise RunInvalid(
            f"{folder}: not a run directory",
            found="a file" if folder.exists() else "nothing",
            expected="a folder made by `python -m train`",
        )
    missing = [
        name
        for name in ("run.json", "contract.json", "manifest.csv", "model.keras")
        if not (folder / name).is_file()
    ]
    if missing:
        raise RunInvalid(
            f"{folder}: the run directory is incomplete",
            found=f"no {', no '.join(missing)}",
            fix="let training finish: `python -m train CONFIG --workdir` with the same folder resumes it",
        )
    run = finished_state(folder)
    config = read_object(folder / "config.json") if (folder / "config.json").is_file() else {}
    contract_path = folder / "contract.json"
    contract = ModelContract.from_json(contract_path.read_bytes(), where=str(contract_path))
    if reason := run.get("not_for_conversion"):
        raise RunInvalid(
            f"{folder}: this run is not for conversion",
            found=str(reason),
            expected="a run whose figures hold for one view of its model",
            fix="train with another config",
        )
    root = require_root(run, data, folder)
    photos = _read_manifest(folder / "manifest.csv", root, contract, source_names(run))
    _require_files(photos, root)
    return Run(folder, run, config, contract, photos)


def _read_manifest(
    path: Path, root: Path, contract: ModelContract, sources: Sequence[str]
) -> tuple[Photo, ...]:
    codes = [label.code for label in contract.labels]
    index_of = {code: i for i, code in enumerate(codes)}
    photos: list[Photo] = []
    problems: list[str] = []
    for line, row in _manifest_rows(path):
        if row["label"] not in index_of:
            problems.append(f"line {line}: label {row['label']!r} is not in the contract")
        elif row["split"] not in SPLITS:
            problems.append(f"line {line}: split {row['split']!r}")
        else:
            known = {column: row.get(column) or "" for column in SUBGROUP_COLUMNS}
            photos.append(
                Photo(
                    row["photo_id"],
                    root / row["path"],
                    index_of[row["label"]],
                    row["group_id"] or row["photo_id"],
                    row["split"],
                    **known,
                    source=source_of(row["path"], sources),
                )
            )
    for split in ("train", "val"):
        if not any(photo.split == split for photo in photos):
            problems.append(f"no photo in split {split}")
    if problems:
        raise RunInvalid(
            f"{path}: {len(problems)} problems",
            found=_some(problems),
            expected=f"labels {', '.join(codes)}; splits {', '.join(SPLITS)}",
            fix="train again",
        )
    return tuple(photos)


def _manifest_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Number of the line and cells of every photo; a cell that a short row lacks is empty."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, restval="")
            lacking = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise RunInvalid(
            f"{path}: not a CSV", found=str(error), expected="UTF-8 text", fix="train again"
        ) from error
    if lacking:
        raise RunInvalid(
            f"{path}: columns are missing", found=f"no {', no '.join(lacking)}", fix="train again"
        )
    return rows


def _require_files(photos: tuple[Photo, ...], root: Path) -> None:
    absent = [str(photo.path.relative_to(root)) for photo in photos if not photo.path.is_file()]
    if absent:
        raise RunInvalid(
            f"{root}: {len(absent)} of the run's {len(photos)} photos are missing",
            found=_some(absent),
            expected="the data set that the run was trained on",
            fix="give its folder with --data DIR",
        )


def _some(problems: list[str]) -> str:
    shown = "; ".join(problems[:NAMED_PROBLEMS])
    rest = len(problems) - NAMED_PROBLEMS
    return shown if rest <= 0 else f"{shown}; and {rest} more"


def require_whole_chain(run: Run) -> None:
    """Refuses a contract that another step has already converted or filled.

    Raises:
        RunInvalid: Its recipe is not `none`, or it holds golden vectors.
    """
    found = run.contract.provenance.recipe
    if found != "none" or run.contract.golden:
        raise RunInvalid(
            f"{run.contract_path}: belongs to a converted model",
            found=f"recipe {found!r}, {len(run.contract.golden)} golden vectors",
            expected="recipe 'none' and no golden vectors, as training writes it",
            fix="name the contract of the float model" if run.foreign else "train again",
        )
