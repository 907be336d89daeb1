"""Make an expensive test artifact once for all workers, and keep it until the code that makes it changes.

Under pytest-xdist a session fixture runs once per worker. `shared_artifact` makes its content once on this machine: the
first worker builds it under a lock, the others wait and read it. It stays in `.pytest_cache/d/artifacts` under the hash
of its sources; `pytest --cache-clear` or `make clean` removes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = REPOSITORY / ".pytest_cache" / "d" / "artifacts"
# The packages' versions are sources of everything.
ALWAYS = ("locks/dev.txt", "tests/shared_artifact.py")
# Artifacts of older sources are kept this long: another session may be reading them.
KEPT_S = 24 * 3600
_READY = ".ready"


def shared_artifact(
    name: str, sources: Iterable[str], make: Callable[[Path], object], *, cache: Path = CACHE
) -> Path:
    """Return a folder that `make` filled, made at most once for all workers and sessions.

    The folder is shared: read it, or copy it before writing. It never moves, so absolute paths inside stay valid.

    Args:
        name: Of the artifact; kebab-case, unique in the tests.
        sources: Files and folders (of `.py` and `.toml` files), relative to the repository, that determine the content.
        make: Fills the empty folder that it is given. If it raises, nothing is kept.
        cache: Where the artifacts are kept.
    """
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{name}-{source_hash(sources)}"
    ready = folder / _READY
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            ready.touch()
            _prune(cache, name, folder)
        return folder


def source_hash(sources: Iterable[str]) -> str:
    """Return the first 16 hex digits of the hash over the sources' paths and bytes, and the Python version.

    Raises:
        FileNotFoundError: A source does not exist.
    """
    digest = hashlib.sha256(repr(sys.version_info[:3]).encode())
    for source in sorted({*sources, *ALWAYS}):
        path = REPOSITORY / source
        if not path.exists():
            raise FileNotFoundError(f"{source}: no such source of a test artifact. Correct the test's list.")
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix in (".py", ".toml"))
        for file in files:
            content = file.read_bytes()
            digest.update(f"{file.relative_to(REPOSITORY)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _prune(cache: Path, name: str, kept: Path) -> None:
    """Remove artifacts of this name that older sources made, unless they are recent."""
    for other in cache.glob(f"{name}-{'?' * 16}"):
        if other != kept and time.time() - other.stat().st_mtime > KEPT_S:
            shutil.rmtree(other, ignore_errors=True)
