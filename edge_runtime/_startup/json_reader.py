"""JSON for the road of one photo: the parser of `json` without the import of `json`. stdlib only.

Python's parser is written in C; the package around it imports `re` and `enum` for what it does where the C part is
missing: 10 ms of an `edge-classify` that takes 90. Whatever is not plain (another encoding, a document that breaks
JSON, another Python) goes to the package itself, which says what is wrong.
"""

from __future__ import annotations

from edge_runtime._startup.records import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Hook = Callable[[list[tuple[str, Any]]], Any]

_NOT_FINITE = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}


class _Options:
    """What the parser asks a `json.JSONDecoder` for."""

    strict = True
    object_hook = None
    # Python 3.15 asks for it, earlier ones do not.
    array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = _NOT_FINITE.__getitem__

    def __init__(self, hook: Hook) -> None:
        self.object_pairs_hook = hook


def read_json(text: str | bytes, hook: Hook) -> Any:
    """As `json.loads(text, object_pairs_hook=hook)`, with its errors.

    Raises:
        ValueError: Not JSON, or what `hook` raises.
        RecursionError: Nested too deeply.
    """
    try:
        from _json import make_scanner

        options: Any = _Options(hook)
        document = text if isinstance(text, str) else text.decode()
        if document.startswith("{") and "\0" not in document[:4]:
            data, end = make_scanner(options)(document, 0)
            if not document[end:].strip(" \t\n\r"):
                return data
    except (ImportError, StopIteration, ValueError, RecursionError, AttributeError, TypeError):
        # Read again below, for the package's own words; the last two where a later Python's parser asks for more than
        # _Options has, or wants to be asked otherwise.
        pass
    import json

    return json.loads(text, object_pairs_hook=hook)
