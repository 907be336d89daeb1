"""Which photos a command line names, and whether they are several. stdlib only."""

from __future__ import annotations

from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.errors import ImageError
from edge_runtime.images.photos import is_folder, list_photos, listed_photos

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator
    from types import SimpleNamespace

    # A photo, or the folder or list that cannot be read and its error.
    Named = str | tuple[str, ImageError]
    Arguments = argparse.Namespace | SimpleNamespace


def has_photos(arguments: Arguments) -> bool:
    """Return whether the command line names any."""
    return bool(arguments.photos) or is_open_ended(arguments)


def is_open_ended(arguments: Arguments) -> bool:
    """Return whether photos come from elsewhere than its arguments, so that their number is unknown."""
    return (arguments.list, arguments.watch, arguments.stream) != (None, None, None)


def is_one_photo(arguments: Arguments) -> bool:
    """Return whether there is at most one photo, so that one engine is enough."""
    return (
        not is_open_ended(arguments)
        and len(arguments.photos) <= 1
        and not any(map(is_folder, arguments.photos))
    )


def named_photos(arguments: Arguments, tell: Callable[[str], None]) -> Iterator[Named]:
    """Yield the photos that arguments and --list name, in order; in their place folders and lists that cannot be read.

    `tell` is called with what folders have beside their photos.
    """
    recursive = arguments.recursive
    sources: list[tuple[str, Callable[[str], Iterable[str]]]] = [
        (argument, lambda folder: list_photos(folder, recursive=recursive, tell=tell))
        for argument in arguments.photos
    ]
    if arguments.list is not None:
        end = b"\0" if arguments.null else b"\n"
        sources.append((arguments.list, lambda file: listed_photos(file, end)))
    for argument, photos_of in sources:
        try:
            yield from photos_of(argument)
        except ImageError as error:
            yield argument, error
