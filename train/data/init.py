"""`dermedge init`: a label file, a config and a table of photos for a data set. pandas, Pillow.

OUT/
  labels.toml    classes in output order, licences and intended use; edit names and groups
  config.toml    train/configs/ham10000_mobilenetv2_short.toml with this data set's reader, folder and labels
  manifest.csv   labels and subgroups (sex, age, site, dx_type, fitzpatrick) for `dermedge compare --data` and
                 `dermedge robustness --shift`; paths are relative to the data set's folder
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from edge_runtime.errors import DataInvalid, UsageError, escaped
from edge_runtime.files import csv_cell
from train.artifacts.command import NOTHING_WRITTEN, command_parser, run_command
from train.artifacts.files import whole_files
from train.artifacts.labels import LABELS_DIR, load_labels
from train.artifacts.manifest import read_parts
from train.artifacts.tables import read_table
from train.configs.schema import READERS
from train.data.readers import folders, read_photos, table
from train.data.readers.pad_ufes_20 import read_fitzpatrick
from train.data.readers.scan import contents, photo_files

RECIPE = Path(__file__).parents[1] / "configs" / "ham10000_mobilenetv2_short.toml"
PUBLISHED = LABELS_DIR / "ham10000.toml"
CONFIG_HEAD = "# Train with: dermedge train config.toml --data FOLDER --workdir RUN\n"
FILES = ("labels.toml", "config.toml", "manifest.csv")
COLUMNS = ("photo_id", "path", "label", "lesion_id", "sex", "age", "site", "dx_type")


def write_project(data: Path, out: Path, reader: str = "", unseen_by: Sequence[Path] = ()) -> int:
    """Write OUT's three files, all or none, and return the number of photos in manifest.csv.

    Args:
        data: The data set's folder.
        out: Made if absent.
        reader: One of READERS; empty takes `csv` where the folder has a manifest.csv, else `folders`.
        unseen_by: Runs; the training and validation photos of each are left out of manifest.csv.

    Raises:
        UsageError: One of the files exists.
        DataInvalid: Not such a data set, its photos are unusable, or no photo is left.
    """
    paths = [out / file for file in FILES]
    if existing := [str(path) for path in paths if path.exists()]:
        raise UsageError("--out has these files already", found=", ".join(existing), fix="name another --out")
    reader = reader or ("csv" if (data / table.NAME).is_file() else "folders")
    name, own = data.resolve().name, reader in ("csv", "folders")
    labels = _label_file(data, reader, name) if own else PUBLISHED.read_text(encoding="utf-8")
    values = {"name": name, "reader": reader, "folder": name, "labels": str(paths[0].resolve().as_posix())}
    out.mkdir(parents=True, exist_ok=True)
    with whole_files(paths) as (label_file, config_file, manifest_file):
        label_file.write_text(labels, encoding="utf-8")
        config_file.write_text(_config(values), encoding="utf-8")
        label_set = load_labels(str(label_file))
        manifest = read_photos(reader, data, label_set, name=name, on_problem="refuse", every_class=own)
        photos = pd.DataFrame(manifest.photos)[[*COLUMNS]].rename(columns={"lesion_id": "group_id"})
        types = read_fitzpatrick(data) if reader == "pad_ufes_20" else {}
        photos["fitzpatrick"] = photos["photo_id"].map(types).fillna("")
        seen = {row["photo_id"] for run in unseen_by for row in read_parts(run) if row["split"] != "test"}
        photos = photos[~photos["photo_id"].isin(seen)]
        if photos.empty:
            found = f"{len(manifest.photos)} photos, all of them in the training or validation split of a run"
            raise DataInvalid("no photo is left", where=str(data), found=found, fix="change --unseen-by")
        photos.map(csv_cell).to_csv(manifest_file, index=False, lineterminator="\n")
    return len(photos)


def _label_file(data: Path, reader: str, name: str) -> str:
    if reader == "csv":
        codes = sorted(set(read_table(data / table.NAME, table.COLUMNS)["label"]))
    else:
        codes = sorted({place.parts[0] for place in photo_files(data) if len(place.parts) > 1})
    if len(codes) < 2:
        expected = f"{folders.EXPECTED}, or {table.EXPECTED}"
        found = contents(data) if data.exists() else "no such folder"
        raise DataInvalid("fewer than two classes", where=str(data), found=found, expected=expected)
    texts = {"licence": f"{name}: licence not stated"}
    texts |= dict.fromkeys(("model_licence", "intended_use"), "not stated")
    parts = ["# The order is that of the outputs. Edit names, groups (as malignant, benign) and licences."]
    parts.append(_toml({"name": name, **texts}))
    names = {code: code.replace("_", " ").strip() or code for code in codes}
    entries = [{"code": code, "name": names[code], "group": "ungrouped"} for code in codes]
    return "\n".join(parts + [f"\n[[label]]\n{_toml(entry)}" for entry in entries]) + "\n"


def _toml(values: dict[str, str]) -> str:
    return "\n".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())


def _config(values: dict[str, str]) -> str:
    """Return the recipe's text with other values."""
    text = RECIPE.read_text(encoding="utf-8")
    text = CONFIG_HEAD + text[text.index("\nname =") :]
    for key, value in values.items():
        line = _toml({key: value}).replace("\\", r"\\")
        text = re.sub(rf'^{key} = ".*"$', line, text, count=1, flags=re.MULTILINE)
    return text


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    made = command_parser(
        "init",
        "Write a label file, a config and a table of photos for a data set.",
        "example:\n  dermedge init --data photos --out project",
    )
    by_folder = "(default: csv where DIR has a manifest.csv, else folders)"
    without = "Runs whose training and validation photos are left out of manifest.csv (default: none)"
    data = "Folder of the data set (required)"
    made.add_argument("--data", type=Path, required=True, metavar="DIR", help=data)
    made.add_argument("--reader", choices=READERS, default="", help=f"Format of the data set {by_folder}")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="Folder to write to (required)")
    made.add_argument("--unseen-by", type=Path, nargs="+", default=(), metavar="RUN", help=without)
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 2 refused, 130 interrupted."""
    arguments = parser().parse_args(argv)
    data, out = arguments.data, arguments.out

    def write() -> int:
        count = write_project(data, out, arguments.reader, arguments.unseen_by)
        print(escaped(f"{out}: {', '.join(FILES)} ({count} photos)"))
        print(escaped(f"next: dermedge train {out / FILES[1]} --data {data} --workdir {out / 'run'}"))
        return 0

    return run_command(write, interrupted=NOTHING_WRITTEN)
