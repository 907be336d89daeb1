"""Fixtures, tiers and skips for all tests.

A test that needs something which this machine lacks is skipped with a line that says how to get it, never passed.
Tests marked `long`, and all of `tests/train/experiments`, are deselected unless `--tier` includes them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before anything imports TensorFlow: tf_keras is Keras 2, its start-up log would drown a test's own output, and the
# kernels are those of the commands.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# One thread per process: two workers share two cores, and sums have one order on every machine.
for _variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

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

# Begins the reason of a skip for lack of something, so that the summary can count it.
NOT_RUN = "needs "
TIERS = ("fast", "long", "all")
# Experiments are not part of the product: their tests are long whatever they cost.
LONG_FOLDERS = (REPOSITORY / "tests" / "train" / "experiments",)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--tier",
        choices=TIERS,
        default=os.environ.get("DERMEDGE_TIER", "fast"),
        help="Tests to run: fast (all but long), long (only long) or all (default: DERMEDGE_TIER, else fast)",
    )


def _folder(variable: str, fallback: Path) -> Path | None:
    """The folder that an environment variable names, else the fallback where it exists."""
    named = os.environ.get(variable)
    if named:
        folder = Path(named).expanduser().resolve()
        if not folder.is_dir():
            raise pytest.UsageError(f"{variable}: not a folder (got {named}). Correct or unset it.")
        return folder
    return fallback if fallback.is_dir() else None


def _missing(marker: str) -> str | None:
    """Why tests with this marker cannot run here; None when they can."""
    if marker == "tf" and importlib.util.find_spec("tensorflow") is None:
        return "TensorFlow is not installed; run make setup"
    if marker == "real_data" and _folder("DERMEDGE_DATA", SHARED / "data") is None:
        return "no datasets; set DERMEDGE_DATA to the folder that holds HAM10000/ (see tests/README.md)"
    if marker == "java" and shutil.which("javac") is None:
        return "no javac; install a JDK"
    if marker == "pi" and not os.environ.get("DERMEDGE_PI"):
        return "no emulated Raspberry Pi; run make test-pi"
    return None


def is_long(item: pytest.Item) -> bool:
    """Whether a test belongs to the long tier."""
    if item.get_closest_marker("long") is not None:
        return True
    return any(folder in item.path.parents for folder in LONG_FOLDERS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tier = config.getoption("--tier")
    if tier != "all":
        left_out = [item for item in items if is_long(item) != (tier == "long")]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if is_long(item) == (tier == "long")]
    reasons = {marker: _missing(marker) for marker in ("tf", "real_data", "java", "pi")}
    for item in items:
        for marker, reason in reasons.items():
            if reason is not None and item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=f"{NOT_RUN}{marker}: {reason}"))
                break


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Count loudly what was skipped: a green run on a bare machine proves less."""
    skipped: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", ()):
        if isinstance(report.longrepr, tuple | list) and NOT_RUN in report.longrepr[2]:
            skipped[report.longrepr[2].partition(NOT_RUN)[2]] += 1
    for reason, count in sorted(skipped.items()):
        terminalreporter.write_line(f"NOT RUN: {count} tests, {reason}", yellow=True, bold=True)
    if config.getoption("--tier") == "fast":
        terminalreporter.write_line("Tier: fast. Run the long tests too with --tier=all (make test-all).")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Results of validations neither come from this user's cache nor get into it."""
    os.environ["DERMEDGE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder that holds HAM10000/ and the other data sets; the test is skipped without it."""
    folder = _folder("DERMEDGE_DATA", SHARED / "data")
    if folder is None:
        pytest.skip(f"{NOT_RUN}real_data: {_missing('real_data')}")
    return folder


@pytest.fixture(scope="session")
def weights_root() -> Path:
    """The folder of ImageNet weights; the test is skipped without it."""
    folder = _folder("DERMEDGE_WEIGHTS", SHARED / "weights")
    if folder is None:
        pytest.skip("no ImageNet weights; set DERMEDGE_WEIGHTS (see tests/README.md)")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount file systems of so many KiB; the test is skipped where that is not allowed."""
    mounted: list[Path] = []

    def mount(kib: int) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            pytest.skip(f"{NOT_RUN}mount: {error}; run as root on Linux")
        if done.returncode:
            pytest.skip(f"{NOT_RUN}mount: {done.stderr.strip()}; run as root on Linux")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        # Lazily: pixels may still be mapped.
        subprocess.run(["umount", "--lazy", str(place)], check=True)
