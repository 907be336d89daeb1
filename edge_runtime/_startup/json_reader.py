"""Parse JSON without importing `json`. stdlib only.

Python's parser is written in C; the package around it imports `re` and `enum`. Whatever is not plain (another encoding,
invalid JSON, another Python) goes to the package, whose error messages are the same.
"""

from __future__ import annotations

from edge_runtime._startup import PLAIN
from edge_runtime._startup.records import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    Hook = Callable[[list[tuple[str, Any]]], Any]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


class _Options:
    """The attributes of a `json.JSONDecoder` that the parser reads."""

    strict = True
    object_hook = None
    # Read by Python 3.15, not by earlier ones.
    array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse)

    def __init__(self, hook: Hook) -> None:
        self.object_pairs_hook = hook


def read_json(text: str | bytes, hook: Hook) -> Any:
    """As `json.loads(text, object_pairs_hook=hook)`, with its errors, but without Python's own NaN and Infinity.

    Raises:
        ValueError: Not JSON, or what `hook` raises.
        RecursionError: Nested too deeply.
    """
    if PLAIN:
        return _by_package(text, hook)
    try:
        from _json import make_scanner

        options: Any = _Options(hook)
        document = text if isinstance(text, str) else text.decode()
        if document.startswith("{") and "\0" not in document[:4]:
            data, end = make_scanner(options)(document, 0)
            if not document[end:].strip(" \t\n\r"):
                return data
    except (ImportError, StopIteration, ValueError, RecursionError, AttributeError, TypeError):
        # Read again below, for the package's own message; the last two where a later Python's parser reads more than
        # _Options has, or is called otherwise.
        pass
    return _by_package(text, hook)


def _by_package(text: str | bytes, hook: Hook) -> Any:
    import json

    return json.loads(text, object_pairs_hook=hook, parse_constant=_refuse)
