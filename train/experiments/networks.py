"""First networks, networks of finished runs, and views to evaluate them on. numpy; TensorFlow, imported late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_runtime.errors import RunInvalid
from train.artifacts.run import finished_state
from train.data.pixels import PixelArray

if TYPE_CHECKING:
    from train.training.inputs import Inputs

# The four quarter turns, each also mirrored: a lesion has no upright side.
VIEWS = (1, 2, 4, 8)


def views_of(pixels_u8: PixelArray, count: int) -> Iterator[PixelArray]:
    """Yield `count` of the eight turned and mirrored views of squares [n, s, s, 3]; the first is the photo as it is."""
    for i in range(count):
        mirrored = pixels_u8[:, :, ::-1] if i % 2 else pixels_u8
        yield np.rot90(mirrored, i // 2, axes=(1, 2))


def network_file(run: Path) -> Path:
    """Return model.keras of a finished run.

    Raises:
        RunInvalid: Not a finished run, or its network was removed or never brought back from another machine
            (`train.experiments.torch.loop --measure`).
    """
    state, path = finished_state(run), run / "model.keras"
    if not path.is_file():
        found = f"no model.keras: {state.get('not_for_conversion', 'it was removed')}"
        expected = "model.keras, as training left it"
        fix = "bring the whole run directory, or train it again in another one"
        raise RunInvalid(f"{run}: the run has no network", found=found, expected=expected, fix=fix)
    return path


def seeded_model(inputs: Inputs, run: Path) -> Any:
    """Build the first network as training does, in a fresh session with the config's seed."""
    import tf_keras

    from train.training.run import first_model

    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(inputs.config.seed)
    return first_model(inputs, run)
