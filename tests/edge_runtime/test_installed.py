"""The installed wheel in a confined place: no network, nothing writable, user nobody, no HOME, any locale.

`make wheel` installs the wheel into an empty environment and names it in DERMEDGE_INSTALLED. The command then runs in
namespaces of its own (Linux, root): a network that has no other end, and every mount read-only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime import Classifier
from tests.fixtures import pictures as p

INSTALLED = os.environ.get("DERMEDGE_INSTALLED")
TOOLS = ("unshare", "setpriv", "mount")
PHOTO = "점 사진 (1).jpg"
LOCALES = {
    "C": {"LC_ALL": "C"},
    "ASCII": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "Turkish": {"LC_ALL": "tr_TR.UTF-8"},
    "a locale that is not there": {"LC_ALL": "xx_YY.EUC-KR"},
}
# Nobody may look everywhere (and write nowhere): the checkout, or the Python of the environment, may lie in a home.
PREPARE = """
set -e
cd "$1"
shift
mount --make-rprivate /
sort -r /proc/self/mounts | while read -r _ place _; do
    mount -o remount,bind,ro "$(printf '%b' "$place")" 2>/dev/null || true
done
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all,+dac_read_search \
    --ambient-caps=-all,+dac_read_search --no-new-privs "$@"
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(INSTALLED is None, reason="the wheel is not installed. Run make wheel."),
    pytest.mark.skipif(
        sys.platform != "linux" or not hasattr(os, "geteuid") or os.geteuid() != 0,
        reason="namespaces need Linux and root",
    ),
    pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason="needs util-linux"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    allowed = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False)
    if allowed.returncode != 0:
        pytest.skip("this container allows no namespaces. Run it with CAP_SYS_ADMIN.")
    folder = tmp_path_factory.mktemp("photos")
    (folder / PHOTO).write_bytes(p.jpeg(600, 450))
    (folder / PHOTO).chmod(0o644)
    folder.chmod(0o755)
    return folder


def confined(photos: Path, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the installed environment there, with nothing else in its own environment."""
    namespaces = ["unshare", "--mount", "--net", "sh", "-c", PREPARE, "sh"]
    clean = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
    program, *arguments = command
    installed = str(Path(INSTALLED or "").resolve() / "bin" / program)
    return subprocess.run(
        [*namespaces, str(photos), *clean, installed, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_place_is_as_confined_as_it_claims(photos: Path) -> None:
    script = """
import errno, os, socket
for folder in ("/", "/tmp", "/dev/shm", "/var/tmp", "."):
    try:
        open(folder + "/written", "w")
    except OSError as error:
        if error.errno in (errno.EROFS, errno.ENOENT):
            continue
        raise
    raise SystemExit(folder + " can be written")
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except OSError as error:
    print(os.getuid(), sorted(os.environ), "HOME" in os.environ, error.strerror)
"""
    ran = confined(photos, {}, "python", "-c", script)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("65534 [] False ") or ran.stdout.startswith("65534 ['LC_CTYPE'] False ")
    assert "unreachable" in ran.stdout


def test_the_installed_commands(photos: Path) -> None:
    ran = confined(photos, {}, "edge-classify", "--schema")
    assert ran.returncode == 0 and json.loads(ran.stdout)["$defs"]["prediction"]
    ran = confined(photos, {}, "dermedge", "check")
    assert ran.returncode == 0 and ran.stdout.startswith("self-test passed")
    ran = confined(photos, {}, "dermedge", "train", "config.toml")
    assert ran.returncode == 3 and "train is not installed" in ran.stderr


@pytest.mark.parametrize("locale", LOCALES)
def test_one_photo_is_classified_there(photos: Path, locale: str) -> None:
    ran = confined(photos, LOCALES[locale], "edge-classify", "--json", PHOTO)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    line = json.loads(ran.stdout)
    assert os.fsencode(line["image"]).decode() == PHOTO
    with Classifier.open() as classifier:
        assert line["scores"] == classifier.classify(photos / PHOTO).scores


@pytest.mark.parametrize("locale", LOCALES)
def test_text_and_accelerators_work_there_too(photos: Path, locale: str) -> None:
    """Validation of an accelerator works without a cache folder."""
    command = ["edge-classify", "--accelerator", "edgetpu", "--self-check", PHOTO]
    ran = confined(photos, LOCALES[locale], *command)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) >= 2 and "self-test passed" in ran.stderr
    assert "skipped edgetpu" in ran.stderr
