from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import shared_artifact as module
from tests.shared_artifact import shared_artifact, source_hash

SOURCES = ("tests/conftest.py",)


def test_workers_at_the_same_time_make_it_once(tmp_path: Path) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.2)
        (folder / "a").write_text("1")

    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: shared_artifact("thing", SOURCES, make, cache=tmp_path), range(4)))
    assert len(made) == 1
    assert set(folders) == {made[0]}
    assert (folders[0] / "a").read_text() == "1"


def test_what_failed_is_made_again_in_an_empty_folder(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError

    with pytest.raises(OSError):
        shared_artifact("thing", SOURCES, fail, cache=tmp_path)
    folder = shared_artifact("thing", SOURCES, lambda folder: (folder / "whole").touch(), cache=tmp_path)
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == ["whole"]


def test_other_sources_are_another_artifact_and_the_old_one_goes_after_a_day(tmp_path: Path) -> None:
    old = shared_artifact("thing", SOURCES, lambda folder: None, cache=tmp_path)
    recent = shared_artifact("thing", ("tests/debian.py",), lambda folder: None, cache=tmp_path)
    assert old != recent
    assert old.exists()
    os.utime(old, times=(0, time.time() - module.KEPT_S - 60))
    newest = shared_artifact("thing", ("tests/pi",), lambda folder: None, cache=tmp_path)
    assert {path for path in tmp_path.iterdir() if path.is_dir()} == {recent, newest}


def test_a_change_of_a_source_changes_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("locks/dev.txt", "tests/shared_artifact.py", "code/a.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    before = source_hash(["code"])
    assert source_hash(["code"]) == before
    for name in ("code/a.py", "locks/dev.txt"):
        (tmp_path / name).write_text("2")
        assert source_hash(["code"]) != before
        before = source_hash(["code"])
    with pytest.raises(FileNotFoundError):
        source_hash(["gone.py"])
