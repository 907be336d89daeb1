"""How commands end: what stderr says, and the exit status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import train.__main__ as train_command
from edge_runtime.errors import EdgeError, ImageNotFound, RunInvalid
from train.artifacts.command import EXIT_INTERRUPTED, NOTHING_WRITTEN, RESUMES, command_parser, run_command
from train.data import init
from train.data.synthetic import dataset as phantom
from train.dossier import page as dossier
from train.experiments import embedding, external, features, hierarchy, record, soup, study, teach
from train.experiments import weights_from_pypi as published_lite
from train.reports import explore, report
from train.training import crossval

# Every command of the room, with arguments that its parser takes.
COMMANDS = {
    train_command: ["config.toml", "--workdir", "run"],
    crossval: ["config.toml", "--workdir", "folds"],
    dossier: ["folds"],
    embedding: ["run", "--out", "places.json"],
    explore: ["run"],
    external: ["run", "--reader", "csv", "--data", "photos"],
    features: ["run", "--out", "features.npz"],
    init: ["--data", "photos", "--out", "project"],
    hierarchy: ["features.npz", "--out", "hierarchy.json"],
    phantom: ["--out", "photos"],
    published_lite: ["package.whl", "--out", "weights"],
    record: ["run", "--out", "record"],
    report: ["run"],
    soup: ["config.toml", "run", "--workdir", "mean"],
    study: ["study.toml", "--workdir", "variants"],
    teach: ["folds", "--out", "soft.csv.gz"],
}


def failing(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize("status", [0, 1])
def test_what_ends_well_says_nothing(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: status, interrupted=RESUMES, after_os_error="; lost") == status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error",
    [RunInvalid("x: no run", found="a file", fix="take a run"), ImageNotFound("y.jpg: no such photo")],
)
def test_an_error_of_the_house_has_its_own_status(
    error: EdgeError, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(failing(error), interrupted=RESUMES, after_os_error="; lost") == error.exit_status
    assert capsys.readouterr() == ("", f"error: {error.message}\n")


def test_an_error_of_the_system_says_what_it_cost(capsys: pytest.CaptureFixture[str]) -> None:
    error = OSError(28, "No space left on device")
    assert run_command(failing(error)) == 2
    assert capsys.readouterr() == ("", "error: [Errno 28] No space left on device\n")
    assert run_command(failing(error), after_os_error="; free some") == 2
    assert capsys.readouterr() == ("", "error: [Errno 28] No space left on device; free some\n")


@pytest.mark.parametrize(("said", "expected"), [("", ""), (RESUMES, f"{RESUMES}\n")])
def test_an_interruption(said: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(failing(KeyboardInterrupt()), interrupted=said) == EXIT_INTERRUPTED == 130
    assert capsys.readouterr() == ("", expected)


def test_what_is_not_understood_is_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_parser("train", "", "").parse_args(["\x1b[2J\n\u202ea"])
    assert capsys.readouterr().err.endswith(": \\x1b[2J\\n\\u202ea\n")


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(failing(ZeroDivisionError()))


def test_the_list_of_commands_is_whole(repository: Path) -> None:
    sources = (repository / "train").rglob("*.py")
    found = {path.stem for path in sources if "\ndef main(" in path.read_text(encoding="utf-8")}
    # Experiments with PyTorch: tests/train/experiments/torch.
    assert found - {"command"} == {Path(str(module.__file__)).stem for module in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda module: module.__name__)
def test_every_command_ends_here(
    command: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def end(error: BaseException) -> tuple[int, str]:
        def fails_at_once(work: Callable[[], int], **said: str) -> int:
            return run_command(failing(error), **said)

        monkeypatch.setattr(command, "run_command", fails_at_once)
        return command.main(COMMANDS[command]), capsys.readouterr().err

    status, said = end(KeyboardInterrupt())
    assert status == EXIT_INTERRUPTED
    assert said in ("", f"{NOTHING_WRITTEN}\n", f"{RESUMES}\n")
    status, said = end(OSError(28, "No space left on device"))
    assert status == 2
    assert said.startswith("error: [Errno 28] No space left on device")
    assert said.count("\n") == 1
