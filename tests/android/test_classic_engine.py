"""What the classic engine does when the library fails it: over a stub, for the real library cannot be made to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.fixtures import FIXTURES

pytestmark = pytest.mark.java


def test_an_interpreter_that_cannot_be_used_is_closed(repository: Path, tmp_path: Path) -> None:
    sample = repository / "android_sample"
    folders = [
        sample / "core/src/main/java",
        *(sample / "engine-classic/src" / name for name in ("main/java", "test/stub")),
    ]
    sources = [path for folder in folders for path in folder.rglob("*.java")]
    assert len(sources) > 30
    compiler = ["javac", "-nowarn", "-encoding", "UTF-8", "-d", str(tmp_path)]
    subprocess.run([*compiler, *map(str, sources)], check=True)
    model = str(FIXTURES / "tiny_uint8.tflite")
    command = ["java", "-cp", str(tmp_path), "dermedge.engine.classic.OpenBroken", model]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "no output, open: 0\n"
