"""LiteRT's C API: its memory, its versions, and libraries that must not be called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.engines import litert_c, open_engine, probe, validation
from edge_runtime.errors import (
    InterpreterBroken,
)
from edge_runtime.model.model_file import open_model
from edge_runtime.model.zip_tail import ZipTail
from tests.edge_runtime.engines.test_engines import first_input
from tests.fixtures import FIXTURES
from tests.fixtures.bad_models import good, with_contract

# Enough to show a leak of the model's bytes (10 KB) or of LiteRT's own structures (some 100 KB a model).
OPENINGS = 200
LEAK_MIB = 8.0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_c_api_frees_its_memory() -> None:
    def resident_mib() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def cycle(count: int) -> None:
        for _ in range(count):
            engine = open_engine(good(), engine="litert-c")
            engine.run(bytes(engine.input.nbytes))
            engine.close()

    cycle(20)
    before = resident_mib()
    cycle(OPENINGS)
    assert resident_mib() - before < LEAK_MIB


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's checking allocator is Linux's")
def test_another_allocator_may_be_preloaded() -> None:
    code = (
        "from edge_runtime.engines.litert_c import LiteRtC; from tests.fixtures.bad_models import good\n"
        "for _ in range(20): LiteRtC(good()).close()"
    )
    checking = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=FIXTURES.parents[1],
        env={**os.environ, **checking},
        capture_output=True,
    )
    assert ran.returncode == 0


def test_an_unaligned_model_is_copied_to_an_aligned_place(monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(FIXTURES / "tiny_float32.tflite")
    engine = open_engine(model.data, engine="litert-c")
    expected = engine.run(first_input(model, engine))
    monkeypatch.setattr(litert_c, "MODEL_ALIGNMENT", 4096)  # no bytes object lies so
    copied = open_engine(model.data, engine="litert-c")
    assert copied.run(first_input(model, copied)) == expected


def untested(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Make the installed release an untested one; return where validation results are cached."""
    monkeypatch.setattr(litert_c, "_installed_version", lambda _: "9.9.9")
    monkeypatch.setattr(validation, "_known", {})
    monkeypatch.setenv(validation.CACHE_VARIABLE, str(folder))
    return folder / "dermedge"


