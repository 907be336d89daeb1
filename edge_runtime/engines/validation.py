"""Validate native code in a child process, which may die of it, and cache the result. stdlib only.

The child is `probe.py`, started by its name. Results are cached in files below DERMEDGE_CACHE, XDG_CACHE_HOME or
~/.cache; a machine without a place for them validates every time.
"""

# Importing pathlib costs 4 ms of start-up.
# ruff: noqa: PTH100, PTH103, PTH105, PTH108, PTH118, PTH120, PTH123

from __future__ import annotations

import os
import sys

CACHE_VARIABLE = "DERMEDGE_CACHE"
TIMEOUT_S = 120.0
PROBE = "edge_runtime.engines.probe"


def run_probe(question: str, model_bytes: bytes) -> tuple[str, str]:
    """Run `probe.py` on one question.

    Args:
        question: One line of JSON, see there.
        model_bytes: A .tflite.

    Returns:
        The last line of its stdout and an empty text; or an empty text and why there is no such line.

    Raises:
        OSError: The child cannot be started.
    """
    import signal
    import subprocess

    package_folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(filter(None, (package_folder, os.environ.get("PYTHONPATH"))))
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", PROBE],
            input=question.encode() + b"\n" + model_bytes,
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        return "", f"no result within {TIMEOUT_S:g} s"
    if child.returncode < 0:
        return "", f"it crashed its validation process (signal {signal.Signals(-child.returncode).name})"
    # Native code may have written to stdout too; the result is the last line.
    lines = child.stdout.decode("utf-8", "replace").splitlines()
    if child.returncode == 0 and lines:
        return lines[-1], ""
    last = child.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return "", f"its validation process ended with status {child.returncode}: {' '.join(last)[:200]}"


def cache_file(name: str) -> str | None:
    """Return the path of a cached result; None where there is no place for it."""
    folder = os.environ.get(CACHE_VARIABLE) or os.environ.get("XDG_CACHE_HOME")
    if not folder:
        home = os.environ.get("HOME")
        if not home:
            return None
        folder = os.path.join(home, ".cache")
    return os.path.join(folder, "dermedge", name)


def read_cached(path: str | None) -> str | None:
    """Return a cached result, None where there is none."""
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return None


def write_cached(path: str | None, text: str) -> None:
    """Write a result, whole or not at all; where it cannot be written, the next process validates again."""
    if path is None:
        return
    temporary = f"{path}.{os.getpid()}.partial"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            return
