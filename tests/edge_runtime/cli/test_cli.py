"""edge-classify: exit status, stdout, stderr; as a function, and as a process where that is what is tested."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_runtime import __version__
from edge_runtime._startup import PLAIN
from edge_runtime.cli import arguments
from edge_runtime.cli import command as cli
from edge_runtime.contract import ModelContract
from edge_runtime.model.model_file import bundled_model_path, open_model
from tests.fixtures import FIXTURES, PREDICTION_FIELDS
from tests.fixtures import pictures as p
from tests.fixtures.bad_models import BAD_MODELS, good, with_altered_weights
from tests.fixtures.make_models import draw_photo

ROOT = FIXTURES.parents[1]
U8 = str(FIXTURES / "tiny_uint8.tflite")
F32 = str(FIXTURES / "tiny_float32.tflite")
NOTICE = "Intended use: "
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "edge_runtime", *map(str, arguments)]


def process(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run edge-classify as a process; stdout and stderr as text."""
    ran = subprocess.run(
        command(*arguments), capture_output=True, check=False, timeout=240, env=ENVIRONMENT, cwd=cwd
    )
    assert b"Traceback" not in ran.stderr, ran.stderr.decode()
    return subprocess.CompletedProcess(ran.args, ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run edge-classify here; stdout and stderr as text."""
    words = [str(argument) for argument in arguments]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.main(words)
    finally:
        sys.stdin = before
    texts = [stream.buffer.getvalue().decode() for stream in (out, err) if not stream.flush()]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(words, status, *texts)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(p.jpeg())
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["a.jpg"],
        ["a.jpg", "b b.jpg"],
        ["--json", "a.jpg"],
        ["a.jpg", "--json"],
        ["\ud55c.jpg", ""],
    ],
)
def test_photos_alone_are_parsed_as_argparse_does(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    owed = vars(arguments.parser().parse_args(words))
    if not PLAIN:
        monkeypatch.setattr(arguments, "parser", lambda: pytest.fail("argparse was used"))
    assert vars(cli.parse(words)) == owed


@pytest.mark.parametrize("words", [[], ["-"], ["--json"], ["--", "a.jpg"], ["a.jpg", "--top-k=2"], ["-x"]])
def test_everything_else_is_left_to_argparse(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Used(Exception):
        pass

    def refuse() -> None:
        raise Used

    monkeypatch.setattr(arguments, "parser", refuse)
    with pytest.raises(Used):
        cli.parse(words)


def test_one_photo(photo: Path) -> None:
    ran = process("--model", U8, photo)
    assert ran.returncode == 0
    lines = ran.stdout.splitlines()
    assert lines[0].startswith(f"{photo}: ")
    assert len(lines) == 6
    assert lines[-2].startswith("  groups: ") and lines[-1].startswith("  decision: answer")
    # Nothing but the notice: the native library's chatter is dropped.
    assert ran.stderr.startswith(NOTICE) and len(ran.stderr.splitlines()) == 1


def test_json_lines(photo: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("not a photo")
    missing = tmp_path / "none.png"
    ran = run("--json", "--model", F32, photo, text, missing, photo)
    assert ran.returncode == 1
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [row["image"] for row in rows] == [str(photo), str(text), str(missing), str(photo)]
    for row in (rows[0], rows[3]):
        assert list(row) == PREDICTION_FIELDS
        assert math.fsum(row["scores"].values()) == pytest.approx(1.0)
        assert row["model"] == "tiny_float32"
        assert row["label"] in row["scores"] and row["decision"] in ("answer", "refer", "not_a_lesion")
        assert row["runtime"]["model_sha256"] == open_model(F32).sha256
        assert row["runtime"]["dermedge"] == __version__
    assert rows[0]["scores"] == rows[3]["scores"]
    for row, code in ((rows[1], "image-unreadable"), (rows[2], "image-not-found")):
        assert list(row) == ["schema", "image", "error"]
        assert list(row["error"]) == ["code", "message", "problem", "found", "expected", "fix"]
        assert row["error"]["code"] == code and all(row["error"].values())


def test_one_bad_photo_does_not_stop_the_others(photo: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.jpg"
    half.write_bytes(p.jpeg()[:1500])
    ran = run("--model", U8, half, photo)
    assert ran.returncode == 1
    assert ran.stdout.startswith(f"{photo}: ")
    assert f"error: {half}: the image is damaged or incomplete" in ran.stderr


@pytest.mark.parametrize("name", ["text", "jpeg_half", "gif", "png_30000", "empty"])
def test_wrong_photos_exit_1(name: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(p.REFUSED[name][0]())
    ran = run("--model", U8, bad)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"error: {bad}: " in ran.stderr


def test_no_such_photo(tmp_path: Path) -> None:
    ran = run("--model", U8, tmp_path / "none.jpg")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "No such file" in ran.stderr


def test_a_folder_is_its_photos_in_order(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", ".hidden.jpg", "notes.txt", "c.jpeg"):
        (tmp_path / name).write_bytes(p.jpeg())  # content decides, so a JPEG may be called .png
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.jpg").write_bytes(p.jpeg())
    ran = run("--json", "--model", U8, tmp_path)
    assert ran.returncode == 0
    names = [Path(json.loads(line)["image"]).name for line in ran.stdout.splitlines()]
    assert names == ["a.png", "b.JPG", "c.jpeg"]
    assert f"note: {tmp_path}: 3 passed over: 1 " in ran.stderr
    ran = run("--json", "--model", U8, "--recursive", tmp_path)
    assert [Path(json.loads(line)["image"]).name for line in ran.stdout.splitlines()] == [*names, "d.jpg"]


def test_a_folder_without_photos_is_an_error(tmp_path: Path, photo: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("no photo")
    ran = run("--model", U8, empty)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"{empty}: the folder holds no photos" in ran.stderr
    ran = run("--json", "--model", U8, empty, photo)
    assert ran.returncode == 1
    assert json.loads(ran.stdout.splitlines()[0])["error"]["code"] == "image-not-found"
    assert len(ran.stdout.splitlines()) == 2


def test_stdin(photo: Path) -> None:
    ran = run("--json", "--model", U8, "-", stdin=photo.read_bytes())
    assert ran.returncode == 0
    by_name = run("--json", "--model", U8, photo)
    row, other = json.loads(ran.stdout), json.loads(by_name.stdout)
    assert row["image"] == "-" and row["scores"] == other["scores"]
    assert run("--model", U8, "-", stdin=b"").returncode == 1


def test_names_that_are_no_text_and_names_with_spaces(tmp_path: Path) -> None:
    names = [tmp_path / "a b 'c'.jpg", Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jpg"))]
    for name in names:
        name.write_bytes(p.jpeg())
    for options in ((), ("--json",)):
        ran = run(*options, "--model", U8, *names)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.count("tiny_uint8" if options else "decision: ") == 2


# One of each kind; test_model_file.py goes through all of them.
WRONG_MODELS = [
    "empty",
    "text",
    "truncated_flatbuffer",
    "no_contract",
    "deflated_entry",
    "newer_schema",
    "wrong_label_count",
]


@pytest.mark.parametrize("name", WRONG_MODELS)
def test_wrong_models_exit_3(name: str, photo: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(BAD_MODELS[name][0]())
    ran = run("--model", bad, photo)
    assert (ran.returncode, ran.stdout) == (3, "")
    assert ran.stderr.startswith(f"error: {bad}")
    assert len(ran.stderr.splitlines()) == 1


def test_no_such_model(photo: Path, tmp_path: Path) -> None:
    ran = run("--model", tmp_path / "none.tflite", photo)
    assert (ran.returncode, ran.stdout) == (3, "")
    assert "No such file" in ran.stderr


@pytest.mark.skipif(bundled_model_path().exists(), reason="the bundled model is there")
def test_the_missing_bundled_model(photo: Path) -> None:
    ran = run(photo)
    assert (ran.returncode, ran.stdout) == (3, "")
    assert "the bundled model is missing" in ran.stderr and "--model" in ran.stderr


@pytest.mark.skipif(not bundled_model_path().exists(), reason="no bundled model in this checkout")
def test_the_bundled_model_answers_without_model(tmp_path: Path) -> None:
    photo = tmp_path / "large.jpg"
    draw_photo(1, 300, 225).save(photo)
    ran = run("--json", "--self-check", photo)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["model"] == open_model().contract.model_id
    assert "self-test passed" in ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model", U8],
        ["--mean", "127.5", "x.jpg"],
        ["--mod", U8, "x.jpg"],
        ["--top-k", "0", "x.jpg"],
        ["--top-k", "three", "x.jpg"],
        ["--threads", "-1", "x.jpg"],
        ["--threads", "65", "--model", U8, "x.jpg"],
        ["--bench", "0", "x.jpg"],
        ["--bench", "99999999999999", "x.jpg"],
        ["--bench", "3", "--self-check"],
        ["--accelerator", "tpu", "--model", U8, "x.jpg"],
        ["--accelerator", "cpu", "--delegate", "x.so", "--model", U8, "x.jpg"],
        ["--print-contract", "x.jpg"],
        ["--model", U8, "-", "-"],
        ["--model"],
    ],
    ids=" ".join,
)
def test_usage_errors_exit_2(arguments: list[str]) -> None:
    ran = run(*arguments)
    assert (ran.returncode, ran.stdout) == (2, ""), ran.stdout
    assert "error: " in ran.stderr


@pytest.mark.parametrize("verb", ["", "classify", "watch", "check"])
@pytest.mark.parametrize("name", ["--x\x1b[2J", "--top-k=\n\u202e1", "--list=\x9b\udcff", "--model=\x1b\n"])
def test_words_that_are_not_understood_are_shown_escaped(verb: str, name: str) -> None:
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        (vars(cli)[verb] if verb else cli.main)([name, "none\x1b.jpg", "-"])
    assert all(line.isprintable() for line in err.getvalue().split("\n")), ascii(err.getvalue())


def test_a_delegate_that_cannot_be_used_is_no_cpu_in_disguise(photo: Path) -> None:
    ran = run("--json", "--delegate", "/none/libdelegate.so", "--model", U8, photo)
    assert ran.returncode == 0
    said = json.loads(ran.stdout)["runtime"]
    assert (said["asked"], said["accelerator"]) == ("/none/libdelegate.so", "cpu")
    assert "the delegate /none/libdelegate.so cannot be loaded" in ran.stderr


def test_accelerators(photo: Path) -> None:
    used = {}
    for name in ("auto", "cpu", "xnnpack"):
        ran = run("--json", "--accelerator", name, "--model", F32, photo)
        assert ran.returncode == 0, ran.stderr
        used[name] = json.loads(ran.stdout)["runtime"]
    assert used["auto"]["accelerator"] == used["cpu"]["accelerator"] == "cpu"
    assert used["xnnpack"]["accelerator"] == "xnnpack (5 of 5 operators)"


def test_top_k(photo: Path) -> None:
    assert len(run("--top-k", "1", "--model", F32, photo).stdout.splitlines()) == 4
    assert len(run("--top-k", "99", "--model", F32, photo).stdout.splitlines()) == 7


def test_threads(photo: Path) -> None:
    ran = run("--json", "--threads", "2", "--model", U8, photo)
    assert json.loads(ran.stdout)["runtime"]["threads"] == 2


def test_print_contract() -> None:
    ran = run("--print-contract", "--model", F32)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ModelContract.from_json(ran.stdout) == open_model(F32).contract


def test_version_and_help() -> None:
    ran = process("--version")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"edge-classify {__version__}\n", "")
    ran = run("--help")
    assert ran.returncode == 0
    for option in [
        "--model",
        "--top-k",
        "--json",
        "--threads",
        "--accelerator",
        "--delegate",
        "--bench",
        "--self-check",
        "--print-contract",
        "--version",
    ]:
        assert option in ran.stdout
    for word in ("--mean", "--std", "--labels", "--crop", "--filter"):
        assert word not in ran.stdout


def test_self_check(photo: Path, tmp_path: Path) -> None:
    ran = run("--self-check", "--model", U8)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("self-test passed: 3 vectors")
    ran = run("--self-check", "--json", "--model", U8)
    assert json.loads(ran.stdout)["self_check"]["count"] == 3
    altered = tmp_path / "altered.tflite"
    altered.write_bytes(with_altered_weights(good()))
    ran = run("--self-check", "--model", altered, photo)
    assert (ran.returncode, ran.stdout) == (3, "")
    # An untested release of LiteRT is skipped first, with a note.
    assert ran.stderr.splitlines()[-1].startswith(f"error: {altered}: the self-test failed")


def test_bench(photo: Path, tmp_path: Path) -> None:
    ran = run("--bench", "3", "--model", U8, photo)
    assert ran.returncode == 0
    assert "3 runs, litert-c" in ran.stdout and "inference" in ran.stdout and "peak memory" in ran.stdout
    ran = run("--bench", "3", "--json", "--model", U8, photo, tmp_path / "none.jpg")
    assert ran.returncode == 1
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert rows[0]["bench"]["runs"] == 3
    assert rows[0]["bench"]["min_ms"]["inference"] <= rows[0]["bench"]["median_ms"]["inference"]
    assert rows[1]["error"]["code"] == "image-not-found"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_reader_that_goes_away_is_no_traceback(photo: Path) -> None:
    running = subprocess.Popen(
        command("--json", "--model", U8, *[photo] * 400),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert running.stdout is not None and running.stderr is not None
    running.stdout.readline()
    running.stdout.close()
    errors = running.stderr.read().decode()
    running.stderr.close()
    assert running.wait(30) == 141
    assert "Traceback" not in errors and "BrokenPipe" not in errors


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_quietly(photo: Path) -> None:
    running = subprocess.Popen(
        command("--json", "--bench", "100000", "--model", F32, photo),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert running.stderr is not None
    assert running.stderr.readline().decode().startswith(NOTICE)  # past start-up: photos are being classified
    time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    output, errors = running.communicate(timeout=120)
    assert (running.returncode, output) == (130, b"")
    assert errors.decode() == "interrupted\n"


def test_closed_stderr_changes_nothing(photo: Path) -> None:
    shell = 'exec "$@" 2>&-'
    ran = subprocess.run(
        ["sh", "-c", shell, "sh", *command("--model", U8, photo)],
        capture_output=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert ran.returncode == 0
    assert ran.stdout.decode().startswith(f"{photo}: ")


def test_a_full_stderr_costs_no_answer(photo: Path) -> None:
    for words, status in ((["--model", U8, str(photo)], 0), (["--none"], 2)):
        ran = subprocess.run(
            ["sh", "-c", 'exec "$@" 2>/dev/full', "sh", *command(*words)],
            capture_output=True,
            check=False,
            env=ENVIRONMENT,
        )
        assert ran.returncode == status
        assert ran.stdout.decode().startswith(f"{photo}: ") is (status == 0)


def test_closed_or_full_stdout_is_an_error(photo: Path) -> None:
    arguments = command("--model", U8, photo)
    for shell, status, words in (
        ('exec "$@" >&-', 2, "stdout is closed"),
        ('exec "$@" >/dev/full', 1, "cannot be written"),
    ):
        ran = subprocess.run(
            ["sh", "-c", shell, "sh", *arguments], capture_output=True, check=False, env=ENVIRONMENT
        )
        assert ran.returncode == status
        assert (
            words in ran.stderr.decode() and b"Traceback" not in ran.stderr and b"ignored" not in ran.stderr
        )


def test_closed_stdin(photo: Path) -> None:
    arguments = command("--model", U8, "-", photo)
    ran = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *arguments], capture_output=True, check=False, env=ENVIRONMENT
    )
    assert ran.returncode == 1
    assert b"stdin is closed" in ran.stderr and b"Traceback" not in ran.stderr
    assert ran.stdout.decode().startswith(f"{photo}: ")


def test_where_it_runs_does_not_matter(photo: Path, tmp_path: Path) -> None:
    """A file called like a module in the current folder, and a relative name."""
    (tmp_path / "json.txt").write_text("")
    ran = process("--model", U8, photo.name, cwd=photo.parent)
    assert ran.returncode == 0
    assert ran.stdout.startswith("photo.jpg: ")
