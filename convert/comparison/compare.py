"""`python -m convert.comparison.compare MODEL MODEL ... --data MANIFEST`: which .tflite to ship, compared on the
same photos.

Every model answers every photo as a device would; all are compared with the first one. A table goes to the terminal,
DIR/report.json holds every figure, and DIR/report.html is the page to look at. Ctrl-C keeps what there is.

Exit status: 0 compared; 1 compared, but a model is not what it says it is, or photos are unreadable; 2 usage or data;
3 a model cannot be used; 130 interrupted, with a report on the photos answered so far.
"""  # noqa: D205

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.command import EXIT_INTERRUPTED, positive, run_command
from convert.comparison.workers import Answer, Workers
from convert.files import json_text, require_out_folder, whole_files
from convert.inputs import Photo
from convert.photo_list import PhotoList, draw_photos, read_photo_list
from edge_runtime.errors import EXIT_OK, DataInvalid, ModelMismatch, UsageError
from edge_runtime.model.model_file import ModelFile, open_model

if TYPE_CHECKING:
    from convert.comparison.layers import LayerReports
    from convert.tflite.reader import TfliteFile

EXIT_DOUBTFUL = 1
REPORT_NAME, PAGE_NAME = "report.json", "report.html"
BENCH_RUNS = 6
# An interrupted comparison of fewer photos says nothing.
LEAST_PHOTOS = 20


@dataclass
class Measured:
    """What came back from the models, in the order in which photos were drawn."""

    photos: tuple[Photo, ...]
    answers: dict[int, Answer] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """photo_id to why it could not be answered."""
    bench_ms: list[list[float]] = field(default_factory=list)
    """By model: one photo, one thread, again and again, nothing beside it."""
    answering_seconds: float = 0.0
    workers: int = 1
    """Processes."""
    interrupted: bool = False
    layer_reports: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By place of the model that is compared with the first one; see convert/comparison/layers.py."""
    golden_problems: list[list[str]] = field(default_factory=list)
    """By model; see convert/comparison/integrity.py."""
    files: list[TfliteFile] = field(default_factory=list)
    """By model: what stands inside."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's head for its exit status."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _compare(arguments), interrupted="interrupted; nothing was written")


