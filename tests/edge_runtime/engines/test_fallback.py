"""Accelerators on real libraries: a wrong one is refused with the reason, and the CPU is used instead."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.classifier import Classifier
from edge_runtime.engines import Engine, fallback, litert_c, open_engine, probe, validation
from edge_runtime.engines.fallback import Verdict, first_accepted
from edge_runtime.engines.interpreter import count_taken, split_delegate
from edge_runtime.errors import UsageError
from edge_runtime.model.model_file import open_model, parse_model
from edge_runtime.model.tensors import TensorSpec
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p
from tests.fixtures.bad_models import good, with_contract

U8 = FIXTURES / "tiny_uint8.tflite"
# Where Debian's chromium is unpacked: `make test-gpu` fetches what is needed of it.
VULKAN = Path(os.environ.get("DERMEDGE_VULKAN", "/usr/lib/chromium")).resolve()
SWIFTSHADER = VULKAN / "vk_swiftshader_icd.json"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

# By behaviour: what the verdict says.
BEHAVIOURS = {
    "REFUSING": "cannot be loaded",
    "IDLE": "took no node",
    "CRASHING": "crashed its validation process (signal SIGSEGV)",
    "WRONG": "wrong output",
    "SLOW": "is not faster",
}
pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("delegates")
    for behaviour in (*BEHAVIOURS, "HONEST"):
        command = ["cc", "-shared", "-fPIC", "-O1", f"-DBEHAVIOUR={behaviour}"]
        source = FIXTURES / "delegate.c"
        subprocess.run([*command, "-o", folder / f"{behaviour}.so", source], check=True)
    return folder


@needs_compiler
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_wrong_delegate_is_refused_with_its_reason(behaviour: str, libraries: Path, cache: Path) -> None:
    library = str(libraries / f"{behaviour}.so")
    with Classifier.open(U8, delegate=library) as classifier:
        assert classifier.engine.accelerator == "cpu"
        assert BEHAVIOURS[behaviour] in classifier.engine.skipped[0]
        assert classifier.engine.skipped[0].startswith(library)
        reported = classifier.describe_runtime()
        assert reported["asked"] == library and reported["accelerator"] == "cpu"
        assert reported["verdicts"][0]["accepted"] is False
        with Classifier.open(U8) as plain:
            assert classifier.classify(p.jpeg()).scores == plain.classify(p.jpeg()).scores
    (kept,) = cache.glob("verdict-*")
    assert json.loads(kept.read_text())["why"] == reported["verdicts"][0]["why"]
    if behaviour in ("WRONG", "SLOW"):
        assert (reported["verdicts"][0]["operators_taken"], reported["verdicts"][0]["operators"]) == (1, 7)


@needs_compiler
def test_a_correct_delegate_that_is_faster_is_accepted(
    libraries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None can be faster than XNNPACK with one QUANTIZE; here it need not be."""
    library = str(libraries / "HONEST.so")
    monkeypatch.setattr(probe, "MIN_SPEEDUP", 0.0)
    model = open_model(U8)
    verdict = probe.probe(model, library, is_delegate=True, threads=1)
    assert verdict.accepted, verdict.why
    assert (verdict.operators_taken, verdict.operators) == (1, 7)
    assert verdict.largest_difference is not None and verdict.tolerance is not None
    assert verdict.largest_difference <= verdict.tolerance
    monkeypatch.setattr(fallback, "validate", lambda *_, **__: verdict)
    with Classifier.open(U8, delegate=library) as classifier:
        assert classifier.engine.accelerator == "HONEST.so (1 of 7 operators)"
        assert classifier.engine.skipped == ()
        assert classifier.classify(p.jpeg()).label


def test_a_verdict_is_cached_until_something_changes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(model: object, rung: str, is_delegate: bool, threads: int) -> Verdict:
        asked.append(rung)
        return Verdict(rung, False, "no", 0, 0, None, None, None, None)

    monkeypatch.setattr(fallback, "_probe", ask)
    model = open_model(U8)
    for _ in range(2):
        _, verdicts = first_accepted(model, asked="gpu")
    assert asked == ["gpu"] and verdicts[0].why == "no"
    first_accepted(model, asked="gpu", threads=2)
    first_accepted(open_model(FIXTURES / "tiny_float32.tflite"), asked="gpu")
    monkeypatch.setenv("VK_DRIVER_FILES", "/other.json")
    first_accepted(model, asked="gpu")
    assert asked == ["gpu"] * 4
    first_accepted(model, asked="gpu", again=True)
    assert asked == ["gpu"] * 5
    for times, damaged in enumerate((b'{"rung": 1', b'{"rung": 1}', b"[1]", b"\xff"), 6):
        for kept in cache.glob("verdict-*"):
            kept.write_bytes(damaged)
        first_accepted(model, asked="gpu")
        assert asked == ["gpu"] * times


