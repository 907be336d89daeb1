"""Files and folders that a config names: from the working directory, or from the checkout."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.errors import ConfigInvalid

CHECKOUT = Path(__file__).parents[2]


def find_path(given: str, key: str, what: str) -> Path:
    """Find the file or folder that a config's key names.

    Raises:
        ConfigInvalid: There is none; the key and `what` is expected there are named.
    """
    for path in (Path(given), CHECKOUT / given):
        if path.exists():
            return path
    expected = f"{what}, from the working directory or the checkout"
    raise ConfigInvalid(f"{key} does not exist", found=given, expected=expected)
