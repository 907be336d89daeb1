"""The commands as a user types them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from convert.__main__ import main

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--recipe", "int4", "--out", "m.tflite"],
            ("int4", "float32 or float16 or dynamic_int8 or int8_ptq or int8_qat or int16x8"),
        ),
        (["--recipe", "float32", "--epochs", "3", "--out", "m.tflite"], ("no fine-tuning", "--epochs")),
        (
            ["--recipe", "int8_qat", "--distillation-weight", "0", "--out", "m.tflite"],
            ("nothing to learn from", "--hard-label-weight"),
        ),
        *(
            (
                ["--recipe", "int8_qat", f"--learning-rate={rate}", "--out", "m.tflite"],
                ("--learning-rate", f"got {rate}", "above 0"),
            )
            for rate in ("nan", "inf", "-1", "0")
        ),
        *(
            (
                ["--recipe", "int8_qat", f"--{name}-weight={value}", "--out", "m.tflite"],
                (f"--{name}-weight {value}", "finite"),
            )
            for name in ("distillation", "hard-label", "soft-label")
            for value in ("nan", "inf", "-1")
        ),
        (["--recipe", "float32", "--out", "m.onnx"], ("m.onnx", ".tflite")),
        (["--recipe", "float32", "--out", "absent/m.tflite"], ("absent", "Make the folder")),
    ],
)
def test_usage_errors(
    options: list[str],
    words: tuple[str, ...],
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
    for word in words:
        assert word in captured.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "options", [[], ["--recipe"], ["--recipe", "float32", "--out", "m.tflite", "--epoch", "3"]]
)
def test_parser_is_strict(options: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", *options])
    assert caught.value.code == 2


@pytest.mark.parametrize("module", ["convert", "convert.cards.card"])
def test_help_is_quick_and_loads_no_tensorflow(module: str) -> None:
    code = f"import runpy, sys; sys.argv = ['x', '--help']; runpy.run_module({module!r}, run_name='__main__')"
    check = f"import atexit, sys; atexit.register(lambda: print('tensorflow' in sys.modules)); {code}"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: python -m convert")
    assert done.stdout.endswith("False\n")


def test_wrong_run_directory_in_a_real_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "convert",
            "absent",
            "--recipe",
            "float32",
            "--out",
            str(tmp_path / "m.tflite"),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: absent: not a run directory")
    assert list(tmp_path.iterdir()) == []


def test_a_seed_below_zero_is_refused_by_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    from convert import crossval

    for command in (main, crossval.main):
        with pytest.raises(SystemExit) as caught:
            command(["run", "--recipe", "int8_ptq", "--seed", "-1"])
        assert caught.value.code == 2
        assert "--seed: -1 is below 0" in capsys.readouterr().err
