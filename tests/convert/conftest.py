from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.convert.synthetic_run import make_run, write_run_files
from tests.shared_artifact import shared_artifact

RECIPE_NAMES = ("float32", "float16", "dynamic_int8", "int8_ptq", "int8_qat", "int16x8")

# What decides the content of the shared artifacts; from train, what convert may import.
RUN_SOURCES = (
    "edge_runtime",
    "convert/quantization",
    "tests/convert/synthetic_run.py",
    "tests/convert/conftest.py",
)
CONVERT_SOURCES = (
    *RUN_SOURCES,
    "convert",
    *(f"train/{package}" for package in ("artifacts", "data", "evaluation", "reports")),
)


@dataclass(frozen=True)
class Conversion:
    tflite: Path
    report: dict[str, Any]


@pytest.fixture(scope="session")
def made_run() -> Path:
    """The folder of a trained run and its photos (`run`, `data`), shared by all workers: read only."""
    return shared_artifact("converted-run", RUN_SOURCES, make_run)


@pytest.fixture(scope="session")
def trained_run(made_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a trained model, `data` beside it; read only, RUN/convert aside."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "data").symlink_to(made_run / "data", target_is_directory=True)
    shutil.copytree(made_run / "run", folder / "run", ignore=shutil.ignore_patterns("convert"))
    return folder / "run"


@pytest.fixture(scope="session")
def conversions(made_run: Path) -> dict[str, Conversion]:
    """The run converted with every recipe; shared by all workers: read only."""

    def convert_all(folder: Path) -> None:
        from convert import convert
        from convert.tflite import golden

        for name in RECIPE_NAMES:
            with pytest.MonkeyPatch.context() as patch:
                # All kernel sets for one file: each is a process.
                if name != "int8_ptq":
                    patch.setattr(golden, "KERNEL_SETS", golden.KERNEL_SETS[:1])
                few = {"epochs": 1} if name == "int8_qat" else {}
                convert(made_run / "run", name, folder / f"{name}.tflite", **few)

    folder = shared_artifact("converted-models", CONVERT_SOURCES, convert_all)
    return {
        name: Conversion(folder / f"{name}.tflite", json.loads((folder / f"{name}.json").read_text()))
        for name in RECIPE_NAMES
    }


@pytest.fixture
def few_kernel_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chooses self-test pictures by one kernel set: each further one is a process, seconds a conversion."""
    from convert.tflite import golden

    monkeypatch.setattr(golden, "KERNEL_SETS", golden.KERNEL_SETS[:1])


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
