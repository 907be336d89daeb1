"""The run directory: which files it holds, and how they are read back. stdlib only.

RUN/
  config.toml        the config as given          config.json       every value, resolved
  run.json           id, seed, versions, commit, data, status
  manifest.csv       photos, groups, split        split.json        by data set: sizes, and what a random split leaks
  contract.json      for devices                  model.keras       float weights, logits out
  history.csv        a row per epoch              tensorboard/      the same for TensorBoard
  metrics.json       figures per split            predictions_*.csv
  checkpoints/       to resume from               pixels/           cached pixels, can be deleted
  teacher.csv.gz     the soft labels, if any: a resumed run keeps its teacher
  writer.lock        who writes here now (train/artifacts/writer.py)

A run whose config holds no photos out for the end (split.test_fold = -1) has no predictions_test.csv and no
`test` in metrics.json. With several workers, RUN.worker1 and so on stand beside RUN while
they train (train/training/distribute.py).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_runtime.contract import ModelContract
from edge_runtime.errors import EdgeError, RunInvalid, RunNotFound
from train.artifacts.bounded import read_bytes
from train.artifacts.files import read_object

FINISHED = "done"
DATA_VARIABLE = "DERMEDGE_DATA"
SOURCE_SEPARATOR = "+"


def finished_state(run: Path) -> dict[str, Any]:
    """Read run.json of a finished run.

    Raises:
        RunInvalid: Not a run directory, or training is not over.
    """
    path = run / "run.json"
    if not path.is_file():
        found, expected = "no run.json" if run.is_dir() else "no such folder", "a run directory"
        fix = "train first (dermedge train CONFIG.toml --workdir RUN); of a cross-validation, finish all folds or "
        fix += "name one of them (DIR/fold0)"
        raise RunNotFound("not a finished run", where=str(run), found=found, expected=expected, fix=fix)
    state = read_object(path)
    if (status := state.get("status")) != FINISHED:
        found, fix = f"status {status!r} in run.json", "give its training command again: it resumes"
        raise RunInvalid(f"{run}: the run is not finished", found=found, expected=repr(FINISHED), fix=fix)
    return state


@contextmanager
def consistent(where: Path) -> Iterator[None]:
    """Raise RunInvalid where the files of a run, each readable by itself, do not fit together."""
    try:
        yield
    except EdgeError:
        raise
    except (LookupError, TypeError, ValueError) as error:
        found = f"{type(error).__name__}: {error}"
        raise RunInvalid(f"{where}: its files do not fit together", found=found, fix="train again") from error


def read_contract(run: Path) -> ModelContract:
    """Read contract.json of a run.

    Raises:
        RunInvalid: It is missing or breaks its schema.
    """
    path = run / "contract.json"
    try:
        return ModelContract.from_json(read_bytes(path), where=str(path))
    except EdgeError as error:
        raise RunInvalid(error.what, found=error.found, expected=error.expected, fix="train again") from error
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or str(error)
        raise RunInvalid(f"{path}: cannot be read", found=found) from error


def source_names(state: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a run's data sets, the config's first one first; empty where run.json names none."""
    name = _data_text(state, "name")
    return tuple(name.split(SOURCE_SEPARATOR)) if name is not None else ()


def _data_text(state: Mapping[str, Any], key: str) -> str | None:
    section = state.get("data")
    value = section.get(key) if isinstance(section, dict) else None
    return value if isinstance(value, str) else None


def find_root(state: Mapping[str, Any], data: Path | None = None) -> Path | None:
    """Return the folder to which a run's photo paths are relative; None if no candidate is a folder.

    A run on several data sets has paths that start with a data set's folder; its root is their common parent.

    Args:
        state: run.json.
        data: The first data set's folder; None takes the root in run.json, then $DERMEDGE_DATA/NAME.
    """
    return next((folder for folder in _root_candidates(state, data) if os.path.isdir(folder)), None)  # noqa: PTH112


def require_root(state: Mapping[str, Any], data: Path | None, run: Path, option: str = "--data") -> Path:
    """Return `find_root`, resolved; `option` is the one that names `data`.

    Raises:
        RunInvalid: No candidate is a folder, or run.json names no data.
    """
    names = source_names(state)
    if not names:
        problem = f"{run / 'run.json'}: does not name its training data"
        found = f"data = {state.get('data')!r}"
        raise RunInvalid(problem, found=found, expected='{"name": ..., "root": ...}', fix="train again")
    root = find_root(state, data)
    if root is None:
        candidates = [str(folder) for folder in _root_candidates(state, data)]
        found = f"no folder {' and no folder '.join(candidates) or 'named anywhere'}"
        fix = f"give the data set's folder with {option} DIR, or its parent in ${DATA_VARIABLE}"
        raise RunInvalid(
            f"{run}: the photos of {SOURCE_SEPARATOR.join(names)} are not here", found=found, fix=fix
        )
    return root.resolve()


def _root_candidates(state: Mapping[str, Any], data: Path | None) -> list[Path]:
    names = source_names(state)
    several = len(names) > 1
    if data is not None:
        # Not resolved: a link may bear the name that its target lacks.
        return [Path(os.path.abspath(data)).parent if several else data]  # noqa: PTH100
    root = _data_text(state, "root")
    candidates = [Path(root)] if root is not None else []
    if DATA_VARIABLE in os.environ and names:
        parent = Path(os.environ[DATA_VARIABLE])
        candidates.append(parent if several else parent / names[0])
    return candidates


def source_of(path: str, names: Sequence[str]) -> str:
    """Return the data set of a photo: with several, the first folder of its path."""
    return path.split("/")[0] if len(names) > 1 else "".join(names)


def git_commit() -> str:
    """Return the checkout's commit, with `-dirty` when code that shapes a run differs; `unknown` outside a checkout."""
    checkout = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "train", "edge_runtime")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit
