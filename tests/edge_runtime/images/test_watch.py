"""Photos that arrive in a folder, and lists of photos."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_runtime.errors import ImageError, ImageNotFound, ImageUnreadable, OutputUnwritten, UsageError
from edge_runtime.images import watch
from edge_runtime.images.photos import listed_photos
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p

U8 = str(FIXTURES / "tiny_uint8.tflite")
ROOT = FIXTURES.parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


Events = dict[int, Callable[[], object]]


class Folder:
    """A watched folder, in which things happen between two looks."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.events, self.looks = path, Events(), 0
        monkeypatch.setattr(watch.time, "sleep", self._sleep)

    def _sleep(self, _: float) -> None:
        self.looks += 1
        if self.looks > 20:
            raise KeyboardInterrupt
        self.events.get(self.looks, lambda: None)()

    def answered(self, state: Path, **options: bool) -> list[tuple[str, int]]:
        """Watch for 20 looks; return the names that are answered, each with the number of its look."""
        seen = []
        self.looks = 0
        with pytest.raises(KeyboardInterrupt), contextlib.closing(watch.State(str(state))) as remembered:
            for path, _ in watch.answers(str(self.path), remembered, self.classify, **options):
                seen.append((os.path.relpath(path, self.path), self.looks))
        return seen

    def classify(self, name: str, photo: bytes | ImageError) -> Any:
        if isinstance(photo, ImageError) or photo == b"half":
            return ImageUnreadable("damaged", where=name)
        return SimpleNamespace(to_dict=lambda: {"image": name})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    (tmp_path / "in").mkdir()
    return Folder(tmp_path / "in", monkeypatch)


def names_in(state: Path) -> list[str]:
    return [json.loads(line)["photo"] for line in state.read_text().splitlines()]


def test_what_is_there_and_what_arrives_is_answered_once(folder: Folder, tmp_path: Path) -> None:
    inside, state = folder.path, tmp_path / "made" / "state"
    (inside / "old.jpg").write_bytes(b"old")
    (inside / "sub").mkdir()
    (inside / "sub" / "deep.jpg").write_bytes(b"deep")

    def arrive() -> None:
        (inside / "new.jpg").write_bytes(b"new")
        (inside / "notes.txt").write_bytes(b"no photo")
        (inside / "empty.jpg").touch()

    folder.events = {
        2: arrive,
        5: lambda: os.utime(inside / "old.jpg", ns=(1, 1)),
        6: (inside / "old.jpg").touch,
        8: lambda: (inside / "new.jpg").write_bytes(b"NEW"),
        11: lambda: (inside / "new.jpg").rename(inside / "away"),
        13: lambda: (inside / "away").rename(inside / "new.jpg"),
    }
    assert folder.answered(state) == [("old.jpg", 1), ("new.jpg", 3), ("new.jpg", 9)]
    assert names_in(state) == ["old.jpg", "new.jpg", "new.jpg"]
    # Between two starts something arrives, and something is touched.
    (inside / "between.jpg").write_bytes(b"old")
    (inside / "old.jpg").touch()
    folder.events = {}
    assert folder.answered(state) == [("between.jpg", 1)]
    assert folder.answered(state, recursive=True) == [("sub/deep.jpg", 1)]
    assert json.loads(state.read_text().splitlines()[-1])["answer"] == {"image": f"{inside}/sub/deep.jpg"}


def test_only_new_photos(folder: Folder, tmp_path: Path) -> None:
    (folder.path / "old.jpg").write_bytes(b"old")
    folder.events = {
        3: (folder.path / "old.jpg").touch,
        4: lambda: (folder.path / "new.jpg").write_bytes(b"new"),
        7: lambda: (folder.path / "old.jpg").write_bytes(b"another"),
    }
    assert folder.answered(tmp_path / "state", only_new=True) == [("new.jpg", 5), ("old.jpg", 8)]


