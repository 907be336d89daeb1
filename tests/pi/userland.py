"""arm64 userlands, and an emulator that runs them.

    python -m tests.pi.userland build/pi

Raspberry Pi OS is built on Debian: its bookworm has Python 3.11, its trixie has 3.13; about 15 MB each to download. The
emulator is trixie's QEMU 10 (70 MB): under bookworm's 7.2 ai-edge-litert 2.2 and later die in XNNPACK's set-up, an
emulator's fault.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.debian import HOST_ARCHITECTURES, fetch

EMULATOR = "usr/bin/qemu-aarch64"


@dataclass(frozen=True)
class Userland:
    """A Debian release as a Pi runs it, below one folder."""

    suite: str
    python: str
    """Its interpreter's name in usr/bin."""
    home: Path

    @property
    def root(self) -> Path:
        """Where its packages are unpacked."""
        return self.home / "files"

    @property
    def site(self) -> Path:
        """Where pip puts the runtime's wheels."""
        return self.home / "site"

    @property
    def interpreter(self) -> Path:
        """Its Python, an arm64 program."""
        return self.root / "usr" / "bin" / self.python


def userlands(folder: Path) -> tuple[Userland, ...]:
    """All that are tested, whether they are there or not."""
    return (
        Userland("bookworm", "python3.11", folder / "bookworm"),
        Userland("trixie", "python3.13", folder / "trixie"),
    )


def emulator(folder: Path) -> Path:
    """QEMU's arm64 program, statically linked; whether it is there or not."""
    return folder / "qemu" / "files" / EMULATOR


def prepare(folder: Path) -> None:
    """Fetches and unpacks what `userlands` and `emulator` name."""
    for userland in userlands(folder):
        fetch(userland.suite, "arm64", [userland.python, "libstdc++6"], userland.home)
    # 450 MB unpacked, of which one program of 8 MB is wanted; statically linked, so nothing else.
    fetch("trixie", HOST_ARCHITECTURES[os.uname().machine], ["qemu-user"], folder / "qemu", [EMULATOR])


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
