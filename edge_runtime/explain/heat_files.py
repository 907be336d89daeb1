"""`edge-classify PHOTO ... --explain OUT`: predictions with a heat map each, and where the pictures go.

One photo: OUT is a file that ends in .png, or a folder. Several photos (a folder, a list): OUT is a folder. In a folder
`mole.jpg` becomes `mole.explain.png`; a second photo of that name `mole.explain-2.png`, in the order of the photos. A
heat map that was there before is replaced, any other file never: in a folder the number goes up, OUT.png is refused.
OUT may be the folder that the photos lie in: its heat maps are no photos.

If a heat map cannot be written, its prediction and those of other photos are still printed.
"""

# Importing pathlib costs 4 ms of start-up.
# ruff: noqa: PTH110, PTH112, PTH118, PTH119, PTH120, PTH121, PTH122

from __future__ import annotations

import os
from collections.abc import Generator, Iterable

from edge_runtime._startup.records import dataclass
from edge_runtime.classifier import Classifier
from edge_runtime.errors import HeatMapUnwritten, ImageError, UsageError, quoted
from edge_runtime.explain.explainer import Explainer, Explanation
from edge_runtime.explain.heat_picture import is_heat_map, write_picture
from edge_runtime.images.memory import Reservation
from edge_runtime.images.photos import STDIN
from edge_runtime.result import json_line, notice

SUFFIX = ".png"
NAME_BYTES = 255
"""Of a file's name, on nearly every file system."""


@dataclass(frozen=True)
class Explained:
    """A prediction and its heat map."""

    explanation: Explanation
    picture: str | None
    """Its path; None where it could not be written."""
    failure: HeatMapUnwritten | None = None
    """Why it could not."""

    def to_json(self) -> str:
        """One line, ASCII: that of the prediction, and `explanation`, with `error` in it where there is no picture."""
        fields = self.explanation.to_dict(self.picture)
        if self.failure is not None:
            fields["explanation"]["error"] = self.failure.to_dict()
        return json_line(fields)

    def to_text(self, top_k: int = 3) -> str:
        """As `Prediction.to_text`, and where the heat map is."""
        where = f"heat map: {quoted(str(self.picture))}"
        if self.failure is not None:
            where = f"no heat map: {self.failure.message}"
        return f"{self.explanation.prediction.to_text(top_k)}\n  {where}"


def check_out(out: str, photos: list[str], *, several: bool) -> None:
    """Refuse, before anything is opened, an OUT that cannot be meant for photos as the command line names them.

    Raises:
        UsageError: As the module says.
    """
    given = f"--explain {out}"
    if os.path.isdir(out):
        for photo in photos:
            if _is_result(photo, out):
                problem = "a heat map of an earlier run, no photo"
                found = f"{given}, the folder that it lies in"
                fix = "leave it out, name the folder itself, or another folder for the heat maps"
                raise UsageError(problem, where=photo, found=found, expected="photos", fix=fix)
        return
    if several:
        problem, found = "several photos need a folder for their heat maps", f"{given}, which is no folder"
        fix = "make the folder first, or name one photo"
        raise UsageError(problem, found=found, expected="an existing folder", fix=fix)
    if os.path.splitext(out)[1].lower() != SUFFIX:
        expected = f"a name that ends in {SUFFIX}"
        raise UsageError("the heat map must be a PNG file", found=given, expected=expected)
    if os.path.exists(out) and any(os.path.samefile(photo, out) for photo in photos if os.path.exists(photo)):
        raise UsageError("the heat map would replace the photo", found=given, expected="another file")
    if os.path.lexists(out) and not is_heat_map(out):
        found, expected = f"{given}, which is no heat map of an earlier run", "a new name, or such a heat map"
        raise UsageError("the heat map would replace another file", found=found, expected=expected)
    folder = os.path.dirname(out) or os.curdir
    if not os.path.isdir(folder):
        problem = "the heat map's folder does not exist"
        raise UsageError(problem, where=out, found=folder, fix="make the folder first")


def explain_each(
    classifier: Classifier, photos: Iterable[str | tuple[str, ImageError]], out: str
) -> Generator[tuple[str, Explained | ImageError]]:
    """Classify photos one after another and write a heat map of each; `out` as `check_out` has accepted it.

    What has its error already passes in its place. Heat maps that lie in the folder `out` are left out.

    Yields:
        Each path with its prediction, or with its error.

    Raises:
        ModelNotExplainable, InterpreterError: As `Explainer`.
        HeatMapUnwritten: At the end, after all predictions: a picture could not be written.
        UsageError: At the end: nothing but heat maps.
    """
    text = notice(classifier.contract)
    taken: set[str] = set()
    failures: list[HeatMapUnwritten] = []
    into_folder = os.path.isdir(out)
    results = others = 0
    with Explainer(classifier) as explainer:
        for photo in photos:
            if not isinstance(photo, str):
                others += 1
                yield photo
                continue
            if into_folder and _is_result(photo, out):
                results += 1
                continue
            others += 1
            try:
                with Reservation(photo):
                    explanation = explainer.explain(photo)
            except ImageError as error:
                yield photo, error
                continue
            picture = _free_name(out, photo, taken) if into_folder else out
            try:
                write_picture(picture, explanation, text)
            except HeatMapUnwritten as error:
                failures.append(error)
                yield photo, Explained(explanation, None, error)
            else:
                yield photo, Explained(explanation, picture)
    if results and not others:
        found = "heat maps of earlier runs"
        raise UsageError("no photo to classify", where=out, found=found, expected="photos")
    if failures:
        raise _together(failures)


def _is_result(photo: str, folder: str) -> bool:
    """Whether it is a heat map in the folder that heat maps go to: found there, it is no photo."""
    try:
        inside = photo != STDIN and os.path.samefile(os.path.dirname(photo) or os.curdir, folder)
    except (OSError, ValueError):
        return False
    return inside and is_heat_map(photo)


def _free_name(folder: str, photo: str, taken: set[str]) -> str:
    """Return the path of a photo's heat map: a free name, or that of an earlier run's heat map."""
    stem = "stdin" if photo == STDIN else os.path.splitext(os.path.basename(photo))[0]
    number = 1
    while True:
        ending = f".explain-{number}{SUFFIX}" if number > 1 else f".explain{SUFFIX}"
        name = _cut(stem, NAME_BYTES - len(ending)) + ending
        path = os.path.join(folder, name)
        if name not in taken and (is_heat_map(path) or not os.path.lexists(path)):
            taken.add(name)
            return path
        number += 1


def _cut(stem: str, most_bytes: int) -> str:
    stem = stem[:most_bytes]
    while len(os.fsencode(stem)) > most_bytes:
        stem = stem[:-1]
    return stem


def _together(failures: list[HeatMapUnwritten]) -> HeatMapUnwritten:
    first = failures[0]
    if len(failures) == 1:
        return first
    problem, found = f"{len(failures)} heat maps cannot be written", f"the first: {first.what}: {first.found}"
    fix = "free disk space, check permissions, or name another folder with --explain"
    return HeatMapUnwritten(problem, found=found, expected=first.expected, fix=fix)
