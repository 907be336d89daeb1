"""One TOML file per experiment, checked and read into the dataclasses of train/configs/schema.py.

All problems are listed at once. An unknown key is refused and the nearest valid one named; a value that would be
ignored, or would end a training hours later, is refused here.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_runtime.errors import ConfigInvalid, ConfigNotFound
from train.artifacts.files import read_toml
from train.configs.schema import ADAPTER, TrainConfig

TYPES = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "an array",
    "dataclass_type": "a table",
    "finite_number": "a finite number",
}
SHOWN_CHARS = 60
CHECKOUT = Path(__file__).parents[2]


def load_config(path: Path) -> TrainConfig:
    """Read and check an experiment.

    Raises:
        ConfigInvalid: No such file, not TOML, or invalid; all problems are listed.
    """
    try:
        data = read_toml(path)
    except OSError as error:
        problem, found = "the config cannot be read", error.strerror or str(error)
        fix, expected = "see train/configs for examples", "a TOML file"
        raise ConfigNotFound(problem, where=str(path), found=found, expected=expected, fix=fix) from error
    except ValueError as error:
        raise ConfigInvalid(f"{path}: not TOML", found=str(error), expected="a TOML file") from error
    return parse_config(data, str(path))


def find_path(given: str, key: str, what: str) -> Path:
    """Find the file or folder that a config's key names.

    Raises:
        ConfigInvalid: There is none; the key and `what` is expected there are named.
    """
    for path in (Path(given), CHECKOUT / given):
        if path.exists():
            return path
    expected = f"{what}, from the working directory or the checkout"
    raise ConfigInvalid(f"{key} does not exist", found=given, expected=expected)


def parse_config(data: Mapping[str, Any], where: str) -> TrainConfig:
    """Check parsed TOML, which errors name `where`.

    Raises:
        ConfigInvalid: Invalid; all problems are listed.
    """
    try:
        # By JSON, where a list is a tuple however strict the types are. Dates, which it lacks, become tables.
        config = ADAPTER.validate_json(json.dumps(data, default=lambda value: {"date": str(value)}))
        problems = list(_conflicts(config))
    except ValidationError as error:
        problems = [_problem(dict(found)) for found in error.errors(include_url=False)]
    except (ValueError, RecursionError) as error:
        problems = [str(error)]  # Of json: a number of thousands of digits, or tables in tables.
    if problems:
        raise ConfigInvalid("invalid config", where=where, details=problems, fix="correct the file")
    return config


def _problem(found: Mapping[str, Any]) -> str:
    """One line about one of pydantic's errors."""
    kind, place = found["type"], list(found["loc"])
    shown = json.dumps(found["input"], ensure_ascii=False)
    got = f"(got {shown if len(shown) <= SHOWN_CHARS else shown[:SHOWN_CHARS] + '...'})"
    if kind == "missing" and isinstance(place[-1], int):  # A pair of one value.
        return f"{_path(place[:-1])} must have {place[-1] + 1} values {got}"
    path = _path(place)
    if kind == "missing":
        return f"{path} is missing"
    if kind == "unexpected_keyword_argument":
        near = difflib.get_close_matches(str(place[-1]), _keys(place[:-1]), n=1, cutoff=0.0)[0]
        return f"unknown key {path}; did you mean {_path([*place[:-1], near])}?"
    if kind == "too_long":
        return f"{path} must have {found['ctx']['max_length'] or 'no'} values {got}"
    return f"{path} {'must be ' + TYPES[kind] if kind in TYPES else found['msg'].removeprefix('Value error, ')} {got}"


def _path(place: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _keys(place: Sequence[str | int]) -> list[str]:
    """The keys of the table at a place."""
    table: Any = TrainConfig
    for part in place:
        if isinstance(part, str):
            hint = typing.get_type_hints(table)[part]
            table = (*typing.get_args(hint), hint)[0]  # X of tuple[X, ...]
    return [field.name for field in dataclasses.fields(table)]


def _conflicts(config: TrainConfig) -> Iterator[str]:
    """What no field shows alone: settings that would be ignored, or contradict each other."""
    if len(set(config.folders)) < len(config.folders):
        yield "two data sets have one folder"
    for folder in config.folders:
        if "+" in folder:
            yield f"data folder {folder!r} must be without +, which joins the names of several"
        if config.source and (folder != Path(folder).name or folder in ("", "..")):
            yield f"data folder {folder!r} must be a plain name: it identifies one of several datasets"
    if config.split.test_fold >= config.split.folds:
        yield f"split.test_fold must be -1 to split.folds - 1 (got {config.split.test_fold})"
    if config.model.start_trained_on and not config.model.start:
        yield "model.start_trained_on needs model.start"
    if config.outliers.per_batch and not config.outliers.folder:
        yield "outliers.per_batch needs outliers.folder"
    if config.model.batch_norm_photos and config.tiles.grid:
        yield "model.batch_norm_photos and tiles.grid exclude each other: tiles are never whole photos"
    for i, stage in enumerate(config.stage):
        if stage.frozen and stage.trains == "head":
            yield f'stage[{i}].frozen and trains = "head" exclude each other: the latter keeps all layers but the last'
