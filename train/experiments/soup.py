"""Weight averaging: the mean of several trainings' weights as one run, `dermedge experiment average`. TensorFlow.

Networks fine-tuned from the same ImageNet weights by the same recipe lie close enough together for their mean to
predict about as well as their ensemble, at the price of one network (Wortsman et al. 2022, "Model soups"). The folds of
a cross-validation are such trainings, and together they are trained on every photo but those of a common validation
split (split.common_val), which calibrates the result. No run may be trained on a photo that is held out here: that is
checked.

The mean of batch-norm statistics is not the statistics of the mean, so new ones are computed
(train/networks/batch_norm.py). The mean of one run is that run with new statistics. DIR is a run directory like any
other; its run.json names the runs, and its history is that of a single run or none.

A shipped file whose run is gone can have new statistics as well: `CONFIG.toml MODEL.tflite --trained-on RECORD`, with
the config and the record (train/records) of its training. What conversion rounded stays rounded.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import ConfigInvalid, RunInvalid
from train.artifacts.command import command_parser, run_command
from train.artifacts.files import read_object, write_json, write_rows
from train.artifacts.keras_file import load_keras
from train.artifacts.manifest import read_parts
from train.artifacts.run import finished_state
from train.artifacts.writer import sole_writer
from train.configs.loading import load_config, parse_config
from train.configs.schema import TrainConfig
from train.data.sources import NO_TEST, merged_labels
from train.data.split import require_unseen
from train.evaluation.results import read_history
from train.experiments.networks import network_file
from train.training.distribute import Worker
from train.training.inputs import Inputs, training_data
from train.training.run import DATA_HELP, Weights, run_experiment

BATCH_NORM_PHOTOS = 1600


def average(
    config_path: Path,
    runs: Sequence[Path],
    workdir: Path,
    test_fold: int,
    data_folder: Path | None = None,
    *,
    batch_norm_photos: int = BATCH_NORM_PHOTOS,
    pixels: Path | None = None,
    trained_on: Path | None = None,
) -> dict[str, Any]:
    """Average finished runs into a new one, and evaluate it.

    Args:
        config_path: The recipe of the runs.
        runs: Run directories of one network and one list of labels; or one `.tflite` and nothing else.
        workdir: The new run directory.
        test_fold: Of the new run; NO_TEST for none.
        data_folder: As for `run_experiment`.
        batch_norm_photos: Take the place of the config's model.batch_norm_photos; at least 2.
        pixels: As for `run_experiment`.
        trained_on: Of a `.tflite`: the record or run that lists the photos it was trained on.

    Returns:
        The content of metrics.json.

    Raises:
        ConfigInvalid: Too few photos for statistics; a `.tflite` beside other runs, without a record, or of another
            network than the config's.
        RunInvalid: A run is not finished, lost its network, or is of another network, other labels, another [decision].
        SplitLeaks: A run was trained on a photo that is held out here.
    """
    if batch_norm_photos < 2:
        raise ConfigInvalid(
            "averaged weights need new batch-norm statistics",
            found=f"{batch_norm_photos} photos for them",
            expected="some hundred, at least 2",
        )
    recipe = load_config(config_path)
    config = dataclasses.replace(
        recipe.with_test_fold(test_fold),
        model=dataclasses.replace(recipe.model, batch_norm_photos=batch_norm_photos),
        # The runs' last layers have it in them already.
        decision=dataclasses.replace(recipe.decision, prior_correction=0.0, prior_of="all"),
    )
    if any(run.suffix == ".tflite" for run in runs):
        metrics, names = _average_file(config, config_path, runs, trained_on, workdir, data_folder, pixels)
        _note(workdir, recipe, names)
        return metrics
    states = [finished_state(run) for run in runs]
    configs = [parse_config(read_object(run / "config.json"), str(run)) for run in runs]
    for run, other in zip(runs, configs, strict=True):
        if (found := _kind(other)) != (expected := _kind(recipe)):
            raise RunInvalid(f"{run}: a run of another network", found=str(found), expected=str(expected))

    networks = [network_file(run) for run in runs]

    def mean(inputs: Inputs, run: Path, worker: Worker) -> Weights:
        for trained in runs:
            require_unseen(trained, read_parts(trained), inputs.data.assignment)
        history = read_history(runs[0] / "history.csv") if len(runs) == 1 else []
        write_rows(run / "history.csv", history)
        return _mean_weights(networks)

    metrics = run_experiment(config_path, workdir, data_folder, pixels=pixels, config=config, make=mean)
    # Folds that start in one second share a run_id.
    names = [
        f"{state['run_id']} (test fold {other.split.test_fold})"
        for state, other in zip(states, configs, strict=True)
    ]
    _note(workdir, recipe, names)
    return metrics


def _average_file(
    config: TrainConfig,
    config_path: Path,
    files: Sequence[Path],
    trained_on: Path | None,
    workdir: Path,
    data_folder: Path | None,
    pixels: Path | None,
) -> tuple[dict[str, Any], list[str]]:
    """A converted file as a run again, with new statistics; its metrics, and the file's name."""
    if len(files) > 1 or trained_on is None:
        raise ConfigInvalid(
            "a .tflite cannot be averaged",
            found=f"{len(files)} files and runs" if len(files) > 1 else "no record of its training",
            expected="MODEL.tflite --trained-on RECORD",
            fix="name its run, or the folder of train/records that holds its split.csv.gz",
        )
    seen = read_parts(trained_on)
    name = f"{files[0].name}, sha256 {hashlib.sha256(files[0].read_bytes()).hexdigest()}"

    def unfolded(inputs: Inputs, run: Path, worker: Worker) -> Weights:
        from train.networks.from_tflite import start_from_tflite
        from train.networks.registry import build_model
        from train.training.run import start_views

        require_unseen(files[0], seen, inputs.data.assignment)
        model = build_model(config.model, len(inputs.codes), None, pretrained=False)
        start_from_tflite(model, files[0], start_views(inputs, training_data(inputs, run)))
        write_rows(run / "history.csv", [])
        weights: Weights = model.get_weights()
        return weights

    metrics = run_experiment(config_path, workdir, data_folder, pixels=pixels, config=config, make=unfolded)
    return metrics, [name]


