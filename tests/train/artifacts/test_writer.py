"""One writer at a time: the second is refused by name, a killed one leaves nothing, a full disk is said in numbers."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.errors import DiskFull, RunBusy, RunInvalid
from edge_runtime.files import whole_file
from tests.train.training_runs import REPOSITORY
from train.artifacts import writer
from train.artifacts.writer import LOCK_FILE, require_space, sole_writer

HOLD = """
import sys
from pathlib import Path
from edge_runtime.files import whole_file
from train.artifacts.writer import sole_writer
run = Path(sys.argv[1])
with sole_writer(run), whole_file(run / "model.keras") as temporary:
    temporary.write_text("half")
    print("in", flush=True)
    sys.stdin.read()
"""


def holder(run: Path) -> subprocess.Popen[str]:
    """A process in the middle of a write."""
    command = [sys.executable, "-c", HOLD, str(run)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "in\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_the_second_writer_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    process = holder(tmp_path / "run")
    try:
        with pytest.raises(RunBusy) as caught, sole_writer(tmp_path / "run"):
            raise AssertionError
    finally:
        end(process)
    error = caught.value
    assert error.code == "run-busy" and isinstance(error, RunInvalid) and error.exit_status == 2
    assert error.where == str(tmp_path / "run")
    pid, host = f"process {process.pid} ", f"on {os.uname().nodename} since 20"
    assert error.found.startswith(pid + host) and error.found.endswith(f"-c {tmp_path / 'run'}")


def test_a_killed_writer_is_no_obstacle_and_what_it_left_is_removed(tmp_path: Path) -> None:
    run, left = tmp_path / "run", tmp_path / "run" / "checkpoints" / "ckpt-3_temp" / "part-00000"
    end(holder(run))
    assert {path.name.partition(".partial-")[0] for path in run.iterdir()} == {LOCK_FILE, ".model"}
    left.parent.mkdir(parents=True)
    left.touch()
    (run / "checkpoints" / "ckpt-2.index").touch()
    with sole_writer(run):
        assert not left.parent.exists()
        with whole_file(run / "run.json"):
            pass
    assert {path.name for path in run.rglob("*")} == {"run.json", "checkpoints", "ckpt-2.index"}


def test_a_block_within_another_is_refused_too(tmp_path: Path) -> None:
    with (
        sole_writer(tmp_path),
        pytest.raises(RunBusy) as caught,
        sole_writer(tmp_path / "." / ".." / tmp_path.name),
    ):
        raise AssertionError
    assert caught.value.found.startswith(f"process {os.getpid()} ")
    assert list(tmp_path.iterdir()) == []


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / LOCK_FILE).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError), sole_writer(tmp_path):
        raise AssertionError
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_file_system_without_locks_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    def unknown(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with sole_writer(tmp_path), whole_file(tmp_path / "a"):
        pass
    assert "Operation not supported" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("number", writer.FULL)
def test_a_full_disk_within_is_said_with_what_is_free(tmp_path: Path, number: int) -> None:
    for error in (
        OSError(number, os.strerror(number)),
        ValueError(f"ckpt-1; {os.strerror(number)} [Op:SaveV2]"),
    ):
        with pytest.raises(DiskFull) as caught, sole_writer(tmp_path):
            raise error
        assert caught.value.where == str(tmp_path) and "bytes free" in caught.value.found
    with pytest.raises(DiskFull) as caught, sole_writer(tmp_path / "removed"):
        (tmp_path / "removed" / LOCK_FILE).unlink()
        (tmp_path / "removed").rmdir()
        raise OSError(number, os.strerror(number))
    with pytest.raises(ValueError, match="other"), sole_writer(tmp_path):
        raise ValueError("other")


def test_what_does_not_fit_is_refused_before(tmp_path: Path) -> None:
    require_space(tmp_path, 1000)
    sparse = tmp_path / "sparse"
    sparse.touch()
    os.truncate(sparse, 10**12)
    require_space(tmp_path, 10**12 + 1000, sparse)
    with pytest.raises(DiskFull) as caught:
        require_space(tmp_path, 10**18)
    assert caught.value.code == "disk-full" and caught.value.expected == f"{10**18:,} bytes"
    assert caught.value.where == str(tmp_path)
