"""`python -m convert.robustness.study MODEL MODEL ... --data RUN --out DIR`: what is left when photos get worse.

Every photo is disturbed in every way of `disturbances.py`, and every version goes through every model as a device
would run it. The first model is the reference: the float32 file of the run; the others are its conversions. The command
stands in this room and not in `train`, because it needs the engines, which `train` may not import, and because to
compare float and int8 on the same pixels is this room's trade. The float side is a float32 .tflite and not the Keras
model: the conversion's gate has shown that both answer alike, and it needs no TensorFlow.

DIR/robustness.json:

  schema_version 1
  models         [{name, file, sha256, bytes, run_id, recipe, caught: [what its golden pictures say against it]}]
  photos         {manifest, source, split, seed, asked, answered, lesions, per_class, failures}
  disturbances   [{name, unit, points: [{strength, pixels_sha256, models: [figures]}]}]; strength 0 is the photo itself
  shift          null, or {manifest, by, photos, lesions, per_class, failures, rows: [{value, photos, lesions, classes,
                 models: [figures]}]}: other photos, undisturbed; the first row is all of them
  seconds, machine

figures, each [value, low, high] with a 95 % interval from 1,000 draws of whole lesions, or null:
  balanced_accuracy   mean over classes of the share answered rightly
  change              of balanced accuracy against the undisturbed photos, on the same draws (disturbances only)
  agreement           mean over true classes of the share answered as at strength 0 (disturbances only)
  with_first          mean over true classes of the share answered as the first model answers the same pixels

Agreement is a mean over classes like accuracy, because the photos are chosen evenly over the classes: a share of all
photos would say more about the choice than about the model. pixels_sha256 is of all versions' cropped and resized
pixels, photo by photo: two reports with the same value have asked about the same pixels.

Exit status: 0 done; 1 done, but a model is not what it says it is, or photos are unreadable; 2 usage or data; 3 a model
cannot be used; 130 interrupted, nothing written.
"""

from __future__ import annotations

import argparse
import csv
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.command import positive, run_command
from convert.comparison.integrity import contract_differences, golden_problems
from convert.comparison.report import distinct_names
from convert.files import json_text, require_out_folder, whole_files
from convert.inputs import SOURCE_SEPARATOR, Photo, read_object
from convert.photo_list import PhotoList, read_photo_list
from convert.robustness.answers import Answers, Step, ask
from convert.robustness.disturbances import steps
from convert.robustness.figures import ALL, choose_evenly, counts, disturbance_figures, shift_rows
from edge_runtime.errors import EXIT_OK, DataInvalid, ModelMismatch, UsageError
from edge_runtime.model.model_file import ModelFile, open_model

EXIT_DOUBTFUL = 1
REPORT_NAME, PAGE_NAME = "robustness.json", "robustness.html"
SCHEMA_VERSION = 1
DEFAULT_LIMIT = 400


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's head for its exit status."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _measure(arguments), interrupted="interrupted; nothing was written")


def _measure(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    models = [open_model(path) for path in arguments.models]
    _require_alike(models)
    require_out_folder(arguments.out)
    codes = [label.code for label in models[0].contract.labels]
    listed = read_photo_list(arguments.data, codes, root=arguments.photos, split=arguments.split)
    source, photos = _of_one_source(listed, arguments.source)
    chosen = choose_evenly(photos, arguments.limit, arguments.seed)
    # Read before the hour that the disturbed photos take: what is wrong with it is said at once.
    other = _read_shift(arguments, codes)
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "models": _described(models),
        **_disturbed(arguments, listed, source, chosen, codes),
        "shift": _shifted(arguments, other, codes) if other else None,
        "seconds": round(time.monotonic() - started),
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
    }
    from convert.robustness.page import make_page, summary

    page = make_page(report, models[0].contract.provenance.data_licence)
    arguments.out.mkdir(parents=True, exist_ok=True)
    paths = [arguments.out / REPORT_NAME, arguments.out / PAGE_NAME]
    with whole_files(paths) as (json_file, html_file):
        json_file.write_text(json_text(report), encoding="utf-8")
        html_file.write_text(page, encoding="utf-8")
    print(summary(report))
    print(f"\n{paths[0]}\n{paths[1]}")
    failed = report["photos"]["failures"] or (report["shift"] or {}).get("failures")
    doubtful = failed or any(model["caught"] for model in report["models"])
    return EXIT_DOUBTFUL if doubtful else EXIT_OK


def _require_alike(models: Sequence[ModelFile]) -> None:
    for model in models[1:]:
        if differences := contract_differences(models[0].contract, model.contract):
            raise ModelMismatch(
                f"{model.path}: sees photos in another way than {models[0].path}",
                found="; ".join(differences),
                expected="conversions of one run",
                fix="measure them one by one",
            )


def _described(models: Sequence[ModelFile]) -> list[dict[str, Any]]:
    names = distinct_names([Path(model.path) for model in models])
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
        for model, name in zip(models, names, strict=True)
    ]


# -------------------------------------------------------------------- parts of the report


