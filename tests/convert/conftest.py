from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.convert.synthetic_run import make_run, write_run_files

RECIPE_NAMES = ("float32", "float16", "dynamic_int8", "int8_ptq", "int8_qat", "int16x8")


@dataclass(frozen=True)
class Conversion:
    tflite: Path
    report: dict[str, Any]


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a trained model; read only, RUN/convert aside."""
    return make_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def conversions(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Conversion]:
    """The run converted with every recipe."""
    from convert.__main__ import main

    folder = tmp_path_factory.mktemp("models")
    made = {}
    for name in RECIPE_NAMES:
        out = folder / f"{name}.tflite"
        assert main([str(trained_run), "--recipe", name, "--out", str(out)]) == 0
        made[name] = Conversion(out, json.loads(out.with_suffix(".json").read_text()))
    return made


@pytest.fixture
def run_without_model(tmp_path: Path) -> Path:
    """RUN whose model.keras is no model: enough for all that comes before it is loaded."""
    return write_run_files(tmp_path, photos_per_class=20)[0]


@pytest.fixture
def run_copy(trained_run: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes copies of the trained run, without what conversion left there; photos stay where they are."""

    def copy(name: str) -> Path:
        copied = tmp_path / name
        shutil.copytree(trained_run, copied, ignore=shutil.ignore_patterns("convert"))
        return copied

    return copy
