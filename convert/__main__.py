"""`dermedge convert RUN --recipe NAME --out MODEL.tflite`: convert a run, its folds or a foreign model."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convert import convert
from convert.inputs import is_crossval
from convert.recipes import DEFAULT_MAX_LOSS, QAT_OPTIONS, add_recipe_options, make_request
from edge_runtime.errors import EXIT_OK, UsageError
from train.artifacts.command import command_parser, run_command

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
    return run_command(
        lambda: _convert(arguments),
        interrupted="Interrupted. Rerun the same command to resume from the last checkpoint.",
    )


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
    print(_summary(arguments.out, report))
    return EXIT_OK


def _convert_folds(arguments: argparse.Namespace) -> int:
    for name in ("out", "contract", "manifest", "keep_float", "max_loss"):
        if getattr(arguments, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option}: not for the folds of a cross-validation", fix=f"Leave {option} out")
    fine_tuning = {name: getattr(arguments, name) for name in QAT_OPTIONS}
    request = make_request(arguments.recipe, seed=arguments.seed, test_report=False, **fine_tuning)
    # Late: numpy and pandas, which --help does not need.
    from convert.crossval import run_crossval, summary

    print(summary(run_crossval(arguments.run, request, folds=arguments.folds, data=arguments.data)))
    return EXIT_OK


def _summary(out: Path, report: dict[str, Any]) -> str:
    """A few lines: what was written, figures of the acceptance test and of the test split."""
    model, gate = report["model"], report["check"]
    lines = [
        f"{out}: {model['bytes']:,} bytes, sha256 {model['sha256']}",
        f"Acceptance test, {gate['photos']} photos: top-1 agreement {gate['agreement']:.4f}, mean score difference "
        f"{gate['mean_score_difference']:.4f}, balanced accuracy {gate['keras_balanced_accuracy']:.4f} -> "
        f"{gate['converted_balanced_accuracy']:.4f}",
    ]
    if test := report["test"]:
        low, high = test["balanced_accuracy_loss_interval"]
        lines.append(
            f"Test split, {test['photos']} photos: balanced accuracy {test['keras']['balanced_accuracy']:.4f} -> "
            f"{test['converted']['balanced_accuracy']:.4f}, loss {test['balanced_accuracy_loss']:.4f} "
            f"(95 % CI {low:.4f} to {high:.4f}); {test['answers_changed']} predictions changed, "
            f"{test['right_to_wrong']} to wrong, {test['wrong_to_right']} to right"
        )
    if kept := report["kept_float"]:
        lines.append(
            f"Kept in float: {', '.join(kept['kept']) or 'nothing'} ({len(kept['kept'])} of {kept['layers']} layers); "
            f"{100 * kept['loss_of_whole']:.1f} % -> {100 * kept['loss']:.1f} % of predictions change, "
            f"{kept['bytes']['whole']:,} -> {kept['bytes']['mixed']:,} bytes, "
            f"{kept['ms_per_photo']['whole']:.1f} -> {kept['ms_per_photo']['mixed']:.1f} ms"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
