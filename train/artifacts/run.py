"""The run directory: which files it holds, and how they are written (whole or not at all). stdlib only.

RUN/
  config.toml        the config as given          config.json       every value, resolved
  run.json           id, seed, versions, commit, data, status
  manifest.csv       photos, groups, split        split.json        by data set: sizes, and what a random split leaks
  contract.json      what devices will be told    model.keras       float weights, logits out
  history.csv        a row per epoch              tensorboard/      the same for TensorBoard
  metrics.json       figures per split            predictions_*.csv
  checkpoints/       to resume from               pixels/           cached pixels, can be deleted
  start.npz          of a run learnt elsewhere: its first weights, and learnt.npz those that came back
  teacher.csv.gz     the soft labels, if any: a resumed run keeps its teacher; teachers/ the networks, if any

A run whose config holds no photos out for the end (split.test_fold = -1) has no predictions_test.csv and no
`test` in metrics.json. With several workers, RUN.worker1 and so on stand beside RUN while
they train (train/training/workers.py).
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from edge_runtime.errors import RunInvalid

PACKAGES = ("tensorflow", "tf_keras", "numpy", "pillow", "scikit-learn")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that replaces it when the block ends well, and vanishes otherwise."""
    temporary = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Writes indented JSON whole or not at all."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def finished_state(run: Path) -> dict[str, Any]:
    """run.json of a finished run.

    Raises:
        RunInvalid: Not a run directory, or training is not over.
    """
    path = run / "run.json"
    if not path.is_file():
        raise RunInvalid(
            f"{run}: no finished run is there",
            found="no run.json" if run.is_dir() else "no such folder",
            expected="a run directory",
            fix="train first (python -m train CONFIG.toml --workdir RUN); of a cross-validation, finish all folds or "
            "name one of them (DIR/fold0)",
        )
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunInvalid(f"{path}: cannot be read", found=str(error), expected="a JSON object") from error
    if state.get("status") != "done":
        raise RunInvalid(
            f"{run}: the run is not finished",
            found=f"status {state.get('status')}",
            expected="status done",
            fix="give its training command again: it resumes",
        )
    return state


def network_file(run: Path) -> Path:
    """model.keras of a finished run.

    Raises:
        RunInvalid: Not a finished run, or one without a network: it was removed, or never came back from where it was
            learnt (`train.experiments.torch.loop --measure`).
    """
    state, path = finished_state(run), run / "model.keras"
    if not path.is_file():
        raise RunInvalid(
            f"{run}: the run has no network",
            found=f"no model.keras: {state.get('not_for_conversion', 'it was removed')}",
            expected="model.keras, as training left it",
            fix="bring the whole run directory, or train it again in another one",
        )
    return path


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a CSV whole or not at all; the first row's keys are the header."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a run's figures."""
    return {name: metadata.version(name) for name in PACKAGES}


def git_commit() -> str:
    """The checkout's commit, with `-dirty` when code that shapes a run differs; `unknown` outside a checkout."""
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
