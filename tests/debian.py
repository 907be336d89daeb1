"""Debian's packages, fetched and unpacked without installing any; the host's package state is neither read nor changed.

    python -m tests.debian FOLDER SUITE ARCHITECTURE PACKAGE [FILE ...]

SUITE and ARCHITECTURE may be HOST: what this machine has.
Debian's own apt resolves, downloads and verifies, in a folder of its own, and no root is needed. With files, only these
are unpacked, of this package alone; else all of it, and of all that it depends on.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MIRROR_VARIABLE = "DERMEDGE_DEBIAN_MIRROR"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TOOLS = ("apt-get", "dpkg-deb", "tar")
HOST_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def check_tools() -> None:
    """Ends the program where there is no apt."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None] + [KEYRING] * (not KEYRING.exists())
    if missing:
        raise SystemExit(
            f"error: Debian packages: cannot be fetched here (got no {', '.join(map(str, missing))}). "
            "Run it on Debian, or on a system with apt, dpkg and debian-archive-keyring."
        )


def host_mirror() -> str:
    """Where this host's own apt finds its Debian release, which is where all the others are."""
    release = platform.freedesktop_os_release()
    shown = "$(CREATED_BY) $(RELEASE) $(COMPONENT) $(REPO_URI)"
    # Without the release's information it answers before any apt-get update too.
    command = ["apt-get", "indextargets", "--no-release-info", "--format", shown]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    wanted = f"Packages {release.get('VERSION_CODENAME')} main "
    found = [line.removeprefix(wanted) for line in listed if line.startswith(wanted)]
    if release.get("ID") != "debian" or not found:
        raise SystemExit(
            f"error: Debian mirror: not found (got {release.get('PRETTY_NAME')}, whose apt names none). "
            f"Set {MIRROR_VARIABLE} to the address of one."
        )
    return found[0]


def fetch(
    suite: str, architecture: str, packages: Sequence[str], home: Path, only: Sequence[str] = ()
) -> None:
    """Downloads packages with all that they depend on and unpacks them into `home`/files.

    Args:
        suite: A release: `trixie`.
        architecture: Debian's name of a processor: `arm64`.
        packages: Their names.
        home: Emptied first.
        only: Paths in the packages. Nothing else is unpacked then, and no dependency fetched.
    """
    check_tools()
    shutil.rmtree(home, ignore_errors=True)
    _download(suite, architecture, packages, home, alone=bool(only))
    files = home / "files"
    for name in ("bin", "sbin", "lib"):
        # Before unpacking, or programs would not find their loader: trixie's packages ship usr/lib alone.
        (files / "usr" / name).mkdir(parents=True)
        (files / name).symlink_to(f"usr/{name}")
    for package in sorted((home / "cache/archives").glob("*.deb")):
        # Not `dpkg -x`: it would put a folder in the place of a link.
        unpacked = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        wanted = [f"./{path}" for path in only]
        tar = ["tar", "--extract", "--keep-directory-symlink", "--no-same-owner", "--directory", files]
        _run([*tar, *wanted], unpacked)
    for name in ("cache", "state"):
        shutil.rmtree(home / name)


def _download(suite: str, architecture: str, packages: Sequence[str], home: Path, *, alone: bool) -> None:
    """As `fetch`, into `home`/cache/archives; verified by Debian's signature."""
    mirror = os.environ.get(MIRROR_VARIABLE) or host_mirror()
    for name in ("state/lists/partial", "cache/archives/partial"):
        (home / name).mkdir(parents=True)
    (home / "state/status").touch()
    (home / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {suite} main\n", encoding="utf-8")
    settings = {
        "Dir::State": home.resolve() / "state",
        "Dir::State::status": home.resolve() / "state/status",
        "Dir::Cache": home.resolve() / "cache",
        "Dir::Etc::SourceList": home.resolve() / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Debug::NoLocking": "true",
    }
    apt = ["apt-get", "--quiet", "--yes", *(f"-o{name}={value}" for name, value in settings.items())]
    _run([*apt, "update"])
    if alone:
        _run([*apt, "download", *packages], cwd=home / "cache/archives")
    else:
        _run([*apt, "install", "--download-only", *packages])


def _run(
    command: Sequence[str | Path], source: subprocess.Popen[bytes] | None = None, cwd: Path | None = None
) -> None:
    """Runs a command, reading what `source` writes; shows what it said only when it fails."""
    done = subprocess.run(
        command,
        stdin=source.stdout if source else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        cwd=cwd,
    )
    if done.returncode or (source is not None and source.wait()):
        said = done.stdout.decode("utf-8", "replace")[-3000:]
        raise SystemExit(
            f"error: {' '.join(map(str, command[:1]))} failed with status {done.returncode}\n{said}"
        )


def main() -> None:
    """See the module's docstring; FOLDER/files holds what was unpacked."""
    folder, suite, architecture, package, *files = sys.argv[1:]
    host = HOST_ARCHITECTURES[os.uname().machine]
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    fetch(suite.replace("HOST", release), architecture.replace("HOST", host), [package], Path(folder), files)


if __name__ == "__main__":
    main()
