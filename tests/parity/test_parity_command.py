"""The command line of the parity harness: traces, records of several photos, damaged files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.diagnostics import parity
from edge_runtime.diagnostics.parity import STAGES
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p
from tests.fixtures.bad_models import good
from tests.parity.test_parity import PHOTO, ROOT, U8, changed, traced, without


def harness(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dermedge", "parity", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran


def test_the_command_line(tmp_path: Path) -> None:
    photo, one, other, altered = (tmp_path / name for name in ("p.jpg", "one", "other", "a.tflite"))
    photo.write_bytes(PHOTO)
    altered.write_bytes(changed(U8, "geometry", "crop_fraction", 0.5))
    assert harness("trace", FIXTURES / U8, photo, "--out", one).returncode == 0
    ran = harness("trace", FIXTURES / U8, photo, "--engine", "litert")
    assert json.loads(ran.stdout)["runtime"]["engine"].startswith("litert 2")
    other.write_text(ran.stdout)
    ran = harness("compare", one, other)
    assert ran.returncode == 0
    assert ran.stdout.splitlines()[-1].startswith("agree: all 6 stages")
    assert harness("trace", altered, photo, "--out", other).returncode == 0
    ran = harness("compare", one, other)
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[-1].startswith("differ: first at stage cropped")
    assert {path.name for path in tmp_path.iterdir()} == {"a.tflite", "one", "other", "p.jpg"}


def test_the_command_line_on_wrong_things(tmp_path: Path) -> None:
    text, photo, listed, damaged, whole = (tmp_path / name for name in ("t", "p.jpg", "l", "d", "w"))
    whole.write_text(json.dumps(traced(good(U8))))
    text.write_text("no trace")
    listed.write_text("[1]")
    photo.write_bytes(PHOTO)
    stages = {stage: {} for stage in STAGES}
    damaged.write_text(json.dumps({"trace_version": 1, "photo": {"sha256": ""}, "stages": stages}))
    for arguments, status in (
        ((), 2),
        (("compare", text, text), 2),
        (("compare", listed, listed), 2),
        (("compare", damaged, damaged), 2),
        (("compare", damaged, whole), 2),
        (("compare", tmp_path / "none", text), 2),
        (("trace", FIXTURES / U8, tmp_path / "none.jpg"), 2),
        (("trace", FIXTURES / U8, photo, "--out", tmp_path / "no" / "such" / "folder.json"), 2),
        (("trace", photo, photo), 3),
    ):
        ran = harness(*arguments)
        assert (ran.returncode, ran.stdout) == (status, ""), arguments
        assert "error: " in ran.stderr


def test_a_place_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    photo = tmp_path / "p.jpg"
    photo.write_bytes(PHOTO)
    model = str(FIXTURES / U8)
    for out in (photo / "x.jsonl", "", ".", tmp_path / ("x" * 300), tmp_path):
        assert parity.main(["record", "--model", model, str(photo), "--out", str(out)]) == 2, out
    assert [path.name for path in tmp_path.iterdir()] == ["p.jpg"]
    # The longest name there is leaves room for that of the unfinished file.
    assert parity.main(["record", "--model", model, str(photo), "--out", str(tmp_path / ("x" * 255))]) == 0


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"trace_version": ' + "[" * 200_000,
        json.dumps({"trace_version": 1, "photo": {"sha256": "", "name": 1}}),
        json.dumps({"trace_version": 1, "photo": {"sha256": "", "name": "\ud800"}, "stages": 1}),
    ],
)
def test_what_is_no_trace_is_an_error(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.json"
    path.write_text(text)
    assert parity.main(["compare", str(path), str(path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_number_that_no_float_holds_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    one.write_text(json.dumps(traced(good(U8))))
    other.write_text(json.dumps(without("raw_output", values=[10**400, 0, 0])))
    assert parity.main(["compare", str(one), str(other)]) == 2
    assert "OverflowError" in capsys.readouterr().err


def test_two_models_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    here = traced(good(U8))
    one.write_text(json.dumps(here))
    here["model"]["sha256"] = "0" * 64
    other.write_text(json.dumps(here))
    assert parity.main(["compare", str(one), str(other)]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("differ: model ")
    assert parity.main(["compare", str(one), str(other), "--different-models"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("agree: ")


def test_tolerances_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (tmp_path / name for name in ("one.json", "other.json"))
    here = traced(good(U8))
    one.write_text(json.dumps(here))
    here["stages"]["raw_output"]["values"][0] += 1
    other.write_text(json.dumps(here))
    for tolerances, status in (((), 1), (("raw_output=1",), 0), (("raw_output=1", "raw_output=0.5"), 1)):
        options = [word for tolerance in tolerances for word in ("--tolerance", tolerance)]
        assert parity.main(["compare", str(one), str(other), *options]) == status
    for wrong in ("mood=1", "decoded", "decoded=", "decoded=-1", "decoded=nan", "decoded=inf"):
        with pytest.raises(SystemExit, match="2"):
            parity.main(["compare", str(one), str(one), "--tolerance", wrong])
        assert f"{wrong!r} is not STAGE=VALUE" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to write to")
def test_a_result_that_cannot_be_written_is_no_difference(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(traced(good(U8))))
    command = [sys.executable, "-m", "dermedge", "parity", "compare", str(path), str(path)]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: the result cannot be written") and "Traceback" not in ran.stderr
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, "")


def test_a_record_of_several_photos_is_compared_photo_by_photo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(3):
        (photos / f"{index}.jpg").write_bytes(p.jpeg(80, 60, index))
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    model = str(FIXTURES / "tiny_uint8.tflite")
    assert parity.main(["record", "--model", model, str(photos), "--out", str(here)]) == 0
    arguments = ["record", "--model", model, "--engine", "litert", str(photos), "--out", str(there)]
    assert parity.main(arguments) == 0
    for path, engine in ((here, "litert-c "), (there, "litert ")):
        traces = [json.loads(line) for line in path.read_text().splitlines()]
        assert [one["runtime"]["engine"].startswith(engine) for one in traces] == [True] * 3
    assert parity.main(["compare", str(here), str(there)]) == 0
    lines = here.read_text().splitlines()
    altered = json.loads(lines[1])
    altered["stages"]["raw_output"]["values"][0] += 70
    there.write_text("\n".join([lines[2], json.dumps(altered), lines[0]]) + "\n")
    assert parity.main(["compare", str(here), str(there)]) == 1
    there.write_text("\n".join(lines[:2]) + "\n")
    capsys.readouterr()
    for files in ((here, there), (there, here)):
        assert parity.main(["compare", *map(str, files)]) == 1
        assert "2 photos in both, 0 of them differ; 1 in one file only" in capsys.readouterr().out


def test_a_record_reports_which_photo_and_which_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [tmp_path / f"{index}.jpg" for index in range(2)]
    for index, photo in enumerate(photos):
        photo.write_bytes(p.jpeg(80, 60, index))
    out = tmp_path / "one.jsonl"
    model = str(FIXTURES / "tiny_float32.tflite")
    assert parity.main(["record", "--model", model, *map(str, photos), "--out", str(out)]) == 0
    lines = out.read_text().splitlines()
    other = json.loads(lines[1])
    other["stages"]["cropped"]["sha256"] = "0" * 64
    other["stages"]["scores"]["values"][0] += 0.5
    (tmp_path / "two.jsonl").write_text(lines[0] + "\n" + json.dumps(other) + "\n")
    capsys.readouterr()
    assert parity.main(["compare", str(out), str(tmp_path / "two.jsonl")]) == 1
    reported = capsys.readouterr().out
    assert f"{photos[1]}: differ: first at stage cropped" in reported
    # The table is of the worst of all photos, and a difference that only a hash shows is worse than none.
    assert [line.split()[1] for line in reported.splitlines()[1:7]] == [
        "ok",
        "DIFFERS",
        *["ok"] * 3,
        "DIFFERS",
    ]
    assert reported.splitlines()[7].startswith("differ: first at stage cropped: ")
    assert "2 photos in both, 1 of them differ; 0 in one file only" in reported


def test_a_record_with_a_bad_photo_is_not_written(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photo")
    out = tmp_path / "out.jsonl"
    model = str(FIXTURES / "tiny_uint8.tflite")
    assert parity.main(["record", "--model", model, str(bad), "--out", str(out)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jpg"]


def test_texts_of_a_trace_reach_the_terminal_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = [traced(good(U8)), traced(good(U8), p.jpeg(60, 40))], [traced(good(U8))]
    for trace in (*one, *other):
        trace["photo"]["name"] = "a\x1b[2J\nagree: forged"
    other[0]["model"]["id"] = "\u202e\nagree: forged"
    other[0]["stages"]["scores"]["codes"][0] = "\x85"
    files = []
    for number, traces in enumerate((one, other)):
        files.append(tmp_path / str(number))
        files[-1].write_text("\n".join(map(json.dumps, traces)), encoding="utf-8")
    assert parity.main(["compare", *map(str, files)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(map(str.isprintable, lines)) and not any(line.startswith("agree") for line in lines)


def test_a_file_of_traces_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert parity.main(["compare", str(tmp_path / "fifo"), "/dev/zero"]) == 2
