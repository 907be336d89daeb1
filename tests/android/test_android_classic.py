"""The APK's own inference library, the x86-64 one, in a JVM: Android's libc is a shim, the rest is what ships.

`make apk` leaves what these tests run. Without it they are skipped, as they are where the library cannot run; except
under DERMEDGE_APK=1, which `make apk` sets: then they fail.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edge_runtime import Classifier
from edge_runtime.model.model_file import bundled_model_path
from tests.fixtures import FIXTURES, pictures
from tests.fixtures.make_models import draw_photo

pytestmark = [pytest.mark.java, pytest.mark.slow]

ASKED_FOR = "DERMEDGE_APK"
PHOTOS = 4
# Another release's kernels than Python's: a few steps of 1/256 for integers, the order of sums for floats.
SCORE_STEPS = {"tiny_uint8": 4 / 256, "tiny_int8": 4 / 256, "tiny_float32": 1e-3}
PT_DYNAMIC = 2
# DT_VERSYM, DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM: Android's versions are named LIBC, glibc's are not.
VERSION_TAGS = {0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF}


def without_symbol_versions(library: bytes) -> bytes:
    """A 64-bit ELF file whose dynamic section no longer speaks of versions."""
    data = bytearray(library)
    (headers,) = struct.unpack_from("<Q", data, 32)
    (count,) = struct.unpack_from("<H", data, 56)
    for header in range(headers, headers + 56 * count, 56):
        kind, _flags, offset, _address, _physical, size = struct.unpack_from("<IIQQQQ", data, header)
        if kind == PT_DYNAMIC:
            entries = [struct.unpack_from("<QQ", data, at) for at in range(offset, offset + size, 16)]
            kept = [entry for entry in entries if entry[0] not in VERSION_TAGS]
            assert len(kept) < len(entries)
            kept += [(0, 0)] * (len(entries) - len(kept))
            for place, entry in enumerate(kept):
                struct.pack_into("<QQ", data, offset + 16 * place, *entry)
    return bytes(data)


def require_this_machine() -> None:
    """Skips where the APK's x86-64 library cannot run; fails where the environment requires it."""
    machine = f"{platform.system()} {platform.machine()}"
    compiler = shutil.which("cc")
    if machine == "Linux x86_64" and compiler:
        return
    message = (
        f"NOT RUN: the APK's own library was not tried; found: {machine}, C compiler {compiler}; "
        "expected: Linux x86_64 and cc. Run apt-get install gcc libc6-dev, or run make apk on such a machine"
    )
    if os.environ.get(ASKED_FOR):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def phone(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """The command that runs ClassicAnswers on the APK's classes and library, and its environment."""
    require_this_machine()
    built = repository / "build" / "android" / "apk"
    library = built / "aar" / "jni" / "x86_64" / "libtensorflowlite_jni.so"
    if not os.environ.get(ASKED_FOR):
        pytest.skip("NOT RUN: what they run may be old or missing. Run make apk.")
    folder = tmp_path_factory.mktemp("phone")
    (folder / library.name).write_bytes(without_symbol_versions(library.read_bytes()))
    shim = folder / "libc.so"
    source = repository / "tests" / "fixtures" / "bionic.c"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", shim, source, "-lm", "-ldl"], check=True)
    for name in ("libm.so", "libdl.so", "liblog.so"):
        (folder / name).symlink_to(shim)
    jars = [built / "classes", built / "aar" / "classes.jar", built / "api" / "classes.jar"]
    classes = os.pathsep.join(map(str, [folder, *jars]))
    main = (
        repository / "android_sample/engine-classic/src/test/java/dermedge/engine/classic/ClassicAnswers.java"
    )
    subprocess.run(["javac", "-nowarn", "-cp", classes, "-d", folder, main], check=True)
    command = [
        "java",
        f"-Djava.library.path={folder}",
        "-cp",
        classes,
        "dermedge.engine.classic.ClassicAnswers",
    ]
    return command, {**os.environ, "LD_PRELOAD": str(shim), "LD_LIBRARY_PATH": str(folder)}


def run_phone(
    phone: tuple[list[str], dict[str, str]], model: Path, photos: Path
) -> subprocess.CompletedProcess[bytes]:
    command, environment = phone
    return subprocess.run(
        [*command, str(model), str(photos)], capture_output=True, env=environment, check=False
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(PHOTOS):
        photo = draw_photo(index, 200 + 30 * index, 150 + 40 * index)
        (folder / f"{index}.png").write_bytes(pictures.saved(photo, "PNG"))
    return folder


@pytest.mark.parametrize("name", [*SCORE_STEPS])
def test_it_answers_as_python_does(name: str, phone: tuple[list[str], dict[str, str]], photos: Path) -> None:
    model = FIXTURES / f"{name}.tflite"
    done = run_phone(phone, model, photos)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    check, *answers = map(json.loads, done.stdout.splitlines())
    assert check.startswith("self-test passed: 3 vectors"), check
    assert len(answers) == PHOTOS
    with Classifier.open(model, engine="litert-c") as classifier:
        for answer in answers:
            assert answer["engine"] == "tensorflow-lite 2.16.1"
            assert_close(answer, classifier, photos / answer["image"], SCORE_STEPS[name])


def test_the_bundled_model_gives_its_golden_answers(
    phone: tuple[list[str], dict[str, str]], photos: Path
) -> None:
    done = run_phone(phone, bundled_model_path(), photos)
    if b"the self-test failed" in done.stderr:
        # Its kernels are older than those that the tolerance was measured with.
        pytest.xfail("the APK refuses the bundled model. Convert it with a wider self-test tolerance.")
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    print(json.loads(done.stdout.splitlines()[0]))


def assert_close(answer: dict[str, Any], classifier: Classifier, photo: Path, allowed: float) -> None:
    expected = classifier.classify(photo).scores
    assert answer["scores"].keys() == expected.keys()
    for code, score in expected.items():
        assert abs(answer["scores"][code] - score) <= allowed, f"{photo.name}: {code}"


@pytest.mark.parametrize(("asked_for", "outcome"), [("1", "failed"), ("", "skipped")])
def test_without_a_compiler_they_fail_only_where_they_were_asked_for(
    asked_for: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ASKED_FOR, asked_for)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(BaseException, match="C compiler None") as raised:
        require_this_machine()
    assert raised.type is {"failed": pytest.fail.Exception, "skipped": pytest.skip.Exception}[outcome]
