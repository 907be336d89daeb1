"""Ctrl-C ends a command within a second, also where native code or a child process works on a hostile model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_runtime.engines import validation
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p

ROOT = FIXTURES.parents[1]
BUSY_S = 3.0
"""From the signal to the end of the process: half a second by itself, the rest is for a busy machine."""
EXIT_INTERRUPTED = 130
# A mutex is locked twice: the second call never returns, and no signal interrupts it.
STUCK = """
import ctypes, sys
from train.artifacts.command import ended_by_interrupt, run_command
def work():
    library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)
    print("ready", flush=True)
    while True:
        library.pthread_mutex_lock(mutex)
with ended_by_interrupt("interrupted"):
    sys.exit(run_command(work, interrupted="interrupted"))
"""
# A first load of two minutes.
CHILD = "import time; time.sleep(120)"
LOADING = """
import sys
from edge_runtime.engines import validation
validation.CHILD = "sleeping_child"
from edge_runtime.cli.command import main
real = validation._feed
def fed(*parts):
    print("ready", flush=True)
    real(*parts)
validation._feed = fed
sys.exit(main(sys.argv[1:]))
"""


def interrupted(code: str, *words: str | Path, **environment: str) -> tuple[int, float, str]:
    """Exit status, seconds from Ctrl-C to the end, and stderr of a script that is interrupted when it says ready."""
    command = [sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "ready":
            assert process.poll() is None
        time.sleep(0.3)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        return process.returncode, time.monotonic() - start, said


@pytest.mark.skipif(sys.platform != "linux", reason="pthread_mutex_lock of the C library")
def test_native_code_that_never_returns() -> None:
    status, seconds, said = interrupted(STUCK)
    assert (status, said) == (EXIT_INTERRUPTED, "interrupted\n")
    assert seconds < BUSY_S


def test_the_first_load_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "sleeping_child.py").write_text(CHILD)
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(p.jpeg())
    known = {validation.CACHE_VARIABLE: str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    status, seconds, said = interrupted(LOADING, "--model", FIXTURES / "tiny_uint8.tflite", photo, **known)
    assert (status, said) == (EXIT_INTERRUPTED, "interrupted\n")
    assert seconds < BUSY_S
    assert not (tmp_path / "cache").exists()


@pytest.mark.tf
@pytest.mark.slow
def test_a_foreign_graph_that_never_ends(tmp_path: Path) -> None:
    import tensorflow as tf

    from tests.convert.export.test_saved_graph import save

    def forever(x: object) -> object:
        step, start = (lambda i, y: (i + 1, y)), (tf.constant(0.0), x)
        return tf.while_loop(lambda i, y: tf.reduce_sum(y) > -1e30, step, start)[1]

    save(tmp_path / "saved", forever)
    code = f"""
import sys
from pathlib import Path
from train.artifacts.command import ended_by_interrupt, run_command
from convert.export.saved_model import SavedNetwork
from tests.convert.synthetic_run import make_contract
def work():
    real = SavedNetwork._looks_like_probabilities
    SavedNetwork._looks_like_probabilities = lambda *given: (print("ready", flush=True), real(*given))[1]
    SavedNetwork(Path({str(tmp_path / "saved")!r}), make_contract())
with ended_by_interrupt("interrupted"):
    sys.exit(run_command(work, interrupted="interrupted"))
"""
    status, seconds, said = interrupted(code)
    assert status == EXIT_INTERRUPTED and said.endswith("interrupted\n")
    assert seconds < BUSY_S
