"""Small files of a run or cross-validation, to be committed: `dermedge experiment record RUN --out DIR`.

DIR/
  config.toml history.csv metrics.json split.json contract.json   as in RUN; figures can be drawn again
  run.json             without the place of the photos on that machine
  split.csv.gz         photo_id, group_id, split: which photos were trained on
  predictions_*.csv.gz photo_id and the scores of each label, at temperature 1; test only if there is a test split

Of a cross-validation (train/training/crossval.py) that is crossval.json, the metrics*.json, and each oof*.csv as
oof*.csv.gz.

Labels and whatever else the data set knows of a photo stay out: they are found again by photo_id. A teacher's file
stays out too: config.toml names it.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import shutil
from collections.abc import Callable
from pathlib import Path

from edge_runtime.errors import RunInvalid
from train.artifacts.bounded import require_file
from train.artifacts.command import command_parser, run_command
from train.artifacts.files import read_object, whole_file, write_json
from train.artifacts.run import finished_state

COPIED = ("config.toml", "history.csv", "metrics.json", "split.json", "contract.json")
CROSSVAL = "crossval.json"


def record_run(run: Path, out: Path) -> None:
    """Write the record of a finished run, each file whole or not at all.

    Raises:
        RunInvalid: No finished run is there.
    """
    state, measured = finished_state(run), read_object(run / "metrics.json")
    if missing := [name for name in (*COPIED, "manifest.csv") if not (run / name).is_file()]:
        raise RunInvalid(f"{run}: incomplete", found=f"no {', no '.join(missing)}", fix="train again")
    out.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        with whole_file(out / name) as temporary:
            shutil.copyfile(run / name, temporary)
    state.get("data", {}).pop("root", None)
    write_json(out / "run.json", state)
    _write_columns(run / "manifest.csv", out / "split.csv.gz", ("photo_id", "group_id", "split").__contains__)
    for part in ("val", "test"):
        if part in measured:
            name = f"predictions_{part}.csv"
            _write_columns(run / name, out / f"{name}.gz", lambda column: column != "label")


def record_crossval(folder: Path, out: Path) -> None:
    """Write the record of a cross-validation's finished folds, with the predictions of their quantized files.

    Raises:
        RunInvalid: Nothing was pooled there.
    """
    answers = sorted(folder.glob("oof*.csv"))
    if not answers or not (folder / CROSSVAL).is_file():
        raise RunInvalid(
            f"{folder}: no cross-validation",
            expected="oof.csv",
            fix="dermedge crossval CONFIG.toml --workdir DIR",
        )
    out.mkdir(parents=True, exist_ok=True)
    for path in (folder / CROSSVAL, *filter(Path.is_file, sorted(folder.glob("metrics*.json")))):
        with whole_file(out / path.name) as temporary:
            shutil.copyfile(path, temporary)
    for path in answers:
        _write_columns(path, out / f"{path.name}.gz", lambda column: column != "label")


def _write_columns(source: Path, target: Path, kept: Callable[[str], bool]) -> None:
    """A gzipped CSV of some columns; the same rows give the same bytes."""
    text = io.StringIO()
    try:
        require_file(source)
        with source.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            columns = [column for column in reader.fieldnames or () if kept(column)]
            writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise RunInvalid(f"{source}: not a readable CSV file", found=str(error), fix="train again") from error
    with whole_file(target) as temporary:
        temporary.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = command_parser(
        "experiment record",
        "Keep the small files of a finished run or cross-validation, without the data.",
        "example:\n  dermedge experiment record runs/folds --out train/records/NAME",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="finished run or cross-validation")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the record (required)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 2 refused, 130 interrupted."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: _record(arguments))


def _record(arguments: argparse.Namespace) -> int:
    record = record_crossval if (arguments.run / CROSSVAL).is_file() else record_run
    record(arguments.run, arguments.out)
    return 0
