"""edge-classify needs Pillow and libLiteRt.so: no numpy, no TensorFlow, nothing of training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.edge_runtime._startup import needs_tested_pillow
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p

ROOT = FIXTURES.parents[1]
TRAINING = ["tensorflow", "tf_keras", "keras", "tensorflow_model_optimization", "train", "convert", "tests"]
# Runs edge-classify with every import of the named packages failing, then lists what was imported.
RUN_BLOCKED = """
import sys
blocked, arguments = sys.argv[1].split(","), sys.argv[2:]
class Blocker:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)
sys.meta_path.insert(0, Blocker)
from edge_runtime.cli.command import main
status = main(arguments)
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(status)
"""


def blocked_process(blocked: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN_BLOCKED, ",".join(blocked), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)


def run_blocked(blocked: list[str], *arguments: str) -> tuple[int, str, set[str]]:
    """Exit status, stdout, and the top-level packages that were imported."""
    ran = blocked_process(blocked, *arguments)
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode, ran.stdout, set(ran.stderr.splitlines()[-1].split())


@pytest.fixture
def photo(tmp_path: Path) -> str:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    path.write_bytes(p.jpeg(300, 225, exif=exif.tobytes()))
    return str(path)


@pytest.mark.parametrize("name", ["tiny_uint8.tflite", "tiny_float32.tflite"])
def test_it_works_where_numpy_and_training_cannot_be_imported(name: str, photo: str) -> None:
    arguments = ("--json", "--self-check", "--model", str(FIXTURES / name), photo)
    status, output, imported = run_blocked(["numpy", *TRAINING], *arguments)
    assert status == 0
    assert json.loads(output)["runtime"]["engine"].startswith("litert-c ")
    assert not imported & {"numpy", "ai_edge_litert", "tflite_runtime", *TRAINING}
    assert "PIL" in imported


@needs_tested_pillow
def test_only_what_is_needed_is_imported(photo: str) -> None:
    """Without a blocker: what is not imported is not merely missing."""
    # The bundled model, because any option imports argparse.
    # Twice, because the first run of an untested release of LiteRT validates it.
    run_blocked(["nothing"], photo)
    status, _, imported = run_blocked(["nothing"], photo)
    assert status == 0
    allowed = {
        "PIL",
        "edge_runtime",
        "__main__",
        "__mp_main__",
        "sitecustomize",
        "usercustomize",
        "_distutils_hack",
    }
    assert imported - set(sys.stdlib_module_names) <= allowed
    # Each of these costs milliseconds or megabytes of every start.
    assert not imported & {
        "hashlib",
        "zipfile",
        "shutil",
        "tempfile",
        "urllib.request",
        "asyncio",
        "statistics",
        "typing",
        "json",
        "re",
        "enum",
        "collections",
        "functools",
        "contextlib",
    }


def test_the_blocker_blocks(photo: str) -> None:
    """The tests above would pass if nothing were blocked; this shows that it is."""
    ran = blocked_process(["PIL"], "--model", str(FIXTURES / "tiny_uint8.tflite"), photo)
    assert ran.returncode != 0
    assert "No module named 'PIL'" in ran.stderr or "No module named 'PIL.Image'" in ran.stderr


def test_xnnpack_takes_the_interpreter_and_says_so(photo: str) -> None:
    arguments = ("--json", "--accelerator", "xnnpack", "--model", str(FIXTURES / "tiny_uint8.tflite"), photo)
    status, output, imported = run_blocked(TRAINING, *arguments)
    assert status == 0
    assert json.loads(output)["runtime"]["engine"].startswith("litert 2")
    assert {"numpy", "ai_edge_litert"} <= imported


def test_without_any_inference_library_the_fix_is_named(photo: str) -> None:
    blocked = ["ai_edge_litert", "tflite_runtime"]
    ran = blocked_process(blocked, "--model", str(FIXTURES / "tiny_uint8.tflite"), photo)
    assert (ran.returncode, ran.stdout) == (3, "")
    assert "pip install ai-edge-litert" in ran.stderr and "Traceback" not in ran.stderr
