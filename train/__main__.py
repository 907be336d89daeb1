"""`python -m train CONFIG.toml --workdir RUN [--data DIR]`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from train.artifacts.command import RESUMES, run_command
from train.configs.loading import load_config
from train.training.run import run_experiment


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 done, 2 refused, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m train",
        description="Train an image classifier. The same command resumes an interrupted run.",
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.toml", help="an experiment, see train/configs")
    parser.add_argument("--workdir", type=Path, required=True, metavar="RUN", help="the run directory")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the data set's own folder")
    parser.add_argument("--pixels", type=Path, metavar="DIR", help="a pixel cache shared with other runs")
    parser.add_argument(
        "--no-test",
        action="store_true",
        help="hold no test part out: the model to ship, whose recipe was measured by cross-validation",
    )
    arguments = parser.parse_args(argv)
    return run_command(
        lambda: _train(arguments),
        interrupted=RESUMES,
        after_os_error=f"; what to do: check that {arguments.workdir} can be written to",
    )


def _train(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    if arguments.no_test:
        config = dataclasses.replace(config, split=dataclasses.replace(config.split, test_fold=-1))
    metrics = run_experiment(
        arguments.config,
        arguments.workdir,
        arguments.data,
        pixels=arguments.pixels,
        config=config,
    )
    if "test" not in metrics:  # No part was held out for the end, or the chief says it.
        return 0
    test = metrics["test"]
    low, high = test["balanced_accuracy_interval"]
    print(f"test: balanced accuracy {test['balanced_accuracy']:.4f} ({low:.4f} to {high:.4f}), ", end="")
    print(f"accuracy {test['accuracy']:.4f}, {test['photos']} photos of {test['lesions']} lesions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
