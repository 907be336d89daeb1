"""`python -m convert RUN --recipe NAME --out model.tflite`: a run directory becomes one file for devices."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from convert.files import require_out
from convert.options import add_qat_options, qat_settings
from convert.recipes import RECIPES, find_recipe
from convert.run_directory import read_run
from edge_runtime.errors import EXIT_OK, EdgeError, UsageError

EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        0 written; 1 a photo is unreadable; 2 usage, run directory or data; or refused; 3 no engine; 130 interrupted.
    """
    arguments = _parser().parse_args(argv)
    # Before TensorFlow's import; its own notices would bury the progress bars.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        _convert(arguments)
    except EdgeError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"error: {error}; nothing was written", file=sys.stderr)
        return UsageError.exit_status
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m convert",
        description="Converts a run directory to one .tflite that carries its contract.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder made by python -m train")
    parser.add_argument("--recipe", required=True, metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument(
        "--out", required=True, type=Path, metavar="MODEL.tflite", help="MODEL.json is written beside it"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the photos' folder, if not where the run says"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of calibration photos and fine-tuning (default 0)"
    )
    add_qat_options(parser)
    return parser


def _convert(arguments: argparse.Namespace) -> None:
    recipe = find_recipe(arguments.recipe)
    settings = qat_settings(arguments, recipe)
    require_out(arguments.out)
    run = read_run(arguments.run, arguments.data)
    # Late, so that usage errors and --help do not wait for TensorFlow.
    from convert.conversion import Request, convert_run

    report = convert_run(run, Request(recipe, arguments.out, settings, arguments.seed))
    print(_summary(arguments.out, report))


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
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
