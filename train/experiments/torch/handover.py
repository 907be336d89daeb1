"""A run that PyTorch trains on another machine: prepared here, trained there, finished here.

    dermedge experiment torch-setup CONFIG.toml --workdir RUN   photos, split, contract, start.npz; then it stops
    dermedge experiment torch RUN --data DIR              there: start.npz -> trained.npz, history.csv
    dermedge experiment torch-setup CONFIG.toml --workdir RUN   trained.npz -> metrics, model.keras

With --crossval these are the runs of a cross-validation; `dermedge experiment study --torch` does the same with those
of a study. The photos must be on both machines; pixels, split and sampling come from the same code on both.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import RunInvalid
from train.artifacts.bounded import DAMAGED_ZIP, require_small_archive
from train.artifacts.files import read_object, whole_file, write_json
from train.training.distribute import Worker
from train.training.inputs import Inputs

START, TRAINED = "start.npz", "trained.npz"
Arrays = list[npt.NDArray[np.float32]]
# Keys that came later; runs that were prepared before them are taken back all the same.
LATER_KEYS = (("model", "start_learnt_from"), ("split", "seed"))


def exchange(inputs: Inputs, run: Path, worker: Worker) -> Arrays | None:
    """Take back the weights that were trained elsewhere; if there are none, write what training needs there.

    Serves as `make` of `run_experiment` and `run_crossval`.

    Returns:
        The weights in Keras' order; None where RUN/start.npz was written.

    Raises:
        RunInvalid: Weights of another config, other photos or another split, or damaged.
    """
    if not (run / TRAINED).exists():
        _prepare(inputs, run)
        return None
    weights, noted = read_weights(run / TRAINED)
    if noted.get("of") != fingerprint(inputs):
        raise RunInvalid(
            f"{run / TRAINED}: weights of another run",
            found=str(noted.get("of"))[:12],
            expected=fingerprint(inputs)[:12],
            fix="copy the file of this run here, or delete it to prepare the run again",
        )
    elsewhere = {key: noted[key] for key in ("device", "torch", "seconds")}
    state = {**read_object(run / "run.json"), "trained_elsewhere": elsewhere, "seconds": elsewhere["seconds"]}
    write_json(run / "run.json", state)
    return weights


def _prepare(inputs: Inputs, run: Path) -> None:
    # TensorFlow takes seconds to import, and is not there where PyTorch trains.
    from train.experiments.networks import seeded_model

    model = seeded_model(inputs, run)
    write_weights(run / START, model.get_weights(), {"keras": model.to_json(), "of": fingerprint(inputs)})
    print(f"{run}: prepared; train it with dermedge experiment torch {run}")


def fingerprint(inputs: Inputs) -> str:
    """What both machines must have in common: config, photos and split."""
    config = inputs.config.to_dict()
    config.pop("decision")  # It takes effect after training.
    for section, key in LATER_KEYS:
        if not config[section][key]:
            del config[section][key]
    content = [config, inputs.data.manifest.sha256, sorted(inputs.data.assignment.items())]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_weights(path: Path, weights: Sequence[npt.NDArray[np.float32]], noted: dict[str, Any]) -> None:
    """Write arrays in their order, and a JSON object, as one .npz, whole or not at all."""
    with whole_file(path) as temporary:
        named, packed = {f"w{i:04d}": weight for i, weight in enumerate(weights)}, io.BytesIO()
        np.savez(packed, noted=np.array(json.dumps(noted)), **named)
        temporary.write_bytes(packed.getbuffer())


def read_weights(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Read what `write_weights` wrote.

    Raises:
        RunInvalid: No such file, or damaged.
    """
    try:
        require_small_archive(path)
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            noted: dict[str, Any] = json.loads(str(archive["noted"]))
            return [archive[name] for name in sorted(archive.files) if name != "noted"], noted
    except (OSError, ValueError, KeyError, *DAMAGED_ZIP) as error:
        raise RunInvalid(
            f"{path}: cannot be read", found=str(error), expected="weights as written by experiment torch"
        ) from error
