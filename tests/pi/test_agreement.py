"""The judgement of `make test-pi`, on records made here: it must fail when it must."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edge_runtime.diagnostics.parity import main as parity
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p
from tests.pi.agreement import agreement, label_of, read_record
from tests.pi.emulated import count_guest_kib

PHOTOS = 3
SMAPS = """\
00400000-009cf000 r-xp 00000000 fe:00 1                    /userland/usr/bin/python3.13
Rss:                1000 kB
00a6d000-014f4000 rw-p 00000000 00:00 0
Rss:                 200 kB
5555575dd000-555557a94000 rw-p 00000000 00:00 0            [heap]
Rss:                4736 kB
7fbe40000000-7fbe47fff000 rwxp 00000000 00:00 0
Rss:               30720 kB
7fbe48000000-7fbe48021000 rw-p 00000000 00:00 0
Rss:                  30 kB
7fbe4db81000-7fbe4dbe5000 rw-p 00000000 fe:00 2            /emulator/qemu-aarch64
Rss:                 400 kB
7fbe4dbe5000-7fbe4dbf9000 rw-p 00000000 00:00 0
Rss:                  68 kB
7fbe4ddb0000-7fbe4ddb1000 r-xp 00000000 fe:00 3            /userland/usr/lib/libpthread.so.0
Rss:                   4 kB
"""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("record")
    for index in range(PHOTOS):
        (folder / f"{index}.jpg").write_bytes(p.jpeg(index=index))
    out = folder / "record.jsonl"
    model = str(FIXTURES / "tiny_uint8.tflite")
    assert parity(["record", "--model", model, str(folder), "--out", str(out)]) == 0
    return read_record(out)


def test_a_record_agrees_with_itself(record: list[dict[str, Any]]) -> None:
    found = agreement(record, record)
    assert (found.photos, found.same_label, found.same_input, found.largest_steps) == (
        PHOTOS,
        PHOTOS,
        PHOTOS,
        0,
    )
    assert found.problems == ()


def other_model(one: dict[str, Any]) -> None:
    one["model"]["sha256"] = "0" * 64


def other_answer(one: dict[str, Any]) -> None:
    scores = one["stages"]["scores"]["values"]
    best = scores.index(max(scores))
    scores[best], scores[best - 1] = scores[best - 1], scores[best]


def one_step(one: dict[str, Any]) -> None:
    one["stages"]["raw_output"]["values"][0] += 1


def other_pixels(one: dict[str, Any]) -> None:
    one["stages"]["input_tensor"]["sha256"] = "0" * 64


@pytest.mark.parametrize(
    ("change", "labels", "inputs", "steps"),
    [
        (other_model, PHOTOS, PHOTOS, 0),
        (other_answer, PHOTOS - 1, PHOTOS, 0),
        (one_step, PHOTOS, PHOTOS, 1),
        (other_pixels, PHOTOS, PHOTOS - 1, 0),
    ],
)
def test_one_difference_is_seen(
    record: list[dict[str, Any]],
    change: Callable[[dict[str, Any]], None],
    labels: int,
    inputs: int,
    steps: int,
) -> None:
    altered = json.loads(json.dumps(record))
    change(altered[1])
    found = agreement(record, altered)
    assert len(found.problems) == 1 and "1.jpg" in found.problems[0]
    assert (found.same_label, found.same_input, found.largest_steps) == (labels, inputs, steps)


def test_a_missing_photo_is_seen(record: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="shorter"):
        agreement(record, record[:-1])


def test_the_label_is_the_first_of_the_highest() -> None:
    one = {"stages": {"scores": {"codes": ["a", "b", "c"], "values": [0.2, 0.4, 0.4]}}}
    assert label_of(one) == "b"


def test_the_guest_s_memory_is_told_from_the_emulator_s() -> None:
    assert count_guest_kib(SMAPS, "/emulator/qemu-aarch64") == 1000 + 200 + 30 + 4
