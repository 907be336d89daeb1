"""Photos that arrive in a folder, and lists of photos."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from itertools import islice
from pathlib import Path

import pytest

from edge_runtime.errors import ImageNotFound
from edge_runtime.images import watch
from edge_runtime.images.photos import listed_photos
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p

U8 = str(FIXTURES / "tiny_uint8.tflite")
ROOT = FIXTURES.parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_only_what_arrives_and_has_stopped_growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old.jpg").write_bytes(b"old")
    polls = 0

    def sleep(_: float) -> None:
        """What happens in the folder between two looks."""
        nonlocal polls
        polls += 1
        if polls == 1:
            (tmp_path / "growing.jpg").write_bytes(b"1")
            (tmp_path / "whole.jpg").write_bytes(b"whole")
            (tmp_path / "notes.txt").write_bytes(b"no photo")
            (tmp_path / "empty.jpg").write_bytes(b"")
        if polls == 2:
            (tmp_path / "growing.jpg").write_bytes(b"12")
        if polls == 5:
            (tmp_path / "old.jpg").write_bytes(b"replaced")
        if polls > 20:
            raise AssertionError("nothing arrives any more")

    monkeypatch.setattr(watch.time, "sleep", sleep)
    arrived = [Path(path).name for path in islice(watch.arrivals(str(tmp_path)), 3)]
    assert arrived == ["whole.jpg", "growing.jpg", "old.jpg"]


def test_what_is_replaced_or_comes_back_has_arrived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo, away = tmp_path / "a.jpg", tmp_path / "a.away"
    photo.write_bytes(b"first")
    polls = 0

    def sleep(_: float) -> None:
        nonlocal polls
        polls += 1
        if polls == 1:
            # Of the same size, at another time.
            photo.write_bytes(b"other")
            os.utime(photo, ns=(1, 1))
        if polls == 4:
            photo.rename(away)
        if polls == 6:
            away.rename(photo)
        if polls > 20:
            raise AssertionError("nothing arrives any more")

    monkeypatch.setattr(watch.time, "sleep", sleep)
    seen = [(path, polls) for path in islice(watch.arrivals(str(tmp_path)), 2)]
    assert seen == [(str(photo), 2), (str(photo), 7)]


def test_a_photo_that_goes_while_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.jpg").write_bytes(b"there")
    gone, there = str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")
    monkeypatch.setattr(watch, "photos_in", lambda folder: [gone, there])
    assert list(watch._states(str(tmp_path))) == [there]


def test_a_folder_that_is_none() -> None:
    with pytest.raises(ImageNotFound) as caught:
        next(watch.arrivals("/none"))
    assert caught.value.code == "image-not-found"


def test_the_command_watches_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge_runtime", "--json", "--model", U8, "--watch", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        stuck = threading.Timer(120, running.kill)
        seen = threading.Event()

        def photos_arrive() -> None:
            """One after the other: the first may be there before the command's first look, and then has not arrived."""
            for i in range(200):
                partial = tmp_path / f"photo{i}.jpg.partial"
                partial.write_bytes(p.jpeg())
                partial.rename(tmp_path / f"photo{i}.jpg")
                if seen.wait(0.5):
                    return

        photographer = threading.Thread(target=photos_arrive)
        stuck.start()
        photographer.start()
        try:
            row = json.loads(running.stdout.readline())
            assert Path(row["image"]).parent == tmp_path and row["label"]
        finally:
            seen.set()
            photographer.join()
            running.send_signal(signal.SIGINT)
            stuck.cancel()
        assert running.wait(timeout=60) == 130
        assert "Traceback" not in running.stderr.read()


def test_a_list_names_photos(tmp_path: Path) -> None:
    names = [tmp_path / "사진 하나.jpg", tmp_path / "two.jpg "]
    for name in names:
        name.write_bytes(p.jpeg())
    listed = tmp_path / "list.txt"
    listed.write_text(f"{names[0]}\n\n{names[1]}\r\n/none.jpg\n", encoding="utf-8")
    assert list(listed_photos(str(listed))) == [*map(str, names), "/none.jpg"]
    for arguments, stdin in (([str(listed)], b""), (["-"], listed.read_bytes())):
        ran = subprocess.run(
            [sys.executable, "-m", "edge_runtime", "--json", "--model", U8, "--list", *arguments],
            input=stdin, capture_output=True, env=ENVIRONMENT, check=False,
        )  # fmt: skip
        assert ran.returncode == 1, ran.stderr
        rows = [json.loads(line) for line in ran.stdout.splitlines()]
        assert [row["image"] for row in rows] == [*map(str, names), "/none.jpg"]
        assert rows[2]["error"]["code"] == "image-not-found" and rows[0]["label"] == rows[1]["label"]


def test_a_list_is_read_while_it_is_being_written(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(p.jpeg())
    command = [
        sys.executable,
        "-c",
        "import sys; from edge_runtime.cli.command import main; sys.exit(main(sys.argv[1:]))",
    ]
    with subprocess.Popen(
        [*command, "--json", "--model", U8, "--list", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
    ) as running:  # fmt: skip
        assert running.stdin is not None and running.stdout is not None and running.stderr is not None
        stuck = threading.Timer(120, running.kill)
        stuck.start()
        # `-` is no second reader of the list: what follows it keeps its turn.
        for names in ([photo], ["-", photo]):
            for name in names:
                running.stdin.write(f"{name}\n".encode())
            running.stdin.flush()
            for name in names:
                row = json.loads(running.stdout.readline())
                assert row["image"] == ("./-" if name == "-" else str(name))
                assert ("error" in row) is (name == "-")
        # Nor does a thread that waits for the next line hold up the end.
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=60) == 130
        stuck.cancel()
        assert running.stderr.read().endswith(b"interrupted\n")


def test_a_list_that_cannot_be_read() -> None:
    with pytest.raises(ImageNotFound) as caught:
        list(listed_photos("/none.txt"))
    assert caught.value.expected == "a text file with a path a line"
