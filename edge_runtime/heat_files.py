"""`edge-classify PHOTO ... --explain OUT`: answers with a heat map each, and where the pictures go.

One photo: OUT is a file that ends in .png, or a folder. Several photos (a folder, a list): OUT is a folder. In a folder
`mole.jpg` becomes `mole.explain.png`; a second photo of that name `mole.explain-2.png`, in the order of the photos. A
picture that was there before is replaced, a photo never.
"""

# Importing pathlib costs 4 ms of an edge-classify that takes 150, and this file is on its road.
# ruff: noqa: PTH110, PTH112, PTH118, PTH119, PTH120, PTH121, PTH122

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable

from edge_runtime.classifier import Classifier
from edge_runtime.errors import ImageError, UsageError
from edge_runtime.explain import Explainer, Explanation
from edge_runtime.heat_picture import write_picture
from edge_runtime.photos import STDIN
from edge_runtime.records import dataclass
from edge_runtime.result import notice

SUFFIX = ".png"


@dataclass(frozen=True)
class Explained:
    """An answer whose heat map is written."""

    explanation: Explanation
    picture: str
    """Its path."""

    def to_json(self) -> str:
        """One line, ASCII: that of the prediction, and `explanation`."""
        return json.dumps(self.explanation.to_dict(self.picture), allow_nan=False)

    def to_text(self, top_k: int = 3) -> str:
        """As `Prediction.to_text`, and where the heat map is."""
        return f"{self.explanation.prediction.to_text(top_k)}\n  heat map: {self.picture}"


def check_out(out: str, photos: list[str], *, several: bool) -> None:
    """Refuses, before anything is opened, an OUT that cannot be meant.

    Args:
        out: OUT.
        photos: As the command line names them.
        several: Whether there may be more than one picture.

    Raises:
        UsageError: As the module says.
    """
    if os.path.isdir(out):
        return
    if several:
        raise UsageError(
            "several photos need a folder for their heat maps",
            found=f"--explain {out}, which is no folder",
            expected="an existing folder",
            fix="make the folder first, or name one photo",
        )
    if os.path.splitext(out)[1].lower() != SUFFIX:
        raise UsageError(
            "the heat map is a PNG", found=f"--explain {out}", expected=f"a name that ends in {SUFFIX}"
        )
    if any(
        os.path.exists(out) and os.path.exists(photo) and os.path.samefile(photo, out) for photo in photos
    ):
        raise UsageError(
            "the heat map would replace the photo", found=f"--explain {out}", expected="another file"
        )
    folder = os.path.dirname(out) or os.curdir
    if not os.path.isdir(folder):
        raise UsageError(
            f"{out}: the heat map's folder does not exist", found=folder, fix="make the folder first"
        )


def explain_each(
    classifier: Classifier, photos: Iterable[str | tuple[str, ImageError]], out: str
) -> Generator[tuple[str, Explained | ImageError]]:
    """Classifies photos one after another and writes a heat map of each.

    Args:
        classifier: An open one.
        photos: Paths; what has its error already passes in its place.
        out: As `check_out` has accepted it.

    Yields:
        Each path with its answer, or with the error that this photo gave.

    Raises:
        ModelNotExplainable, InterpreterError: As `Explainer`.
        UsageError: A picture cannot be written.
    """
    said = notice(classifier.contract)
    taken: set[str] = set()
    with Explainer(classifier) as explainer:
        for photo in photos:
            if not isinstance(photo, str):
                yield photo
                continue
            try:
                explanation = explainer.explain(photo)
            except ImageError as error:
                yield photo, error
                continue
            picture = _free_name(out, photo, taken) if os.path.isdir(out) else out
            write_picture(picture, explanation, said)
            yield photo, Explained(explanation, picture)


def _free_name(folder: str, photo: str, taken: set[str]) -> str:
    stem = "stdin" if photo == STDIN else os.path.splitext(os.path.basename(photo))[0]
    name, number = f"{stem}.explain{SUFFIX}", 1
    while name in taken:
        number += 1
        name = f"{stem}.explain-{number}{SUFFIX}"
    taken.add(name)
    return os.path.join(folder, name)
