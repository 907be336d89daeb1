"""The ladder, on real libraries: what lies is caught and named, and the CPU answers instead."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_runtime import ladder, probe
from edge_runtime.classifier import Classifier
from edge_runtime.engines import Engine, open_engine
from edge_runtime.engines.interpreter import count_taken, split_delegate
from edge_runtime.errors import UsageError
from edge_runtime.ladder import Verdict, climb
from edge_runtime.model_file import open_model
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p

U8 = FIXTURES / "tiny_uint8.tflite"
# Where Debian's chromium is unpacked: `make test-gpu` fetches what is needed of it.
VULKAN = Path(os.environ.get("DERMEDGE_VULKAN", "/usr/lib/chromium")).resolve()
SWIFTSHADER = VULKAN / "vk_swiftshader_icd.json"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

# By behaviour: what the verdict must say.
LIES = {
    "REFUSING": "cannot be loaded",
    "IDLE": "took no node",
    "CRASHING": "ended its process by signal SIGSEGV",
    "WRONG": "answers wrongly",
    "SLOW": "is not faster",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ladder.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "dermedge"


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("delegates")
    for behaviour in (*LIES, "HONEST"):
        command = ["cc", "-shared", "-fPIC", "-O1", f"-DBEHAVIOUR={behaviour}"]
        source = FIXTURES / "delegate.c"
        subprocess.run([*command, "-o", folder / f"{behaviour}.so", source], check=True)
    return folder


@needs_compiler
@pytest.mark.parametrize("behaviour", LIES)
def test_a_lying_delegate_is_caught_and_named(behaviour: str, libraries: Path, cache: Path) -> None:
    library = str(libraries / f"{behaviour}.so")
    with Classifier.open(U8, delegate=library) as classifier:
        assert classifier.engine.accelerator == "cpu"
        assert LIES[behaviour] in classifier.engine.skipped[0]
        assert classifier.engine.skipped[0].startswith(library)
        said = classifier.describe_runtime()
        assert said["asked"] == library and said["accelerator"] == "cpu"
        assert said["verdicts"][0]["accepted"] is False
        with Classifier.open(U8) as plain:
            assert classifier.classify(p.jpeg()).scores == plain.classify(p.jpeg()).scores
    (kept,) = cache.iterdir()
    assert json.loads(kept.read_text())["why"] == said["verdicts"][0]["why"]
    if behaviour in ("WRONG", "SLOW"):
        assert (said["verdicts"][0]["operators_taken"], said["verdicts"][0]["operators"]) == (1, 7)


@needs_compiler
def test_an_honest_delegate_that_is_faster_is_taken(libraries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None can be faster than XNNPACK with one QUANTIZE; here it need not be."""
    library = str(libraries / "HONEST.so")
    monkeypatch.setattr(probe, "MIN_SPEEDUP", 0.0)
    model = open_model(U8)
    verdict = probe.probe(model, library, is_delegate=True, threads=1)
    assert verdict.accepted, verdict.why
    assert (verdict.operators_taken, verdict.operators) == (1, 7)
    assert verdict.largest_difference is not None and verdict.tolerance is not None
    assert verdict.largest_difference <= verdict.tolerance
    monkeypatch.setattr(ladder, "prove", lambda *_, **__: verdict)
    with Classifier.open(U8, delegate=library) as classifier:
        assert classifier.engine.accelerator == "HONEST.so (1 of 7 operators)"
        assert classifier.engine.skipped == ()
        assert classifier.classify(p.jpeg()).label


def test_a_verdict_is_kept_until_something_changes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(model: object, rung: str, is_delegate: bool, threads: int) -> Verdict:
        asked.append(rung)
        return Verdict(rung, False, "no", 0, 0, None, None, None, None)

    monkeypatch.setattr(ladder, "_ask_child", ask)
    model = open_model(U8)
    for _ in range(2):
        _, verdicts = climb(model, asked="gpu")
    assert asked == ["gpu"] and verdicts[0].why == "no"
    climb(model, asked="gpu", threads=2)
    climb(open_model(FIXTURES / "tiny_float32.tflite"), asked="gpu")
    monkeypatch.setenv("VK_DRIVER_FILES", "/other.json")
    climb(model, asked="gpu")
    assert asked == ["gpu"] * 4
    climb(model, asked="gpu", again=True)
    assert asked == ["gpu"] * 5
    for kept in cache.iterdir():
        kept.write_text('{"rung": 1')
    climb(model, asked="gpu")
    assert asked == ["gpu"] * 6


def test_the_engine_that_was_asked_for_is_the_cpu_s_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def refuse(model: object, rung: str, is_delegate: bool, threads: int) -> Verdict:
        tried.append(rung)
        return Verdict(rung, False, "no", 0, 0, None, None, None, None)

    asked: list[str] = []

    def opened(model_bytes: bytes, *, engine: str = "auto", **options: Any) -> Engine:
        asked.append(engine)
        return open_engine(model_bytes, engine=engine, **options)

    monkeypatch.setattr(ladder, "_ask_child", refuse)
    monkeypatch.setattr(ladder, "open_engine", opened)
    for accelerator in ("gpu", "auto"):
        Classifier.open(U8, engine="litert-c", accelerator=accelerator).close()
    assert asked == ["litert-c"] * 2
    # Of the rungs of `auto` those that litert-c reaches; the first verdict on the GPU was kept.
    assert tried == ["gpu", "npu"]


