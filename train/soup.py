"""`python -m train.soup RUN [RUN ...] --out soup.h5`: the mean of several trainings' weights.

Networks fine-tuned from the same ImageNet weights by the same recipe lie close enough together for their mean to answer
like their ensemble, at the price of one network (Wortsman et al. 2022, "Model soups"). The folds of a cross-validation
are such trainings, paid for already, and together they have learnt from every photo but those of a common validation
part (split.common_val), which can therefore still calibrate what comes out.

The mean of batch-norm statistics is not the statistics of the mean: a few epochs of training from the file
(model.start) put them right. TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import ConfigInvalid, EdgeError, RunInvalid
from train.config import TrainConfig, parse_config
from train.data_sets import merged_labels
from train.run_dir import whole_file

SUFFIX = ".h5"


def cook(runs: Sequence[Path], out: Path) -> None:
    """Writes the mean weights of finished runs, head included.

    Args:
        runs: Run directories of one network and one list of labels.
        out: A name in `.h5`, for model.start of a config.

    Raises:
        ConfigInvalid: `out` has another ending.
        RunInvalid: A run is not finished, or of another network or other labels than the first.
    """
    import tf_keras

    from train.backbones import build_model

    if out.suffix != SUFFIX:
        raise ConfigInvalid("--out is no weights file", found=out.name, expected=f"a name in {SUFFIX}")
    configs = [_finished(run) for run in runs]
    first = configs[0]
    network, codes = _network(first), merged_labels(first).codes
    for run, config in zip(runs, configs, strict=True):
        if _network(config) != network or merged_labels(config).codes != codes:
            raise RunInvalid(
                f"{run}: cannot be averaged with {runs[0]}",
                found=f"{_network(config)} for {', '.join(merged_labels(config).codes)}",
                expected=f"{network} for {', '.join(codes)}",
                fix="average the folds of one cross-validation",
            )
    model = build_model(first.model, len(codes), None, pretrained=False)
    sums = [np.zeros(weight.shape, np.float64) for weight in model.weights]
    for run in runs:
        trained = tf_keras.models.load_model(run / "model.keras", compile=False)
        for total, weight in zip(sums, trained.get_weights(), strict=True):
            total += weight
    model.set_weights([total / len(runs) for total in sums])
    with whole_file(out) as temporary:
        model.save_weights(str(temporary), save_format="h5")


def _finished(run: Path) -> TrainConfig:
    try:
        status = json.loads((run / "run.json").read_text(encoding="utf-8"))["status"]
        config: dict[str, Any] = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunInvalid(f"{run}: no run directory", found=str(error), expected="run.json") from error
    if status != "done":
        raise RunInvalid(
            f"{run}: training is not finished",
            found=f"status {status}",
            expected="done",
            fix="give the training command again: it resumes",
        )
    return parse_config(config, str(run))


def _network(config: TrainConfig) -> str:
    return f"{config.model.backbone} {config.model.alpha}"


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 when refused."""
    parser = argparse.ArgumentParser(prog="python -m train.soup", allow_abbrev=False)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="finished runs, such as all folds")
    parser.add_argument("--out", type=Path, required=True, metavar=f"FILE{SUFFIX}")
    arguments = parser.parse_args(argv)
    try:
        cook(arguments.runs, arguments.out)
    except EdgeError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {arguments.out}, the mean of {len(arguments.runs)} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
