"""The built wheel on Raspberry Pi OS's userlands, as a Pi 4 and a Pi 5 under QEMU, against this desktop.

`make test-pi` fetches and installs what this needs, sets DERMEDGE_PI to the folder where it lies, and prints the
report.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import PIL
import pytest

from edge_runtime import Classifier
from edge_runtime.batch import available_cores
from edge_runtime.diagnostics.parity import main as parity
from tests.pi.agreement import agreement, read_record
from tests.pi.emulated import PROCESSORS, Board, boards, installed_mib
from tests.pi.photos import PHOTOS, draw_photos, real_photos
from tests.pi.userland import userlands

FOLDER = Path(os.environ.get("DERMEDGE_PI", "build/pi")).resolve()
BOARDS = boards(FOLDER, userlands(FOLDER))
# Of the guest alone: its Python, Pillow, LiteRT and the model. A Pi Zero 2 has 512 MB; the desktop takes 34 MiB.
MEMORY_LIMIT_MIB = 64.0
# What pip puts beside Python: numpy and protobuf, which ai-edge-litert demands, are two thirds of it.
INSTALL_LIMIT_MIB = 160.0
# A guest that seems smaller than a bare Python was not seen: the harness reads the wrong process.
SMALLEST_PYTHON_MIB = 8.0
INTERPRETER_PHOTOS = 3
SELF_CHECK_HOLDS = "self-test passed: "
PROBE = """
import json, os, platform, sys, edge_runtime, PIL
lines = [line.split(":")[1] for line in open("/proc/cpuinfo") if line.startswith("CPU part")]
print(json.dumps({"python": platform.python_version(), "machine": platform.machine(), "pillow": PIL.__version__,
    "libc": os.confstr("CS_GNU_LIBC_VERSION"), "part": int(lines[0], 16), "package": edge_runtime.__file__}))
"""

pytestmark = [pytest.mark.pi, pytest.mark.slow]
every_board = pytest.mark.parametrize("board", BOARDS, ids=str)


def recorded(board: Board, photos: list[Path], out: Path, *options: str) -> Path:
    """All photos in one emulated process: starting one costs as much as five photos."""
    ran = board.run("-m", "dermedge", "parity", "record", *options, *photos, "--out", out)
    assert ran.returncode == 0, ran.stderr
    return out


def recorded_everywhere(photos: list[Path], folder: Path) -> dict[str, Path]:
    """By board, and of the `desktop`; side by side, because an emulated process uses one core."""
    here = folder / "desktop.jsonl"
    assert parity(["record", *map(str, photos), "--out", str(here)]) == 0
    with ThreadPoolExecutor(available_cores()) as pool:
        found = {
            str(board): pool.submit(recorded, board, photos, folder / f"{board}.jsonl") for board in BOARDS
        }
        return {"desktop": here, **{board: record.result() for board, record in found.items()}}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    drawn = draw_photos(tmp_path_factory.mktemp("photos"))
    assert len(drawn) == PHOTOS
    return drawn


@pytest.fixture(scope="module")
def drawn_records(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return recorded_everywhere(photos, tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def real_records(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return recorded_everywhere(real_photos(data_root), tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="module")
def report() -> Iterator[dict[str, dict[str, Any]]]:
    """Figures by board; written down after the last test."""
    found: dict[str, dict[str, Any]] = {str(board): {} for board in BOARDS}
    yield found
    lines = [
        f"{board}: {', '.join(f'{k} {v}' for k, v in figures.items())}" for board, figures in found.items()
    ]
    (FOLDER / "report.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@every_board
def test_it_is_the_board_that_it_claims_to_be(board: Board, report: dict[str, dict[str, Any]]) -> None:
    ran = board.run("-c", PROBE)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert f"python{found['python']}".startswith(board.userland.python + ".")
    assert (found["machine"], found["part"]) == ("aarch64", PROCESSORS[board.processor])
    assert found["pillow"] == PIL.__version__, "another Pillow than here: pixels may differ"
    assert Path(found["package"]).is_relative_to(board.userland.site), "not the installed wheel"
    report[str(board)].update(python=found["python"], libc=found["libc"])


def hold_against_desktop(records: dict[str, Path], board: Board) -> str:
    """Asserts that every stage of every photo is the desktop's; returns what to report."""
    found = agreement(read_record(records["desktop"]), read_record(records[str(board)]))
    assert found.problems == ()
    assert (found.photos, found.same_label, found.same_input) == (PHOTOS, PHOTOS, PHOTOS)
    return f"{found.same_label} of {found.photos} (largest difference {found.largest_steps:g} steps)"


@every_board
def test_fifty_photos_of_every_kind_get_the_desktop_s_answer(
    board: Board, drawn_records: dict[str, Path], report: dict[str, dict[str, Any]]
) -> None:
    report[str(board)]["drawn photos"] = hold_against_desktop(drawn_records, board)


@pytest.mark.real_data
@every_board
def test_fifty_real_photos_get_the_desktop_s_answer(
    board: Board, real_records: dict[str, Path], report: dict[str, dict[str, Any]]
) -> None:
    report[str(board)]["real photos"] = hold_against_desktop(real_records, board)


@every_board
def test_the_installed_command_answers_checks_itself_and_stays_small(
    board: Board, photos: list[Path], report: dict[str, dict[str, Any]]
) -> None:
    photo = next(path for path in photos if path.name.startswith("lesion_"))
    command = board.userland.site / "bin" / "edge-classify"
    checked = board.run(command, "--self-check")
    assert checked.returncode == 0 and checked.stdout.startswith(SELF_CHECK_HOLDS), checked.stderr
    ran, memory_mib = board.run_measured(command, "--json", photo)
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    with Classifier.open() as classifier:
        owed = classifier.classify(photo).to_dict()
    assert answer["runtime"]["engine"] == owed["runtime"]["engine"]
    for field in ("model", "label", "scores", "groups", "decision"):
        assert answer[field] == owed[field]
    assert SMALLEST_PYTHON_MIB < memory_mib < MEMORY_LIMIT_MIB
    installed = installed_mib(board.userland.site)
    assert installed < INSTALL_LIMIT_MIB
    report[str(board)].update({"memory": f"{memory_mib:.0f} MiB", "installed": f"{installed:.0f} MiB"})


@pytest.mark.parametrize("board", BOARDS[:: len(PROCESSORS)], ids=str)
def test_the_interpreter_with_numpy_gives_the_same(board: Board, photos: list[Path], tmp_path: Path) -> None:
    few = photos[-INTERPRETER_PHOTOS:]
    here = tmp_path / "here.jsonl"
    assert parity(["record", *map(str, few), "--out", str(here)]) == 0
    there = recorded(board, few, tmp_path / "there.jsonl", "--engine", "litert")
    found = agreement(read_record(here), read_record(there))
    assert found.problems == () and found.same_label == INTERPRETER_PHOTOS
