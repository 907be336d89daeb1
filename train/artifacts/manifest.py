"""The one table that every reader gives and everything after reads: photos with their labels. stdlib only.

A manifest holds no pixels and no absolute path: the same table with another root is the same data set, and has
the same `sha256`.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import gzip
import hashlib
import io
import os
import tempfile
import tomllib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_runtime.contract import Label
from edge_runtime.errors import DataInvalid, DataNotFound

LABELS_DIR = Path(__file__).parents[1] / "configs" / "labels"
PHOTO_COLUMNS = ("photo_id", "path", "label", "lesion_id", "sex", "age", "site", "dx_type", "phash")
MANIFEST_COLUMNS = (*PHOTO_COLUMNS, "group_id", "split")
# Of a record, of a run.
PARTS_FILES = ("split.csv.gz", "manifest.csv")
LABEL_SET_TEXTS = ("name", "licence", "model_licence", "intended_use")
LABEL_TEXTS = ("code", "name", "group")


@dataclass(frozen=True)
class Photo:
    """One photo of one lesion. Texts are empty where nothing is known."""

    photo_id: str
    path: str
    """POSIX, relative to the manifest's root."""
    label: str
    """Code of a label of the manifest's label set."""
    lesion_id: str
    """The photo_id where lesions are not known: each photo is then a lesion of its own."""
    sex: str = ""
    age: str = ""
    """Years, as the data set writes it."""
    site: str = ""
    """Part of the body."""
    dx_type: str = ""
    """How the diagnosis was made: `histo`, `follow_up`, `consensus`, `confocal`."""
    phash: str = ""
    """Perceptual hash as 16 hexadecimal digits (`train.data.near_duplicates.phash`); empty when not computed."""


@dataclass(frozen=True)
class LabelSet:
    """A taxonomy in the model's output order, and what must be said wherever its data is used."""

    name: str
    licence: str
    """Of the photos."""
    model_licence: str
    """Of a model trained on them."""
    intended_use: str
    labels: tuple[Label, ...]
    same_lesion: tuple[tuple[str, str], ...] = ()
    """Pairs of photo_ids that are known to show one lesion though the data set gives them two lesion_ids."""

    @property
    def codes(self) -> tuple[str, ...]:
        """The labels' codes in output order."""
        return tuple(label.code for label in self.labels)

    def index(self, code: str) -> int:
        """The output of `code`, 0 to len(labels) - 1.

        Raises:
            DataInvalid: Not a code of this set.
        """
        try:
            return self.codes.index(code)
        except ValueError as error:
            raise DataInvalid(
                f"unknown label in the label set {self.name}",
                found=repr(code),
                expected=", ".join(self.codes),
            ) from error


@dataclass(frozen=True)
class Manifest:
    """A data set: where its photos lie and what they show."""

    name: str
    root: Path
    labels: LabelSet
    photos: tuple[Photo, ...]

    @cached_property
    def sha256(self) -> str:
        """Hash of the table, 64 hexadecimal digits; independent of root and of the photos' order."""
        return hashlib.sha256(
            _csv_text(PHOTO_COLUMNS, map(dataclasses.asdict, self._sorted())).encode()
        ).hexdigest()

    def _sorted(self) -> list[Photo]:
        return sorted(self.photos, key=lambda photo: photo.photo_id)


def load_labels(name_or_path: str) -> LabelSet:
    """Reads a label set.

    Args:
        name_or_path: The name of a file in `train/configs/labels` without its suffix, or a path to a TOML file.

    Raises:
        DataInvalid: No such set (the known ones are named), not TOML, or fields are missing, unknown or empty;
            all problems are listed.
    """
    given = Path(name_or_path)
    path = given if given.suffix == ".toml" else LABELS_DIR / f"{name_or_path}.toml"
    if not path.is_file():
        known = sorted(file.stem for file in LABELS_DIR.glob("*.toml"))
        near = difflib.get_close_matches(name_or_path, known, n=1)
        raise DataInvalid(
            f"no label set {name_or_path!r}",
            found=f"no file {path}",
            expected=f"one of {', '.join(known)}, or a path to a .toml file",
            fix=f"write {near[0]!r}" if near else "correct the name in the config",
        )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataInvalid(f"{path}: not TOML", found=str(error), fix="correct the file") from error
    problems = _label_set_problems(table)
    if problems:
        raise DataInvalid(
            f"{path}: the label set breaks its schema",
            found="; ".join(problems),
            expected=f"{', '.join(LABEL_SET_TEXTS)}, and two or more [[label]] with {', '.join(LABEL_TEXTS)}",
            fix="correct the file",
        )
    labels = tuple(Label(**entry) for entry in table["label"])
    same_lesion = tuple((first, second) for first, second in table.get("same_lesion", ()))
    return LabelSet(labels=labels, same_lesion=same_lesion, **{key: table[key] for key in LABEL_SET_TEXTS})


