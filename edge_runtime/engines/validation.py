"""Try native code in a child process, which may die of it, and cache the result. stdlib only.

The child is `child.py`, started by its name: with the limits that it is told to set, the environment variables that are
named here, and a session of its own, which is ended as a whole. Windows has no such limits and sessions, macOS no limit
of memory: there only the time is bounded.

Results are cached in files below DERMEDGE_CACHE, XDG_CACHE_HOME or ~/.cache, which nobody else may write to; a machine
without a place for them tries every time.
"""

# Importing pathlib costs 4 ms of start-up.
# ruff: noqa: PTH100, PTH103, PTH118, PTH120, PTH123

from __future__ import annotations

import os
import stat
import sys

from edge_runtime._startup.records import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, BinaryIO

CACHE_VARIABLE = "DERMEDGE_CACHE"
TIMEOUT_S = 120.0
CHILD = "edge_runtime.engines.child"
RESULT = "dermedge-result: "
CRASHED = "it crashed its validation process"
MAX_OUTPUT_BYTES = 65_536
"""Of a child's output, its end, and of a cached result."""
# How long a process that the child left behind can hold up its result.
POLL_S = 0.05
# What decides which driver a GPU library finds, and how it works.
DRIVER_PREFIXES = (
    "LD_", "DYLD_", "VK_", "OCL_", "OPENCL_", "CUDA_", "NVIDIA_", "MESA_", "GALLIUM_", "LIBGL_", "EGL_", "ADSP_",
    "QNN_", "VIV_", "EDGETPU_", "TFLITE_",
)  # fmt: skip
_PASSED_PREFIXES = (*DRIVER_PREFIXES, "DERMEDGE_", "LC_", "XDG_")
_PASSED = (
    "PATH", "HOME", "LANG", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE",
    "PYTHONPYCACHEPREFIX",
)  # fmt: skip


def probe_limits(model_bytes: bytes) -> dict[str, int]:
    """Return the limits of an accelerator's validation. Drivers map much address space, and keep compiled kernels."""
    return {
        "CORE": 0, "DATA": (4 << 30) + 8 * len(model_bytes), "CPU": 240, "FSIZE": 256 << 20, "NOFILE": 1024,
    }  # fmt: skip


def run_probe(question: Mapping[str, Any], model_bytes: bytes, limits: Mapping[str, int]) -> tuple[str, str]:
    """Run `child.py` on one of its questions, within limits by the names of `resource`.

    Returns:
        The result and an empty text; or an empty text and why there is none.

    Raises:
        OSError: The child cannot be started.
    """
    import json
    import subprocess
    from threading import Thread
    from time import monotonic

    if not sys.executable or getattr(sys, "frozen", False):
        raise OSError("this program is no Python that could start one")
    head = json.dumps({**question, "limits": limits}).encode() + b"\n"
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(),
        start_new_session=True,
    )
    output, deadline, status = bytearray(), monotonic() + TIMEOUT_S, None
    reader = Thread(target=_keep_end, args=(child.stdout, output), daemon=True)
    try:
        reader.start()
        Thread(target=_feed, args=(child.stdin, head, model_bytes), daemon=True).start()
        # Its output ends with it, unless a process that it left behind keeps it open.
        while reader.is_alive() and child.poll() is None and monotonic() < deadline:
            reader.join(POLL_S)
        status = child.wait(max(0.0, deadline - monotonic()))
    except subprocess.TimeoutExpired:
        return "", f"no result within {TIMEOUT_S:g} s"
    finally:
        _end_session(child)
    reader.join(POLL_S)
    return _result(status, output.decode("utf-8", "replace"), limits)


def _environment() -> dict[str, str]:
    package_folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    named = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED or name.startswith(_PASSED_PREFIXES)
    }
    # The child finds the libraries that this process would; not those in the working folder.
    path = os.pathsep.join([package_folder, *map(str, filter(None, sys.path))])
    return {**named, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}


