"""Names of operators, for messages and lists. stdlib only."""

from __future__ import annotations

import os

_names: list[str] = []


def operator_name(number: int) -> str:
    """Name an operator of schema.fbs; `OPERATOR_n` if the name is unknown."""
    if not _names:
        with open(os.path.join(os.path.dirname(__file__), "operator_names.txt"), encoding="ascii") as file:  # noqa: PTH118, PTH120, PTH123
            _names.extend(file.read().split())
    return _names[number] if number < len(_names) else f"OPERATOR_{number}"
