"""What every test may ask for: where the checkout, the real data and the weights are; what is skipped, and why.

A test that needs something which this machine lacks is skipped with a line that says how to get it, never passed.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest

# Before anything imports TensorFlow: tf_keras is Keras 2, its start-up log would drown a test's own output, and the
# kernels are those of the commands.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# TensorFlow shows its symbols to every library that is loaded after it. tflite-runtime 2.14 then runs TensorFlow's code
# in place of its own and dies ("vector::reserve", or a segmentation fault). Loaded before, both work in one process.
with contextlib.suppress(ImportError):
    importlib.import_module("tflite_runtime.interpreter")

# A shell that runs things in the background lets them ignore Ctrl-C, and what they start inherits that: the tests of it
# would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent
# A developer's checkout may have the data beside it.
SHARED = REPOSITORY.parent / "shared"

_skipped: Counter[str] = Counter()


def _folder(variable: str, fallback: Path) -> Path | None:
    """The folder that an environment variable names, else the fallback where it exists."""
    named = os.environ.get(variable)
    if named:
        folder = Path(named).expanduser().resolve()
        if not folder.is_dir():
            raise pytest.UsageError(
                f"{variable} names no folder; found: {named}; what to do: correct or unset it"
            )
        return folder
    return fallback if fallback.is_dir() else None


def _missing(marker: str) -> str | None:
    """Why tests with this marker cannot run here; None when they can."""
    if marker == "tf" and importlib.util.find_spec("tensorflow") is None:
        return "TensorFlow is not installed; what to do: make setup"
    if marker == "real_data" and _folder("DERMEDGE_DATA", SHARED / "data") is None:
        return "no data sets; what to do: set DERMEDGE_DATA to the folder that holds HAM10000/ (see tests/README.md)"
    if marker == "java" and shutil.which("javac") is None:
        return "no javac; what to do: install a JDK"
    if marker == "pi" and not os.environ.get("DERMEDGE_PI"):
        return "no emulated Raspberry Pi; what to do: make test-pi"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = {marker: _missing(marker) for marker in ("tf", "real_data", "java", "pi")}
    for item in items:
        for marker, reason in reasons.items():
            if reason is not None and item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=f"{marker}: {reason}"))
                _skipped[f"{marker}: {reason}"] += 1
                break


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Skipped for lack of something is said loudly: a green run on a bare machine proves less."""
    for reason, count in sorted(_skipped.items()):
        terminalreporter.write_line(f"NOT RUN: {count} tests, {reason}", yellow=True, bold=True)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder that holds HAM10000/ and the other data sets; the test is skipped without it."""
    folder = _folder("DERMEDGE_DATA", SHARED / "data")
    if folder is None:
        pytest.skip(f"real_data: {_missing('real_data')}")
    return folder


@pytest.fixture(scope="session")
def weights_root() -> Path:
    """The folder of ImageNet weights; the test is skipped without it."""
    folder = _folder("DERMEDGE_WEIGHTS", SHARED / "weights")
    if folder is None:
        pytest.skip("no ImageNet weights; what to do: set DERMEDGE_WEIGHTS (see tests/README.md)")
    return folder
