"""The checkpoint of a fine-tuning: variables, progress, a key of all that shapes the result. TensorFlow."""

from __future__ import annotations

import ast
import hashlib
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_model_optimization as tfmot

from convert.quantization.batches import TrainingStream
from convert.recipes import QatSettings
from edge_runtime.errors import ConversionRefused
from train.artifacts.bounded import DAMAGED_ZIP, require_small_archive
from train.artifacts.files import whole_file
from train.artifacts.writer import bytes_of, require_space
from train.data.pixels import PixelArray

ROOT = Path(__file__).parents[2]
# Files whose code shapes a fine-tuned model; tests/convert/quantization/test_qat.py checks that the list is complete.
SHAPING_FILES = (
    "convert/pixels.py",
    "convert/quantization/batches.py",
    "convert/quantization/equalize.py",
    "convert/quantization/fake_quant.py",
    "convert/quantization/qat.py",
    "convert/quantization/qat_state.py",
    "convert/quantization/rounding_shift.py",
    "convert/quantization/soft_labels.py",
    "train/data/pixels.py",
    "train/data/sampling.py",
)


@dataclass
class Progress:
    """A checkpoint's content beside variables."""

    step: int = 0
    best_epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)


def code_digest(root: Path = ROOT) -> str:
    """Hex SHA-256 of the code of SHAPING_FILES below a folder; comments, docstrings and layout do not count."""
    digest = hashlib.sha256()
    for name in SHAPING_FILES:
        tree = ast.parse((root / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                # Strings that stand alone: docstrings, also those below a dataclass's fields.
                node.body = [  # type: ignore[attr-defined]
                    x for x in body if not (isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant))
                ]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()


def state_key(
    float_model: Any, settings: QatSettings, stream: TrainingStream, calibration_u8: PixelArray
) -> str:
    """Hash of everything on which the result depends, the code too; a checkpoint of another key is not resumed."""
    digest = hashlib.sha256(code_digest().encode())
    for weights in float_model.get_weights():
        digest.update(np.ascontiguousarray(weights).tobytes())
    digest.update(stream.labels.tobytes())
    digest.update(np.ascontiguousarray(calibration_u8).tobytes())
    digest.update(stream.weights.tobytes())
    if stream.soft_labels is not None:
        digest.update(stream.soft_labels.tobytes())
    described = [asdict(settings), stream.seed, stream.batch, stream.pixels_u8.shape]
    digest.update(json.dumps([*described, tf.__version__, tfmot.__version__]).encode())
    return digest.hexdigest()


class Saver:
    """Writes and reads all state: the model's and optimizer's variables, the best epoch's weights, progress."""

    def __init__(self, path: Path, key: str, model: Any, optimizer: Any) -> None:
        self._path, self._key = path, key
        self._variables = [*model.variables, *optimizer.variables]
        self.best: list[npt.NDArray[Any]] = []
        """The best epoch's weights of the model."""
        # Those too, and the file that takes this one's place.
        require_space(path.parent, 3 * bytes_of(self._variables), path)

    def save(self, progress: Progress) -> None:
        """Write a checkpoint, whole or not at all."""
        arrays = {f"v{i}": variable.numpy() for i, variable in enumerate(self._variables)}
        arrays |= {f"b{i}": weights for i, weights in enumerate(self.best)}
        header = json.dumps({"key": self._key, "best": len(self.best), **asdict(progress)})
        # In memory first: a file that np.savez cannot finish is reported once more when it is collected.
        packed = io.BytesIO()
        np.savez(packed, header=np.frombuffer(header.encode(), np.uint8), **arrays)
        with whole_file(self._path) as temporary:
            temporary.write_bytes(packed.getbuffer())

    def restore(self) -> Progress:
        """The last checkpoint's progress with all variables set; a fresh one if none fits."""
        if not self._path.is_file():
            return Progress()
        try:
            require_small_archive(self._path)
            with np.load(self._path, allow_pickle=False) as saved:
                header = json.loads(saved["header"].tobytes())
                if header.pop("key") != self._key:
                    return Progress()
                for i, variable in enumerate(self._variables):
                    variable.assign(saved[f"v{i}"])
                self.best = [saved[f"b{i}"] for i in range(header.pop("best"))]
        except (OSError, ValueError, KeyError, *DAMAGED_ZIP) as error:
            raise ConversionRefused(
                f"{self._path}: the checkpoint cannot be read",
                found=str(error),
                fix="delete it and convert again",
            ) from error
        return Progress(**header)