def _disturbed(
    arguments: argparse.Namespace,
    listed: PhotoList,
    source: str | None,
    chosen: Sequence[Photo],
    codes: Sequence[str],
) -> dict[str, Any]:
    wanted = steps()
    photos, answers, failures = _ask(arguments, chosen, wanted, listed)
    return {
        "photos": {
            "manifest": _shown(listed.manifest),
            "source": source,
            "split": listed.split,
            "seed": arguments.seed,
            "asked": len(chosen),
            "answered": len(photos),
            **counts(photos, codes),
            "failures": failures,
        },
        "disturbances": disturbance_figures(photos, answers, wanted, len(codes)),
    }


@dataclass(frozen=True)
class _Shift:
    """Other photos."""

    listed: PhotoList
    values: dict[str, str]
    """photo_id to what stands in the column of --by; empty without one."""


def _read_shift(arguments: argparse.Namespace, codes: Sequence[str]) -> _Shift | None:
    if not arguments.shift:
        for option, given in (("--by", arguments.by), ("--shift-photos", arguments.shift_photos)):
            if given:
                raise UsageError(
                    f"{option} is about the photos of --shift", fix=f"name them, or leave {option} out"
                )
        return None
    listed = read_photo_list(arguments.shift, codes, root=arguments.shift_photos, split=ALL)
    return _Shift(listed, _column(listed.manifest, arguments.by) if arguments.by else {})


def _shifted(arguments: argparse.Namespace, other: _Shift, codes: Sequence[str]) -> dict[str, Any]:
    """Figures on other photos, all of them and by the values of a column."""
    listed, values = other.listed, other.values
    photos, answers, failures = _ask(arguments, listed.photos, [], listed)
    return {
        "manifest": _shown(listed.manifest),
        "by": arguments.by,
        "photos": len(photos),
        **counts(photos, codes),
        "failures": failures,
        "rows": shift_rows(photos, answers, values, len(codes)),
    }


def _of_one_source(listed: PhotoList, wanted: str | None) -> tuple[str | None, list[Photo]]:
    """The photos of one data set, by default the run's first: those of another camera are another question."""
    beside = listed.manifest.parent / "run.json"
    names = read_object(beside)["data"]["name"].split(SOURCE_SEPARATOR) if beside.is_file() else []
    source = wanted or (names[0] if len(names) > 1 else None)
    if source is None:
        return None, list(listed.photos)
    photos = [photo for photo in listed.photos if photo.path.is_relative_to(listed.root / source)]
    if not photos:
        raise UsageError(
            f"{listed.manifest}: no photo of {source} in split {listed.split}",
            found=", ".join(names) or "a table of one data set",
            fix="name another --source, or leave it out",
        )
    return source, photos


def _shown(manifest: Path) -> str:
    """The last folder and the name: a report must not tell the machine that made it."""
    return "/".join(manifest.resolve().parts[-2:])


def _column(manifest: Path, name: str) -> dict[str, str]:
    """photo_id (else path) to what stands in a column."""
    with manifest.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    if name not in rows[0]:
        raise DataInvalid(f"{manifest}: no column {name}", found=", ".join(rows[0]), fix="name another --by")
    return {row.get("photo_id") or row["path"]: (row[name] or "").strip() for row in rows}


def _ask(
    arguments: argparse.Namespace, photos: Sequence[Photo], wanted: Sequence[Step], listed: PhotoList
) -> tuple[list[Photo], list[Answers], dict[str, str]]:
    """The photos that were answered, their answers, and why others were not."""
    from tqdm import tqdm

    asked = ask(arguments.models, [photo.path for photo in photos], wanted, workers=arguments.workers)
    shown = tqdm(asked, total=len(photos), desc=f"{1 + len(wanted)} versions", unit="photo", mininterval=1)
    answered, answers, failures = [], [], {}
    for photo, one in zip(photos, shown, strict=True):
        if one.problem:
            failures[photo.photo_id] = one.problem
        else:
            answered.append(photo)
            answers.append(one)
    if not answered:
        raise DataInvalid(
            f"{listed.manifest}: no photo could be read",
            found=next(iter(failures.values()), "no photo"),
            expected=f"photos in {listed.root}",
            fix="name their folder",
        )
    return answered, answers, failures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m convert.robustness.study",
        description="Balanced accuracy and agreement of .tflite files on photos that are made worse step by step.",
        epilog="Exit status: 0 done; 1 a model is not what it says it is, or photos are unreadable; 2 usage or data; "
        "3 a model cannot be used; 130 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "models", nargs="+", type=Path, metavar="MODEL", help="a .tflite; the first is the reference"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="RUN", help="a run directory, or a CSV")
    parser.add_argument(
        "--photos", type=Path, metavar="DIR", help="where they are, if not where the run says"
    )
    parser.add_argument("--source", metavar="NAME", help="data set, of a run on several (default: its first)")
    parser.add_argument("--split", metavar="NAME", help="test (default, where there is one), val, all")
    parser.add_argument(
        "--limit", type=positive, default=DEFAULT_LIMIT, metavar="N",
        help=f"at most so many, evenly over the classes (default {DEFAULT_LIMIT})",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of their choice (default 0)")
    parser.add_argument(
        "--shift",
        type=Path,
        metavar="CSV",
        help="other photos, asked as they are (see train.experiments.phone_table)",
    )
    parser.add_argument("--shift-photos", type=Path, metavar="DIR", help="to which its paths are relative")
    parser.add_argument("--by", metavar="COLUMN", help="of that table, by which its figures are broken down")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help=f"for {REPORT_NAME} and {PAGE_NAME}"
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: one a core)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
