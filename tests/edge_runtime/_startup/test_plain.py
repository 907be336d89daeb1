"""DERMEDGE_PLAIN=1 switches every start-up trick off, and nothing else: the same pixels, the same JSON lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.edge_runtime._startup import needs_tested_pillow
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p

ROOT = FIXTURES.parents[1]
MODEL = str(FIXTURES / "tiny_uint8.tflite")
# Photos to the hash of their pixels at both kinds of geometry, or to their error; then what was imported.
PIXELS = """
import hashlib, json, sys
from pathlib import Path
from edge_runtime.errors import ImageError
from edge_runtime.runner import Runner
found = {}
for model in ("tiny_uint8", "tiny_float32", "lesion_int8"):
    with Runner.open(f"tests/fixtures/{model}.tflite") as runner:
        for path in sorted(Path(sys.argv[1]).iterdir()):
            notes = []
            try:
                pixels_u8 = runner.pixels_u8(path.read_bytes(), name=path.name, notes=notes)
            except ImageError as error:
                found[f"{model} {path.name}"] = [error.code, error.message]
            else:
                tensor = runner.input_tensor(pixels_u8)
                found[f"{model} {path.name}"] = [hashlib.sha256(pixels_u8 + tensor).hexdigest(), notes]
print(json.dumps(found))
"""
TRICKS = """
import gc, sys
from edge_runtime.__main__ import run
import edge_runtime.cli.command as command
real = command.main
def main():
    status = real()
    costly = {"PIL.Image", "json", "argparse", "dataclasses", "typing"}
    print(*sorted(costly & set(sys.modules)), gc.get_freeze_count() > 0)
    return status
command.main = main
run()
"""


def in_mode(plain: bool, *command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "DERMEDGE_PLAIN": "1" if plain else ""}
    ran = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=env,
        timeout=300,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name, make in {**p.READABLE, **{name: make for name, (make, _) in p.REFUSED.items()}}.items():
        if name != "huge_png":
            (folder / f"{name}.jpg").write_bytes(make())
    return folder


def test_every_picture_has_the_same_pixels_and_errors(photos: Path) -> None:
    tricks, plain = (in_mode(mode, "-c", PIXELS, str(photos)) for mode in (False, True))
    found = json.loads(tricks.stdout)
    assert len(found) == 3 * len(list(photos.iterdir())) > 100
    assert json.loads(plain.stdout) == found


def without_times(line: str) -> dict[str, Any]:
    fields = json.loads(line)
    times = fields.pop("elapsed_ms", {})
    return {**fields, "stages": list(times)}


def test_the_json_lines_are_the_same_but_for_the_times(photos: Path) -> None:
    command = ("-m", "edge_runtime", "--json", "--model", MODEL, "--threads", "1", str(photos))
    tricks, plain = (in_mode(mode, *command) for mode in (False, True))
    assert tricks.returncode == plain.returncode == 1
    assert tricks.stderr == plain.stderr
    lines = [[without_times(line) for line in ran.stdout.splitlines()] for ran in (tricks, plain)]
    assert lines[0] == lines[1] and len(lines[0]) == len(list(photos.iterdir()))


@pytest.mark.parametrize("words", [["--version"], ["--no-such-option"], [], ["--print-contract"]])
def test_what_is_no_photo_is_the_same(words: list[str]) -> None:
    tricks, plain = (in_mode(mode, "-m", "edge_runtime", *words) for mode in (False, True))
    assert (tricks.returncode, tricks.stdout, tricks.stderr) == (plain.returncode, plain.stdout, plain.stderr)


def test_all_tricks_are_off(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(p.jpeg())
    ran = in_mode(True, "-c", TRICKS, str(photo))
    assert ran.stdout.splitlines()[-1] == "PIL.Image argparse dataclasses json typing False"


@needs_tested_pillow
def test_all_tricks_are_on_without_it(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(p.jpeg())
    ran = in_mode(False, "-c", TRICKS, str(photo))
    assert ran.stdout.splitlines()[-1] == "True"