def _note(workdir: Path, recipe: TrainConfig, names: list[str]) -> None:
    """What conversion must know: which runs these were, and the prior that their last layers have in them already."""
    given = recipe.decision
    prior = {"prior_correction": given.prior_correction, "prior_of": given.prior_of}
    noted = {"mean_of": names, "prior_of_runs": prior}
    with sole_writer(workdir):
        write_json(workdir / "run.json", {**finished_state(workdir), **noted})


def _mean_weights(networks: Sequence[Path]) -> Weights:
    sums: list[Any] = []
    for network in networks:
        weights = load_keras(network).get_weights()
        # float64: the mean does not depend on the order of the runs beyond its last bit.
        sums = [
            total + weight.astype(np.float64)
            for total, weight in zip(sums or [0.0] * len(weights), weights, strict=True)
        ]
    return [np.asarray(total / len(networks), np.float32) for total in sums]


def _kind(config: TrainConfig) -> tuple[Any, ...]:
    """What weights must have in common to be averaged: network, labels, and whether the prior is taken out of them."""
    decision = config.decision
    prior = f"prior_correction {decision.prior_correction} of {decision.prior_of}"
    return config.model.backbone, config.model.alpha, merged_labels(config).codes, prior


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = command_parser(
        "experiment average",
        "Average the weights of finished runs into a new run, and evaluate it.",
        "example:\n  dermedge experiment average CONFIG.toml runs/folds/fold* --workdir runs/mean",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.toml", help="config of the runs")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="finished runs, or one .tflite")
    parser.add_argument(
        "--trained-on",
        type=Path,
        metavar="RECORD",
        help="record or run that made the .tflite (default: none)",
    )
    parser.add_argument(
        "--workdir", type=Path, required=True, metavar="DIR", help="new run directory (required)"
    )
    parser.add_argument(
        "--test-fold",
        type=int,
        default=NO_TEST,
        metavar="K",
        help="fold held out by all RUNs (default: none)",
    )
    parser.add_argument(
        "--batch-norm-photos",
        type=int,
        default=BATCH_NORM_PHOTOS,
        metavar="N",
        help="photos for new batch-norm statistics (default: %(default)s)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help=DATA_HELP)
    parser.add_argument(
        "--pixels",
        type=Path,
        metavar="DIR",
        help="pixel cache to share with other runs (default: inside --workdir)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 2 refused, 130 interrupted."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: _average_runs(arguments))


def _average_runs(arguments: argparse.Namespace) -> int:
    metrics = average(
        arguments.config,
        arguments.runs,
        arguments.workdir,
        arguments.test_fold,
        arguments.data,
        batch_norm_photos=arguments.batch_norm_photos,
        pixels=arguments.pixels,
        trained_on=arguments.trained_on,
    )
    for part in ("val", "test"):
        if part in metrics:
            print(f"{part}: balanced accuracy {metrics[part]['balanced_accuracy']:.4f}")
    return 0
