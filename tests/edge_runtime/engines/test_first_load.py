"""A model of unknown origin is tried in a child process first; a known one, and one that is vouched for, is not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge_runtime.classifier import Classifier
from edge_runtime.engines import first_load, validation
from edge_runtime.engines.first_load import require_safe
from edge_runtime.errors import (
    EXIT_MODEL_UNUSABLE,
    InterpreterBroken,
    ModelUnsafe,
    ModelUnsupported,
    UsageError,
)
from edge_runtime.model.flatbuffer import Limits
from edge_runtime.model.model_file import ModelFile, open_model
from edge_runtime.runner import Runner
from tests.edge_runtime.cli.test_cli import U8, run
from tests.edge_runtime.graphs import GraphFile, pack
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p
from tests.fixtures.bad_models import flatbuffer_of

F32 = FIXTURES / "tiny_float32.tflite"
RESIZE_BILINEAR, RESIZE_OPTIONS = 23, 15
SPLIT, SPLIT_OPTIONS = 49, 35
ENGINES = ("auto", "litert")
pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The questions of the children that were started."""
    asked: list[object] = []
    real = first_load.run_probe

    def counted(question: dict[str, object], *rest: object) -> tuple[str, str]:
        asked.append(question["engine"])
        return real(question, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(first_load, "run_probe", counted)
    return asked


def unchecked(
    number: int, shape: list[int], numbers: list[int] | None, option_type: int, *, read: bool = False
) -> ModelFile:
    """A model file with an operator that the walk refuses: it stands for what the walk misses."""
    file = GraphFile("tiny_float32.tflite")
    file.with_operator(number, shape, numbers, option_type)
    graph = file.model.subgraphs[0]
    file.model.operatorCodes[-1].version = 1
    if read:
        graph.outputs, file.model.signatureDefs = list(graph.operators[-1].outputs), []
    return ModelFile("m.tflite", pack(file.model), open_model(F32).contract, limits=Limits(memory_mib=64))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_that_crashes_the_library_ends_a_child(engine: str, children: list[object]) -> None:
    model = unchecked(SPLIT, [1, 8, 8, 3], None, SPLIT_OPTIONS)
    for _ in range(2):
        with pytest.raises(ModelUnsafe) as caught:
            require_safe(model, engine=engine)
        assert caught.value.found.startswith(validation.CRASHED)
        assert (caught.value.code, caught.value.exit_status) == ("model-unsafe", EXIT_MODEL_UNUSABLE)
        validation._known.clear()
    assert children == [engine]
    with pytest.raises(ModelUnsafe):
        Runner.open(model, engine=engine)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no limit of memory")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("side", [4000, 16000])
def test_a_model_that_takes_too_much_memory_ends_a_child(engine: str, side: int, cache: Path) -> None:
    big = unchecked(RESIZE_BILINEAR, [1, side, side, 3], [side, side], RESIZE_OPTIONS, read=True)
    with pytest.raises(ModelUnsafe):
        require_safe(big, engine=engine)
    # It may fit another time.
    assert not cache.exists()


def test_a_known_model_starts_no_child(children: list[object], cache: Path) -> None:
    for engine in ("auto", "litert-c", "auto", "litert"):
        Classifier(U8, engine=engine).close()
        Runner.open(U8, engine=engine).close()
        validation._known.clear()
    assert children == ["auto", "litert"]
    assert sorted(path.name[:70] for path in cache.iterdir()) == [f"model-{open_model(U8).sha256}"] * 2
    Classifier(F32).close()
    assert children == ["auto", "litert", "auto"]


def test_an_empty_result_is_none(children: list[object], cache: Path) -> None:
    for _ in range(2):
        Classifier(U8).close()
        validation._known.clear()
        (kept,) = cache.iterdir()
        kept.write_text("")
    assert children == ["auto"] * 2


def test_what_is_vouched_for_starts_no_child(children: list[object], cache: Path) -> None:
    Classifier().close()
    Runner.open().close()
    Classifier(F32, trust=True).close()
    Runner.open(open_model(F32, vouched=True)).close()
    assert run("--model", F32, "--trust", "--self-check").returncode == 0
    assert children == [] and not cache.exists()


def test_engines_of_one_classifier_are_tried_once(children: list[object], tmp_path: Path) -> None:
    for i in range(4):
        (tmp_path / f"{i}.jpg").write_bytes(p.jpeg())
    assert run("--model", U8, "--threads", "2", *sorted(tmp_path.glob("*.jpg"))).returncode == 0
    assert children == ["auto"]


def test_the_command_reports_an_unsafe_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = f"{validation.CRASHED} (signal SIGSEGV)"
    monkeypatch.setattr(first_load, "run_probe", lambda *_: ("", problem))
    (tmp_path / "photo.jpg").write_bytes(p.jpeg())
    for words in (
        (tmp_path / "photo.jpg",),
        ("--self-check",),
        ("--accelerator", "gpu", tmp_path / "photo.jpg"),
    ):
        ran = run("--model", U8, "--json", *words)
        assert (ran.returncode, ran.stdout) == (EXIT_MODEL_UNUSABLE, "")
        assert "signal SIGSEGV" in ran.stderr and "--trust" in ran.stderr
    # A model that failed is tried again by a self-test.
    monkeypatch.setattr(first_load, "run_probe", lambda *_: ("ok", ""))
    validation._known.clear()
    assert run("--model", U8, "--self-check").returncode == 0
    assert run("--model", U8, tmp_path / "photo.jpg").returncode == 0


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (json.dumps(["NoInterpreter", "none", "a", "b", "pip install x"]), "no-interpreter"),
        (json.dumps(["InterpreterBroken", "bad", "a", "b", ""]), "interpreter-broken"),
        (json.dumps(["InterpreterBroken", "bad", "2 (memory allocation failure)", "b", ""]), "model-unsafe"),
        (json.dumps(["EdgeError", 1, [], {}, None]), "interpreter-broken"),
        ("[" * 60_000, "model-unsafe"),
        ('["InterpreterBroken"]', "model-unsafe"),
        ("{}", "model-unsafe"),
        ("[1, 2, 3, 4, 5, 6]", "model-unsafe"),
        ("7", "model-unsafe"),
        ("okay\x1b[2J", "model-unsafe"),
    ],
)
def test_what_a_child_says_is_not_believed_blindly(
    line: str, error: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_load, "run_probe", lambda *_: (line, ""))
    with pytest.raises((ModelUnsafe, InterpreterBroken, first_load.NoInterpreter)) as caught:
        Classifier(U8)
    assert caught.value.code == error and "\x1b" not in caught.value.message
    assert not cache.exists()


