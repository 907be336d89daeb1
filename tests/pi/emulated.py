"""Programs of an arm64 userland on this machine, as a given processor, and the memory that they take. Linux only.

QEMU's user mode translates the program and hands its system calls to this kernel. The guest's memory lies in the
emulator's own address space, at the same addresses (guest_base 0 on a 64-bit host), so what belongs to the guest can be
separated from what the emulator needs for itself.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.pi.userland import Userland, emulator

PROCESSORS = {"cortex-a72": 0xD08, "cortex-a76": 0xD0B}
"""Of the Raspberry Pi 4 and 5, with the part number that /proc/cpuinfo shows there."""
SAMPLE_S = 0.05
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)")


@dataclass(frozen=True)
class Board:
    """A userland on a processor."""

    folder: Path
    """Where `userland` put everything."""
    userland: Userland
    processor: str

    def __str__(self) -> str:
        return f"{self.userland.suite} on {self.processor}"

    def command(self, *arguments: str | Path) -> list[str]:
        """Python with these arguments on this board. -P: nothing of the folder where it is started is imported."""
        emulated = [emulator(self.folder), "-cpu", self.processor, "-L", self.userland.root]
        return [str(part) for part in (*emulated, self.userland.interpreter, "-P", *arguments)]

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs Python there, with nothing of this host's environment."""
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, check=False, env=self.environment
        )

    def run_measured(self, *arguments: str | Path) -> tuple[subprocess.CompletedProcess[str], float]:
        """As `run`; and the largest resident memory of the guest that was seen, in MiB, the emulator's own left out."""
        command = self.command(*arguments)
        peak_kib = 0
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment
        ) as child:
            while child.poll() is None:
                peak_kib = max(peak_kib, guest_kib(child.pid, emulator(self.folder)))
                time.sleep(SAMPLE_S)
            said = child.communicate()
        return subprocess.CompletedProcess(command, child.returncode, *said), peak_kib / 1024

    @property
    def environment(self) -> dict[str, str]:
        """What the emulated program sees."""
        return {"PYTHONPATH": str(self.userland.site), "LANG": "C.UTF-8"}


def guest_kib(pid: int, program: Path) -> int:
    """Resident memory of an emulated program in KiB; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return count_guest_kib(text, str(program.resolve()))


def count_guest_kib(smaps: str, program: str) -> int:
    """As `guest_kib`, from the text of smaps.

    The emulator's own are its file and what follows it without a name, its heap and stack, the kernel's pages, and
    the memory into which it writes translated code, the only one that is writable and executable. The 2 MiB
    that it needs for a second thread cannot be separated from the guest's, and count.
    """
    total, mine, last_end, after_program = 0, False, 0, False
    for line in smaps.splitlines():
        mapping = _MAPPING.match(line)
        if mapping:
            first, end, access, name = int(mapping[1], 16), int(mapping[2], 16), mapping[3], mapping[4]
            after_program = name == program or (after_program and not name and first == last_end)
            mine = after_program or "wx" in access or name.startswith("[")
            last_end = end
        elif line.startswith("Rss:") and not mine:
            total += int(line.split()[1])
    return total


def installed_mib(folder: Path) -> float:
    """Size of the files in a folder, in MiB; what Python compiles there when it is first used is left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return sum(path.stat().st_size for path in files) / 2**20


def boards(folder: Path, all_userlands: Sequence[Userland]) -> list[Board]:
    """Every userland on every processor."""
    return [Board(folder, userland, name) for userland in all_userlands for name in PROCESSORS]