def test_without_a_place_for_verdicts_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ladder.CACHE_VARIABLE, "/proc/none")
    verdict = Verdict("gpu", False, "no", 0, 0, None, None, None, None)
    monkeypatch.setattr(ladder, "_ask_child", lambda *_: verdict)
    assert climb(open_model(U8), asked="gpu")[1] == (verdict,)
    for name in (ladder.CACHE_VARIABLE, "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert climb(open_model(U8), asked="gpu")[1] == (verdict,)


def test_a_child_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "PROBE_TIMEOUT_S", 0.01)
    assert "did not answer" in climb(open_model(U8), asked="gpu")[1][0].why


def test_litert_s_own_refusal_of_an_absent_gpu_and_npu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", "/none.json")
    engine, verdicts = climb(open_model(U8), asked="npu")
    assert [verdict.rung for verdict in verdicts] == ["npu", "gpu"]
    assert not any(verdict.accepted for verdict in verdicts)
    assert engine.accelerator == "cpu" and len(engine.skipped) == 2
    assert "LiteRT cannot run the model on the npu" in verdicts[0].why


@pytest.mark.slow
@pytest.mark.skipif(
    # Where a driver is named, as `make test-gpu` does, its absence is a failure.
    not SWIFTSHADER.exists() and "DERMEDGE_VULKAN" not in os.environ,
    reason="no software Vulkan driver here; what to do: make test-gpu",
)
@pytest.mark.parametrize("name", ["tiny_float32.tflite", "tiny_uint8.tflite"])
def test_litert_s_gpu_really_runs_and_is_honestly_slower(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SWIFTSHADER.is_file()
    monkeypatch.setenv("VK_DRIVER_FILES", str(SWIFTSHADER))
    # Its own loader lies beside it; this system may have none.
    monkeypatch.setenv("LD_LIBRARY_PATH", str(VULKAN))
    _, (verdict,) = climb(open_model(FIXTURES / name), asked="gpu", again=True)
    assert verdict.operators_taken == verdict.operators > 0, verdict.why
    assert verdict.largest_difference is not None and verdict.tolerance is not None
    assert verdict.largest_difference <= verdict.tolerance
    assert not verdict.accepted and "is not faster" in verdict.why


def test_the_command_says_what_was_asked_and_what_is_used(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(p.jpeg())
    command = [sys.executable, "-m", "edge_runtime", "--json", "--accelerator", "edgetpu", "--model", str(U8)]
    ran = subprocess.run(
        [*command, str(photo)], capture_output=True, text=True, cwd=FIXTURES.parents[1],
        env={**os.environ, ladder.CACHE_VARIABLE: str(tmp_path)}, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)["runtime"]
    assert (said["asked"], said["accelerator"]) == ("edgetpu", "cpu")
    assert "libedgetpu.so.1 cannot be loaded" in said["skipped"][0]
    assert "note: passed over edgetpu: the delegate libedgetpu.so.1 cannot be loaded" in ran.stderr


def test_a_delegate_s_options() -> None:
    assert split_delegate("lib.so") == ("lib.so", {})
    assert split_delegate("a/lib.so:k=v,x=1") == ("a/lib.so", {"k": "v", "x": "1"})
    assert split_delegate("odd:name.so") == ("odd:name.so", {})
    for wrong in ("lib.so:=v", ":k=v", "lib.so:k=v,x"):
        with pytest.raises(UsageError):
            split_delegate(wrong)


@needs_compiler
def test_a_delegate_gets_its_options(libraries: Path) -> None:
    """This one refuses more than one option."""
    model = open_model(U8)
    library = str(libraries / "SLOW.so")
    assert "not faster" in climb(model, asked="auto", delegate=f"{library}:k=v")[1][0].why
    assert "cannot be loaded" in climb(model, asked="auto", delegate=f"{library}:k=v,x=y")[1][0].why


def test_operators_are_counted_between_a_delegate_s_ends() -> None:
    def node(index: int, name: str, inputs: list[int], outputs: list[int]) -> dict[str, object]:
        return {"index": index, "op_name": name, "inputs": inputs, "outputs": outputs}

    graph = [
        node(0, "CONV_2D", [0, 8], [1]),
        node(1, "RELU", [1], [2]),
        node(2, "MEAN", [2], [3]),
        node(3, "SOFTMAX", [3], [4]),
    ]
    assert count_taken(graph) == (0, 4)
    assert count_taken([*graph, node(4, "DELEGATE", [1], [3])]) == (2, 4)
    assert count_taken([*graph, node(4, "DELEGATE", [0, 8], [2]), node(5, "DELEGATE", [3], [4])]) == (3, 4)
