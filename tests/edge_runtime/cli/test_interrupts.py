"""Ctrl-C and pipes: no wait is without an end, no native code delays the end, nothing half-written stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime._startup import process
from edge_runtime.errors import ImageNotFound
from edge_runtime.images import photos
from edge_runtime.images.photos import listed_photos, read_photo
from edge_runtime.images.stream import numbered_frames
from tests.edge_runtime.cli.test_cli import ENVIRONMENT, U8, run
from tests.fixtures import pictures as p

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and pipes")
ANSWER_S = 1.0
# Of native code that lets other threads run and no signal in, as decoders and inferences do: a minute of hashing.
NATIVE = "hashlib.pbkdf2_hmac('sha256', b'', b'', 100_000_000)"
SCRIPT = f"""
import hashlib, sys
from edge_runtime.classifier import Classifier
from edge_runtime.cli.command import main
from edge_runtime.explain import heat_picture
from edge_runtime.runner import Runner
from PIL import Image

def native(*_, **__):
    print("working", file=sys.stderr, flush=True)
    {NATIVE}

setattr(eval(sys.argv[1]), sys.argv[2], native)
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    for index in range(6):
        (tmp_path / f"{index}.jpg").write_bytes(p.jpeg(40, 40, index))
    return sorted(map(str, tmp_path.iterdir()))


def interrupted(command: list[str], ready: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run, send SIGINT once `ready` is on stderr, and check that the end comes soon, quietly and with its status."""
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert running.stderr is not None
    assert any(ready in line for line in running.stderr)
    time.sleep(0.1)
    started = time.perf_counter()
    running.send_signal(signal.SIGINT)
    output, errors = running.communicate(timeout=60)
    assert time.perf_counter() - started < ANSWER_S + 2 * PYTHON_END_S
    assert (running.returncode, errors.splitlines()[-1:]) == (130, [b"interrupted"])
    assert b"Traceback" not in errors
    return subprocess.CompletedProcess(command, running.returncode, output, errors)


# The interpreter's own end on a busy machine.
PYTHON_END_S = 0.5


@pytest.mark.parametrize(
    ("owner", "method", "count"),
    [
        ("Runner", "decode", 1),
        ("Runner", "decode", 6),
        ("Classifier", "infer", 1),
        ("Classifier", "infer", 6),
        ("Runner", "resize", 3),
    ],
)
def test_native_code_does_not_delay_the_end(owner: str, method: str, count: int, names: list[str]) -> None:
    command = [sys.executable, "-c", SCRIPT, owner, method, "--model", U8, "--threads", "4", *names[:count]]
    assert interrupted(command, b"working").stdout == b""


@pytest.mark.parametrize(("owner", "method"), [("heat_picture", "draw_picture"), ("Image.Image", "save")])
def test_a_heat_map_is_not_left_half_written(
    owner: str, method: str, names: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "maps"
    out.mkdir()
    command = [
        sys.executable,
        "-c",
        SCRIPT,
        owner,
        method,
        "--model",
        U8,
        names[0],
        "--explain",
        str(out),
    ]
    interrupted(command, b"working")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("how", ["photo", "photos", "list", "stdin"])
def test_a_wait_for_a_pipe_ends_by_ctrl_c(how: str, names: list[str], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    words = {
        "photo": [str(pipe)],
        "photos": [str(pipe), *names],
        "list": ["--list", str(pipe)],
        "stdin": [str(pipe)],
    }
    command = [sys.executable, "-m", "edge_runtime", "--model", U8, *words[how]]
    interrupted(command, b"Intended use")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(photos, "PIPE_WAIT_S", 0.2)
    before = threading.active_count()
    yield
    assert threading.active_count() <= before + 1


@pytest.mark.usefixtures("impatient")
def test_a_pipe_that_nobody_writes_to_is_an_error(names: list[str], tmp_path: Path) -> None:
    pipe = tmp_path / "a pipe"
    os.mkfifo(pipe)
    with pytest.raises(ImageNotFound) as caught:
        read_photo(pipe)
    assert caught.value.where == str(pipe) and "0.2 s" in caught.value.found
    for reader in (listed_photos, numbered_frames):
        with pytest.raises(ImageNotFound):
            list(reader(str(pipe)))
    for words in ([str(pipe), *names], ["--list", str(pipe), *names]):
        ran = run("--json", "--model", U8, *words)
        rows = [json.loads(line) for line in ran.stdout.splitlines()]
        assert ran.returncode == 1 and len(rows) == len(names) + 1
        assert [row["error"]["code"] for row in rows if "error" in row] == ["image-not-found"]


@pytest.mark.usefixtures("impatient")
def test_a_writer_may_take_its_time(names: list[str], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb") as file:
            for name in names:
                time.sleep(0.1)
                file.write(f"{name}\n".encode())
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    assert list(listed_photos(str(pipe))) == names
    writer.join()


def test_a_shell_s_own_pipe_is_read(names: list[str]) -> None:
    for text in ("<(cat {0})", "--list <(sleep 0.3; echo {0})"):
        line = f"exec {sys.executable} -m edge_runtime --json --model {U8} {text.format(names[0])}"
        ran = subprocess.run(["bash", "-c", line], capture_output=True, check=False, env=ENVIRONMENT)
        assert ran.returncode == 0 and json.loads(ran.stdout)["scores"], ran.stderr


def test_outside_the_main_thread_and_after_the_end_signals_are_as_before() -> None:
    def interrupt() -> int:
        signal.raise_signal(signal.SIGINT)
        return 0

    statuses: list[int] = []
    worker = threading.Thread(target=lambda: statuses.append(process.interruptible(lambda: 3)))
    worker.start()
    worker.join()
    assert [*statuses, process.interruptible(lambda: 4)] == [3, 4]
    with pytest.raises(KeyboardInterrupt):
        process.interruptible(interrupt)
    time.sleep(process.GRACE_S + 0.1)
    assert signal.set_wakeup_fd(-1) == -1