def _feed(stream: BinaryIO, *parts: bytes) -> None:
    try:
        with stream:
            for part in parts:
                stream.write(part)
    except OSError:
        return  # The child ended before it had read everything.


def _keep_end(stream: BinaryIO, kept: bytearray) -> None:
    with stream:
        while chunk := os.read(stream.fileno(), MAX_OUTPUT_BYTES):
            kept += chunk
            del kept[:-MAX_OUTPUT_BYTES]


def _end_session(child: Any) -> None:
    """End a child and what it left behind."""
    import signal

    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (AttributeError, OSError):
        child.kill()
    child.wait()


def _result(status: int, output: str, limits: Mapping[str, int]) -> tuple[str, str]:
    import signal

    if status < 0:
        names = {int(one): one.name for one in signal.Signals}
        name = names.get(-status, str(-status))
        if name == "SIGKILL":
            return "", "its validation process was killed"
        if name == "SIGXCPU":
            return "", f"it took more than {limits['CPU']} s of processor time"
        return "", f"{CRASHED} (signal {name})"
    # Native code writes to the same stream.
    _, found, result = output.rpartition(f"\n{RESULT}")
    if status == 0 and found:
        return result.partition("\n")[0], ""
    last = " ".join(output.strip().splitlines()[-1:])
    return "", f"its validation process ended with status {status}: {last:.200}"


def cache_file(name: str) -> str | None:
    """Return the path of a cached result; None where there is no place for it."""
    folder = os.environ.get(CACHE_VARIABLE) or os.environ.get("XDG_CACHE_HOME")
    home = os.environ.get("HOME")
    if home and not folder:
        folder = os.path.join(home, ".cache")
    return os.path.join(folder, "dermedge", name) if folder else None


def read_cached(path: str | None, notes: list[str]) -> str | None:
    """Return a cached result; None where there is none, or others may have written it, which is noted once."""
    if path is None:
        return None
    try:
        for place in (os.path.dirname(path), path):
            if problem := _distrust(os.lstat(place)):
                note = f"cache: {place} {problem}; its results are not used"
                notes += [note] if note not in notes else []
                return None
        with open(path, encoding="utf-8") as file:
            # Whoever may write above the folder could have replaced it meanwhile.
            return None if _distrust(os.fstat(file.fileno())) else file.read(MAX_OUTPUT_BYTES)
    except (OSError, ValueError):
        return None


def write_cached(path: str | None, text: str) -> None:
    """Write a result, whole or not at all; where it cannot be written, the next process tries again."""
    if path is None:
        return
    from pathlib import Path

    from edge_runtime.files import whole_file

    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if not _distrust(os.lstat(os.path.dirname(path))):
            with whole_file(Path(path)) as temporary:
                temporary.write_text(text, encoding="utf-8")
                temporary.chmod(0o600)
    except OSError:
        return


def _distrust(status: os.stat_result) -> str:
    """Return why others may have written a file or folder, as ssh looks at its keys; empty if nobody else can have."""
    if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        return "is a link or a device"
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return "belongs to another user"
    return "can be written to by others" if hasattr(os, "geteuid") and status.st_mode & 0o022 else ""


_known: dict[str, str] = {}
"""Results of this process by name: `batch` opens several engines."""


def known_result(
    name: str, ask: Callable[[], tuple[str, bool]], notes: list[str], *, again: bool = False
) -> str:
    """Return a result of this process, from the cache, or from `ask`; with `again` only `ok` is not asked for again.

    The name is that of the cached file: everything on which the result depends. `ask` returns the result, and whether
    it would be the same another time. Remarks on the cache are appended to `notes`.
    """
    path = cache_file(name)
    result = _known.get(name) or read_cached(path, notes)
    if not result or (again and result != "ok"):
        result, lasting = ask()
        if not lasting:
            return result
        write_cached(path, result)
    _known[name] = result
    return result
