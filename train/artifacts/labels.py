"""A label set: the classes in the model's output order, and licences. stdlib only."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.contract import Label
from edge_runtime.errors import DataInvalid

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
        try:
            return self.codes.index(code)
        except ValueError as error:
            raise DataInvalid(
                "unknown label",
                where=f"label set {self.name}",
                found=repr(code),
                expected=", ".join(self.codes),
            ) from error


def load_labels(name_or_path: str) -> LabelSet:
    """Read a label set.

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
            "no such label set",
            where=name_or_path,
            found=f"no file {path}",
            expected=f"one of {', '.join(known)}, or a path to a .toml file",
            fix=f"write {near[0]!r}" if near else "correct the name in the config",
        )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataInvalid("not TOML", where=str(path), found=str(error), fix="correct the file") from error
    problems = _label_set_problems(table)
    if problems:
        raise DataInvalid(
            "invalid label set",
            where=str(path),
            details=problems,
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


def source_file(name: str) -> Path:
    """Return the TOML of a further data set, by reader, or of OOD images or first weights; it may not exist."""
    return LABELS_DIR / "sources" / f"{name}.toml"


def source_licence(name: str) -> str:
    """Return the licence of what `source_file` describes; empty where only the user knows it."""
    path = source_file(name)
    return str(tomllib.loads(path.read_text(encoding="utf-8"))["licence"]) if path.is_file() else ""