def test_a_verdict_is_of_one_library_on_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver or a delegate that was replaced is another one, whatever the old one could do."""
    library = tmp_path / "lib.so"
    library.write_bytes(b"a build")
    model = open_model(U8)

    def key(options: str = "") -> str | None:
        text = f"{library}{options}"
        return fallback._cache_file(model, text, fallback._library_state(text), 1)

    keys = [key(), key(":k=v")]
    library.write_bytes(b"a longer build")
    keys.append(key())
    os.utime(library, ns=(1, 1))
    keys.append(key())
    for name, value in (("__version__", "9"), ("library_state", lambda: ["9"])):
        monkeypatch.setattr(fallback, name, value)
        keys.append(key())
    monkeypatch.setattr("platform.release", lambda: "another kernel")
    keys.append(key())
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES", "LD_LIBRARY_PATH", "LD_PRELOAD"):
        monkeypatch.setenv(name, "/another")
        keys.append(key())
    assert None not in keys and len(set(keys)) == len(keys) == 11


def test_where_verdicts_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), (validation.CACHE_VARIABLE, "/d")):
        monkeypatch.setenv(name, value)
    found = []
    for name in (validation.CACHE_VARIABLE, "XDG_CACHE_HOME", "HOME"):
        kept = fallback._cache_file(open_model(U8), "gpu", [], 1)
        assert kept is not None
        found.append(str(Path(kept).parent))
        monkeypatch.delenv(name)
    assert found == ["/d/dermedge", "/x/dermedge", "/h/.cache/dermedge"]


def test_an_accepted_delegate_that_now_fails_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = Verdict("/none.so", True, "it takes all", 7, 7, 0.0, 0.0, 2.0, 1.0)
    monkeypatch.setattr(fallback, "validate", lambda *_, **__: accepted)
    engine, (verdict,) = first_accepted(open_model(U8), asked="auto", delegate="/none.so")
    assert engine.accelerator == "cpu" and not verdict.accepted
    assert "it was accepted before and now fails: the delegate /none.so cannot be loaded" in engine.skipped[0]


def test_engines_skipped_on_the_cpu_are_reported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "validate", lambda *_, **__: fallback._refused("gpu", "no"))
    monkeypatch.setitem(litert_c._FUNCTIONS, "LiteRtNotThere", [])
    engine, _ = first_accepted(open_model(U8), asked="gpu")
    assert engine.skipped == ("gpu: no", "litert-c: this LiteRT library lacks a function of the C API")


def test_a_named_engine_is_used_for_the_cpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def refuse(model: object, rung: str, is_delegate: bool, threads: int) -> Verdict:
        tried.append(rung)
        return Verdict(rung, False, "no", 0, 0, None, None, None, None)

    asked: list[str] = []

    def opened(model_bytes: bytes, *, engine: str = "auto", **options: Any) -> Engine:
        asked.append(engine)
        return open_engine(model_bytes, engine=engine, **options)

    monkeypatch.setattr(fallback, "_probe", refuse)
    monkeypatch.setattr(fallback, "open_engine", opened)
    for accelerator in ("gpu", "auto"):
        Classifier.open(U8, engine="litert-c", accelerator=accelerator).close()
    assert asked == ["litert-c"] * 2
    # Of the candidates of `auto` those that litert-c supports; the first verdict on the GPU was cached.
    assert tried == ["gpu", "npu"]


def test_without_a_cache_folder_every_process_validates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(validation.CACHE_VARIABLE, "/proc/none")
    verdict = Verdict("gpu", False, "no", 0, 0, None, None, None, None)
    monkeypatch.setattr(fallback, "_probe", lambda *_: verdict)
    assert first_accepted(open_model(U8), asked="gpu")[1] == (verdict,)
    for name in (validation.CACHE_VARIABLE, "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert first_accepted(open_model(U8), asked="gpu")[1] == (verdict,)


def test_a_verdict_that_cannot_be_cached_leaves_no_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fallback, "_probe", lambda *_: fallback._refused("gpu", "no"))
    monkeypatch.setattr(os, "replace", full)
    assert first_accepted(open_model(U8), asked="gpu")[1][0].why == "no"
    assert list(cache.glob("verdict-*")) == []


def test_a_child_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/none/python")
    verdict = first_accepted(open_model(U8), asked="gpu")[1][0]
    assert verdict.why == "its validation could not be started: No such file or directory"


class Said:
    """An engine that gives these answers, one after another."""

    input = TensorSpec((1, 32, 32, 3), "float32", 0.0, 0)
    output = TensorSpec((1, 4), "float32", 0.0, 0)
    inputs, outputs = (input,), (output,)
    operators_taken = (1, 1)

    def __init__(self, *answers: tuple[float, ...]) -> None:
        self.answers = [struct.pack("<4f", *answer) for answer in answers]

    def run(self, input_tensor: bytes) -> bytes:
        return self.answers.pop(0)


RIGHT = (0.25, 0.25, 0.25, 0.25)


@pytest.mark.parametrize("picture", range(3))
@pytest.mark.parametrize(
    ("answer", "difference"),
    [
        ((0.75, 0.25, 0.25, 0.25), 0.5),
        ((0.25, 0.25, 0.25, -0.25), 0.5),
        ((math.nan, 0.25, 0.25, 0.25), None),
        ((0.25, 0.25, math.nan, 0.25), None),
        ((math.inf, 0.25, 0.25, 0.25), None),
    ],
)
def test_one_wrong_output_is_enough(
    picture: int, answer: tuple[float, ...], difference: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To any golden picture, in any place; and what is reported of it is JSON."""
    model = open_model(FIXTURES / "tiny_float32.tflite")
    answers = [RIGHT] * 3
    answers[picture] = answer
    monkeypatch.setattr(probe, "golden_inputs", lambda *_: [b""] * 3)
    monkeypatch.setattr(probe, "open_candidate", lambda *_: Said(*answers))
    monkeypatch.setattr(probe, "open_engine", lambda *_, **__: Said(RIGHT, RIGHT, RIGHT))
    verdict = probe.probe(model, "gpu", is_delegate=False, threads=1)
    assert not verdict.accepted
    assert verdict.why.startswith(f"wrong output: golden_{picture}.png differs from the CPU by ")
    assert (verdict.largest_difference, verdict.tolerance) == (difference, pytest.approx(1e-4))
    json.dumps(verdict.to_dict(), allow_nan=False)


