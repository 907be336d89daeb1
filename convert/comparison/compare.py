"""`dermedge compare MODEL MODEL ... --data RUN`: compare models with the first of them on the same photos, paired.

Every model runs on every photo as on a device. A table goes to the terminal, DIR/report.json holds all metrics, and
DIR/report.html shows them. The order of work is that of `compare`; Ctrl-C keeps the photos that are done.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.comparison.workers import Workers
from convert.inputs import Photo, PhotoList, draw_photos, read_photo_list
from edge_runtime.engines.opening import add_model_options, open_requested
from edge_runtime.errors import EXIT_OK, DataInvalid, ModelMismatch, UsageError, escaped
from edge_runtime.model.model_file import ModelFile, open_model
from train.artifacts.command import (
    AND_NOTHING_WRITTEN,
    EXIT_INTERRUPTED,
    NOTHING_WRITTEN,
    command_parser,
    positive,
    run_command,
)
from train.artifacts.files import json_text, require_out_folder, whole_files

if TYPE_CHECKING:
    from convert.comparison.report import Measured

EXIT_DOUBTFUL = 1
REPORT_NAME, PAGE_NAME = "report.json", "report.html"
BENCH_RUNS = 6
# An interrupted comparison of fewer photos says nothing.
LEAST_PHOTOS = 20
EXIT_CODES = """\
exit status:
  0 done; 1 done, but a model failed its integrity check or photos are unreadable; 2 usage or data; 3 a model cannot be
  used; 130 interrupted
"""


@dataclass(frozen=True)
class ComparisonResult:
    """Models compared with the first of them."""

    report: dict[str, Any]
    """The content of report.json."""
    files: tuple[Path, ...] = ()
    """Written: report.json and report.html."""

    @property
    def models(self) -> list[dict[str, Any]]:
        """List the models: name, size, time and `figures`; estimates are [value, low, high] at 95 %."""
        return list(self.report["models"])

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """List, for each model after the first, differences, agreement, McNemar's p, changed predictions, layers."""
        return list(self.report["pairs"])

    @property
    def verdicts(self) -> list[str]:
        """Return one sentence for each pair."""
        return [pair["verdict"] for pair in self.pairs]

    @property
    def integrity_errors(self) -> dict[str, list[str]]:
        """Map model names to what contradicts their contracts; empty if all models passed."""
        return {model["name"]: model["caught"] for model in self.models if model["caught"]}

    @property
    def interrupted(self) -> bool:
        """Tell whether Ctrl-C ended it before the last photo."""
        return bool(self.report["interrupted"])


def compare(
    models: Sequence[str | Path | ModelFile],
    data: str | Path,
    out: str | Path | None = None,
    *,
    photos: str | Path | None = None,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    layers: bool = True,
    thumbnails: bool = True,
) -> ComparisonResult:
    """Compare .tflite models with the first of them on the same photos.

    Args:
        models: At least two .tflite files, or opened ones, with contracts of the same labels; the first is the
            reference.
        data: A run directory, or a CSV with columns path and label (photo_id, group_id, split, sex, age, site if
            known).
        out: Folder for report.json and report.html; None writes nothing.
        photos: The folder to which paths are relative, if not where the run says.
        split: `test` (default where there is one), `val`, `train` or `all`.
        limit: Largest number of photos, drawn at random.
        seed: Of the order of the photos.
        workers: Processes; by default one a core.
        layers: Whether to measure the signal-to-noise ratio of every layer.
        thumbnails: Whether report.html shows photos whose prediction changed.

    Returns:
        All metrics. After Ctrl-C, those of the photos so far.

    Raises:
        UsageError: Fewer than two models, an unknown split, or `out` cannot be written.
        DataInvalid, RunInvalid: The photos cannot be used.
        ModelFileError, InterpreterError: A model cannot be used.
        ModelMismatch: The label sets differ.
        KeyboardInterrupt: Ctrl-C before enough photos were done; nothing is written.
    """
    started = time.monotonic()
    root = None if photos is None else Path(photos)
    opened = [model if isinstance(model, ModelFile) else open_model(model) for model in models]
    _require_comparable(opened)
    # They start while the list is read here.
    with Workers(opened, workers) as pool:
        listed = read_photo_list(Path(data), opened[0].contract.codes, root=root, split=split)
        if out is not None:
            require_out_folder(Path(out))
        drawn = draw_photos(listed.photos, limit, seed)
        measured = measure(opened, drawn, pool, with_layers=layers)
    done = len(measured.photos) - len(measured.failures)
    if measured.interrupted and done < min(LEAST_PHOTOS, len(drawn)):
        raise KeyboardInterrupt
    if not done:
        raise no_readable_photo(listed, measured.failures)
    # Imported already, while the photos were predicted.
    from convert.comparison.page import make_page
    from convert.comparison.report import build_report

    report = build_report(opened, listed, measured)
    report["timing"]["total_seconds"] = round(time.monotonic() - started, 2)
    if out is None:
        return ComparisonResult(report)
    page = make_page(report, opened[0].contract, measured.photos, thumbnails=thumbnails)
    return ComparisonResult(
        report, write_results(Path(out), {REPORT_NAME: json_text(report), PAGE_NAME: page})
    )


