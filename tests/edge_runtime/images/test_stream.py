"""Motion-JPEG streams, and pictures that follow others."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from edge_runtime.errors import ImageNotFound
from edge_runtime.images import stream
from edge_runtime.images.photos import goes_on
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p

U8 = str(FIXTURES / "tiny_uint8.tflite")
COMMAND = [sys.executable, "-m", "edge_runtime", "--json", "--model", U8, "--stream"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(FIXTURES.parents[1])}
JPEG = p.jpeg()


def with_preview(picture: bytes) -> bytes:
    """A JPEG whose EXIF block holds another one, with a start and an end of its own."""
    block = b"Exif\0\0" + JPEG
    return b"\xff\xd8\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + picture[2:]


def saved(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((64, 48), 90).save(file, kind, **options)
    return file.getvalue()


KINDS = [JPEG, with_preview(JPEG), saved("JPEG", progressive=True), saved("JPEG", restart_marker_blocks=1)]


@pytest.mark.parametrize("size", [1, 7, 1000, 65_536])
@pytest.mark.parametrize(
    "between", [b"", b"\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n", b"\0\xff\xff\0"]
)
def test_frames_are_what_was_sent(size: int, between: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CHUNK_BYTES", size)
    sent = [*KINDS, JPEG.replace(b"\xff\xda", b"\xff\xff\xff\xda"), JPEG[:-2] + b"\xff\xff\xd9"]
    file = io.BytesIO(between + between.join(sent) + JPEG[:-1])
    assert list(stream.frames(file.read)) == sent


@pytest.mark.parametrize("cut", [3, 30, len(JPEG) // 2, len(JPEG) - 1])
def test_a_frame_that_was_cut_costs_no_other(cut: int) -> None:
    for kind in KINDS:
        got = list(stream.frames(io.BytesIO(JPEG + kind[:cut] + 3 * JPEG).read))
        assert got[0] == got[-1] == JPEG and len(got) >= 3


def test_damaged_streams_end() -> None:
    chance = random.Random(24)
    whole = b"".join(KINDS)
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(20):
            damaged[chance.randrange(len(damaged))] = chance.choice((0, 0xD8, 0xD9, 0xDA, 0xFF))
        assert len(list(stream.frames(io.BytesIO(damaged).read))) <= 40


def test_what_never_ends_is_no_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_FRAME_BYTES", 100_000)
    endless = JPEG[:-2] + bytes(200_000)
    assert list(stream.frames(io.BytesIO(endless + JPEG).read)) == [JPEG]


def test_a_slow_device_gets_the_newest() -> None:
    taken = threading.Event()

    def numbers() -> Iterator[int]:
        yield 1
        taken.wait()
        yield from range(2, 100)

    seen = []
    for number in stream.newest(numbers()):
        seen.append(number)
        taken.set()
        threading.Event().wait(0.05)
    assert seen[0] == 1 and seen[-1] == 99 and len(seen) <= 4


def test_what_breaks_in_the_thread_is_raised_here() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(stream.newest(broken()))
    with pytest.raises(ImageNotFound):
        next(stream.numbered_frames("/none"))


def test_a_file_is_answered_frame_by_frame(tmp_path: Path) -> None:
    path = tmp_path / "two.mjpeg"
    path.write_bytes(JPEG + b"\xff\xd8\xff\xd9" + with_preview(JPEG))
    for words, stdin in (([str(path)], None), (["-"], path)):
        with (stdin or Path(os.devnull)).open("rb") as file:
            ran = subprocess.run(
                [*COMMAND, *words], capture_output=True, env=ENVIRONMENT, stdin=file, check=False
            )
        rows = [json.loads(line) for line in ran.stdout.splitlines()]
        assert [row["image"] for row in rows] == [f"{words[0]}:{number}" for number in (1, 2, 3)]
        assert rows[0]["scores"] == rows[2]["scores"] and rows[1]["error"]["code"] == "image-unreadable"
        assert ran.returncode == 1 and b"Traceback" not in ran.stderr


def test_of_a_pipe_the_newest_frame_is_answered() -> None:
    with subprocess.Popen(
        [*COMMAND, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as running:
        assert running.stdin is not None and running.stdout is not None
        running.stdin.write(JPEG)
        running.stdin.flush()
        # Answered while the stream goes on.
        assert json.loads(running.stdout.readline())["image"] == "-:1"
        running.stdin.write(400 * JPEG)
        running.stdin.close()
        numbers = [int(json.loads(line)["image"].removeprefix("-:")) for line in running.stdout]
    assert running.returncode == 0
    assert numbers == sorted(set(numbers)) and numbers[-1] == 401 and len(numbers) < 400


def test_what_follows_a_picture_is_noted(tmp_path: Path) -> None:
    kinds = [JPEG, saved("PNG"), saved("WEBP"), saved("BMP")]
    for first in kinds:
        assert not goes_on(first) and not goes_on(first + b"\0trailer")
        assert all(goes_on(first + then) for then in kinds)
    assert not goes_on(with_preview(JPEG))
    mpo = saved("MPO", save_all=True, append_images=[Image.new("RGB", (64, 48))])
    assert mpo.count(b"\xff\xd9\xff\xd8\xff") >= 1 and not goes_on(mpo)
    command = [*COMMAND[:-1], "-"]
    for sent, noted in ((2 * JPEG, 1), (JPEG, 0)):
        ran = subprocess.run(command, input=sent, capture_output=True, env=ENVIRONMENT, check=True)
        assert len(json.loads(ran.stdout)["notes"]) == noted
