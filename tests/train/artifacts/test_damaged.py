"""Files of a run that are no files, nested without end, or of another kind: errors of ours, and no waiting."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.errors import EdgeError, RunInvalid
from train.artifacts.files import read_object
from train.artifacts.labels import load_labels
from train.artifacts.run import consistent, find_root, read_contract
from train.artifacts.tables import read_rows
from train.configs.loading import load_config
from train.evaluation.results import read_history
from train.experiments.torch.handover import read_weights

READERS: dict[str, Callable[[Path], object]] = {
    "run.json": read_object,
    "manifest.csv": read_rows,
    "history.csv": read_history,
    "contract.json": lambda path: read_contract(path.parent),
    "config.toml": load_config,
    "labels.toml": lambda path: load_labels(str(path)),
    "start.npz": read_weights,
}


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_refused_at_once(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(EdgeError) as caught:
        READERS[name](tmp_path / name)
    assert caught.value.problem and caught.value.found


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"a = " + b"[" * 900, b"a = " + b"7" * 5000, b"7" * 5000, b"\xff"]
)
@pytest.mark.parametrize("name", READERS)
def test_depth_and_digits_end_in_errors_of_ours(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    # A table may be anything.
    with contextlib.suppress(EdgeError) if name.endswith(".csv") else pytest.raises(EdgeError):
        READERS[name](tmp_path / name)


def test_values_of_another_kind_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"status": 5, "data": [], "more": [{"draw": "x"}], "run_id": "a"}')
    with pytest.raises(RunInvalid) as caught:
        read_object(path)
    assert [detail.partition(" ")[0] for detail in caught.value.details] == ["status", "data", "draw"]


def test_a_name_that_is_too_long_is_no_folder() -> None:
    assert find_root({"data": {"name": "a", "root": "x" * 5000}}) is None


def test_files_that_do_not_fit_together_are_one_error(tmp_path: Path) -> None:
    for error in (KeyError("a"), IndexError(), TypeError(), ValueError()):
        with pytest.raises(RunInvalid) as caught, consistent(tmp_path):
            raise error
        assert caught.value.found.startswith(type(error).__name__)
    with pytest.raises(OSError, match="x"), consistent(tmp_path):
        raise OSError("x")
