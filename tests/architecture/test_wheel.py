"""The wheel: edge_runtime and its model, two requirements, two commands, nothing of training."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import edge_runtime

pytestmark = pytest.mark.slow

# PyPI's own limit is far above; a Pi's owner notices 10 MB.
MAX_WHEEL_BYTES = 10 * 1024 * 1024
CONTENT = re.compile(
    r"dermedge\.py|edge_runtime/(?:[\w]+/)*\w+\.py|edge_runtime/py\.typed|edge_runtime/cli/lines\.schema\.json"
    r"|edge_runtime/model/operator(?:s|_names)\.txt|edge_runtime/models/[\w.-]+\.(?:tflite|md)"
    r"|dermedge-[\d.]+\.dist-info/(?:METADATA|WHEEL|RECORD|entry_points\.txt|licenses/(?:LICENSE|edge_runtime/models/LICENSE\.md))"
)


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that DERMEDGE_WHEEL names, else one built here without a network."""
    named = os.environ.get("DERMEDGE_WHEEL")
    if named:
        return zipfile.ZipFile(named)
    pytest.importorskip("hatchling", reason="hatchling is not installed. Run make setup.")
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def test_it_holds_edge_runtime_alone(wheel: zipfile.ZipFile, repository: Path) -> None:
    names = wheel.namelist()
    assert [name for name in names if not CONTENT.fullmatch(name)] == []
    sources = {
        path.relative_to(repository).as_posix() for path in (repository / "edge_runtime").rglob("*.py")
    }
    assert sources <= set(names)
    assert {
        "edge_runtime/py.typed",
        "edge_runtime/cli/lines.schema.json",
        "edge_runtime/model/operator_names.txt",
        "edge_runtime/model/operators.txt",
    } <= set(names)
    assert "dermedge.py" in names


def test_it_holds_the_model_and_its_card(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    models = [name for name in names if name.endswith(".tflite")]
    assert len(models) == 1
    texts = {name for name in names if name.startswith("edge_runtime/models/") and name.endswith(".md")}
    assert "edge_runtime/models/LICENSE.md" in texts, "the weights' licence differs from the code's"
    assert texts - {"edge_runtime/models/LICENSE.md"}, "no model card"


def test_it_is_small(wheel: zipfile.ZipFile) -> None:
    assert sum(entry.compress_size for entry in wheel.infolist()) < MAX_WHEEL_BYTES


def test_it_requires_pillow_and_litert_only(metadata: Message) -> None:
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0].lower() for line in required) == [
        "ai-edge-litert",
        "pillow",
    ]
    assert set(metadata.get_all("Provides-Extra", [])) == {
        *("tflite-runtime", "heif", "signature"),
        *("train", "convert", "dev"),
    }


def test_its_metadata(metadata: Message, wheel: zipfile.ZipFile) -> None:
    assert metadata["Name"] == "dermedge"
    assert metadata["Version"] == edge_runtime.__version__
    # Scanners read this: the model that it carries must not pass for commercial use.
    assert metadata["License-Expression"] == "Apache-2.0 AND CC-BY-NC-4.0"
    assert metadata["Requires-Python"] == ">=3.11"
    (scripts,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "edge-classify = edge_runtime.__main__:run" in scripts
    assert "dermedge = dermedge:run" in scripts