def _label_set_problems(table: dict[str, Any]) -> list[str]:
    problems = _text_problems(table, LABEL_SET_TEXTS, "", ("label", "same_lesion"))
    pairs = table.get("same_lesion", [])
    if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
        problems.append("same_lesion is not a list of pairs of photo_ids")
    entries = table.get("label")
    if not isinstance(entries, list) or len(entries) < 2 or not all(isinstance(e, dict) for e in entries):
        return [*problems, "fewer than two [[label]]"]
    for i, entry in enumerate(entries):
        problems.extend(_text_problems(entry, LABEL_TEXTS, f"label {i + 1}: ", ()))
    codes = [str(entry.get("code")) for entry in entries]
    problems.extend(
        f"code {code!r} occurs twice" for code in sorted({c for c in codes if codes.count(c) > 1})
    )
    return problems


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(photo_id, str) for photo_id in pair)


def _text_problems(
    table: dict[str, Any], keys: Sequence[str], where: str, others: Sequence[str]
) -> list[str]:
    problems = [f"{where}{key} is unknown" for key in table if key not in keys and key not in others]
    for key in keys:
        if not isinstance(table.get(key), str) or not table[key].strip():
            problems.append(f"{where}{key} is missing or not a text")
        elif "\n" in table[key]:
            problems.append(f"{where}{key} has a line break")
    return problems


def write_manifest(
    path: Path, manifest: Manifest, split: Mapping[str, str] | None, group_of: Mapping[str, str] | None
) -> None:
    """Writes the manifest as CSV, sorted by photo_id, whole or not at all.

    Args:
        path: The file to write; one that exists is replaced.
        manifest: The photos.
        split: photo_id to `train`, `val` or `test`; None leaves the column empty.
        group_of: photo_id to the group that may not be divided; None leaves the column empty.
    """
    rows = (
        dataclasses.asdict(photo)
        | {
            "group_id": (group_of or {}).get(photo.photo_id, ""),
            "split": (split or {}).get(photo.photo_id, ""),
        }
        for photo in manifest._sorted()
    )
    _write_whole(path, _csv_text(MANIFEST_COLUMNS, rows).encode())


def read_manifest(
    path: Path, root: Path, name: str, labels: LabelSet
) -> tuple[Manifest, dict[str, str], dict[str, str]]:
    """Reads what `write_manifest` wrote.

    Returns:
        The manifest, photo_id to part of the split, photo_id to group; photos without an entry are not in the
        latter two.

    Raises:
        DataInvalid: No such file, other columns, an unknown label, or an id that occurs twice.
    """
    rows = read_rows(path, MANIFEST_COLUMNS)
    ids = [row["photo_id"] for row in rows]
    if len(set(ids)) != len(ids):
        twice = sorted({i for i in ids if ids.count(i) > 1})
        raise DataInvalid(
            f"{path}: an id occurs twice", found=", ".join(twice[:5]), expected="each photo_id once"
        )
    unknown = sorted({row["label"] for row in rows} - set(labels.codes))
    if unknown:
        raise DataInvalid(
            f"{path}: unknown labels",
            found=", ".join(map(repr, unknown[:5])),
            expected=", ".join(labels.codes),
            fix=f"read it with the label set it was made with, not {labels.name}",
        )
    photos = tuple(Photo(**{column: row[column] for column in PHOTO_COLUMNS}) for row in rows)
    split = {row["photo_id"]: row["split"] for row in rows if row["split"]}
    group_of = {row["photo_id"]: row["group_id"] for row in rows if row["group_id"]}
    return Manifest(name, root, labels, photos), split, group_of


def read_rows(path: Path, required: Sequence[str]) -> list[dict[str, str]]:
    """Reads a CSV file (.gz: gzipped) with a header into one dict a row; cells are stripped, absent ones are ''.

    Raises:
        DataInvalid: No such file, not UTF-8 CSV, or columns of `required` are lacking.
    """
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            columns = tuple(reader.fieldnames or ())
            rows = [{key: value.strip() for key, value in row.items() if key} for row in reader]
    except FileNotFoundError as error:
        raise DataNotFound(
            "no such file", where=str(path), expected=f"a CSV file with {', '.join(required)}"
        ) from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataInvalid(
            f"{path}: not a readable CSV file", found=str(error), expected="CSV, UTF-8"
        ) from error
    lacking = [column for column in required if column not in columns]
    if lacking:
        raise DataInvalid(
            f"{path}: columns are lacking: {', '.join(lacking)}",
            found=", ".join(columns) or "an empty file",
            expected=", ".join(required),
        )
    return rows


def read_parts(learner: Path) -> list[dict[str, str]]:
    """photo_id and split, at least, of what a run (its manifest.csv) or its record (split.csv.gz) was trained on.

    Raises:
        DataInvalid: Neither file is there, or it cannot be read.
    """
    paths = [learner / name for name in PARTS_FILES]
    found = next((path for path in paths if path.is_file()), paths[0])
    return read_rows(found, ("photo_id", "split"))


def _csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write_whole(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
