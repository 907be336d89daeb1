"""--csv, --sort-into, --skip-done, progress."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.cli import command as cli
from edge_runtime.cli import output
from edge_runtime.errors import OutputUnwritten, UsageError
from edge_runtime.images import watch
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p

U8 = str(FIXTURES / "tiny_uint8.tflite")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(FIXTURES.parents[1])}
NAMES = ["=cmd.jpg", "a,b.jpg", "bad.jpg", "two\nlines \x1b[2J.jpg", "\ud55c.jpg", "\udcff.jpg"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos with names that a table must not run; the current folder is theirs."""
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    for name in NAMES:
        Path(name).write_bytes(b"no photo" if name == "bad.jpg" else p.jpeg())
    return tmp_path / "in"


def run(*words: str | Path) -> int:
    return cli.main(["--model", U8, *map(str, words)])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_has_a_line_a_photo(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "t.csv"
    assert run(*NAMES, "--json", "--csv", table) == 1
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(table.read_bytes().splitlines()) == 1 + len(NAMES)
    for row, line in zip(rows(table), printed, strict=True):
        if "error" in line:
            assert (row["image"], row["error"], row["score_ash"]) == ("bad.jpg", "image-unreadable", "")
            continue
        assert (row["label"], row["decision"], row["error"]) == (line["label"], line["decision"], "")
        assert float(row["score"]) == line["score"]
        assert [float(row[f"score_{code}"]) for code in line["scores"]] == list(line["scores"].values())
    images = [row["image"] for row in rows(table)]
    assert images == [
        "'=cmd.jpg",
        "a,b.jpg",
        "bad.jpg",
        "two\\nlines \\x1b[2J.jpg",
        "\ud55c.jpg",
        "\\udcff.jpg",
    ]


def test_a_table_that_is_there_is_no_target(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("precious\n")
    for more in ([], ["--skip-done"]):
        assert run("a,b.jpg", "--csv", table, *more) == 2
    assert table.read_text() == "precious\n"
    assert run("a,b.jpg", "--csv", tmp_path / "none" / "t.csv") == 1


def test_a_table_goes_on(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "t.csv"
    assert run(*NAMES[:4], "--csv", table, "--skip-done") == 1
    first = table.read_bytes()
    whole = first.splitlines(keepends=True)
    # A kill in the middle of the fourth line.
    table.write_bytes(first[:-20])
    capsys.readouterr()
    assert run(*NAMES, "--json", "--csv", table, "--skip-done") == 0
    images = [json.loads(line)["image"] for line in capsys.readouterr().out.splitlines()]
    assert images == [*NAMES[3:5], "\\udcff.jpg"]
    assert table.read_bytes().startswith(b"".join(whole)) and len(rows(table)) == len(NAMES)
    assert run(*NAMES, "--csv", table, "--skip-done") == 0
    assert capsys.readouterr().out == ""


def test_json_lines_go_on(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "edge_runtime", "--model", U8, "--json", "--skip-done", "."]
    for _ in range(2):
        with out.open("ab") as lines:
            subprocess.run(command, stdout=lines, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False)
        images = [json.loads(line)["image"] for line in out.read_text().splitlines()]
        assert len(images) == len(set(images)) == len(NAMES)
        out.write_bytes(out.read_bytes()[:-30])
    ran = subprocess.run(command, capture_output=True, env=ENVIRONMENT, check=False)
    assert ran.returncode == 2 and b"--skip-done" in ran.stderr


def test_photos_are_sorted_and_nothing_is_replaced(folder: Path, tmp_path: Path) -> None:
    sorted_into = tmp_path / "sorted"
    assert run(*NAMES, "--sort-into", sorted_into) == 1
    (place,) = sorted_into.glob("*/*")
    assert place.parent.name == "answer" and place.name in ("ash", "brick", "cyan")
    copied = [name for name in NAMES if name != "bad.jpg"]
    assert sorted(path.name for path in place.iterdir()) == sorted(copied)
    assert (place / "a,b.jpg").read_bytes() == Path("a,b.jpg").read_bytes()
    # Again: nothing is copied twice. Another photo of that name has a number.
    (folder / "sub").mkdir()
    (folder / "sub" / "a,b.jpg").write_bytes(p.jpeg() + b"\0")
    (place / "=cmd.jpg").write_bytes(b"")
    for _ in range(2):
        assert run(".", "--recursive", "--sort-into", sorted_into) == 1
        assert sorted(path.name for path in place.iterdir()) == sorted([*copied, "a,b-2.jpg"])
    assert (place / "=cmd.jpg").read_bytes() == p.jpeg()
    (tmp_path / "file").touch()
    assert run("a,b.jpg", "--sort-into", tmp_path / "file") == 1


def test_a_full_disk_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = cli.parse(["a,b.jpg", "--csv", "/dev/full", "--skip-done"])
    monkeypatch.setattr(output.os.path, "exists", lambda path: False)
    with pytest.raises(OutputUnwritten) as caught:
        output.Outputs(parsed, ["a"])
    assert caught.value.where == "/dev/full" and caught.value.exit_status == 1


@pytest.mark.parametrize(
    "words",
    [
        ["-", "--sort-into", "d"],
        ["--stream", "-", "--sort-into", "d"],
        ["--stream", "-", "--skip-done", "--csv", "t"],
        [".", "--recursive", "--sort-into", "./sorted"],
        ["--watch", "d", "--recursive", "--sort-into", "d"],
        ["a.jpg", "--bench", "2", "--csv", "t"],
        ["--stream", "-", "--explain", "o.png"],
        ["--stream", "-", "-"],
        ["a.jpg", "--only-new"],
        ["a.jpg", "--state", "s"],
        ["a.jpg", "-0"],
    ],
)
def test_options_without_a_meaning_are_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        cli.parse(words)


def test_what_a_kill_left_of_a_json_line_is_cut(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for content, kept in (
        (b'{"schema": 1}\n{"sch', b'{"schema": 1}\n'),
        (b'{"schema": 1}\n', b'{"schema": 1}\n'),
        (b"notes\nmore", b"notes\nmore"),
        (b"", b""),
    ):
        out.write_bytes(content)
        watch.cut_unfinished(str(out))
        assert out.read_bytes() == kept


def test_progress_says_how_much_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moments = iter([0.0, 30.0, 60.0])
    monkeypatch.setattr(cli, "perf_counter", lambda: next(moments))
    progress = cli._Progress(True, 6)
    progress.step()
    progress.step()
    assert "\r2 of 6 photos, 0.0 per second, 2:00 left" in capsys.readouterr().err