def test_where_no_child_can_be_started(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/none/python")
    with pytest.raises(ModelUnsafe) as caught:
        Classifier(U8)
    assert "No such file" in caught.value.found and "trust" in caught.value.fix
    assert not cache.exists()
    Classifier(U8, trust=True).close()


def test_options_are_checked_before_a_child_is_started(children: list[object]) -> None:
    for opened in (
        lambda: Classifier(U8, engine="x"),
        lambda: Runner.open(U8, engine="x"),
        lambda: Classifier(U8, threads=0),
    ):
        with pytest.raises(UsageError):
            opened()
    assert children == []


@pytest.mark.parametrize(
    ("option", "argument"),
    [("--max-model-memory", "max_model_memory_mib"), ("--max-model-work", "max_model_gigamacs")],
)
def test_limits_of_a_model_can_be_set(option: str, argument: str, tmp_path: Path) -> None:
    """A resize to 4096 x 4096 takes 192 MiB and 0.2 billion multiply-adds."""
    graph = GraphFile("tiny_float32.tflite")
    data = graph.with_operator(RESIZE_BILINEAR, [1, 4096, 4096, 3], [4096, 4096], option_type=RESIZE_OPTIONS)
    path = tmp_path / "m.tflite"
    path.write_bytes(_with_tail(data))
    assert run("--print-contract", "--model", path).returncode == 0
    for words in (("--print-contract",), ("--self-check",)):
        ran = run("--model", path, option, "100" if "memory" in option else "1", *words)
        assert ran.returncode == (EXIT_MODEL_UNUSABLE if "memory" in option else 0), ran.stderr
    with pytest.raises(ModelUnsupported, match=option):
        Classifier(path, **{argument: 0})  # type: ignore[arg-type]


def _with_tail(flatbuffer: bytes) -> bytes:
    whole = F32.read_bytes()
    return flatbuffer + whole[len(flatbuffer_of(whole)) :]
