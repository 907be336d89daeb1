"""Every parser of `dermedge` has a description, defaults and an example."""

from __future__ import annotations

import argparse
import re

import pytest

import dermedge

MAX_ROWS, MAX_COLUMNS = 40, 100
VERBS = {verb: entry for table in dermedge.VERBS.values() for verb, entry in table.items()}
COMMANDS = [
    *((verb,) for verb in VERBS if verb != "experiment"),
    *(("experiment", name) for name in dermedge.EXPERIMENTS),
]


def test_the_overview_fits_one_screen_and_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert dermedge.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(VERBS) >= 15
    assert len(lines) <= MAX_ROWS
    assert max(map(len, lines)) <= MAX_COLUMNS
    for verb, (_, summary) in VERBS.items():
        assert re.search(rf"^.{{0,12}}{verb}  +{re.escape(summary)}$", "\n".join(lines), re.M), verb


@pytest.fixture(params=COMMANDS, ids=" ".join)
def command(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The words of a command."""
    words: tuple[str, ...] = request.param
    return words


@pytest.fixture
def parser(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser that prints the command's help."""
    printed: list[argparse.ArgumentParser] = []
    monkeypatch.setattr(argparse.ArgumentParser, "print_help", lambda self, file=None: printed.append(self))
    try:
        status = dermedge.main([*command, "--help"])
    except SystemExit as ended:
        status = ended.code
    assert status == 0
    assert len(printed) == 1
    return printed[0]


def test_program_description_and_example(command: tuple[str, ...], parser: argparse.ArgumentParser) -> None:
    program = " ".join(("dermedge", *command))
    assert parser.prog == program
    description = parser.description or ""
    assert re.fullmatch(r"[A-Z][^\n]+\.", description), f"not one sentence in one line: {description!r}"
    assert parser.epilog is not None
    assert re.search(rf"^example:\n  {program}\b", parser.epilog, re.M), parser.epilog
    assert not parser.allow_abbrev, "an abbreviation may mean another option in the next release"


def test_every_option_has_a_help_text_with_its_default(parser: argparse.ArgumentParser) -> None:
    problems = []
    for action in parser._actions:
        if action.help is argparse.SUPPRESS or isinstance(
            action, argparse._HelpAction | argparse._VersionAction
        ):
            continue
        name = action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)
        text = action.help or ""
        if not text or re.match(r"(?:of|that|which|with|where|when)\b", text, re.I):
            problems.append(f"{name}: does not begin with a verb or a noun: {text!r}")
        takes_a_value = action.option_strings and action.nargs != 0 and not action.required
        if takes_a_value and "default" not in text:
            problems.append(f"{name}: no default in {text!r}")
        if "%(default)s" in text and action.default is None:
            problems.append(f"{name}: would print default None")
    assert problems == []
