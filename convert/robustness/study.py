"""`dermedge robustness MODEL MODEL ... --data RUN --out DIR`: measure models on disturbed photos.

Every photo is disturbed in every way of `disturbances.py`, and every version runs through every model as on a device.
README.md of the package describes robustness.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convert.comparison.compare import (
    EXIT_CODES,
    EXIT_DOUBTFUL,
    add_photo_options,
    no_readable_photo,
    write_results,
)
from convert.comparison.integrity import contract_differences, golden_problems
from convert.comparison.report import Measured, machine, names_of
from convert.comparison.workers import Step, Workers
from convert.files import selection_marks
from convert.inputs import ALL, Photo, PhotoList, read_photo_list
from convert.robustness import disturbances
from convert.robustness.figures import choose_evenly, counts, disturbance_figures, shift_rows
from edge_runtime.engines.opening import open_requested
from edge_runtime.errors import EXIT_OK, ModelMismatch, UsageError, escaped
from edge_runtime.model.model_file import ModelFile
from train.artifacts.command import AND_NOTHING_WRITTEN, NOTHING_WRITTEN, command_parser, run_command
from train.artifacts.files import json_text, read_object, require_out_folder
from train.artifacts.run import source_names
from train.artifacts.selection import KEY

REPORT_NAME, PAGE_NAME = "robustness.json", "robustness.html"
SCHEMA_VERSION = 1
DEFAULT_LIMIT = 400


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, see EXIT_CODES; an interruption leaves nothing."""
    arguments = parser().parse_args(argv)
    return run_command(
        lambda: _measure(arguments), interrupted=NOTHING_WRITTEN, after_os_error=AND_NOTHING_WRITTEN
    )


def _measure(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    models = open_requested(arguments, *arguments.models)
    _require_alike(models)
    require_out_folder(arguments.out)
    codes = models[0].contract.codes
    listed = read_photo_list(arguments.data, codes, root=arguments.photos, split=arguments.split)
    source, photos = _of_one_source(listed, arguments.source)
    chosen = choose_evenly(photos, arguments.limit, arguments.seed)
    # Read before the hour that the disturbed photos take.
    shift = _read_shift(arguments, codes)
    with Workers(models, arguments.workers, module=disturbances.__name__) as pool:
        disturbed = _run(pool, chosen, disturbances.steps(), listed)
        shifted = _run(pool, shift.photos, [], shift) if shift else None
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "models": _described(models),
        "photos": {
            "manifest": _shown(listed.manifest),
            "source": source,
            "split": listed.split,
            "seed": arguments.seed,
            "asked": len(chosen),
            **counts(disturbed, codes, "answered"),
            KEY: _marks(models, disturbed),
        },
        "disturbances": disturbance_figures(disturbed, codes),
        "shift": shift and shifted and _shift_report(shift, arguments.by, shifted, codes),
        "seconds": round(time.monotonic() - started),
        "machine": machine(),
    }
    from convert.comparison.text import terminal_safe
    from convert.robustness.page import make_page, summary

    page = make_page(report, models[0].contract)
    paths = write_results(arguments.out, {REPORT_NAME: json_text(report), PAGE_NAME: page})
    print(summary(terminal_safe(report)))
    print("", *(escaped(str(path)) for path in paths), sep="\n")
    failed = disturbed.failures or (shifted and shifted.failures)
    return EXIT_DOUBTFUL if failed or any(model["caught"] for model in report["models"]) else EXIT_OK


def _require_alike(models: Sequence[ModelFile]) -> None:
    for model in models[1:]:
        if differences := contract_differences(models[0].contract, model.contract):
            problem = f"{model.path}: contract differs from that of {models[0].path}"
            found, fix = "; ".join(differences), "Measure the models one at a time"
            raise ModelMismatch(problem, found=found, expected="conversions of one run", fix=fix)


def _marks(models: Sequence[ModelFile], found: Measured) -> list[str]:
    names = [(photo.photo_id,) for photo, _ in found.answered]
    return list(dict.fromkeys(m for model in models for m in selection_marks(Path(model.path), names)))


def _described(models: Sequence[ModelFile]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "file": Path(model.path).name,
            "sha256": model.sha256,
            "bytes": len(model.data),
            "run_id": model.contract.provenance.run_id,
            "recipe": model.contract.provenance.recipe,
            "caught": golden_problems(model),
        }
        for model, name in zip(models, names_of(models), strict=True)
    ]


def _run(pool: Workers, photos: Sequence[Photo], steps: Sequence[Step], listed: PhotoList) -> Measured:
    from tqdm import tqdm

    results = pool.run([photo.path for photo in photos], steps)
    bar = tqdm(results, total=len(photos), desc=f"{1 + len(steps)} versions", unit="photo", mininterval=1)
    measured = Measured(tuple(photos), results=list(bar))
    if not measured.answered:
        raise no_readable_photo(listed, measured.failures)
    return measured


def _read_shift(arguments: argparse.Namespace, codes: Sequence[str]) -> PhotoList | None:
    if not arguments.shift:
        for option, given in (("--by", arguments.by), ("--shift-photos", arguments.shift_photos)):
            if given:
                raise UsageError(f"{option} needs --shift", fix=f"Add --shift, or leave {option} out")
        return None
    options = {"column": arguments.by or "", "option": "--shift-photos"}
    return read_photo_list(arguments.shift, codes, root=arguments.shift_photos, split=ALL, **options)


def _shift_report(shift: PhotoList, by: str | None, found: Measured, codes: Sequence[str]) -> dict[str, Any]:
    """Make the metrics on other photos, all of them and by the values of a column."""
    return {
        "manifest": _shown(shift.manifest),
        "by": by,
        **counts(found, codes, "photos"),
        "rows": shift_rows(found, shift.values, codes),
    }


def _of_one_source(listed: PhotoList, wanted: str | None) -> tuple[str | None, list[Photo]]:
    """Select one dataset, by default the run's first: another camera is a shift of its own."""
    beside = listed.manifest.parent / "run.json"
    names = source_names(read_object(beside)) if beside.is_file() else ()
    source = wanted or (names[0] if len(names) > 1 else None)
    if source is None:
        return None, list(listed.photos)
    photos = [photo for photo in listed.photos if photo.path.is_relative_to(listed.root / source)]
    if not photos:
        problem = f"{listed.manifest}: no photo of {source} in split {listed.split}"
        found = ", ".join(names) or "one dataset"
        raise UsageError(problem, found=found, fix="Name another --source, or leave it out")
    return source, photos


def _shown(manifest: Path) -> str:
    """Return the last folder and the name: a report must not name folders of the machine that made it."""
    return "/".join(manifest.resolve().parts[-2:])


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    made = command_parser(
        "robustness",
        "Measure balanced accuracy and agreement of models on disturbed photos, step by step.",
        f"example:\n  dermedge robustness float32.tflite int8.tflite --data runs/x\n\n{EXIT_CODES}",
    )
    files = f"{REPORT_NAME} and {PAGE_NAME}"
    add_photo_options(made, Path("robustness"), files, DEFAULT_LIMIT, "evenly over the classes")
    add = made.add_argument
    add("--source", metavar="NAME", help="Dataset of a run on several (default: its first)")
    add("--shift", type=Path, metavar="CSV", help="Other photos, run undisturbed (default: none)")
    add("--shift-photos", type=Path, metavar="DIR", help="Folder of those photos (default: the CSV's)")
    add("--by", metavar="COLUMN", help="Column of that CSV by which to break down (default: none)")
    return made