def measure(
    models: Sequence[ModelFile], photos: Sequence[Photo], pool: Workers, *, with_layers: bool = False
) -> Measured:
    """Run every model on every photo, in order, until Ctrl-C; compare the layers, if wanted, beside them.

    Raises:
        InterpreterBroken: A process ended early.
    """
    with ThreadPoolExecutor(1) as beside:
        # Beside the workers' own start: numpy takes a while to import, and they need none of it.
        from convert.comparison.integrity import same_network
        from convert.comparison.layers import layer_report
        from convert.comparison.report import Measured
        from convert.tflite.reader import read_structure

        golden_problems = beside.submit(_golden_problems, models)
        files = [read_structure(model.data, Path(model.path)) for model in models]
        paths = [photo.path for photo in photos]
        layer_reports = {
            k: beside.submit(layer_report, models[0], models[k], paths)
            for k in range(1, len(models))
            # Files of different runs are different networks.
            if with_layers and same_network(models[0].contract, models[k].contract)
        }
        measured = Measured(tuple(photos), files, workers=pool.count)
        try:
            _run(pool, paths, measured)
            measured.layer_reports = {k: report.result() for k, report in layer_reports.items()}
            wait([golden_problems])
            if answered := measured.answered:
                # Last: nothing else may run beside it.
                measured.bench_ms = pool.bench(answered[0][0].path, BENCH_RUNS)
        except KeyboardInterrupt:
            measured.interrupted = True
        finally:
            for report in layer_reports.values():
                report.cancel()
        measured.golden_problems = golden_problems.result()
    return measured


def _golden_problems(models: Sequence[ModelFile]) -> list[list[str]]:
    """Run the self-tests, and import what the report needs: after the photos a core would wait for it."""
    from convert.comparison import page as compare_page  # noqa: F401
    from convert.comparison.integrity import golden_problems

    return [golden_problems(model) for model in models]


def _run(pool: Workers, paths: Sequence[Path], measured: Measured) -> None:
    from tqdm import tqdm

    start = time.monotonic()
    try:
        for result in tqdm(pool.run(paths), total=len(paths), desc="photos", unit="photo", mininterval=0.5):
            measured.results.append(result)
    finally:
        measured.seconds = time.monotonic() - start


def _require_comparable(models: Sequence[ModelFile]) -> None:
    if len(models) < 2:
        raise UsageError("models: a comparison needs two", found="one", fix="Name another .tflite file")
    expected = models[0].contract.codes
    for model in models:
        if set(model.contract.codes) != set(expected):
            problem = f"Label sets differ: {models[0].path}, {model.path}"
            found, fix = ", ".join(model.contract.codes), "Compare models of the same labels"
            raise ModelMismatch(problem, found=found, expected=", ".join(expected), fix=fix)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, see EXIT_CODES."""
    arguments = parser().parse_args(argv)
    return run_command(
        lambda: _command(arguments), interrupted=NOTHING_WRITTEN, after_os_error=AND_NOTHING_WRITTEN
    )


def _command(arguments: argparse.Namespace) -> int:
    arguments.models = open_requested(arguments, *arguments.models)
    # The other options are the function's.
    result = compare(**vars(arguments))
    from convert.comparison.text import terminal_summary

    print(terminal_summary(result.report))
    print("", *(escaped(str(path)) for path in result.files), sep="\n")
    if result.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_DOUBTFUL if result.report["photos"]["failures"] or result.integrity_errors else EXIT_OK


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    example = "example:\n  dermedge compare float32.tflite int8.tflite --data runs/x --out comparison\n\n"
    description = "Compare models with the first of them on the same photos, paired."
    made = command_parser("compare", description, example + EXIT_CODES)
    add_photo_options(made, Path("comparison"), f"{REPORT_NAME} and {PAGE_NAME}")
    add = made.add_argument
    text = "Skip the layer-by-layer comparison (default: off)"
    add("--no-layers", dest="layers", action="store_false", help=text)
    text = "Leave thumbnails out, so that the page can be shared (default: off)"
    add("--no-photos", dest="thumbnails", action="store_false", help=text)
    return made


def add_photo_options(
    parser: argparse.ArgumentParser, out: Path, files: str, limit: int | None = None, drawn: str = "at random"
) -> None:
    """Add the models, the options that say which photos they run on, and the folder in which `files` are written.

    Defaults are `out`, and `limit` photos (None for all), chosen as `drawn` says.
    """
    add = parser.add_argument
    text = "Model files (.tflite); the first is the reference"
    add("models", nargs="+", type=Path, metavar="MODEL", help=text)
    text = (
        "Dataset: a run directory, or a CSV with columns path and label (photo_id, group_id, split, sex, age, "
        "site if known) (required)"
    )
    add("--data", type=Path, required=True, metavar="RUN", help=text)
    add_model_options(parser)
    text = "Folder of the photos (default: where the run says, or the CSV's)"
    add("--photos", type=Path, metavar="DIR", help=text)
    add("--split", metavar="NAME", help="Split: train, val, test or all (default: test where there is one)")
    text = f"Largest number of photos, chosen {drawn} (default: {'all' if limit is None else limit})"
    add("--limit", type=positive, default=limit, metavar="N", help=text)
    add("--seed", type=int, default=0, metavar="N", help="Seed of that choice (default: 0)")
    add("--workers", type=positive, metavar="N", help="Number of processes (default: one per core)")
    add("--out", type=Path, default=out, metavar="DIR", help=f"Folder for {files} (default: {out})")


def write_results(out: Path, texts: Mapping[str, str]) -> tuple[Path, ...]:
    """Write files into a folder that is made where it is missing: all or none; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / name for name in texts]
    with whole_files(paths) as temporaries:
        for temporary, text in zip(temporaries, texts.values(), strict=True):
            temporary.write_text(text, encoding="utf-8")
    return tuple(paths)


def no_readable_photo(listed: PhotoList, failures: Mapping[str, str]) -> DataInvalid:
    """Make the error of a dataset of which no photo could be read."""
    return DataInvalid(
        f"{listed.manifest}: no photo could be read",
        found=next(iter(failures.values()), "no photo"),
        expected=f"photos in {listed.root}",
        fix=f"Name their folder with {listed.option} DIR",
    )


if __name__ == "__main__":
    sys.exit(main())
