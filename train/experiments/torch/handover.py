"""A run whose middle happens elsewhere: prepared here, learnt by PyTorch on a machine with a GPU, finished here.

    python -m train CONFIG.toml --workdir RUN --hand-over     photos, split, contract, start.npz; then it stops
    python -m train.experiments.torch.loop RUN --data DIR                 there: start.npz -> learnt.npz, history.csv
    python -m train CONFIG.toml --workdir RUN                 learnt.npz -> figures, model.keras, as ever

`train.training.crossval` and `train.experiments.study` take --hand-over alike, with all their runs. The photos have
to be there too; what
they become, the split and the chances come from the same code on both sides. numpy.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import RunInvalid
from train.artifacts.run import whole_file
from train.training.inputs import Inputs

START, LEARNT = "start.npz", "learnt.npz"
Arrays = list[npt.NDArray[np.float32]]


def hand_over(inputs: Inputs, run: Path, weights: Arrays, keras_json: str) -> None:
    """Writes RUN/start.npz: the network as Keras describes it (`model.to_json()`), with its first weights."""
    write_weights(run / START, weights, {"keras": keras_json, "of": fingerprint(inputs)})
    print(f"{run}: prepared; learn it with python -m train.experiments.torch.loop {run}")


def take_back(inputs: Inputs, run: Path) -> tuple[Arrays, dict[str, Any]]:
    """What was learnt elsewhere.

    Returns:
        The weights in Keras' order, and what train/experiments/torch/loop.py noted: `seconds`, `device`, `torch`.

    Raises:
        RunInvalid: Of another config, other photos or another split, or damaged.
    """
    weights, noted = read_weights(run / LEARNT)
    if noted.get("of") != fingerprint(inputs):
        raise RunInvalid(
            f"{run / LEARNT}: learnt by another run",
            found=str(noted.get("of"))[:12],
            expected=fingerprint(inputs)[:12],
            fix="bring back the file of this run, learnt by the same version; or delete it to train here",
        )
    return weights, noted


def fingerprint(inputs: Inputs) -> str:
    """What both sides must have in common: config, photos and split."""
    config = inputs.config.to_dict()
    config.pop("decision")  # It begins after training.
    # Keys that came later; runs that were handed over before them are taken back all the same.
    for section, key in (("model", "start_learnt_from"), ("split", "seed")):
        if not config[section][key]:
            del config[section][key]
    content = [config, inputs.data.manifest.sha256, sorted(inputs.data.assignment.items())]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_weights(path: Path, weights: Sequence[npt.NDArray[np.float32]], noted: dict[str, Any]) -> None:
    """Writes arrays in their order, and a JSON object, as one .npz, whole or not at all."""
    with whole_file(path) as temporary:
        named = {f"w{i:04d}": weight for i, weight in enumerate(weights)}
        np.savez(temporary, noted=np.array(json.dumps(noted)), **named)  # type: ignore[arg-type]


def read_weights(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """What `write_weights` wrote.

    Raises:
        RunInvalid: No such file, or damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            noted: dict[str, Any] = json.loads(str(archive["noted"]))
            return [archive[name] for name in sorted(archive.files) if name != "noted"], noted
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunInvalid(
            f"{path}: cannot be read",
            found=str(error),
            expected="what train.experiments.torch.handover or train.experiments.torch.loop wrote",
        ) from error
