"""Teachers that are asked during training: the networks of finished runs, `distill.networks` of a config. numpy.

A file of soft labels (train/training/soft_labels.py) says one thing of a photo, whatever part of it is shown. A
network can be
asked about the very view, cropped, mixed and disturbed as it is: the student then learns a function, not a list (Beyer
et al., "Knowledge distillation: a good teacher is patient and consistent", CVPR 2022). The price is the teachers'
inference in every step.

The networks are copied to RUN/teachers when a run is prepared, so that it can be resumed, or learnt elsewhere, when
theirs are gone. Where both are handed over (train/experiments/torch/handover.py), a student may be prepared before
its teachers have
learnt: train/experiments/torch/loop.py then makes the copies there. Each must have held out what is held out here,
so the figures
of a student need no excuse: in a cross-validation `runs/x/fold{fold}` names the run of the same fold (`{fold}` is
split.test_fold, -1 where there is no test part).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from edge_runtime.contract import ModelContract
from edge_runtime.errors import RunInvalid
from train.artifacts.manifest import read_parts
from train.artifacts.run import network_file
from train.configs.loading import parse_config
from train.configs.paths import find_folder
from train.configs.schema import TrainConfig
from train.data.sources import merged_labels
from train.data.split import require_unseen
from train.evaluation.results import read_contract, read_object
from train.experiments.torch.handover import START, Arrays, read_weights, write_weights
from train.training.inputs import Inputs

FOLDER = "teachers"


class TeacherNetwork(NamedTuple):
    """A network that is asked."""

    keras_json: str
    """As Keras describes it, for pixels of any size."""
    weights: Arrays
    temperature: float
    """That its logits are divided by: its contract's."""
    size_ratio: float
    """Its input side over this run's: views are resized by it, so that it sees a lesion as large as on its device."""


def keep_networks(inputs: Inputs, run: Path, *, handed_over: bool = False) -> None:
    """Copies the networks that a config names to the run directory, where they are not there yet.

    Args:
        inputs: Whose config and parts count.
        run: The run directory.
        handed_over: The run is learnt elsewhere; so may those be that it names. These are only checked.

    Raises:
        ConfigInvalid: A named run is missing. RunInvalid: It is not finished, without its network, or of other labels
            or pixels. SplitLeaks: It has learnt from photos that are held out here.
    """
    for copy, teacher in lacking_networks(inputs, run):
        if handed_over and _learns_elsewhere(teacher):
            _require_fitting(teacher, inputs)
        else:
            _copy(teacher, copy, inputs)


def lacking_networks(inputs: Inputs, run: Path) -> list[tuple[Path, Path]]:
    """Copies that are not there yet, each with the run that the config names for it.

    Raises:
        ConfigInvalid: Such a run is missing.
    """
    lacking = []
    for i, name in enumerate(inputs.config.distill.networks):
        copy = run / FOLDER / f"{i}.npz"
        if not copy.is_file():
            # Not str.format: another brace in a path is a part of it.
            named = name.replace("{fold}", str(inputs.config.split.test_fold))
            lacking.append((copy, find_folder(named, "distill.networks", "a finished run")))
    return lacking


def read_networks(inputs: Inputs, run: Path) -> list[TeacherNetwork]:
    """The networks that `keep_networks` copied.

    Raises:
        RunInvalid: One is missing or damaged.
    """
    found = []
    for i in range(len(inputs.config.distill.networks)):
        weights, noted = read_weights(run / FOLDER / f"{i}.npz")
        ratio = noted["size_px"] / inputs.config.input.size_px
        found.append(TeacherNetwork(noted["keras"], weights, noted["temperature"], ratio))
    return found


def view_px(size_px: int, ratio: float) -> int:
    """Side of the view that a teacher is shown where the student is shown one of size_px."""
    return max(1, round(size_px * ratio))


def write_network(
    copy: Path, teacher: Path, keras_json: str, weights: Arrays, *, temperature: float, size_px: int
) -> None:
    """Writes what `read_networks` reads.

    Args:
        copy: The file.
        teacher: The run that the network came from.
        keras_json: See `TeacherNetwork`, as of weights and temperature.
        weights: With the prior taken out of the last bias, as a finished run's.
        temperature: Of its contract.
        size_px: Its input side.
    """
    copy.parent.mkdir(exist_ok=True)
    noted = {"keras": keras_json, "of": str(teacher), "temperature": temperature, "size_px": size_px}
    write_weights(copy, weights, noted)


def _learns_elsewhere(teacher: Path) -> bool:
    return (teacher / START).is_file() and read_object(teacher / "run.json")["status"] != "done"


def _require_fitting(teacher: Path, inputs: Inputs) -> tuple[TrainConfig, ModelContract]:
    """A run's config and contract, if it may teach here."""
    config = parse_config(read_object(teacher / "config.json"), str(teacher))
    contract = read_contract(teacher)
    found = merged_labels(config).codes, contract.normalization
    if found != (expected := (inputs.codes, inputs.contract.normalization)):
        raise RunInvalid(
            f"{teacher}: answers other labels, or other pixels, than this config's",
            found=str(found),
            expected=str(expected),
            fix="leave it out of distill.networks",
        )
    require_unseen(teacher, read_parts(teacher), inputs.data.assignment)
    return config, contract


def _copy(teacher: Path, copy: Path, inputs: Inputs) -> None:
    network = network_file(teacher)
    config, contract = _require_fitting(teacher, inputs)
    # TensorFlow takes seconds to import: after everything that can be refused without it.
    import tf_keras

    model = tf_keras.models.load_model(network, compile=False)
    described: dict[str, Any] = json.loads(model.to_json())
    described["config"]["layers"][0]["config"]["batch_input_shape"] = [None, None, None, 3]
    write_network(
        copy,
        teacher,
        json.dumps(described),
        model.get_weights(),
        temperature=contract.calibration.temperature,
        size_px=config.input.size_px,
    )
