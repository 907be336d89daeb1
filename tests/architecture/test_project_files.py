"""CITATION.cff, SECURITY.md, continuous integration: they agree with the code and with each other."""

from __future__ import annotations

import re
from pathlib import Path

import edge_runtime
from tests.long_tier import QUARTERS

# Long tests run in their own job there, a quarter in each.
NIGHTLY = {"setup", "test-long"}


def _read(repository: Path, name: str) -> str:
    return (repository / name).read_text(encoding="utf-8")


def test_the_citation_has_the_version_and_no_address(repository: Path) -> None:
    text = _read(repository, "CITATION.cff")
    fields = dict(re.findall(r"^([a-z-]+): *(.+)$", text, re.M))
    assert fields["version"] == edge_runtime.__version__
    assert fields["title"] == '"DermEdge"'
    assert fields["license"] == "Apache-2.0"
    assert '- name: "DermEdge contributors"' in text
    assert "://" not in text


def test_paths_in_the_security_policy_exist_and_it_has_no_address(repository: Path) -> None:
    text = _read(repository, "SECURITY.md")
    paths = re.findall(r"`((?:edge_runtime|train|convert|locks)/[\w./]*)`", text)
    assert len(paths) >= 2
    assert [path for path in paths if not (repository / path).exists()] == []
    assert "@" not in text and "://" not in text
    assert re.search(r"private vulnerability reporting", text)


def test_the_workflow_runs_what_ci_runs(repository: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", _read(repository, "Makefile"), re.M))
    steps = re.findall(r"^ *step ([a-z-]+)", _read(repository, ".ci/run"), re.M)
    assert set(steps) <= targets
    fast, nightly = _read(repository, ".github/workflows/ci.yml").split("\n  nightly:\n")
    assert set(re.findall(r"run: make ([a-z-]+)", fast)) == set(steps) - {"test-long"}
    assert set(re.findall(r"run: make ([a-z-]+)", nightly)) == NIGHTLY
    assert f"quarter: {list(range(1, QUARTERS + 1))}" in nightly
    assert "hashFiles('locks/*.txt'" in fast and "hashFiles('locks/*.txt'" in nightly


def test_every_target_is_phony_and_described(repository: Path) -> None:
    text = _read(repository, "Makefile")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.M)
    targets = set(re.findall(r"^([a-z][a-z-]*):", text, re.M))
    assert len(targets) >= 20
    assert set(phony.split()) == targets
    described = set(re.findall(r"^([a-z][a-z-]*):.*## .+$", text, re.M))
    assert targets - described == {"test-long-python"}
