"""The file opens, unchanged, in MediaPipe Tasks' ImageClassifier and gives the same labels and scores there.

MediaPipe pins packages that TensorFlow Model Optimization cannot live with, so it has an environment of its own, which
`make mediapipe` installs from locks/mediapipe.txt before it runs this file. With another model:

    DERMEDGE_MEDIAPIPE_PYTHON=build/venv-mediapipe/bin/python DERMEDGE_MEDIAPIPE_MODEL=mine.tflite \
      pytest tests/convert/test_mediapipe.py

MediaPipe stretches the whole frame and resizes by its own filter, so the promise is about square photos; at the
model's own size no filter comes between, and scores differ by kernels only.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convert.tflite.golden import draw_picture
from edge_runtime.model.model_file import bundled_model_path, open_model
from edge_runtime.runner import Runner

VARIABLE, MODEL_VARIABLE = "DERMEDGE_MEDIAPIPE_PYTHON", "DERMEDGE_MEDIAPIPE_MODEL"
PHOTOS = 100
LEAST_SAME_LABEL = 99
# Two steps of the uint8 softmax: XNNPACK of another version rounds otherwise.
SCORE_TOLERANCE = 2 / 256
RUN = """
import json, sys
import mediapipe as mp
from mediapipe.tasks import python
from mediapipe.tasks.python import vision

request = json.load(sys.stdin)
options = vision.ImageClassifierOptions(
    base_options=python.BaseOptions(model_asset_buffer=open(request["model"], "rb").read()), max_results=-1
)
results = []
with vision.ImageClassifier.create_from_options(options) as classifier:
    for photo in request["photos"]:
        found = classifier.classify(mp.Image.create_from_file(photo)).classifications[0].categories
        results.append({category.category_name: category.score for category in found})
print(json.dumps(results))
"""


def square_photos(folder: Path, size_px: int, count: int = PHOTOS) -> list[Path]:
    """Drawn pictures, cropped to squares of one size."""
    folder.mkdir()
    paths = []
    for i in range(count):
        drawn, path = folder / "drawn.png", folder / f"{i:03}.png"
        drawn.write_bytes(draw_picture(i))
        with Image.open(drawn) as picture:
            side = min(picture.size)
            picture.convert("RGB").crop((0, 0, side, side)).resize((size_px, size_px)).save(path)
        paths.append(path)
    return paths


@pytest.mark.slow
def test_mediapipe_predicts_as_the_runtime_does(tmp_path: Path) -> None:
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(
            f"MediaPipe was NOT checked: {VARIABLE} names no Python that has it; see this file's head"
        )
    model = Path(os.environ.get(MODEL_VARIABLE) or bundled_model_path())
    contract = open_model(model).contract
    codes = [label.code for label in contract.labels]
    paths = square_photos(tmp_path / "photos", contract.input.height_px)
    done = subprocess.run(
        [python, "-c", RUN],
        input=json.dumps({"model": str(model), "photos": [str(path) for path in paths]}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = np.array([[row[code] for code in codes] for row in json.loads(done.stdout)])
    with Runner.open(model) as runner:
        ours = np.array([runner.scores_of_pixels(runner.pixels_u8(path.read_bytes())) for path in paths])
    same = int((theirs.argmax(axis=1) == ours.argmax(axis=1)).sum())
    assert same >= LEAST_SAME_LABEL, f"{same} of {len(paths)} the same label"
    assert np.abs(theirs - ours).max() <= SCORE_TOLERANCE
    assert len(set(ours.argmax(axis=1).tolist())) > 1, "pictures of one label prove nothing"
