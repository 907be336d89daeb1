"""Write files whole or not at all, and cells of CSV files as text. stdlib only.

An unfinished file stands beside its target under a random name and is created anew, through no link, so that nobody who
may write to the folder decides where the bytes go. The target's own link, if it is one, is replaced, not followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# Of the target's name, which may be as long as a name can be.
STEM_CHARS, SUFFIX_CHARS = 32, 16
# With these, the full-width ones too, a cell begins that spreadsheets run as a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_cell(text: str) -> str:
    """Return a text for a cell of a CSV file: after an apostrophe where a spreadsheet would run it as a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


@contextmanager
def whole_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield new empty files beside `paths`; they replace `paths`, in order, if the block succeeds, else are deleted.

    Each file is whole at every moment. They are renamed one after the other: what ends the process between two renames
    (a kill, a power cut, a failing disk) leaves the earlier ones new and the later ones as they were.

    Raises:
        OSError: A folder is missing or cannot be written.
    """
    temporaries: list[Path] = []
    try:
        for path in paths:
            name = f".{path.stem[:STEM_CHARS]}.partial-{os.urandom(8).hex()}{path.suffix[-SUFFIX_CHARS:]}"
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
            os.close(os.open(path.with_name(name), flags, 0o666))
            temporaries.append(path.with_name(name))
        yield temporaries
        for temporary, path in zip(temporaries, paths, strict=True):
            temporary.replace(path)
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Like `whole_files`, for one."""
    with whole_files([path]) as temporaries:
        yield temporaries[0]
