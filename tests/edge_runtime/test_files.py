"""Files appear whole, and what lies in the folder does not decide where their bytes go."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edge_runtime import files
from edge_runtime.files import csv_cell, whole_file, whole_files


@pytest.mark.parametrize("name", ["m.keras", "n" * 250 + ".json", "\ud55c" * 80, "a." + "s" * 250, ".hidden"])
def test_a_file_is_written_beside_its_target(name: str, tmp_path: Path) -> None:
    with whole_file(tmp_path / name) as temporary:
        assert temporary.parent == tmp_path and temporary.read_bytes() == b""
        # The pattern of .gitignore, and a suffix that Keras understands.
        assert temporary.match(".*.partial-*") and temporary.name.endswith(Path(name).suffix[-9:])
        temporary.write_bytes(b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask


def test_no_name_is_used_twice(tmp_path: Path) -> None:
    with whole_files([tmp_path / "a"] * 2) as first, whole_files([tmp_path / "a"] * 2) as second:
        assert len({*first, *second}) == 4


@pytest.mark.parametrize("lying", ["link", "dangling", "file", "folder"])
def test_what_lies_under_a_guessed_name_is_left_alone(
    lying: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.os, "urandom", bytes)
    victim, guessed = tmp_path / "victim", tmp_path / f".out.partial-{'00' * 8}.json"
    if lying != "dangling":
        victim.write_text("precious")
    if lying == "folder":
        guessed.mkdir()
    elif lying == "file":
        guessed.hardlink_to(victim)
    else:
        guessed.symlink_to(victim)
    with pytest.raises(FileExistsError), whole_file(tmp_path / "out.json"):
        raise AssertionError
    assert os.path.lexists(guessed) and not (tmp_path / "out.json").exists()
    assert victim.exists() == (lying != "dangling") and (
        not victim.exists() or victim.read_text() == "precious"
    )


def test_the_target_s_own_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "out").symlink_to(tmp_path / "victim")
    with whole_file(tmp_path / "out") as temporary:
        temporary.write_text("new")
    assert not (tmp_path / "out").is_symlink()
    assert [(tmp_path / name).read_text() for name in ("out", "victim")] == ["new", "precious"]


def test_a_cell_is_text() -> None:
    for start in ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"):
        assert csv_cell(f"{start}cmd|' /C calc'!A1") == f"'{start}cmd|' /C calc'!A1"
    for text in ("", "a=b", "'=1", "mole.jpg", "\ud55c"):
        assert csv_cell(text) == text
