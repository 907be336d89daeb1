"""A label set: the classes in the model's output order, and licences. stdlib only."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.contract import Label, has_control_characters
from edge_runtime.errors import DataInvalid
from train.artifacts.files import read_named_toml

LABELS_DIR = Path(__file__).parents[1] / "configs" / "labels"
LABEL_SET_TEXTS = ("name", "licence", "model_licence", "intended_use")
LABEL_TEXTS = ("code", "name", "group")


@dataclass(frozen=True)
class LabelSet:
    """Classes in the model's output order, with the texts that a model of them carries."""

    name: str
    licence: str
    """Of the photos."""
    model_licence: str
    """Of a model trained on them."""
    intended_use: str
    labels: tuple[Label, ...]
    same_lesion: tuple[tuple[str, str], ...] = ()
    """Pairs of photo_ids known to show one lesion though the data set gives them two lesion_ids."""

    @property
    def codes(self) -> tuple[str, ...]:
        """Return the labels' codes in output order."""
        return tuple(label.code for label in self.labels)

    def index(self, code: str) -> int:
        """Return the output of `code`, 0 to len(labels) - 1.

        Raises:
            DataInvalid: Not a code of this set.
        """
        if code not in self.codes:
            where, expected = f"label set {self.name}", ", ".join(self.codes)
            raise DataInvalid("unknown label", where=where, found=repr(code), expected=expected)
        return self.codes.index(code)


def units_of(labels: Iterable[Label], other: str = "groups") -> str:
    """Name what photos show: `lesions` where labels are malignant, the other word where none is."""
    return "lesions" if any(label.group == "malignant" for label in labels) else other


def load_labels(name_or_path: str) -> LabelSet:
    """Read a label set by its name in train/configs/labels, without the suffix, or by the path of a TOML file.

    Raises:
        DataInvalid: No such set (the known ones are named), not TOML, or fields are missing, unknown or empty;
            all problems are listed.
    """
    path, table = read_named_toml(name_or_path, LABELS_DIR, "label set")
    if problems := _label_set_problems(table):
        expected = f"{', '.join(LABEL_SET_TEXTS)}, and two or more [[label]] with {', '.join(LABEL_TEXTS)}"
        where, fix = str(path), "correct the file"
        raise DataInvalid("invalid label set", where=where, details=problems, expected=expected, fix=fix)
    labels = tuple(Label(**entry) for entry in table["label"])
    same_lesion = tuple((first, second) for first, second in table.get("same_lesion", ()))
    return LabelSet(labels=labels, same_lesion=same_lesion, **{key: table[key] for key in LABEL_SET_TEXTS})


def _label_set_problems(table: dict[str, Any]) -> list[str]:
    problems = text_problems(table, LABEL_SET_TEXTS, "", ("label", "same_lesion"))
    pairs = table.get("same_lesion", [])
    if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
        problems.append("same_lesion is not a list of pairs of photo_ids")
    entries = table.get("label")
    if not isinstance(entries, list) or len(entries) < 2 or not all(isinstance(e, dict) for e in entries):
        return [*problems, "fewer than two [[label]]"]
    for i, entry in enumerate(entries):
        problems += text_problems(entry, LABEL_TEXTS, f"label {i + 1}: ")
    codes = Counter(str(entry.get("code")) for entry in entries)
    return problems + [f"code {code!r} occurs twice" for code in sorted(codes) if codes[code] > 1]


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(photo_id, str) for photo_id in pair)


def is_text(value: object) -> bool:
    """Whether a value is a text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def text_problems(
    table: Mapping[str, Any], keys: Sequence[str], where: str, others: Sequence[str] = ()
) -> list[str]:
    """List the keys of a table, named after `where`, that are no line of text, and unknown ones, not in `others`."""
    problems = [f"{where}{key} is unknown" for key in table if key not in (*keys, *others)]
    for key in keys:
        if not is_text(table.get(key)):
            problems.append(f"{where}{key} is missing or not a text")
        elif has_control_characters(table[key]):
            problems.append(f"{where}{key} has a line break or a control character")
    return problems


def source_file(name: str) -> Path:
    """Return the TOML of a further data set, by reader, or of OOD images or first weights; it may not exist."""
    return LABELS_DIR / "sources" / f"{name}.toml"


def source_licence(name: str) -> str:
    """Return the licence of what `source_file` describes; empty where only the user knows it."""
    path = source_file(name)
    return str(tomllib.loads(path.read_text(encoding="utf-8"))["licence"]) if path.is_file() else ""