def _compare(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    # They start while the models and the list are read here. One that finds its model unusable ends, and so does this.
    with Workers(arguments.models, arguments.workers) as pool:
        models = [open_model(path) for path in arguments.models]
        _require_comparable(models)
        codes = [label.code for label in models[0].contract.labels]
        listed = read_photo_list(arguments.data, codes, root=arguments.photos, split=arguments.split)
        drawn = draw_photos(listed.photos, arguments.limit, arguments.seed)
        _require_out(arguments.out)
        measured = measure(models, drawn, pool, with_layers=not arguments.no_layers)
    return _report(arguments, models, listed, measured, started)


def measure(
    models: Sequence[ModelFile],
    photos: Sequence[Photo],
    pool: Workers,
    *,
    with_layers: bool = False,
) -> Measured:
    """Asks every model every photo.

    Args:
        models: The first is the reference.
        photos: In the order in which they are asked.
        pool: Processes that have the same models.
        with_layers: Whether the layers are compared too, beside the answering.

    Returns:
        What was answered; everything, unless Ctrl-C came.

    Raises:
        InterpreterBroken: A process died.
    """
    measured = Measured(tuple(photos), workers=pool.count)
    with ThreadPoolExecutor(1) as beside:
        # Beside the workers' own start: numpy takes a while to import, and they need none of it.
        from convert.comparison.layers import LayerReports
        from convert.tflite.reader import parse_tflite

        golden_problems = beside.submit(_golden_problems, models)
        measured.files = [parse_tflite(Path(model.path), model.data) for model in models]
        layer_reports = LayerReports(models if with_layers else (), measured.files)
        with _keeping_what_is_there(measured):
            _answer(pool, measured, layer_reports)
            measured.layer_reports = layer_reports.results()
            if measured.answers:
                # Last, and after them: nothing else may run beside it.
                wait([golden_problems])
                measured.bench_ms = pool.bench(photos[min(measured.answers)].path, BENCH_RUNS)
        layer_reports.close()
        measured.golden_problems = golden_problems.result()
    return measured


def _golden_problems(models: Sequence[ModelFile]) -> list[list[str]]:
    """What all files say of themselves, and what the report will import: after the answering a core would wait."""
    from convert.comparison import page as compare_page  # noqa: F401
    from convert.comparison.integrity import golden_problems

    return [golden_problems(model) for model in models]


def _answer(pool: Workers, measured: Measured, layer_reports: LayerReports) -> None:
    from tqdm import tqdm

    photos, start = measured.photos, time.monotonic()
    answering = pool.answer([photo.path for photo in photos])
    try:
        for answer in tqdm(answering, total=len(photos), desc="photos", unit="photo", mininterval=0.5):
            photo = photos[answer.index]
            if answer.problem:
                measured.failures[photo.photo_id] = answer.problem
            else:
                measured.answers[answer.index] = answer
                layer_reports.offer(photo.path)
    finally:
        measured.answering_seconds = time.monotonic() - start


@contextmanager
def _keeping_what_is_there(measured: Measured) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        measured.interrupted = True


def _require_comparable(models: Sequence[ModelFile]) -> None:
    if len(models) < 2:
        raise UsageError("a comparison needs two models", found="one", fix="name another .tflite file")
    first = models[0]
    wanted = {label.code for label in first.contract.labels}
    for model in models[1:]:
        if {label.code for label in model.contract.labels} != wanted:
            raise ModelMismatch(
                f"{model.path}: answers other questions than {first.path}",
                found=", ".join(label.code for label in model.contract.labels),
                expected=", ".join(label.code for label in first.contract.labels),
                fix="compare models of the same labels",
            )


def _require_out(out: Path) -> None:
    """Refuses, before minutes are spent, a folder that cannot be made in one that is there."""
    require_out_folder(out, "a folder for report.json and report.html")
    if not out.parent.is_dir():
        raise UsageError("--out's parent does not exist", found=str(out.parent), fix="make the folder first")


def _report(
    arguments: argparse.Namespace,
    models: Sequence[ModelFile],
    listed: PhotoList,
    measured: Measured,
    started: float,
) -> int:
    if len(measured.answers) < min(LEAST_PHOTOS, len(measured.photos)) and measured.interrupted:
        print("interrupted before enough photos were answered; nothing was written", file=sys.stderr)
        return EXIT_INTERRUPTED
    if not measured.answers:
        raise DataInvalid(
            f"{listed.manifest}: no photo could be read",
            found=next(iter(measured.failures.values())),
            expected=f"photos in {listed.root}",
            fix="name their folder with --photos DIR",
        )
    # Imported already, while the photos were answered.
    from convert.comparison.page import make_page
    from convert.comparison.report import build_report
    from convert.comparison.text import terminal_summary

    report = build_report(models, listed, measured)
    report["timing"]["total_seconds"] = round(time.monotonic() - started, 2)
    page = make_page(report, models[0].contract, measured.photos, thumbnails=not arguments.no_photos)
    arguments.out.mkdir(exist_ok=True)
    paths = [arguments.out / REPORT_NAME, arguments.out / PAGE_NAME]
    with whole_files(paths) as (json_file, html_file):
        json_file.write_text(json_text(report), encoding="utf-8")
        html_file.write_text(page, encoding="utf-8")
    print(terminal_summary(report))
    print(f"\n{paths[0]}\n{paths[1]}")
    if measured.interrupted:
        return EXIT_INTERRUPTED
    doubtful = measured.failures or any(model["caught"] for model in report["models"])
    return EXIT_DOUBTFUL if doubtful else EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m convert.comparison.compare",
        description="Compares .tflite files with the first of them on the same photos.",
        epilog="Exit status: 0 compared; 1 a model is not what it says it is, or photos are unreadable; 2 usage or "
        "data; 3 a model cannot be used; 130 interrupted, with a report on the photos answered so far.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "models", nargs="+", type=Path, metavar="MODEL", help="a .tflite; the first is the reference"
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="MANIFEST",
        help="a CSV with columns path and label (photo_id, group_id, split, sex, age, site where known), or a run",
    )  # fmt: skip
    parser.add_argument(
        "--photos",
        type=Path,
        metavar="DIR",
        help="to which the paths are relative, if not where the run says",
    )
    parser.add_argument(
        "--split", metavar="NAME", help="which photos: test (default, where there is one), val, all"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("comparison"), metavar="DIR",
        help=f"folder for {REPORT_NAME} and {PAGE_NAME} (default: comparison)",
    )  # fmt: skip
    parser.add_argument("--limit", type=positive, metavar="N", help="at most so many photos, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the photos' order (default: 0)")
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--no-layers", action="store_true", help="no signal-to-noise ratio layer by layer")
    parser.add_argument("--no-photos", action="store_true", help="no thumbnails: the page can then be shared")
    return parser


if __name__ == "__main__":
    sys.exit(main())