def test_an_upload_that_pauses_is_no_damaged_photo(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads: list[Any] = []

    def start() -> None:
        uploads.append((folder.path / "a.jpg").open("wb", buffering=0))
        uploads[0].write(b"half")

    folder.events = {2: start, 9: lambda: uploads[0].write(b" and half"), 12: lambda: uploads[0].close()}
    if not sys.platform.startswith("linux"):
        pytest.skip("inotify is Linux's")
    monkeypatch.setattr(watch, "PATIENCE_S", 0.0)
    assert folder.answered(tmp_path / "state") == [("a.jpg", 12)]
    assert "error" not in json.loads((tmp_path / "state").read_text())["answer"]


def test_a_young_damaged_photo_may_still_be_on_its_way(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another machine, of which inotify knows nothing."""
    photo = folder.path / "a.jpg"
    now = watch.time.time_ns
    folder.events = {2: lambda: photo.write_bytes(b"half"), 7: lambda: photo.write_bytes(b"whole")}
    assert folder.answered(tmp_path / "state") == [("a.jpg", 8)]
    folder.events[10] = lambda: monkeypatch.setattr(watch.time, "time_ns", lambda: now() + 11 * 10**9)
    del folder.events[7]
    photo.unlink()
    assert folder.answered(tmp_path / "other") == [("a.jpg", 10)]
    assert "error" in json.loads((tmp_path / "other").read_text())["answer"]


def test_a_photo_that_cannot_be_read_or_goes(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / "gone.jpg").write_bytes(b"gone")
    read_photo = watch.read_photo

    def read(path: str) -> bytes:
        if path.endswith("gone.jpg"):
            Path(path).unlink()
        if path.endswith("refused.jpg"):
            raise ImageNotFound("no permission", where=path)
        return read_photo(path)

    monkeypatch.setattr(watch, "read_photo", read)
    monkeypatch.setattr(watch, "PATIENCE_S", 0.0)
    (folder.path / "refused.jpg").write_bytes(b"a")
    assert folder.answered(tmp_path / "state") == [("refused.jpg", 1)]
    assert folder.answered(tmp_path / "state") == []


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with (
        contextlib.closing(watch.State(str(tmp_path / "state"))) as state,
        pytest.raises(ImageNotFound) as caught,
    ):
        next(watch.answers("/none", state, Folder.classify))  # type: ignore[arg-type]
    assert caught.value.code == "image-not-found"


def test_what_a_power_cut_left_of_the_last_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "state"
    state = watch.State(str(path))
    state.add("a\udcff.jpg", (1, 2, 3), "0f", {"image": "a"})
    line = path.read_bytes()
    state.close()
    for rest in (b'{"ph', line[:-1], bytes(20)):
        path.write_bytes(line + rest)
        with contextlib.closing(watch.State(str(path))) as state:
            assert state.known == {"a\udcff.jpg": ((1, 2, 3), "0f")}
        assert path.read_bytes() == line


def test_another_file_or_one_in_use_is_no_state(tmp_path: Path) -> None:
    for number, content in enumerate(
        (b"precious", b"precious\nnotes", b"[1]\n", b'{"photo": 1}\n', b"\xff\n", b'"a"\n')
    ):
        path = tmp_path / str(number)
        path.write_bytes(content)
        with pytest.raises(UsageError) as caught:
            watch.State(str(path))
        assert caught.value.where == str(path) and path.read_bytes() == content
    (tmp_path / "empty").touch()
    with contextlib.closing(watch.State(str(tmp_path / "empty"))) as first:
        assert first.known == {}
        for place in ("empty", "."):
            with pytest.raises(UsageError):
                watch.State(str(tmp_path / place))


def test_a_full_disk_ends_the_watch(tmp_path: Path) -> None:
    state = watch.State(str(tmp_path / "state"))
    state.close()
    state._file = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OutputUnwritten) as caught:
        state.add("a.jpg", (1, 2, 3), "0f", {})
    assert caught.value.where == str(tmp_path / "state") and state.known == {}
    state.close()


def test_the_default_state_is_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path / "in")
    places = {watch.state_file(f"{tmp_path}/{name}") for name in ("in", "in/", "./in", "link")}
    assert len(places) == 1 and watch.state_file(str(tmp_path)) not in places
    (place,) = places
    assert Path(place).parent == tmp_path / "dermedge"


@pytest.mark.parametrize(
    ("kills", "photos"), [(2, 20), pytest.param(20, 300, marks=[pytest.mark.long, pytest.mark.slow])]
)
def test_after_every_kill_each_photo_is_answered_once(kills: int, photos: int, tmp_path: Path) -> None:
    inside, state, out = tmp_path / "in", tmp_path / "state", tmp_path / "out"
    inside.mkdir()
    names = [f"{number:03}.jpg" for number in range(photos)]
    arriving = threading.Event()

    def arrive() -> None:
        for name in names:
            (inside / f"{name}.part").write_bytes(p.jpeg())
            (inside / f"{name}.part").rename(inside / name)
            arriving.wait(1.5 * kills / photos)

    command = [
        sys.executable,
        "-m",
        "edge_runtime",
        "--json",
        "--model",
        U8,
        "--watch",
        inside,
        "--state",
        state,
    ]
    photographer = threading.Thread(target=arrive)
    photographer.start()
    whole: list[str] = []
    for kill in range(kills + 1):
        with (
            out.open("ab") as lines,
            subprocess.Popen(command, stdout=lines, stderr=subprocess.PIPE, env=ENVIRONMENT) as running,
        ):
            assert running.stderr is not None
            before, deadline = out.stat().st_size, time.monotonic() + 120
            while time.monotonic() < deadline:
                time.sleep(0.01 * random.random())
                whole = names_in(state) if state.exists() else []
                if len(whole) >= photos or (kill < kills and out.stat().st_size > before + 3000):
                    break
            running.kill()
            assert running.stderr.read().decode().startswith("Intended use: ")
    photographer.join()
    assert sorted(whole) == names
    printed = [Path(json.loads(line)["image"]).name for line in out.read_text().splitlines()]
    assert len(set(printed)) == len(printed) and set(printed) <= set(names)
    assert len(printed) >= photos - kills - 1


def test_the_command_watches_until_it_is_interrupted(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(p.jpeg())
    command = [sys.executable, "-m", "edge_runtime", "--json", "--model", U8, "--watch", str(tmp_path)]
    environment = {**ENVIRONMENT, "XDG_STATE_HOME": str(tmp_path / "state")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        stuck = threading.Timer(120, running.kill)
        stuck.start()
        row = json.loads(running.stdout.readline())
        assert row["image"] == str(tmp_path / "photo.jpg") and row["label"]
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=60) == 130
        stuck.cancel()
        assert "Traceback" not in running.stderr.read()
    assert len(list((tmp_path / "state" / "dermedge").glob("watch-*.jsonl"))) == 1


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
