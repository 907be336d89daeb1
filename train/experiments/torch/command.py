"""The two commands of training by PyTorch: `torch-setup` where TensorFlow is, `torch` on the machine with a GPU."""

from __future__ import annotations

import argparse
from pathlib import Path

from train.artifacts.command import command_parser, run_command
from train.artifacts.files import read_object
from train.artifacts.writer import sole_writer
from train.experiments.torch.handover import exchange
from train.training.crossval import run_crossval
from train.training.run import DATA_HELP, run_experiment


def setup_parser() -> argparse.ArgumentParser:
    """Build the parser of `torch-setup`."""
    parser = _parser(
        "torch-setup",
        "Prepare runs for training by PyTorch on another machine; given again, finish them.",
        "train/configs/ham10000_lite0_gpu.toml --crossval --workdir runs/gpu",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.toml", help="experiment, see train/configs")
    parser.add_argument(
        "--workdir",
        type=Path,
        required=True,
        metavar="DIR",
        help="run directory or folder of the folds (required)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help=DATA_HELP)
    parser.add_argument("--pixels", type=Path, metavar="DIR", help="pixel cache (default: inside --workdir)")
    parser.add_argument(
        "--crossval", action="store_true", help="run a cross-validation (default: a single run)"
    )
    parser.add_argument(
        "--folds", type=int, nargs="+", metavar="K", help="folds of --crossval (default: all)"
    )
    return parser


def setup(argv: list[str] | None = None) -> int:
    """Run `torch-setup`; return its exit status: 0 done, 2 refused, 130 interrupted."""
    arguments = setup_parser().parse_args(argv)
    return run_command(lambda: _exchange(arguments), interrupted="interrupted")


def _exchange(arguments: argparse.Namespace) -> int:
    given = arguments.config, arguments.workdir, arguments.data
    if arguments.crossval:
        run_crossval(*given, folds=arguments.folds, pixels=arguments.pixels, make=exchange)
    else:
        run_experiment(*given, pixels=arguments.pixels, make=exchange)
    return 0


def parser() -> argparse.ArgumentParser:
    """Build the parser of `torch`."""
    parser = _parser("torch", "Train prepared runs with PyTorch.", "runs/gpu/fold* --data HAM10000")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="runs prepared by torch-setup")
    parser.add_argument("--data", type=Path, metavar="DIR", help=DATA_HELP)
    parser.add_argument(
        "--pixels",
        type=Path,
        metavar="DIR",
        help="pixel cache to share with other runs (default: RUN/pixels)",
    )
    parser.add_argument(
        "--device", help="device as PyTorch names it (default: cuda, or cpu where there is none)"
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="evaluate on this machine too, and leave the weights there (default: only train)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `torch`; return its exit status: 0 done, 2 refused, 130 interrupted."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: _train(arguments), interrupted="interrupted; finished runs are kept")


def _train(arguments: argparse.Namespace) -> int:
    # PyTorch is no dependency of this project: the help is printed without it.
    from train.experiments.torch.loop import train_run

    for run in arguments.runs:
        read_object(run / "run.json")  # Or a misspelt one would be made.
        with sole_writer(run):
            train_run(run, arguments.data, arguments.pixels, arguments.device, measured=arguments.measure)
    return 0


def _parser(name: str, description: str, example: str) -> argparse.ArgumentParser:
    return command_parser(
        f"experiment {name}", description, f"example:\n  dermedge experiment {name} {example}"
    )
