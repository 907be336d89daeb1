"""The command and the function, up to where TensorFlow would be needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import convert
from convert.__main__ import main, parser
from edge_runtime.errors import RunInvalid, UsageError

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--recipe", "int4", "--out", "m.tflite"], "int4"),
        (["--recipe", "float32", "--epochs", "3", "--out", "m.tflite"], "--epochs"),
        (["--recipe", "int8_qat", "--learning-rate=nan", "--out", "m.tflite"], "--learning-rate"),
        (["--recipe", "int8_ptq", "--max-loss", "0.1", "--out", "m.tflite"], "--max-loss"),
        (["--recipe", "float32", "--out", "m.onnx"], "m.onnx"),
        (["--recipe", "float32", "--out", "absent/m.tflite"], "absent"),
    ],
)
def test_usage_errors(
    options: list[str],
    named: str,
    run_without_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main([str(run_without_model), *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and named in captured.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--recipe"],
        ["--recipe", "float32", "--out", "m.tflite", "--epoch", "3"],
        ["--recipe", "int8_ptq", "--out", "m.tflite", "--seed", "-1"],
        ["--recipe", "int8_qat", "--out", "m.tflite", "--batch", "0"],
    ],
)
def test_parser_is_strict(options: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", *options])
    assert caught.value.code == 2


def test_every_option_has_help() -> None:
    for action in parser()._actions:
        assert (action.help and action.help[0].isupper()) or action.dest == "help"


def test_the_function_checks_what_the_command_checks(run_without_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        convert.convert(run_without_model, "int4", tmp_path / "m.tflite")
    with pytest.raises(UsageError):
        convert.convert(run_without_model, "float32", str(tmp_path / "m.tflite"), epochs=3)
    with pytest.raises(RunInvalid):
        convert.convert(tmp_path / "absent", "float32", tmp_path / "m.tflite")
    with pytest.raises(AttributeError):
        _ = convert.absent
    assert list(tmp_path.glob("*.tflite")) == []


def test_help_and_refusals_load_no_tensorflow(tmp_path: Path) -> None:
    """In one process: the help, then a run that is not there."""
    code = (
        "import sys, contextlib\nfrom convert.__main__ import main\n"
        "from convert.cards import card\n"
        "for command in (main, card.main):\n"
        "    with contextlib.suppress(SystemExit): command(['--help'])\n"
        f"status = main(['absent', '--recipe', 'float32', '--out', {str(tmp_path / 'm.tflite')!r}])\n"
        "print('tensorflow' in sys.modules)\nsys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout.startswith("usage: dermedge convert")
    assert done.stdout.endswith("False\n")
    assert "absent" in done.stderr
    assert list(tmp_path.iterdir()) == []