def test_without_self_test_vectors_nothing_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse_model(with_contract(good(), lambda contract: contract.update(golden=[])), "m")
    monkeypatch.setattr(probe, "open_candidate", lambda *_: Said())
    verdict = probe.probe(model, "gpu", is_delegate=False, threads=1)
    assert (verdict.accepted, verdict.why) == (
        False,
        "the model has no self-test vectors to validate it with",
    )


def test_a_child_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "TIMEOUT_S", 0.01)
    assert "no result within" in first_accepted(open_model(U8), asked="gpu")[1][0].why


def test_litert_s_own_refusal_of_an_absent_gpu_and_npu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", "/none.json")
    engine, verdicts = first_accepted(open_model(U8), asked="npu")
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
    _, (verdict,) = first_accepted(open_model(FIXTURES / name), asked="gpu", again=True)
    assert verdict.operators_taken == verdict.operators > 0, verdict.why
    assert verdict.largest_difference is not None and verdict.tolerance is not None
    assert verdict.largest_difference <= verdict.tolerance
    assert not verdict.accepted and "is not faster" in verdict.why


def test_the_command_reports_what_was_requested_and_what_is_used(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(p.jpeg())
    command = [sys.executable, "-m", "edge_runtime", "--json", "--accelerator", "edgetpu", "--model", str(U8)]
    ran = subprocess.run(
        [*command, str(photo)], capture_output=True, text=True, cwd=FIXTURES.parents[1],
        env={**os.environ, validation.CACHE_VARIABLE: str(tmp_path)}, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    reported = json.loads(ran.stdout)["runtime"]
    assert (reported["asked"], reported["accelerator"]) == ("edgetpu", "cpu")
    assert "libedgetpu.so.1 cannot be loaded" in reported["skipped"][0]
    assert "note: skipped edgetpu: the delegate libedgetpu.so.1 cannot be loaded" in ran.stderr


def test_a_delegate_s_options() -> None:
    assert split_delegate("lib.so") == ("lib.so", {})
    assert split_delegate("a/lib.so:k=v,x=1") == ("a/lib.so", {"k": "v", "x": "1"})
    assert split_delegate("odd:name.so") == ("odd:name.so", {})
    assert split_delegate("odd:name.so:k=v") == ("odd:name.so", {"k": "v"})
    for wrong in ("lib.so:=v", ":k=v", "lib.so:k=v,x"):
        with pytest.raises(UsageError):
            split_delegate(wrong)


@needs_compiler
def test_a_delegate_gets_its_options(libraries: Path) -> None:
    """This one refuses more than one option."""
    model = open_model(U8)
    library = str(libraries / "SLOW.so")
    assert "not faster" in first_accepted(model, asked="auto", delegate=f"{library}:k=v")[1][0].why
    assert "cannot be loaded" in first_accepted(model, asked="auto", delegate=f"{library}:k=v,x=y")[1][0].why


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
