"""The documents tell the truth: commands, targets, paths, version."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

import edge_runtime

ENGLISH, KOREAN = "README.md", "README.ko.md"


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def _commands(text: str) -> list[str]:
    """The lines of all bash blocks without their comments, which are translated."""
    lines = [
        re.sub(r"(^|\s+)#.*$", "", line).rstrip()
        for block in _blocks(text, "bash")
        for line in block.splitlines()
    ]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / ENGLISH).read_text(encoding="utf-8")


def test_the_korean_readme_has_the_same_commands(repository: Path, readme: str) -> None:
    korean = (repository / KOREAN).read_text(encoding="utf-8")
    assert len(_commands(readme)) >= 10
    assert _commands(korean) == _commands(readme)
    for language in ("python", "json"):
        assert len(_blocks(korean, language)) == len(_blocks(readme, language))
    assert len(re.findall(r"^#+ ", korean, re.M)) == len(re.findall(r"^#+ ", readme, re.M))


def test_every_make_target_that_a_document_names_exists(repository: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(encoding="utf-8"), re.M))
    assert {
        "demo",
        "test",
        "pipeline",
        "check",
        "wheel",
        "bench",
        "setup",
        "lock",
        "clean",
        "help",
    } <= targets
    for name in (ENGLISH, KOREAN, "CONTRIBUTING.md", "tests/README.md", "train/README.md", ".ci/run"):
        text = (repository / name).read_text(encoding="utf-8")
        code = "\n".join(
            re.findall(r"`([^`\n]+)`", text) + _blocks(text, "bash") + [text if name == ".ci/run" else ""]
        )
        named = set(re.findall(r"\bmake ([a-z-]+)", code))
        assert named <= targets, f"{name} names {sorted(named - targets)}"


def test_paths_in_the_readme_exist(repository: Path, readme: str) -> None:
    packages = "train|convert|edge_runtime|tests|android_sample|locks"
    named = set(re.findall(rf"(?<![\w/.-])((?:{packages})/[\w./-]*\w)", readme))
    assert len(named) >= 4
    assert [path for path in sorted(named) if not (repository / path).exists()] == []
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", readme)
    assert len(links) >= 3
    assert [link for link in links if not (repository / link).exists()] == []


def test_options_in_the_readme_exist(repository: Path, readme: str) -> None:
    known: dict[str, str] = {}
    checked = 0
    for command in _commands(readme):
        words = shlex.split(command)
        if words[0].endswith("edge-classify"):
            program = [sys.executable, "-m", "edge_runtime"]
        elif words[0] == "dermedge":
            program = [sys.executable, "-m", *words[: 3 if words[1] == "experiment" else 2]]
        else:
            continue
        key = " ".join(program)
        if key not in known:
            done = subprocess.run(
                [*program, "--help"], cwd=repository, capture_output=True, text=True, check=True
            )
            known[key] = done.stdout
        for option in (word.partition("=")[0] for word in words if re.match(r"--\w", word)):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", known[key]), f"{command}: no option {option}"
            checked += 1
    assert checked >= 3


def test_the_json_example_has_the_fields_of_a_real_answer(
    repository: Path, readme: str, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    Image.linear_gradient("L").convert("RGB").save(photo)
    model = repository / "tests/fixtures/tiny_uint8.tflite"
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime", "--model", str(model), "--json", str(photo)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    (block,) = _blocks(readme, "json")
    example = json.loads(block)
    assert list(example) == list(answer)
    for part in ("elapsed_ms", "runtime"):
        assert list(example[part]) == list(answer[part])
    # The example adds up, as real answers do; four digits are shown.
    assert sum(example["scores"].values()) == pytest.approx(1, abs=5e-4)
    assert sum(example["groups"].values()) == pytest.approx(1, abs=5e-4)


def test_ci_runs_what_the_readme_promises(repository: Path, readme: str) -> None:
    script = (repository / ".ci/run").read_text(encoding="utf-8")
    steps = re.findall(r"^ *step ([a-z-]+)", script, re.M)
    promised = set(re.findall(r"^make ([a-z-]+)", "\n".join(_commands(readme)), re.M)) - {"setup"}
    assert {"demo", "test"} <= promised <= set(steps)
    assert "check" in steps
    assert "set -euo pipefail" in script


def test_the_readme_says_what_it_is_not(readme: str) -> None:
    beginning = readme[:1200]
    assert "not a medical device" in beginning
    assert "make demo" in beginning
    assert "make test" in beginning


def test_version_changelog_and_project_agree(repository: Path) -> None:
    changelog = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.M)
    assert released, "CHANGELOG.md has no version"
    assert edge_runtime.__version__ == released[0]
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "edge_runtime/__init__.py"


def test_the_changelog_speaks_of_model_and_contract(repository: Path) -> None:
    changelog = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.split(r"^## \[\d", changelog, flags=re.M)[1]
    # A new model changes answers even when no code does, and a new schema decides which files open at all.
    for heading in ("### Model", "### Contract"):
        assert heading in newest


def test_every_test_file_that_the_makefile_names_exists(repository: Path) -> None:
    named = set(re.findall(r"tests/[\w/]+\.py", (repository / "Makefile").read_text(encoding="utf-8")))
    assert len(named) >= 5
    assert [path for path in sorted(named) if not (repository / path).exists()] == []
