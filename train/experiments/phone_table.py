"""The photos of PAD-UFES-20 as a table with labels of a label set: `dermedge experiment phone-table`.

For `dermedge robustness ... --shift FILE.csv --shift-photos PAD-UFES-20 --by fitzpatrick`: columns photo_id, path,
label, group_id (the patient), fitzpatrick (1 to 6, empty where it is unknown).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import DataInvalid
from train.artifacts.command import NOTHING_WRITTEN, run_command
from train.artifacts.files import write_rows
from train.artifacts.labels import load_labels
from train.artifacts.manifest import read_parts
from train.data.readers import read_photos
from train.data.readers.pad_ufes_20 import read_fitzpatrick


def write_phone_table(
    folder: Path, out: Path, labels: str = "ham10000", *, unseen_by: Sequence[Path] = ()
) -> int:
    """Write the table, whole or not at all.

    Args:
        folder: PAD-UFES-20 as distributed.
        out: The CSV.
        labels: A label set's name or path.
        unseen_by: Runs; their training and validation photos are left out.

    Returns:
        The number of photos in it.

    Raises:
        DataInvalid: Not that data set, photos are missing or damaged, or all of them are in those splits.
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
            f"{folder}: all {len(manifest.photos)} photos are in the training or validation split of the runs",
            expected="photos that are new to them",
            fix="take a run without them, or one that kept some for its test split",
        )
    write_rows(out, rows)
    return len(rows)


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="dermedge experiment phone-table",
        description="Write the photos of PAD-UFES-20 as a table with skin types, for dermedge robustness --shift.",
        epilog="example:\n  dermedge experiment phone-table PAD-UFES-20 --out phones.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, metavar="PAD-UFES-20", help="folder of the data set")
    parser.add_argument(
        "--labels", default="ham10000", metavar="NAME", help="label set (default: %(default)s)"
    )
    parser.add_argument(
        "--unseen-by",
        type=Path,
        nargs="+",
        default=(),
        metavar="RUN",
        help="runs whose training and validation photos are left out (default: none)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="table (required)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 2 refused, 130 interrupted."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: _tabulate(arguments), interrupted=NOTHING_WRITTEN)


def _tabulate(arguments: argparse.Namespace) -> int:
    count = write_phone_table(
        arguments.folder, arguments.out, arguments.labels, unseen_by=arguments.unseen_by
    )
    print(f"{arguments.out}: {count} photos")
    return 0
