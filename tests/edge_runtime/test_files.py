"""Files appear whole, and what lies in the folder does not decide where their bytes go."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime import files
from edge_runtime.files import csv_cell, csv_value, whole_file, whole_files

ROOT = Path(__file__).parents[2]


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
    victim, guessed = tmp_path / "victim", files.unfinished(tmp_path / "out.json")
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


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff20"])
def test_formulas_are_text_in_csv_and_come_back(start: str) -> None:
    for rest in ("cmd|' /C calc'!A0", "1+1", "SUM(A1:A9)*cmd", "", "'", "\ud55c"):
        for before in ("", "'", "''"):
            cell = before + start + rest
            assert csv_cell(cell) == f"'{cell}" and csv_value(csv_cell(cell)) == cell


@pytest.mark.parametrize(
    "value", ["-0.5", "+1e5", "-3", "a=b", "", "'", "'a", "0x", 7, -0.5, None, "mel", "3-4"]
)
def test_numbers_and_other_texts_stay_as_they_are(value: object) -> None:
    assert csv_cell(value) == value
    assert not isinstance(value, str) or csv_value(value) == value


def test_what_a_killed_process_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import os, sys, pathlib\nfrom edge_runtime.files import unfinished, whole_file\n"
        "unfinished(pathlib.Path(sys.argv[1]) / 'folder').mkdir()\n"
        "with whole_file(pathlib.Path(sys.argv[1]) / 'map.png'): os.kill(os.getpid(), 9)"
    )
    ran = subprocess.run([sys.executable, "-c", script, tmp_path], check=False, cwd=ROOT)
    assert ran.returncode == -signal.SIGKILL
    left = list(tmp_path.iterdir())
    machine = left[0].suffixes[-2 if left[0].suffix == ".png" else -1].rsplit("-", 1)[-1]
    dead = left[0].name.split("-")[2]
    others = [
        f".mine.partial-{'0' * 16}-{os.getpid()}-{machine}",
        f".elsewhere.partial-{'0' * 16}-{dead}-{'x' * 8}",
        f".no-number.partial-{dead}-{machine}",
        "map.partial.png",
    ]
    for name in others:
        (tmp_path / name).touch()
    assert len(left) == 2
    with whole_file(tmp_path / "other.txt"):
        assert not any(path.exists() for path in left)
    # Once in a process: a folder of many heat maps is not listed for each.
    left[1].touch()
    with whole_file(tmp_path / "other.txt"):
        assert left[1].exists()
    monkeypatch.setattr(files, "_swept", set())
    (tmp_path / "link").symlink_to(tmp_path / others[0])
    (tmp_path / "link").rename(left[0])
    with whole_file(tmp_path / "other.txt"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {*others, "other.txt"}