def test_an_untested_release_is_accepted_by_the_self_test(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = untested(monkeypatch, tmp_path)
    expected = open_engine(good(), engine="litert").run(bytes(24 * 32 * 3))
    engine = open_engine(good())
    assert (engine.name, engine.skipped) == ("litert-c 9.9.9", ())
    assert engine.run(bytes(24 * 32 * 3)) == expected
    (kept,) = cache.iterdir()
    assert kept.read_text() == "ok"
    # Once a process; from the cache in the next one; another model is another test.
    monkeypatch.setattr(validation, "run_probe", lambda *_: pytest.fail("validated again"))
    assert open_engine(good()).name == "litert-c 9.9.9"
    validation._known.clear()
    assert open_engine(good()).name == "litert-c 9.9.9"
    monkeypatch.setattr(validation, "run_probe", lambda *_: ("ok", ""))
    open_engine(good("tiny_float32.tflite"))
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (("golden_0.png: outputs differ", ""), "golden_0.png: outputs differ"),
        (("", "it crashed its validation process (signal SIGSEGV)"), "it crashed its validation process"),
    ],
)
def test_an_untested_release_that_fails_the_self_test_is_skipped(
    answer: tuple[str, str], found: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = untested(monkeypatch, tmp_path)
    monkeypatch.setattr(validation, "run_probe", lambda *_: answer)
    with pytest.raises(InterpreterBroken) as caught:
        open_engine(good(), engine="litert-c")
    assert caught.value.found.startswith(found)
    monkeypatch.setattr(validation, "run_probe", lambda *_: pytest.fail("validated again"))
    validation._known.clear()
    engine = open_engine(good())
    assert engine.name.startswith("litert ")
    assert engine.skipped == ("litert-c: the C API of ai-edge-litert 9.9.9 fails the model's self-test",)
    assert len(list(cache.iterdir())) == 1


def test_a_validation_that_cannot_start_is_not_cached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = untested(monkeypatch, tmp_path)
    monkeypatch.setattr(sys, "executable", "/none/python")
    assert open_engine(good()).name.startswith("litert ")
    assert not cache.exists()


def test_the_self_test_of_the_c_api() -> None:
    assert probe.probe_c_api(good()) == "ok"
    # Without a contract it is run once.
    data = good()
    assert probe.probe_c_api(data[: ZipTail(data, "m").start]) == "ok"
    altered = with_contract(data, lambda contract: contract["golden"][0]["output"].reverse())
    assert probe.probe_c_api(altered).startswith("golden_0.png: outputs differ by ")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("lacking", ["LiteRtCompiledModelIsNonCpuFullyAccelerated", "LiteRtDestroyModel"])
def test_an_old_library_without_a_function_is_skipped(
    lacking: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As ai-edge-litert 2.1.6 and 2.2.0; its other functions would crash if they were called."""
    functions = {*litert_c._FUNCTIONS, *(f"LiteRtDestroy{thing}" for thing in litert_c._DESTROYERS)} - {
        lacking
    }
    source, library = tmp_path / "old.c", tmp_path / "libLiteRt.so"
    body = "{ __builtin_trap(); }\n"
    source.write_text("".join(f"int {name}(void) {body}" for name in sorted(functions)))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setattr(litert_c, "find_library", lambda: (str(library), "2.2.0"))
    with pytest.raises(InterpreterBroken) as caught:
        open_engine(good(), engine="litert-c")
    assert lacking in caught.value.found
    engine = open_engine(good())
    assert engine.name.startswith("litert ")
    assert engine.skipped == ("litert-c: this LiteRT library lacks a function of the C API",)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_library_of_another_abi_crashes_the_child_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It exports everything, and the first call ends the process."""
    untested(monkeypatch, tmp_path / "cache")
    functions = {*litert_c._FUNCTIONS, *(f"LiteRtDestroy{thing}" for thing in litert_c._DESTROYERS)}
    package = tmp_path / "site" / litert_c.PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "site" / "ai_edge_litert-9.9.9.dist-info").mkdir()
    source = tmp_path / "other.c"
    source.write_text("".join(f"int {name}(void) {{ __builtin_trap(); }}\n" for name in sorted(functions)))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", package / litert_c.LIBRARY, source], check=True)
    monkeypatch.setattr(litert_c, "_package_folder", lambda: str(package))
    monkeypatch.syspath_prepend(str(package.parent))
    with pytest.raises(InterpreterBroken) as caught:
        open_engine(good(), engine="litert-c")
    assert caught.value.found.startswith("it crashed its validation process (signal SIG")


def test_the_version_comes_from_the_dist_info_beside_the_package(tmp_path: Path) -> None:
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    assert litert_c._installed_version(str(package)) == ""
    nightly = tmp_path / "ai_edge_litert_nightly-2.4.0.dev20261026.dist-info"
    nightly.mkdir()
    assert litert_c._installed_version(str(package)) == "2.4.0.dev20261026"
    # Two of them: the library may belong to either.
    (tmp_path / "ai_edge_litert-2.3.0.dist-info").mkdir()
    assert litert_c._installed_version(str(package)) == ""
    nightly.rmdir()
    (tmp_path / "ai_edge_litert_other-1.0.dist-info").mkdir()
    assert litert_c._installed_version(str(package)) == "2.3.0"


def test_a_library_that_is_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "libLiteRt.so"
    fake.write_bytes(b"not an ELF")
    monkeypatch.setattr(litert_c, "find_library", lambda: (str(fake), "2.3.0"))
    with pytest.raises(InterpreterBroken) as caught:
        open_engine(good(), engine="litert-c")
    assert caught.value.found
    assert open_engine(good()).name.startswith("litert ")
