"""Large photos where memory is short: each is answered or carries its error, and workers do not multiply memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.edge_runtime.cli.test_cli import ENVIRONMENT, U8
from tests.fixtures import pictures as p

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is counted otherwise elsewhere")
LONG = [pytest.mark.long, pytest.mark.slow]
# Limits its own address space, says what is free, runs the command line and reports the peak.
SCRIPT = """
import resource, sys
limit_kib, free_mib = map(int, sys.argv[1:3])
if limit_kib:
    resource.setrlimit(resource.RLIMIT_AS, (limit_kib * 1024, limit_kib * 1024))
from edge_runtime.cli.command import main
from edge_runtime.images import memory
if free_mib:
    memory.free_bytes = lambda: free_mib * 1024**2
status = main(sys.argv[3:])
# Not ru_maxrss, which counts what pytest held before the process began.
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak) * 1024, file=sys.stderr)
sys.exit(status)
"""


def measured(limit_kib: int, free_mib: int, *words: str) -> tuple[dict[str, str], int]:
    """Return the decision or error of every photo by its name, and the peak of resident memory in bytes."""
    command = [sys.executable, "-c", SCRIPT, str(limit_kib), str(free_mib), "--json", "--model", U8, *words]
    ran = subprocess.run(command, capture_output=True, check=False, env=ENVIRONMENT, timeout=240)
    assert ran.returncode in (0, 1) and b"Traceback" not in ran.stderr, ran.stderr.decode()
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    found = {Path(row["image"]).name: row.get("decision") or row["error"]["code"] for row in rows}
    return found, int(ran.stderr.splitlines()[-1])


def photos(folder: Path, size_px: tuple[int, int], format_name: str, **options: object) -> list[str]:
    """Four photos of that size, and a small one."""
    (folder / "small.jpg").write_bytes(p.jpeg())
    first = folder / f"0.{format_name}"
    picture = Image.new("RGB", size_px, (200, 150, 130))
    picture.paste((90, 60, 50), (0, 0, size_px[0] // 2, size_px[1] // 2))
    picture.save(first, format_name, **options)
    for index in range(1, 4):
        (folder / f"{index}.{format_name}").hardlink_to(first)
    return sorted(map(str, folder.iterdir()))


@pytest.mark.parametrize("threads", ["1", "4"])
@pytest.mark.parametrize(
    ("size_px", "limit_kib"),
    [((5000, 4000), 450_000), pytest.param((12_000, 9000), 1_500_000, marks=LONG)],
    ids=["20 MP", "108 MP"],
)
def test_a_limit_of_memory_costs_large_photos_alone(
    size_px: tuple[int, int], limit_kib: int, threads: str, tmp_path: Path
) -> None:
    names = photos(tmp_path, size_px, "png", compress_level=1)
    found, _ = measured(limit_kib, 0, "--threads", threads, *names)
    assert len(found) == 5 and found.pop("small.jpg") in ("answer", "refer", "not_a_lesion")
    assert set(found.values()) <= {"answer", "refer", "not_a_lesion", "out_of_memory"}


@pytest.mark.parametrize(
    ("size_px", "most_bytes"),
    [((4000, 3000), 700_000_000), pytest.param((8000, 6000), 1_100_000_000, marks=LONG)],
    ids=["12 MP", "48 MP"],
)
def test_workers_take_turns_at_large_photos(
    size_px: tuple[int, int], most_bytes: int, tmp_path: Path
) -> None:
    """On a machine of 4 GB, of which 3 are free."""
    names = photos(tmp_path, size_px, "webp", method=0)
    found, peak_bytes = measured(0, 3072, "--threads", "4", *names)
    assert "out_of_memory" not in found.values() and peak_bytes < most_bytes
    found, peak_bytes = measured(0, 3072, "--threads", "4", "--max-memory", "200", *names)
    large = size_px[0] * size_px[1] * 12 > 200 * 1024**2
    assert (list(found.values()).count("out_of_memory") == 4) is large and peak_bytes < 300_000_000
