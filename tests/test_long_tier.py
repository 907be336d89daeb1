from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests import long_tier
from tests.long_tier import LONG_PATHS, MAX_QUARTER_S, QUARTERS, UNITS, Unit, cost_s, quarters


def test_every_unit_is_in_one_quarter_and_the_quarters_are_balanced() -> None:
    shares = quarters()
    assert len(shares) == QUARTERS
    assert sorted(unit.name for share in shares for unit in share) == sorted(unit.name for unit in UNITS)
    costs = [cost_s(share) for share in shares]
    assert max(costs) <= MAX_QUARTER_S
    assert min(costs) > max(costs) / 2


def test_units_are_targets_of_the_makefile(repository: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(encoding="utf-8"), re.M))
    assert {unit.words[0] for unit in UNITS} <= targets


def test_every_unit_has_long_tests(repository: Path) -> None:
    for name in LONG_PATHS:
        path = repository / name
        files = [path] if path.is_file() else sorted(path.rglob("test_*.py"))
        assert "experiments" in path.parts or any("mark.long" in file.read_text() for file in files), name


def test_the_commit_chooses(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (repository / ".git").exists():
        pytest.skip("not a git checkout")
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.strip()
    index = long_tier.chosen_quarter("commit")
    assert index == int(head[-1], 16) % QUARTERS
    assert long_tier.main(["--quarter", "commit", "--list"]) == 0
    printed = capsys.readouterr().out
    assert f"quarter {index + 1} of {QUARTERS}" in printed
    assert printed.count("  make ") == len(quarters()[index])
    with pytest.raises(ValueError, match="5"):
        long_tier.chosen_quarter("5")


def test_all_units_run_and_one_that_fails_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def fake(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, int("b" in command))

    monkeypatch.setattr(long_tier, "UNITS", (Unit(("a",), 3), Unit(("b", "X=1"), 2), Unit(("c",), 1)))
    monkeypatch.setattr(long_tier.quarters, "__defaults__", (long_tier.UNITS,))
    monkeypatch.setattr(long_tier.subprocess, "run", fake)
    assert long_tier.main([]) == 1
    assert ran == [["make", "a"], ["make", "b", "X=1"], ["make", "c"]]
    assert re.findall(r"^FAILED: (.*)$", capsys.readouterr().out, re.M) == ["make b X=1"]
