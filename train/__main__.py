"""`dermedge train CONFIG.toml --workdir RUN`."""

from __future__ import annotations

import argparse
import sys

from train.artifacts.command import RESUMES, command_parser, run_command
from train.configs.loading import load_config
from train.data.sources import NO_TEST
from train.training.run import add_run_options, run_experiment


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = command_parser(
        "train",
        "Train a classifier into a run directory. The same command resumes an interrupted run.",
        "example:\n  dermedge train train/configs/ham10000_mobilenetv2.toml --workdir runs/mobilenet",
    )
    add_run_options(parser, "RUN", "run directory")
    parser.add_argument(
        "--no-test",
        action="store_true",
        help="train without a test split, for a final model (default: the config's split)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 2 refused, 130 interrupted."""
    arguments = parser().parse_args(argv)
    return run_command(
        lambda: _train(arguments),
        interrupted=RESUMES,
        after_os_error=f"; check that {arguments.workdir} can be written to",
    )


def _train(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    if arguments.no_test:
        config = config.with_test_fold(NO_TEST)
    given = arguments.config, arguments.workdir, arguments.data
    metrics = run_experiment(*given, pixels=arguments.pixels, config=config)
    if "test" not in metrics:  # No test split, or another worker than the chief.
        return 0
    test = metrics["test"]
    low, high = test["balanced_accuracy_interval"]
    print(f"test: balanced accuracy {test['balanced_accuracy']:.4f} ({low:.4f} to {high:.4f}), ", end="")
    print(f"accuracy {test['accuracy']:.4f}, {test['photos']} photos of {test['lesions']} lesions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
