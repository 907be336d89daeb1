"""`python -m train.experiments.phone_table PAD-UFES-20 --out FILE.csv`: its photos as a table, with labels of a
label set.

For `dermedge robustness ... --shift FILE.csv --shift-photos PAD-UFES-20 --by fitzpatrick`, which
knows no data
set: columns photo_id, path, label, group_id (the patient), fitzpatrick (1 to 6, empty where nobody wrote it down).
"""  # noqa: D205

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import DataInvalid
from train.artifacts.command import NOTHING_WRITTEN, run_command
from train.artifacts.files import write_rows
from train.artifacts.manifest import load_labels, read_parts
from train.data.readers import read_fitzpatrick, read_photos


def write_phone_table(
    folder: Path, out: Path, labels: str = "ham10000", *, unseen_by: Sequence[Path] = ()
) -> int:
    """Writes the table, whole or not at all.

    Args:
        folder: PAD-UFES-20 as distributed.
        out: The CSV.
        labels: A label set's name or path.
        unseen_by: Runs; a photo that stands in the train or val split of one of them is left out.

    Returns:
        How many photos stand in it.

    Raises:
        DataInvalid: Not that data set, photos are missing or damaged, or the runs have seen them all.
        ConfigInvalid: No such label set.
    """
    manifest = read_photos(
        "pad_ufes_20", folder, load_labels(labels), name=folder.name, on_problem="refuse", every_class=False
    )
    types = read_fitzpatrick(folder)
    seen = {row["photo_id"] for run in unseen_by for row in read_parts(run) if row["split"] != "test"}
    rows = [
        {
            "photo_id": photo.photo_id,
            "path": photo.path,
            "label": photo.label,
            "group_id": photo.lesion_id,
            "fitzpatrick": types.get(photo.photo_id, ""),
        }
        for photo in manifest.photos
        if photo.photo_id not in seen
    ]
    if not rows:
        raise DataInvalid(
            f"{folder}: the runs have seen all of its {len(manifest.photos)} photos",
            expected="photos that are new to them",
            fix="take a run without them, or one that kept some for its test split",
        )
    write_rows(out, rows)
    return len(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 done, 2 refused, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m train.experiments.phone_table", allow_abbrev=False)
    parser.add_argument("folder", type=Path, metavar="PAD-UFES-20", help="the data set's own folder")
    parser.add_argument("--labels", default="ham10000", metavar="NAME", help="default %(default)s")
    parser.add_argument(
        "--unseen-by",
        type=Path,
        nargs="+",
        default=(),
        metavar="RUN",
        help="leave out the photos that these have learnt from, or were chosen by",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _tabulate(arguments), interrupted=NOTHING_WRITTEN)


def _tabulate(arguments: argparse.Namespace) -> int:
    count = write_phone_table(
        arguments.folder, arguments.out, arguments.labels, unseen_by=arguments.unseen_by
    )
    print(f"{arguments.out}: {count} photos")
    return 0


if __name__ == "__main__":
    sys.exit(main())
