"""`python -m train.experiments.soup CONFIG.toml RUN [RUN ...] --workdir DIR`: the mean of several trainings' weights
as one run.

Networks fine-tuned from the same ImageNet weights by the same recipe lie close enough together for their mean to answer
about as well as their ensemble, at the price of one network (Wortsman et al. 2022, "Model soups"). The folds of a
cross-validation are such trainings, paid for already, and together they have learnt from every photo but those of a
common validation part (split.common_val), which calibrates what comes out. No run may have learnt from a photo that is
held out here: that is checked.

The mean of batch-norm statistics is not the statistics of the mean, so new ones are made
(train/networks/batch_norm.py). A
soup of one run is that run with new statistics. DIR is a run directory like any other; its run.json names the runs,
and its history is that of a single run or none.

A shipped file whose run is gone can have new statistics as well: `CONFIG.toml MODEL.tflite --learnt-from RECORD`, with
the config and the record (train/records) of its training. What conversion rounded stays rounded. TensorFlow.
"""  # noqa: D205

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import ConfigInvalid, RunInvalid
from train.artifacts.command import run_command
from train.artifacts.files import read_object, write_json, write_rows
from train.artifacts.manifest import read_parts
from train.artifacts.run import finished_state, network_file
from train.configs.loading import load_config, parse_config
from train.configs.schema import TrainConfig
from train.data.sources import NO_TEST, merged_labels
from train.data.split import require_unseen
from train.training.inputs import Inputs
from train.training.run import Weights, run_experiment
from train.training.training_data import training_data
from train.training.workers import Worker

BATCH_NORM_PHOTOS = 1600


def cook(
    config_path: Path,
    runs: Sequence[Path],
    workdir: Path,
    test_fold: int,
    data_folder: Path | None = None,
    *,
    batch_norm_photos: int = BATCH_NORM_PHOTOS,
    pixels: Path | None = None,
    learnt_from: Path | None = None,
) -> dict[str, Any]:
    """Averages finished runs into a new one, and measures it.

    Args:
        config_path: The recipe of the runs.
        runs: Run directories of one network and one list of labels; or one `.tflite` and nothing else.
        workdir: The new run directory.
        test_fold: Of the new run; data_sets.NO_TEST for none.
        data_folder: As for `run_experiment`.
        batch_norm_photos: Take the place of the config's model.batch_norm_photos; at least 2.
        pixels: As for `run_experiment`.
        learnt_from: Of a `.tflite`: the record or run that says which photos it has learnt from.

    Returns:
        The content of metrics.json.

    Raises:
        ConfigInvalid: Too few photos for statistics; a `.tflite` beside other runs, without a record, or of another
            network than the config's.
        RunInvalid: A run is not finished, lost its network, or is of another network, other labels, another [decision].
        SplitLeaks: A run has learnt from a photo that is held out here.
    """
    if batch_norm_photos < 2:
        raise ConfigInvalid(
            "averaged weights need batch-norm statistics of their own",
            found=f"{batch_norm_photos} photos for them",
            expected="some hundred, at least 2",
        )
    recipe = load_config(config_path)
    config = dataclasses.replace(
        recipe,
        split=dataclasses.replace(recipe.split, test_fold=test_fold),
        model=dataclasses.replace(recipe.model, batch_norm_photos=batch_norm_photos),
        # The runs' last layers have it in them already.
        decision=dataclasses.replace(recipe.decision, prior_correction=0.0, prior_of="all"),
    )
    if any(run.suffix == ".tflite" for run in runs):
        metrics, names = _cook_file(config, config_path, runs, learnt_from, workdir, data_folder, pixels)
        _note(workdir, recipe, names)
        return metrics
    states = [finished_state(run) for run in runs]
    configs = [parse_config(read_object(run / "config.json"), str(run)) for run in runs]
    for run, other in zip(runs, configs, strict=True):
        if (found := _kind(other)) != (expected := _kind(recipe)):
            raise RunInvalid(
                f"{run}: not a run of this config's network", found=str(found), expected=str(expected)
            )

    networks = [network_file(run) for run in runs]

    def mean(inputs: Inputs, run: Path, worker: Worker) -> Weights:
        from train.training.loop import read_history

        for learner in runs:
            require_unseen(learner, read_parts(learner), inputs.data.assignment)
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


def _cook_file(
    config: TrainConfig,
    config_path: Path,
    files: Sequence[Path],
    learnt_from: Path | None,
    workdir: Path,
    data_folder: Path | None,
    pixels: Path | None,
) -> tuple[dict[str, Any], list[str]]:
    """A converted file as a run again, with new statistics; its metrics, and the file's name."""
    if len(files) > 1 or learnt_from is None:
        raise ConfigInvalid(
            "a .tflite gets new statistics by itself, from the photos that its training had",
            found=f"{len(files)} files and runs" if len(files) > 1 else "no record of its training",
            expected="MODEL.tflite --learnt-from RECORD",
            fix="name its run, or the folder of train/records that holds its split.csv.gz",
        )
    seen = read_parts(learnt_from)
    name = f"{files[0].name}, sha256 {hashlib.sha256(files[0].read_bytes()).hexdigest()}"

    def unfolded(inputs: Inputs, run: Path, worker: Worker) -> Weights:
        from train.networks.from_tflite import start_from_tflite
        from train.networks.registry import build_model
        from train.training.start import start_views

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
    write_json(workdir / "run.json", {**finished_state(workdir), **noted})


def _mean_weights(networks: Sequence[Path]) -> Weights:
    import tf_keras

    sums: list[Any] = []
    for network in networks:
        weights = tf_keras.models.load_model(network, compile=False).get_weights()
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


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 done, 2 refused, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m train.experiments.soup", allow_abbrev=False)
    parser.add_argument("config", type=Path, metavar="CONFIG.toml", help="the recipe of the runs")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="finished runs, such as all folds")
    parser.add_argument(
        "--learnt-from", type=Path, metavar="RECORD", help="of a .tflite in place of RUNs: its record or run"
    )
    parser.add_argument("--workdir", type=Path, required=True, metavar="DIR", help="the new run directory")
    parser.add_argument(
        "--test-fold", type=int, default=NO_TEST, metavar="K", help="held out by all RUNs (default: none)"
    )
    parser.add_argument(
        "--batch-norm-photos",
        type=int,
        default=BATCH_NORM_PHOTOS,
        metavar="N",
        help="that give the new statistics (default: %(default)s)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="the first data set's own folder")
    parser.add_argument("--pixels", type=Path, metavar="DIR", help="a pixel cache shared with other runs")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _serve(arguments))


def _serve(arguments: argparse.Namespace) -> int:
    metrics = cook(
        arguments.config,
        arguments.runs,
        arguments.workdir,
        arguments.test_fold,
        arguments.data,
        batch_norm_photos=arguments.batch_norm_photos,
        pixels=arguments.pixels,
        learnt_from=arguments.learnt_from,
    )
    for part in ("val", "test"):
        if part in metrics:
            print(f"{part}: balanced accuracy {metrics[part]['balanced_accuracy']:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
