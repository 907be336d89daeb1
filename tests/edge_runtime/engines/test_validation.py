"""The child process: what it may take, what it leaves behind, and whose cached results are believed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any, Protocol

import pytest

from edge_runtime.classifier import Classifier
from edge_runtime.engines import fallback, validation
from edge_runtime.engines.fallback import first_accepted
from edge_runtime.engines.interpreter import find_delegate
from edge_runtime.engines.validation import known_result, read_cached, run_probe, write_cached
from edge_runtime.model.model_file import open_model
from tests.edge_runtime.engines.test_fallback import U8, needs_compiler
from tests.fixtures import FIXTURES

LIMITS = {"AS": 1 << 30, "CPU": 60, "FSIZE": 1 << 20}
# A child's own start takes a tenth of it; 120 s is what a process left behind could cost before.
SOON_S = 20.0
posix = pytest.mark.skipif(os.name != "posix", reason="sessions and owners are POSIX's")


class Answer(Protocol):
    def __call__(self, source: str, limits: dict[str, int] = LIMITS) -> tuple[str, str]: ...


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """What a child of this source answers: it has `give`, and the limits are set."""

    def of(source: str, limits: dict[str, int] = LIMITS) -> tuple[str, str]:
        head = """
            import json, os, signal, subprocess, sys, time
            from edge_runtime.engines.child import set_limits
            from edge_runtime.engines.validation import RESULT
            question, model = json.loads(sys.stdin.buffer.readline()), sys.stdin.buffer.read()
            set_limits(question["limits"])
            def give(text):
                print(f"\\n{RESULT}{text}", flush=True)
                os._exit(0)
        """
        (tmp_path / "stand_in_child.py").write_text(dedent(head) + dedent(source))
        monkeypatch.setattr(validation, "CHILD", "stand_in_child")
        monkeypatch.syspath_prepend(str(tmp_path))
        return run_probe({"rung": "none"}, b"x" * 300_000, limits)

    return of


def test_a_child_gets_the_question_and_the_model(answer: Answer) -> None:
    assert answer("give(question['rung'] + str(len(model)))") == ("none300000", "")


@posix
def test_a_child_is_limited(answer: Answer) -> None:
    source = """
        import resource
        give(json.dumps({name: resource.getrlimit(getattr(resource, 'RLIMIT_' + name)) for name in question['limits']}))
    """
    limits = {**LIMITS, "NOFILE": 32, "CORE": 0, "DATA": 1 << 30}
    found = json.loads(answer(source, limits)[0])
    assert found == {
        name: [most, most + 5 if name == "CPU" else most]
        for name, most in limits.items()
        if sys.platform == "linux" or name not in ("AS", "DATA")
    }


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", f"{validation.CRASHED} (signal SIGSEGV)"),
        ("os.kill(os.getpid(), 40)", f"{validation.CRASHED} (signal 40)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "its validation process was killed"),
        ("b'x' * (2 << 30); give('ok')", "its validation process ended with status 1: MemoryError"),
        (
            "open('f', 'wb').write(b'x' * (2 << 20))",
            "ended with status 1: OSError: [Errno 27] File too large",
        ),
        ("sys.exit(3)", "its validation process ended with status 3: "),
        ("pass", "its validation process ended with status 0: "),
    ],
)
def test_what_ends_a_child(
    source: str, problem: str, answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line, found = answer(source)
    assert line == "" and problem in found


def test_a_child_that_computes_for_ever(answer: Answer) -> None:
    assert answer("while True: pass", {"CPU": 1}) == ("", "it took more than 1 s of processor time")


def test_a_child_that_waits_for_ever(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "TIMEOUT_S", 1.0)
    for source in ("time.sleep(300)", "os.close(1); os.close(2); time.sleep(300)"):
        assert answer(source) == ("", "no result within 1 s")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("ending", ["give('ok')", "os.kill(os.getpid(), signal.SIGSEGV)", "os._exit(1)"])
def test_what_a_child_leaves_behind_is_ended(ending: str, answer: Answer, tmp_path: Path) -> None:
    started = time.monotonic()
    line, problem = answer(f"""
        left = subprocess.Popen(["sleep", "300"])
        open({str(tmp_path / "left")!r}, "w").write(str(left.pid))
        {ending}
    """)
    assert time.monotonic() - started < SOON_S
    assert (line == "ok") == (problem == "") == ("give" in ending)
    left = int((tmp_path / "left").read_text())
    until = time.monotonic() + SOON_S
    while time.monotonic() < until and _runs(left):
        time.sleep(0.01)
    assert not _runs(left)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_flood_of_output_does_not_fill_this_process(answer: Answer) -> None:
    def peak_kib() -> int:
        (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1])

    before = peak_kib()
    flood = "for _ in range(4000): os.write({}, b'x' * 65536)\n"
    assert answer(flood.format(1) + flood.format(2) + "give('ok')") == ("ok", "")
    assert peak_kib() - before < 50_000
    assert "ended with status 1: xxx" in answer(flood.format(2) + "os._exit(1)")[1]


def test_a_child_s_environment_is_named(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = {"LD_LIBRARY_PATH": "/l", "VK_DRIVER_FILES": "/v", "DERMEDGE_X": "1", "LANG": "C", "HOME": "/h"}
    for name in (*passed, "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "PYTHONSTARTUP", "PYTHONINSPECT", "LDX"):
        monkeypatch.setenv(name, passed.get(name, "secret"))
    found = json.loads(answer("give(json.dumps(dict(os.environ)))")[0])
    assert passed.items() <= found.items() and "secret" not in found.values()


def test_a_program_that_is_no_python_starts_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen application would start itself."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(OSError, match="no Python"):
        run_probe({}, b"", LIMITS)


def test_a_result_is_kept_for_this_user_alone(cache: Path) -> None:
    before = os.umask(0)
    try:
        write_cached(str(cache / "name"), "ok")
    finally:
        os.umask(before)
    assert (cache.stat().st_mode & 0o777, (cache / "name").stat().st_mode & 0o777) == (0o700, 0o600)
    notes: list[str] = []
    assert read_cached(str(cache / "name"), notes) == "ok" and notes == []


@posix
@pytest.mark.parametrize("place", ["folder", "file"])
@pytest.mark.parametrize("fault", ["group", "others", "owner", "link"])
def test_what_others_may_have_written_is_not_believed(
    place: str, fault: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cache / "name"
    write_cached(str(path), "ok")
    wrong = cache if place == "folder" else path
    if fault == "link":
        wrong.rename(tmp_path / "elsewhere")
        wrong.symlink_to(tmp_path / "elsewhere")
    elif fault == "owner":
        lstat = os.lstat
        other = os.stat_result([*lstat(wrong)[:4], os.geteuid() + 1, *lstat(wrong)[5:]])
        monkeypatch.setattr(os, "lstat", lambda p: other if str(p) == str(wrong) else lstat(p))
    else:
        wrong.chmod(wrong.stat().st_mode | (0o020 if fault == "group" else 0o002))
    notes: list[str] = []
    assert [read_cached(str(path), notes) for _ in range(2)] == [None, None]
    assert len(notes) == 1 and str(wrong) in notes[0]
    assert known_result("name", lambda: ("asked", True), notes) == "asked"
    # Nor is a folder of others written to.
    if place == "folder":
        assert path.read_text() == "ok"


def test_a_result_is_asked_for_once(cache: Path) -> None:
    asked: list[str] = []

    def ask(result: str, lasting: bool = True) -> tuple[str, bool]:
        asked.append(result)
        return result, lasting

    notes: list[str] = []
    for _ in range(2):
        validation._known.clear()
        assert [known_result("good", lambda: ask("ok"), notes, again=again) for again in (False, True)]
        assert known_result("bad", lambda: ask("crashed"), notes) == "crashed"
        assert known_result("late", lambda: ask("slow", lasting=False), notes) == "slow"
    assert asked == ["ok", "crashed", "slow", "slow"] and notes == []
    assert known_result("bad", lambda: ask("ok"), notes, again=True) == "ok"
    assert sorted(path.name for path in cache.iterdir()) == ["bad", "good"]


GOOD: dict[str, Any] = fallback._refused("gpu", "no").to_dict()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        json.dumps({**GOOD, "why": 5}),
        json.dumps({**GOOD, "why": ["no"]}),
        json.dumps({**GOOD, "accepted": "yes"}),
        json.dumps({**GOOD, "accepted": 1}),
        json.dumps({**GOOD, "rung": None}),
        json.dumps({**GOOD, "cpu_ms": "fast"}),
        json.dumps({**GOOD, "cpu_ms": {}}),
        json.dumps({**GOOD, "tolerance": float("nan")}),
        json.dumps({**GOOD, "tolerance": float("inf")}),
        json.dumps({**GOOD, "more": 1}),
        json.dumps({"rung": "gpu"}),
        json.dumps([GOOD]),
        '{"rung": ' + "9" * 4000 + "}",
        "",
        "\x00",
        " " * 70_000 + json.dumps(GOOD),
    ],
)
def test_a_cached_verdict_of_another_form_is_none(
    text: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = fallback._refused("gpu", "asked")
    monkeypatch.setattr(fallback, "_probe", lambda *_: right)
    model = open_model(U8)
    path = fallback._cache_file(model, "gpu", [], 1)
    assert path is not None
    write_cached(path, text)
    assert first_accepted(model, asked="gpu")[1] == (right,)
    # What the child found is cached in its place.
    monkeypatch.setattr(fallback, "_probe", lambda *_: pytest.fail("asked again"))
    assert first_accepted(model, asked="gpu")[1] == (right,)


def test_a_cache_that_is_not_believed_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    with Classifier(U8, accelerator="edgetpu") as classifier:
        (note,) = (text for text in classifier.engine.skipped if text.startswith("cache: "))
        assert str(cache) in note
        assert note in classifier.describe_runtime()["skipped"]
    assert list(cache.iterdir()) == []


def test_a_bare_name_is_looked_for_as_the_loader_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("first", "second", "here"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}/first:{tmp_path}/second")
    monkeypatch.setattr("edge_runtime.engines.interpreter.SYSTEM_FOLDERS", (f"{tmp_path}/a", f"{tmp_path}/b"))
    # A file of that name in the working folder is not what the loader takes.
    (tmp_path / "here" / "lib.so").write_bytes(b"")
    assert find_delegate("lib.so") is None
    assert None in fallback._library_state("lib.so")
    keys = []
    for folder in ("second", "first"):
        (tmp_path / folder / "lib.so").symlink_to(tmp_path / folder / "real.so")
        (tmp_path / folder / "real.so").write_bytes(b"a build")
        assert find_delegate("lib.so") == str(tmp_path / folder / "real.so")
        keys.append(fallback._library_state("lib.so"))
    (tmp_path / "first" / "real.so").write_bytes(b"a longer build")
    keys.append(fallback._library_state("lib.so:k=v"))
    os.utime(tmp_path / "first" / "real.so", ns=(1, 1))
    keys.append(fallback._library_state("lib.so:k=v"))
    assert all(None not in key and keys.count(key) == 1 for key in keys)
    assert find_delegate("./lib.so") == str(tmp_path / "here" / "lib.so")
    # Two of the system's: only the loader knows which.
    monkeypatch.delenv("LD_LIBRARY_PATH")
    for folder, found in (("a", str(tmp_path / "a" / "lib.so")), ("b", None)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "lib.so").write_bytes(b"")
        assert find_delegate("lib.so") == found


@pytest.mark.parametrize("accepted", [True, False])
def test_what_only_the_loader_finds_is_not_accepted_by_the_cache(
    accepted: bool, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file may have that name next time; a refusal costs speed alone, until the loader's list changes."""
    asked: list[str] = []

    def ask(model: object, name: str, is_delegate: bool, threads: int) -> fallback.Verdict:
        asked.append(name)
        return fallback.Verdict(name, accepted, "so", 1, 1, 0.0, 0.0, 1.0, 1.0)

    monkeypatch.setattr(fallback, "_probe", ask)
    for _ in range(2):
        first_accepted(open_model(U8), asked="auto", delegate="libnowhere.so")
    assert len(asked) == (2 if accepted else 1)
    monkeypatch.setattr(fallback, "LOADER_LIST", str(cache))
    first_accepted(open_model(U8), asked="auto", delegate="libnowhere.so")
    assert len(asked) == (3 if accepted else 2)


@needs_compiler
@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("FORKING", f"{validation.CRASHED} (signal SIGSEGV)"),
        ("FLOODING", "took no node"),
        ("GREEDY", "no memory"),
    ],
)
def test_a_delegate_that_takes_too_much(behaviour: str, why: str, cache: Path, tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    source = FIXTURES / "delegate.c"
    command = ["cc", "-shared", "-fPIC", "-O1", f"-DBEHAVIOUR={behaviour}", "-o", library, source]
    subprocess.run(command, check=True)
    started = time.monotonic()
    engine, (verdict,) = first_accepted(open_model(U8), asked="auto", delegate=str(library))
    assert time.monotonic() - started < SOON_S
    assert engine.accelerator == "cpu" and why in verdict.why
