"""What `--csv`, `--sort-into` and `--skip-done` write and read beside the results on stdout. stdlib only."""

# ruff: noqa: PTH110, PTH123

from __future__ import annotations

import csv
import filecmp
import json
import os
import shutil
import stat
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import ImageError, UsageError, escaped
from edge_runtime.files import STDOUT, csv_cell, csv_value, whole_file, whole_lines, writing
from edge_runtime.result import json_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edge_runtime.cli.selection import Arguments, Named

COLUMNS = ("image", "label", "score", "decision", "error")


class Outputs:
    """The table and the folders that the command line asks for, and what is done already; `codes` are the labels'.

    Raises:
        UsageError: There is nothing to go on with, or it is of another kind.
        OutputUnwritten: The table cannot be made.
    """

    def __init__(self, arguments: Arguments, codes: Sequence[str]) -> None:
        self._path, self._folder, self._blank = arguments.csv, arguments.sort_into, [""] * len(codes)
        header = [*COLUMNS, *(f"score_{code}" for code in codes)]
        is_new = self._path is not None and not os.path.exists(self._path)
        self._done = _done_in(self._path, header) if arguments.skip_done and not is_new else set()
        if is_new:
            self._write(header)

    def is_done(self, photo: Named) -> bool:
        """Return whether a photo, or what stands in its place, has its line already."""
        if not self._done:
            return False
        name = photo if isinstance(photo, str) else photo[0]
        return (escaped(name) if self._path else json.loads(json_line(name))) in self._done

    def add(self, name: str, result: Any) -> None:
        """Write a result; OutputUnwritten where that fails."""
        found = getattr(getattr(result, "explanation", None), "prediction", result)
        failed = isinstance(found, ImageError)
        if self._path is not None:
            values = ("", "", "", found.code, *self._blank) if failed else (
                found.label, found.score, found.decision, "", *found.scores.values()
            )  # fmt: skip
            self._write([escaped(name), *values])
        if self._folder is not None and not failed:
            with writing(self._folder):
                _copy(Path(name), Path(self._folder, found.decision, found.label.replace("/", "_")))

    def _write(self, values: Iterable[Any]) -> None:
        with writing(self._path), open(self._path, "a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerow(
                map(csv_cell, values)
            )


def _done_in(path: str | None, header: list[str]) -> set[str]:
    """Return the photos that a table has; without a path, those of the JSON lines in the file that stdout goes to."""
    done: set[str] = set()
    try:
        if path is None and not stat.S_ISREG(os.fstat(1).st_mode):
            raise ValueError("stdout is no file")
        for line in whole_lines(path or STDOUT):
            if path is None:
                done.add(str(json.loads(line).get("image")))
                continue
            (cells,) = csv.reader([line.decode("utf-8")])
            if not done and cells != header:
                raise ValueError(f"the columns {', '.join(cells)[:200]}")
            done.add(csv_value(cells[0]))
    except (OSError, ValueError, AttributeError) as error:
        found, expected = (
            getattr(error, "strerror", None) or str(error),
            "a table or JSON lines of this model",
        )
        problem, fix = "nothing to go on with", "name a file with --csv, or send --json with >> to a file"
        raise UsageError(problem, where="--skip-done", found=found, expected=expected, fix=fix) from error
    return done


def _copy(photo: Path, folder: Path) -> None:
    """Copy a photo into a folder under its name, or with a number where another file has that."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        target = folder / (photo.name if number == 1 else f"{photo.stem}-{number}{photo.suffix}")
        try:
            target.touch(exist_ok=False)
        except FileExistsError:
            if filecmp.cmp(photo, target, shallow=False):
                return
            if target.stat().st_size:
                continue
        with whole_file(target) as temporary:
            shutil.copy2(photo, temporary)
        return
