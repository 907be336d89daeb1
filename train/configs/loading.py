"""One TOML file per experiment, checked and read into the dataclasses of train/configs/schema.py. stdlib only.

All problems are listed at once. An unknown key fails and names the nearest valid one; a value that would be ignored, or
would end a training hours later, fails here.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_runtime.contract import CROPS, DECODE_SCALINGS
from edge_runtime.errors import ConfigInvalid
from train.configs.schema import LOSSES, READERS, STRATEGIES, TRAINS, StageConfig, TrainConfig


def load_config(path: Path) -> TrainConfig:
    """Reads and checks an experiment.

    Raises:
        ConfigInvalid: No such file, not TOML, or it breaks the schema; all problems are listed.
    """
    try:
        with path.open("rb") as stream:
            data = tomllib.load(stream)
    except OSError as error:
        raise ConfigInvalid(
            f"{path}: the config cannot be read",
            found=error.strerror or str(error),
            expected="a TOML file",
            fix="see train/configs for examples",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path}: not TOML", found=str(error), expected="a TOML file") from error
    return parse_config(data, str(path))


def parse_config(data: Mapping[str, Any], where: str) -> TrainConfig:
    """Checks parsed TOML.

    Args:
        data: The tables.
        where: Names them in an error.

    Raises:
        ConfigInvalid: It breaks the schema; all problems are listed.
    """
    problems: list[str] = []
    config = _decode(TrainConfig, data, "", problems)
    if not problems:
        problems = _semantic_problems(config)
    if problems:
        raise ConfigInvalid(
            f"{where}: the config breaks its schema",
            found="; ".join(problems),
            expected="the keys of train/configs/schema.py",
            fix="correct the file",
        )
    return typing.cast(TrainConfig, config)


def _decode(expected: Any, data: object, path: str, problems: list[str]) -> Any:
    """Builds `expected` (a dataclass, tuple or scalar type) from parsed TOML."""
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return _decode_table(expected, data, path, problems)
    if typing.get_origin(expected) is tuple:
        return _decode_array(typing.get_args(expected), data, path, problems)
    if expected is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if isinstance(data, float) and not math.isfinite(data):
        problems.append(f"{path} is {data}, not a finite number")
    if not isinstance(data, expected) or (isinstance(data, bool) and expected is not bool):
        problems.append(f"{path} is {data!r}, not of type {expected.__name__}")
    return data


def _decode_table(expected: type, data: object, path: str, problems: list[str]) -> Any:
    if not isinstance(data, Mapping):
        problems.append(f"{path} is {data!r}, not a table")
        return None
    prefix = f"{path}." if path else ""
    hints = typing.get_type_hints(expected)
    for key in data:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.0)
            problems.append(f"{prefix}{key} is unknown; did you mean {prefix}{near[0]}?")
    required = {
        item.name
        for item in dataclasses.fields(expected)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    }
    problems.extend(f"{prefix}{key} is missing" for key in hints if key in required and key not in data)
    values = {
        key: _decode(hint, data[key], prefix + key, problems) for key, hint in hints.items() if key in data
    }
    return expected(**values) if required <= set(values) else None


def _decode_array(items: tuple[Any, ...], data: object, path: str, problems: list[str]) -> Any:
    if not isinstance(data, list):
        problems.append(f"{path} is {data!r}, not an array")
        return ()
    if items[-1] is not types.EllipsisType and items[-1] is not Ellipsis:
        if len(data) != len(items):
            problems.append(f"{path} has {len(data)} values, not {len(items)}")
            return ()
        return tuple(_decode(kind, item, path, problems) for kind, item in zip(items, data, strict=True))
    return tuple(_decode(items[0], item, f"{path}[{i}]", problems) for i, item in enumerate(data))


class _Problems(list[str]):
    """What types alone cannot say: the sentences of the requirements that do not hold."""

    def require(self, holds: bool, problem: str) -> None:
        if not holds:
            self.append(problem)

    def one_of(self, value: str, allowed: tuple[str, ...], name: str) -> None:
        self.require(value in allowed, f"{name} is {value!r}, not one of {', '.join(allowed)}")


def _semantic_problems(config: TrainConfig) -> list[str]:
    problems = _Problems()
    _check_choices(config, problems)
    _check_data_sets(config, problems)
    _check_ranges(config, problems)
    _check_input_and_split(config, problems)
    _check_what_excludes(config, problems)
    problems.require(bool(config.stage), "there is no [[stage]]")
    for i, stage in enumerate(config.stage):
        _check_stage(stage, f"stage[{i}]", problems)
    return problems


def _check_choices(config: TrainConfig, problems: _Problems) -> None:
    one_of = problems.one_of
    one_of(config.data.reader, READERS, "data.reader")
    one_of(config.data.on_problem, ("refuse", "skip"), "data.on_problem")
    one_of(config.input.crop, CROPS, "input.crop")
    one_of(config.input.decode_scaling, DECODE_SCALINGS, "input.decode_scaling")
    one_of(config.loss.kind, LOSSES, "loss.kind")
    one_of(config.stop.keep, ("best", "last"), "stop.keep")
    one_of(config.distribute.strategy, STRATEGIES, "distribute.strategy")
    one_of(config.split.method, ("grouped", "random"), "split.method")
    one_of(config.decision.prior_of, ("all", "first"), "decision.prior_of")


def _check_data_sets(config: TrainConfig, problems: _Problems) -> None:
    require = problems.require
    require(bool(config.name.strip()), "name is empty")
    folders = [config.data.folder, *(source.folder for source in config.source)]
    require(not config.source or len(set(folders)) == len(folders), "two data sets have one folder")
    for folder in folders:
        require("+" not in folder, f"data folder {folder!r} has a +, which joins the names of several")
        require(
            not config.source or (folder == Path(folder).name and folder not in ("", "..")),
            f"data folder {folder!r} is no plain name, by which several data sets are told apart",
        )
    for i, source in enumerate(config.source):
        problems.one_of(source.reader, READERS, f"source[{i}].reader")
        require(source.draw > 0, f"source[{i}].draw is not positive")


def _check_ranges(config: TrainConfig, problems: _Problems) -> None:
    for name, value in (
        ("loss.label_smoothing", config.loss.label_smoothing),
        ("imbalance.oversampling", config.imbalance.oversampling),
        ("distill.share", config.distill.share),
        ("augment.blur", config.augment.blur),
        ("augment.jpeg", config.augment.jpeg),
        ("augment.cutout", config.augment.cutout),
    ):
        problems.require(0 <= value <= 1, f"{name} is {value}, not in [0, 1]")
    for name, value in (
        ("optimizer.average_decay", config.optimizer.average_decay),
        ("model.dropout", config.model.dropout),
        ("model.batch_norm_momentum", config.model.batch_norm_momentum),
        ("decision.refer_share", config.decision.refer_share),
    ):
        problems.require(0 <= value < 1, f"{name} is {value}, not in [0, 1)")
    for name, value in (
        ("seed", config.seed),
        ("augment.mixup", config.augment.mixup),
        ("model.batch_norm_photos", config.model.batch_norm_photos),
        ("loss.focal_gamma", config.loss.focal_gamma),
        ("optimizer.weight_decay", config.optimizer.weight_decay),
        ("stop.patience", config.stop.patience),
        ("tiles.grid", config.tiles.grid),
        ("outliers.per_batch", config.outliers.per_batch),
        ("outliers.weight", config.outliers.weight),
        ("imbalance.logit_adjustment", config.imbalance.logit_adjustment),
        ("decision.prior_correction", config.decision.prior_correction),
        ("split.near_duplicate_bits", config.split.near_duplicate_bits),
        ("split.seed", config.split.seed),
    ):
        problems.require(value >= 0, f"{name} is {value}, which is negative")
    problems.require(0 < config.tiles.fraction <= 1, "tiles.fraction is not in (0, 1]")
    problems.require(config.distill.temperature > 0, "distill.temperature is not positive")
    problems.require(config.checkpoint.every_steps >= 1, "checkpoint.every_steps is below 1")


def _check_input_and_split(config: TrainConfig, problems: _Problems) -> None:
    require, given, split = problems.require, config.input, config.split
    require(given.decode_oversampling >= 1, "input.decode_oversampling is below 1")
    require(32 <= given.size_px <= 1024, f"input.size_px is {given.size_px}, not 32 to 1024")
    require(given.std > 0, "input.std is not positive")
    require(0 < given.crop_fraction <= 1, "input.crop_fraction is not in (0, 1]")
    zoom = config.augment.zoom
    require(0 < zoom[0] <= zoom[1], "augment.zoom is not an increasing pair above 0")
    require(split.folds >= 2, f"split.folds is {split.folds}, not at least 2")
    require(
        -1 <= split.test_fold < split.folds,
        f"split.test_fold is {split.test_fold}, not -1 to split.folds - 1",
    )
    require(0 < split.val_share < 0.5, f"split.val_share is {split.val_share}, not in (0, 0.5)")


def _check_what_excludes(config: TrainConfig, problems: _Problems) -> None:
    """Settings that would be ignored, or contradict each other."""
    require, model = problems.require, config.model
    require(
        not model.start_learnt_from or bool(model.start),
        "model.start_learnt_from is of model.start, which is empty",
    )
    require(
        not config.outliers.per_batch or bool(config.outliers.folder),
        "outliers.per_batch asks for pictures, and outliers.folder names none",
    )
    require(
        not (model.batch_norm_photos and config.tiles.grid),
        "model.batch_norm_photos shows whole photos, which tiles.grid never does",
    )
    require(not (config.distill.teacher and config.distill.networks), "distill has a teacher and networks")


def _check_stage(stage: StageConfig, name: str, problems: _Problems) -> None:
    require = problems.require
    problems.one_of(stage.trains, TRAINS, f"{name}.trains")
    # The seed of an epoch is 1000 x stage + epoch (train/training/loop.py): more would draw a later stage's photos.
    require(1 <= stage.epochs <= 1000, f"{name}.epochs is {stage.epochs}, not 1 to 1000")
    require(stage.batch >= 1, f"{name}.batch is below 1")
    require(
        32 <= stage.size_px <= 1024 and stage.size_px % 32 == 0,
        f"{name}.size_px is {stage.size_px}, not a multiple of 32 up to 1024",
    )
    require(stage.learning_rate > 0, f"{name}.learning_rate is not positive")
    require(stage.final_learning_rate >= 0, f"{name}.final_learning_rate is negative")
    require(
        not (stage.frozen and stage.trains == "head"),
        f'{name}.frozen names layers to keep, where trains = "head" keeps all but the last',
    )
    require(
        not stage.zoom or (len(stage.zoom) == 2 and 0 < stage.zoom[0] <= stage.zoom[1]),
        f"{name}.zoom is not an increasing pair above 0",
    )
    require(0 <= stage.warmup_share < 1, f"{name}.warmup_share is not in [0, 1)")
