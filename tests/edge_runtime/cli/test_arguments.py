"""Options of edge-classify and of the verbs, without a process."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_runtime import __version__
from edge_runtime.classifier import Classifier
from edge_runtime.cli import command as cli
from edge_runtime.contract import ModelContract
from edge_runtime.engines import opening
from edge_runtime.errors import ModelUnsigned, UsageError
from edge_runtime.images import watch
from edge_runtime.model import signature
from edge_runtime.model.flatbuffer import DEFAULT_LIMITS
from edge_runtime.model.model_file import ModelFile
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p
from tests.fixtures.bad_models import good, with_contract

U8 = str(FIXTURES / "tiny_uint8.tflite")
WITH_A_VALUE = (
    "--model", "--list", "--watch", "--require-signature", "--accelerator", "--delegate", "--explain",
)  # fmt: skip


@pytest.mark.parametrize("option", WITH_A_VALUE)
def test_an_unset_variable_is_no_option(option: str) -> None:
    with pytest.raises(UsageError) as caught:
        cli.parse(["x.jpg", option, ""])
    assert caught.value.where == option


@pytest.mark.parametrize(
    "others",
    [
        ["--delegate", "x.so"],
        ["--accelerator", "gpu"],
        ["--threads", "2"],
        ["--self-check"],
        ["--list", "-"],
        ["x.jpg"],
    ],
    ids=" ".join,
)
def test_print_contract_ignores_nothing(others: list[str]) -> None:
    with pytest.raises(UsageError, match="^--print-contract ") as caught:
        cli.parse(["--print-contract", *others])
    assert caught.value.found == ("PHOTO" if others == ["x.jpg"] else others[0])


def test_print_contract_verifies_the_signature(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: str, key: str, oldest: str, _: object) -> ModelFile:
        raise ModelUnsigned(f"{path} by {key} from {oldest}")

    monkeypatch.setattr(signature, "open_signed", refuse)
    signed = ["--require-signature", "key.pem", "--min-version", "a:3"]
    assert cli.main(["--print-contract", "--model", U8, *signed]) == 3
    assert capsys.readouterr() == ("", f"error: {U8} by key.pem from a:3.\n")


def test_a_contract_is_json_in_every_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model.tflite"
    words = "caf\u00e9, \ud53c\ubd80, \U0001f52c"
    model.write_bytes(with_contract(good(), lambda contract: contract.update(intended_use=words)))
    for encoding in ("ascii", "latin-1", "utf-8"):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        assert cli.main(["--print-contract", "--model", str(model)]) == 0
        assert json.loads(written.getvalue().decode("utf-8"))["intended_use"] == words
        assert ModelContract.from_json(written.getvalue()).intended_use == words


def test_main_returns_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == cli.main(["--help"]) == 0
    assert cli.main(["--top-k", "none"]) == cli.main([]) == 2
    assert f"edge-classify {__version__}" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--watch", "--explain"])
def test_one_photo_at_a_time_gives_the_threads_to_the_inference(option: str, tmp_path: Path) -> None:
    photos = ["a.jpg", "b.jpg"] if option == "--explain" else []
    words = ["--model", U8, "--threads", "2", option, str(tmp_path), *photos]
    with cli._open_classifier(cli.parse(words)) as classifier:
        assert classifier.engine.threads == 2
    with cli._open_classifier(cli.parse(["--model", U8, "--threads", "2", "a.jpg", "b.jpg"])) as classifier:
        assert classifier.engine.threads == 1


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["-", "--list", "-"], "stdin "),
        (["x.jpg", "--bench", "2", "--list", "l.txt"], "--bench "),
        (["x.jpg", "--bench", "2", "--watch", "folder"], "--bench "),
    ],
)
def test_options_that_cannot_be_combined(words: list[str], option: str) -> None:
    with pytest.raises(UsageError, match=f"^{option}"):
        cli.parse(words)


def test_the_model_s_limits_are_the_library_s() -> None:
    parsed = cli.parse(["x.jpg", "--trust"])
    assert (parsed.max_model_memory, parsed.max_model_work) == (
        DEFAULT_LIMITS.memory_mib,
        DEFAULT_LIMITS.gigamacs,
    )


def test_numbers_have_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.parse(["x.jpg", "--threads", "64", "--bench", "100000", "--top-k", "1"]).threads == 64
    with pytest.raises(UsageError) as caught:
        cli.parse(["x.jpg", "y.jpg", "--threads", "65"])
    assert (caught.value.found, caught.value.expected) == ("65", "1 to 64")
    for option, wrong in (("--bench", "100001"), ("--top-k", "0"), ("--threads", "\u0663")):
        with pytest.raises(SystemExit, match="2"):
            cli.parse(["x.jpg", option, wrong])
        assert f"{wrong!r} is not a whole number from 1 to 100000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "words", "near"),
    [
        ("", ["a.jpg", "--jason"], "--json"),
        ("watch", ["in", "--treads=2"], "--threads"),
        ("", ["a", "-q"], ""),
    ],
)
def test_an_unknown_option_brings_the_nearest_to_mind(
    verb: str, words: list[str], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.parse(words, verb)
    assert (f"Did you mean {near}?" in capsys.readouterr().err) == bool(near)


def test_find_and_xargs_write_lists(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    photo = tmp_path / "two\nlines.jpg"
    photo.write_bytes(p.jpeg())
    (tmp_path / "list").write_bytes(os.fsencode(photo) + b"\0")
    for null in ("-0", "--null"):
        assert cli.main(["--model", U8, "--json", "--list", str(tmp_path / "list"), null]) == 0
        assert json.loads(capsysbinary.readouterr().out)["image"] == str(photo)


def test_a_self_check_validates_the_accelerator_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def refuse(*_: object, revalidate: bool, **__: object) -> None:
        seen.append(revalidate)
        raise UsageError("enough")

    monkeypatch.setattr(opening, "open_engine_for", refuse)
    for words in (["--self-check"], ["--accelerator", "gpu"]):
        assert cli.main(["--model", U8, "x.jpg", *words]) == 2
    assert seen == [True, False]


def test_only_the_chatter_of_native_code_is_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    with cli._NativeChatterDropped():
        os.write(2, b"ERROR: a driver is missing\n" + cli.NATIVE_CHATTER + b"ERROR: another\n")
    assert capfd.readouterr().err == "ERROR: a driver is missing\nERROR: another\n"


def test_the_answers_end_before_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else their workers are at an engine that is no longer there."""
    order: list[str] = []

    class Unwritable:
        def to_text(self, top_k: int) -> str:
            raise RuntimeError("disk full")

    def answers(*_: object, **__: object) -> Iterator[tuple[str, Unwritable]]:
        try:
            yield "a.jpg", Unwritable()
        finally:
            order.append("answers")

    close = Classifier.close
    monkeypatch.setattr(Classifier, "close", lambda self: (order.append("engine"), close(self)))
    monkeypatch.setattr("edge_runtime.batch.classify_each", answers)
    with pytest.raises(RuntimeError, match="disk full"):
        cli.main(["--model", U8, "a.jpg", "b.jpg"])
    assert order == ["answers", "engine"]


