"""Files and folders that a config names: from the working directory, or from the checkout. stdlib only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_runtime.errors import ConfigInvalid

CHECKOUT = Path(__file__).parents[2]


def find_file(given: str, key: str, what: str) -> Path:
    """A file that a config names.

    Args:
        given: The path.
        key: Of the config, for the error.
        what: Is expected there, for the error.

    Raises:
        ConfigInvalid: There is none.
    """
    return _find(given, key, what, Path.is_file)


def find_folder(given: str, key: str, what: str) -> Path:
    """As `find_file`, a folder."""
    return _find(given, key, what, Path.is_dir)


def _find(given: str, key: str, what: str, is_one: Callable[[Path], bool]) -> Path:
    found = next((path for path in (Path(given), CHECKOUT / given) if is_one(path)), None)
    if found is None:
        raise ConfigInvalid(
            f"{key} does not exist",
            found=given,
            expected=f"{what}, from the working directory or the checkout",
        )
    return found
