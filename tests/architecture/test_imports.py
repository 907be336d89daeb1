"""The import table holds; the checker itself sees every form of import that could break it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from tests.architecture.import_law import (
    DYNAMIC,
    LAWS,
    PACKAGES,
    circles,
    imports_of,
    violations,
    violations_in,
)

# Import names whose distribution is called otherwise.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "pillow_heif": "pillow-heif",
    "_pytest": "pytest",
    "ai_edge_litert": "ai-edge-litert",
    "sklearn": "scikit-learn",
    "tensorflow_model_optimization": "tensorflow-model-optimization",
    "tf_keras": "tf-keras",
    "tflite_runtime": "tflite-runtime",
}
RUNTIME = "edge_runtime/classifier.py"
ENGINE = "edge_runtime/engines/interpreter.py"
CONVERT = "convert/export/gate.py"
TRAIN = "train/training/loop.py"
EXTRAS = {
    "edge_runtime": ["tflite-runtime"],
    "convert": ["convert"],
    "train": ["train"],
    "tests": ["tflite-runtime", "convert", "train", "dev"],
}
# No extra: who wants HEIC photos or signed models installs them, and the error that misses them names them.
ON_DEMAND = {
    "edge_runtime": {"cryptography", "pillow-heif"},
    "train": {"torch"},
    "tests": {"atheris", "cryptography", "pillow-heif", "torch"},
}


def test_the_law_holds(repository: Path) -> None:
    for room in ("edge_runtime", "convert", "train", "tests"):
        assert list((repository / room).rglob("*.py")), (
            f"{room} has no sources: the law was checked on nothing"
        )
    assert violations(repository) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (RUNTIME, "import tensorflow as tf"),
        (RUNTIME, "import numpy"),
        (RUNTIME, "def f():\n    import numpy.linalg"),
        (RUNTIME, "from train import metrics"),
        (RUNTIME, "from convert.recipes import RECIPES"),
        (RUNTIME, "from tests.fixtures import make_models"),
        (RUNTIME, "import importlib\nimportlib.import_module('tensorflow')"),
        (RUNTIME, "from importlib import import_module\nimport_module('train.evaluation.metrics')"),
        (RUNTIME, "__import__('numpy')"),
        (RUNTIME, "import importlib\nimportlib.import_module('ten' + 'sorflow')"),
        (RUNTIME, "from ..train import metrics"),
        (ENGINE, "import numpy as np"),
        (ENGINE, "try:\n    from ai_edge_litert import interpreter\nexcept ImportError: ..."),
        (ENGINE, "class A:\n    import tflite_runtime.interpreter"),
        (ENGINE, "def f():\n    import tensorflow.lite"),
        ("edge_runtime/contract.py", "from PIL import Image"),
        (CONVERT, "import edge_runtime"),
        (CONVERT, "from edge_runtime.cli.command import main"),
        (CONVERT, "from train.data.split import make_split"),
        (CONVERT, "from train.training import loop"),
        (CONVERT, "from train.experiments.study import Answers"),
        (TRAIN, "from edge_runtime.engines import open_engine"),
        (TRAIN, "from edge_runtime import model_file"),
        (TRAIN, "from convert import metadata"),
        (TRAIN, "if TYPE_CHECKING:\n    from convert import metadata"),
        ("train/evaluation/metrics.py", "import tensorflow as tf"),
        ("train/evaluation/metrics.py", "from train.configs.schema import Config"),
        ("train/artifacts/command.py", "import numpy"),
        ("train/artifacts/command.py", "from train.configs.schema import Config"),
        ("train/data/synthetic/dataset.py", "from tqdm import tqdm"),
        ("tests/train/training/test_loop.py", "import requests"),
    ],
)
def test_the_checker_sees_a_violation(path: str, source: str) -> None:
    found = violations_in(source, PurePosixPath(path))
    assert len(found) == 1, f"one planted, found: {found}"
    assert found[0].startswith(f"{path}:")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (RUNTIME, "from edge_runtime.engines import open_engine\nfrom PIL import Image\nimport json"),
        (RUNTIME, "from . import errors\nfrom .engines.quantized import dequantize"),
        (ENGINE, "def f():\n    import numpy\n    from tflite_runtime import interpreter"),
        (ENGINE, "if TYPE_CHECKING:\n    import numpy"),
        ("edge_runtime/engines/__init__.py", "from .interpreter import open_interpreter"),
        (
            CONVERT,
            "from train.artifacts import command\nfrom train.evaluation.summary import summarize\nimport pandas",
        ),
        (
            CONVERT,
            "from edge_runtime import contract, errors\nfrom edge_runtime.diagnostics import parity",
        ),
        (
            TRAIN,
            "from edge_runtime.images.preprocess import fit_pixels\nfrom train.data.split import make_split\nimport pandas",  # noqa: E501
        ),
    ],
)
def test_the_checker_lets_the_lawful_pass(path: str, source: str) -> None:
    assert list(imports_of(source, PurePosixPath(path)))
    assert violations_in(source, PurePosixPath(path)) == []


def test_no_files_import_each_other(repository: Path) -> None:
    assert circles(repository) == []


def test_a_circle_is_seen(tmp_path: Path) -> None:
    for name, source in {
        "train/a.py": "from train import b",
        "train/b.py": "def f():\n    from train.c import x",
        "train/c.py": "import train.a",
        "train/d.py": "if TYPE_CHECKING:\n    from train import e\nelse:\n    import json",
        "train/e.py": "import train.d",
        "train/f.py": "import train.f",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    assert circles(tmp_path) == [["train/a.py", "train/b.py", "train/c.py"], ["train/f.py"]]


def test_every_law_and_exception_names_something_that_exists(repository: Path) -> None:
    gone = [path for path in [*LAWS, *DYNAMIC] if not (repository / path).exists()]
    assert gone == []


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0].lower().replace("_", "-") for line in requirements}


@pytest.mark.parametrize("room", PACKAGES)
def test_what_a_room_may_import_is_what_its_extra_installs(repository: Path, room: str) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = _names(project["dependencies"]) | ON_DEMAND.get(room, set())
    for extra in EXTRAS[room]:
        declared |= _names(project["optional-dependencies"][extra])
    # Keras 3 comes with TensorFlow; nothing imports it but to be refused.
    imported = {
        one.module.partition(".")[0]
        for path in (repository / room).rglob("*.py")
        for one in imports_of(
            path.read_text(encoding="utf-8"), PurePosixPath(path.relative_to(repository).as_posix())
        )
    }
    third_party = {
        name
        for name in imported
        if name not in sys.stdlib_module_names and name not in {*PACKAGES, "dermedge", ""}
    }
    undeclared = {name for name in third_party if DISTRIBUTIONS.get(name, name.lower()) not in declared}
    assert undeclared == set()


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("train.evaluation.metrics", ["keras", "tensorflow", "tf_keras"]),
        # `make demo` draws its sample photo with what the runtime's lock installs.
        (
            "train.data.synthetic.dataset",
            ["jinja2", "keras", "pandas", "pydantic", "scipy", "sklearn", "tensorflow", "tf_keras", "tqdm"],
        ),
        (
            "edge_runtime.cli.command",
            ["convert", "keras", "numpy", "tensorflow", "tests", "tf_keras", "train"],
        ),
    ],
)
def test_a_light_module_imports_without_the_heavy_ones(
    repository: Path, module: str, absent: list[str]
) -> None:
    code = f"import sys\nfor name in {absent!r}: sys.modules[name] = None\nimport {module}\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
