"""`python -m convert RUN --recipe NAME --out model.tflite`: a run directory becomes one file for devices."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from convert.export.any_model import is_any_model, read_any_model
from convert.files import require_out
from convert.inputs import RUN_FILES, Run, read_run
from convert.options import add_qat_options, qat_settings
from convert.recipes import RECIPES, Recipe, find_recipe
from edge_runtime.errors import EXIT_OK, EdgeError, UsageError
from train.artifacts.command import AND_NOTHING_WRITTEN, RESUMES, not_negative, run_command

DEFAULT_MAX_LOSS = 0.02


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        0 written; 1 a photo is unreadable; 2 usage, run directory or data; or refused; 3 no engine; 130 interrupted.
    """
    arguments = _parser().parse_args(argv)
    # Before TensorFlow's import; its own notices would bury the progress bars.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return run_command(
        lambda: _convert(arguments),
        interrupted=RESUMES,
        after_os_error=AND_NOTHING_WRITTEN,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m convert",
        description="Converts a run directory to one .tflite that carries its contract.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN",
        help="folder made by python -m train; or, with --contract and --manifest, a SavedModel folder or a .keras or "
        ".h5 file of tf_keras",
    )
    parser.add_argument("--recipe", required=True, metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument(
        "--out", required=True, type=Path, metavar="MODEL.tflite", help="MODEL.json is written beside it"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the photos' folder, if not where the run says"
    )
    parser.add_argument("--contract", type=Path, metavar="JSON", help="of a model that is no run")
    parser.add_argument(
        "--manifest", type=Path, metavar="CSV", help="its photos: columns path, label, split (train and val)"
    )
    parser.add_argument(
        "--seed", type=not_negative, default=0, help="of calibration photos and fine-tuning (default 0)"
    )
    parser.add_argument(
        "--keep-float",
        choices=("auto",),
        help="int8_ptq: find the smallest set of layers whose return to float holds --max-loss",
    )
    parser.add_argument(
        "--max-loss",
        type=float,
        metavar="SHARE",
        help=f"of answers that may change, for --keep-float (default {DEFAULT_MAX_LOSS})",
    )
    parser.add_argument(
        "--no-test-report",
        action="store_true",
        help="do not ask the test split, which takes most of the time of most recipes: python -m convert.comparison.compare does",  # noqa: E501
    )
    add_qat_options(parser)
    return parser


def _convert(arguments: argparse.Namespace) -> int:
    recipe = find_recipe(arguments.recipe)
    settings = qat_settings(arguments, recipe)
    keep_float = _keep_float(arguments, recipe)
    require_out(arguments.out, _named_inputs(arguments))
    run = _read(arguments)
    _require_own_work_folder(run)
    # Late, so that usage errors and --help do not wait for TensorFlow.
    from convert.export.conversion import Request, convert_run

    try:
        request = Request(
            recipe,
            arguments.out,
            settings,
            arguments.seed,
            keep_float,
            test_report=not arguments.no_test_report,
        )
        report = convert_run(run, request)
    except (EdgeError, OSError):
        _forget(run)
        raise
    _forget(run)
    print(_summary(arguments.out, report))
    return EXIT_OK


def _keep_float(arguments: argparse.Namespace, recipe: Recipe) -> float | None:
    """The limit of `--keep-float auto`; None without it."""
    if arguments.keep_float is None:
        if arguments.max_loss is not None:
            raise UsageError("--max-loss is the limit of --keep-float auto", found="no --keep-float")
        return None
    if recipe.name != "int8_ptq":
        raise UsageError(
            "--keep-float works on what is quantized after training",
            found=f"recipe {recipe.name}",
            expected="recipe int8_ptq",
        )
    limit = DEFAULT_MAX_LOSS if arguments.max_loss is None else float(arguments.max_loss)
    if not 0 <= limit < 1:
        raise UsageError("--max-loss is no share", found=str(limit), expected="at least 0 and below 1")
    return limit


def _named_inputs(arguments: argparse.Namespace) -> list[Path]:
    """What the command line says is read, before any of it is."""
    given = [arguments.run, arguments.contract, arguments.manifest]
    return [*(path for path in given if path is not None), *(arguments.run / name for name in RUN_FILES)]


def _require_own_work_folder(run: Run) -> None:
    """The work folder of a model that is no run is removed at the end: nothing of the user's may stand in it."""
    if run.foreign and any(path.resolve().is_relative_to(run.work_folder.resolve()) for path in run.inputs):
        raise UsageError(
            "--out's work folder holds a file that the conversion reads",
            found=str(run.work_folder),
            fix="give --out another name or folder",
        )


def _forget(run: Run) -> None:
    """Removes the work folder of a model that is no run; an interrupted command keeps it, to go on from there."""
    if run.foreign:
        shutil.rmtree(run.work_folder, ignore_errors=True)


def _read(arguments: argparse.Namespace) -> Run:
    """A run directory, or a model of its own."""
    given = arguments.contract is not None or arguments.manifest is not None
    if is_any_model(arguments.run) or given:
        work_folder = arguments.out.with_suffix(".convert")
        return read_any_model(
            arguments.run, arguments.contract, arguments.manifest, arguments.data, work_folder
        )
    return read_run(arguments.run, arguments.data)


def _summary(out: Path, report: dict[str, object]) -> str:
    """Two or three lines: what was written, what the gate and the test split said."""
    model, gate, test = report["model"], report["check"], report["test"]
    assert isinstance(model, dict) and isinstance(gate, dict)
    lines = [
        f"{out}: {model['bytes']:,} bytes, sha256 {model['sha256']}",
        f"gate, {gate['photos']} photos: agreement {gate['agreement']:.4f}, mean score difference "
        f"{gate['mean_score_difference']:.4f}, balanced accuracy {gate['keras_balanced_accuracy']:.4f} -> "
        f"{gate['converted_balanced_accuracy']:.4f}",
    ]
    if isinstance(test, dict):
        low, high = test["balanced_accuracy_loss_interval"]
        lines.append(
            f"test split, {test['photos']} photos: balanced accuracy {test['keras']['balanced_accuracy']:.4f} -> "
            f"{test['converted']['balanced_accuracy']:.4f}, loss {test['balanced_accuracy_loss']:.4f} "
            f"({low:.4f} to {high:.4f}), {test['answers_changed']} answers change, "
            f"{test['right_to_wrong']} for the worse, {test['wrong_to_right']} for the better"
        )
    if kept := report.get("kept_float"):
        assert isinstance(kept, dict)
        lines.append(
            f"kept float: {', '.join(kept['kept']) or 'nothing'} ({len(kept['kept'])} of {kept['layers']} layers); "
            f"{100 * kept['loss_of_whole']:.1f} % -> {100 * kept['loss']:.1f} % of the answers change, "
            f"{kept['bytes']['whole']:,} -> {kept['bytes']['mixed']:,} bytes, "
            f"{kept['ms_per_photo']['whole']:.1f} -> {kept['ms_per_photo']['mixed']:.1f} ms"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
