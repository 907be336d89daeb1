"""`dermedge convert RUN --recipe NAME --out MODEL.tflite`: convert a run, its folds or a foreign model."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from convert import convert
from convert.inputs import is_crossval
from convert.recipes import DEFAULT_MAX_LOSS, QAT_OPTIONS, add_recipe_options, make_request
from edge_runtime.errors import EXIT_OK, UsageError, escaped
from train.artifacts.command import command_parser, ended_by_interrupt, run_command

TEXT, FOLDS_TEXT = (Path(__file__).with_name(name) for name in ("report.txt.j2", "crossval.txt.j2"))
EPILOG = """example:
  dermedge convert runs/x --recipe int8_qat --out model.tflite
  dermedge convert runs/folds --recipe int8_qat
  dermedge convert net.keras --contract contract.json --manifest photos.csv --recipe int8_ptq --out model.tflite"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 written; 1 a photo is unreadable; 2 usage, run directory, data, or refused; 3 no engine; 130 interrupted.
    """
    arguments = parser().parse_args(argv)
    # Before TensorFlow's import; its own notices would bury the progress bars.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    interrupted = "Interrupted. Rerun the same command to resume from the last checkpoint."
    with ended_by_interrupt(interrupted):
        return run_command(lambda: _convert(arguments), interrupted=interrupted)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    found = command_parser(
        "convert",
        "Convert a run, every fold of a cross-validation, or a foreign model to .tflite with a contract.",
        EPILOG,
    )
    add = found.add_argument
    add(
        "run",
        type=Path,
        metavar="RUN",
        help="Run directory, or folder of dermedge crossval; or, with --contract and --manifest, a SavedModel folder "
        "or a .keras or .h5 file of tf_keras (required)",
    )
    add(
        "--out",
        type=Path,
        metavar="MODEL.tflite",
        help="File to write, its report beside it as MODEL.json (required; default for folds: in each of them)",
    )
    text = "Folds of a cross-validation (default: all finished)"
    add("--folds", type=int, nargs="+", metavar="K", help=text)
    text = "Folder of the photos (default: where the run or the manifest says)"
    add("--data", type=Path, metavar="DIR", help=text)
    text = "Contract JSON for models not trained with this toolkit (default: none)"
    add("--contract", type=Path, metavar="JSON", help=text)
    text = "Photos of such a model: columns path, label, split (train and val) (default: none)"
    add("--manifest", type=Path, metavar="CSV", help=text)
    text = (
        "Mixed precision (int8_ptq): keep the fewest layers in float so that at most --max-loss of predictions "
        "change (default: off)"
    )
    add("--keep-float", choices=("auto",), help=text)
    text = f"Share of predictions that may change, 0 to 1 (default: {DEFAULT_MAX_LOSS})"
    add("--max-loss", type=float, metavar="SHARE", help=text)
    text = "Skip evaluation on the test split, most of most recipes' time; dermedge compare does it (default: off)"
    add("--no-test-report", dest="test_report", action="store_false", help=text)
    add_recipe_options(found)
    return found


def _convert(arguments: argparse.Namespace) -> int:
    if is_crossval(arguments.run):
        return _convert_folds(arguments)
    if arguments.out is None or arguments.folds:
        raise UsageError(
            f"{arguments.run}: needs --out and no --folds",
            expected="a folder of dermedge crossval for --folds",
        )
    del arguments.folds
    # The other options are the function's.
    report = convert(**vars(arguments))
    from convert.comparison.text import terminal_safe
    from train.reports.html import render_text

    print(render_text(TEXT, {"out": escaped(str(arguments.out)), "report": terminal_safe(report)}), end="")
    return EXIT_OK


def _convert_folds(arguments: argparse.Namespace) -> int:
    for name in ("out", "contract", "manifest", "keep_float", "max_loss"):
        if getattr(arguments, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option}: not for the folds of a cross-validation", fix=f"Leave {option} out")
    fine_tuning = {name: getattr(arguments, name) for name in QAT_OPTIONS}
    request = make_request(arguments.recipe, seed=arguments.seed, test_report=False, **fine_tuning)
    # Late: numpy and pandas, which --help does not need.
    from convert.comparison.text import terminal_safe
    from convert.crossval import run_crossval
    from train.reports.html import render_text

    metrics = run_crossval(arguments.run, request, folds=arguments.folds, data=arguments.data)
    print(render_text(FOLDS_TEXT, {"metrics": terminal_safe(metrics)}), end="")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