def answered(photos: list[str]) -> Callable[..., Iterator[tuple[str, Any]]]:
    """`watch.answers` of a folder in which these photos arrive."""

    def answers(
        folder: str, state: object, classify: Callable[..., Any], **_: object
    ) -> Iterator[tuple[str, Any]]:
        return ((photo, classify(photo, Path(photo).read_bytes())) for photo in photos)

    return answers


def test_a_bad_photo_does_not_stop_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.jpg").write_text("no photo")
    (tmp_path / "mole.jpg").write_bytes(p.jpeg())
    arrived = [f"{tmp_path}/text.jpg", f"{tmp_path}/mole.jpg"]
    monkeypatch.setattr(watch, "answers", answered(arrived))
    words = ["--json", "--model", U8, "--list", "/none.txt", "--watch", str(tmp_path)]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert cli.main(words) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["image"] for row in rows] == ["/none.txt", *arrived]
    codes = [row["error"]["code"] if "error" in row else row["label"] for row in rows]
    assert codes[:2] == ["image-not-found", "image-unreadable"] and codes[2] in ("ash", "brick", "cyan")


def test_a_folder_without_photos_does_not_stop_a_measurement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "mole.jpg").write_bytes(p.jpeg())
    words = ["--json", "--model", U8, "--bench", "2", str(tmp_path / "empty"), str(tmp_path / "mole.jpg")]
    assert cli.main(words) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [next(key for key in ("error", "bench") if key in row) for row in rows] == ["error", "bench"]


@pytest.mark.parametrize(
    ("verb", "words", "same"),
    [
        ("classify", ["a.jpg", "--json"], ["a.jpg", "--json"]),
        ("classify", ["a.jpg", "--model", "m", "--top-k", "1"], ["a.jpg", "--model", "m", "--top-k", "1"]),
        ("watch", ["in/", "--model", "m"], ["--watch", "in/", "--model", "m"]),
        ("explain", ["a.jpg", "--out", "a.png"], ["a.jpg", "--explain", "a.png"]),
        ("check", [], ["--self-check"]),
        ("check", ["m", "--threads", "2"], ["--self-check", "--model", "m", "--threads", "2"]),
        ("contract", ["m"], ["--print-contract", "--model", "m"]),
        ("bench", ["m", "a.jpg"], ["--bench", "50", "--model", "m", "a.jpg"]),
        ("bench", ["m", "a.jpg", "--runs", "3"], ["--bench", "3", "--model", "m", "a.jpg"]),
    ],
)
def test_a_verb_is_an_option_of_edge_classify(verb: str, words: list[str], same: list[str]) -> None:
    assert vars(cli.parse(words, verb)) == vars(cli.parse(same))


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("watch", []),
        ("watch", ["a", "b"]),
        ("explain", ["a.jpg"]),
        ("contract", ["m", "n"]),
        ("bench", ["m"]),
    ],
)
def test_a_verb_refuses_missing_and_further_words(verb: str, words: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.parse(words, verb)


def test_verbs_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(p.jpeg())
    monkeypatch.setattr(watch, "answers", answered([f"{tmp_path}/a.jpg"]))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for main, words, said in (
        (cli.classify, [str(tmp_path / "a.jpg"), "--model", U8], "decision: "),
        (cli.watch, [str(tmp_path), "--model", U8], "decision: "),
        (
            cli.explain,
            [str(tmp_path / "a.jpg"), "--out", str(tmp_path / "a.png"), "--model", U8],
            "heat map: ",
        ),
        (cli.check, [U8], "self-test passed"),
        (cli.contract, [U8], '"model_id": "tiny_uint8"'),
        (cli.bench, [U8, str(tmp_path / "a.jpg"), "--runs", "2"], "2 runs"),
    ):
        assert main(words) == 0
        assert said in capsys.readouterr().out
    assert (tmp_path / "a.png").exists()
    assert cli.check([str(tmp_path / "none.tflite")]) == 3
