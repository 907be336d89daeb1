"""Operators that only a delegate has: refused unless one is named, and then run by nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edge_runtime.classifier import Classifier
from edge_runtime.engines import first_load
from edge_runtime.errors import EXIT_MODEL_UNUSABLE, DelegateUnusable, InterpreterBroken, ModelUnsupported
from edge_runtime.model.flatbuffer import Limits
from edge_runtime.model.model_file import open_model, parse_model
from tests.edge_runtime.cli.test_cli import run
from tests.edge_runtime.graphs import GraphFile, pack
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p

U8 = FIXTURES / "tiny_uint8.tflite"
EDGE_TPU = b"edgetpu-custom-op"
NAMED = Limits(delegated=True)
pytestmark = pytest.mark.usefixtures("cache")
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """The fixture as if its last operator were compiled for an Edge TPU."""
    path = tmp_path / "compiled.tflite"
    path.write_bytes(GraphFile(U8.name).with_last_as_custom(EDGE_TPU))
    return path


def delegate(folder: Path, behaviour: str) -> str:
    library = folder / f"{behaviour}.so"
    command = ["cc", "-shared", "-fPIC", f"-DBEHAVIOUR={behaviour}", "-o", library, FIXTURES / "delegate.c"]
    subprocess.run(command, check=True)
    return str(library)


def test_custom_operators_are_refused_unless_a_delegate_is_named(compiled: Path) -> None:
    for options in ({}, {"accelerator": "xnnpack"}, {"trust": True}):
        with pytest.raises(ModelUnsupported) as caught:
            Classifier(compiled, **options)  # type: ignore[arg-type]
        assert "CUSTOM" in caught.value.found and "delegate" in caught.value.fix
    for words in (("--print-contract",), ("--self-check",), ("--self-check", "--accelerator", "cpu")):
        assert run("--model", compiled, *words).returncode == EXIT_MODEL_UNUSABLE
    assert open_model(compiled, limits=NAMED).needs_delegate
    assert not open_model(U8, limits=NAMED).needs_delegate


@pytest.mark.parametrize(
    "name", [b"TFLite_Detection_PostProcess", b"FlexConv2D", b"edgetpu-custom-op2", b"", None]
)
def test_others_are_refused_even_then(name: bytes) -> None:
    with pytest.raises(ModelUnsupported):
        parse_model(GraphFile(U8.name).with_last_as_custom(name), "m", limits=NAMED)


def test_a_listed_operator_under_that_name_is_still_checked() -> None:
    """The name means something in custom operators only."""
    file = GraphFile(U8.name)
    for code in file.model.operatorCodes:
        code.customCode = EDGE_TPU
    assert not parse_model(pack(file.model) + file.tail, "m", limits=NAMED).needs_delegate
    file.model.subgraphs[0].operators[0].inputs = []
    with pytest.raises(ModelUnsupported):
        parse_model(file.with_last_as_custom(EDGE_TPU), "m", limits=NAMED)


@needs_compiler
def test_a_delegate_that_passes_the_self_test_runs_it(compiled: Path, tmp_path: Path) -> None:
    library = delegate(tmp_path, "FLEXIBLE")
    with Classifier(compiled, delegate=library) as classifier, Classifier(U8) as plain:
        assert classifier.engine.accelerator == "FLEXIBLE.so (1 of 7 operators)"
        steps = classifier.contract.golden[0].tolerance
        expected = pytest.approx(plain.classify(p.jpeg()).scores, abs=steps / 256)
        assert classifier.classify(p.jpeg()).scores == expected
        (verdict,) = classifier.verdicts
        assert verdict.accepted and verdict.operators_taken == 1 and verdict.cpu_ms is None
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(p.jpeg())
    ran = run("--model", compiled, "--json", "--delegate", library, photo, photo)
    assert ran.returncode == 0 and ran.stdout.count("FLEXIBLE") >= 2, ran.stderr


@needs_compiler
@pytest.mark.parametrize("behaviour", ["WRONG", "REFUSING", "CRASHING"])
def test_nothing_else_runs_it(behaviour: str, compiled: Path, tmp_path: Path) -> None:
    with pytest.raises(DelegateUnusable) as caught:
        Classifier(compiled, delegate=delegate(tmp_path, behaviour))
    assert behaviour in caught.value.found and caught.value.where == str(compiled)
    with pytest.raises(DelegateUnusable) as caught:
        Classifier(compiled, accelerator="edgetpu")
    assert "libedgetpu" in caught.value.found


def test_an_engine_without_validation_tries_it_in_a_child(
    compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = first_load.run_probe
    monkeypatch.setattr(first_load, "run_probe", lambda *a: (asked.append(a[0]["engine"]), real(*a))[1])
    with pytest.raises(InterpreterBroken):
        Classifier(compiled, engine="litert", accelerator="edgetpu")
    assert asked == ["litert"]
