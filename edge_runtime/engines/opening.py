"""From a path to a checked model and an engine that runs it: the two steps of `Classifier`.

No Pillow here. `edge-classify` imports the classifier in a second thread while the model is read and the inference
library prepares it, which need no Python meanwhile.
"""

from __future__ import annotations

import os

from edge_runtime._startup.records import TYPE_CHECKING, dataclass
from edge_runtime.engines.engine import Engine, check_options
from edge_runtime.engines.loading import open_engine
from edge_runtime.errors import UsageError
from edge_runtime.model.flatbuffer import DEFAULT_LIMITS, Limits
from edge_runtime.model.model_file import ModelFile, open_model

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from edge_runtime.engines.fallback import Verdict


@dataclass(frozen=True)
class Opened:
    """A model, ready to run."""

    model: ModelFile
    engine: Engine
    asked: str = "cpu"
    """The requested accelerator or delegate; what is used is `engine.accelerator`."""
    verdicts: tuple[Verdict, ...] = ()
    """Results of the accelerators' validation."""


def open_trusted(
    path: str | os.PathLike[str] | None,
    signature_key: str | None,
    min_version: str | int | None = None,
    *,
    trust: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> ModelFile:
    """Open a model file; with a key, only one that is signed with it. Arguments and errors as `Classifier`."""
    if signature_key is not None:
        from edge_runtime.model.signature import open_signed

        return open_signed(path, signature_key, min_version, limits)
    if min_version is not None:
        found, expected = f"{min_version} without a key", "--min-version with --require-signature"
        raise UsageError("versions are signed", found=found, expected=expected)
    return open_model(path, vouched=trust, limits=limits)


def require_signed(arguments: Namespace, *paths: str | os.PathLike[str]) -> None:
    """Refuse model files that are not signed as the options of `signature.OPTIONS` say; errors as `Classifier`."""
    if arguments.require_signature is not None or arguments.min_version is not None:
        for path in paths:
            open_trusted(path, arguments.require_signature, arguments.min_version)


def add_signature_options(parser: ArgumentParser) -> None:
    """Add the options for `require_signed`."""
    from edge_runtime.model.signature import OPTIONS

    for name, settings in OPTIONS.items():
        parser.add_argument(name, **settings)


def open_engine_for(
    model: ModelFile, *, engine: str, threads: int, accelerator: str, delegate: str | None, revalidate: bool
) -> Opened:
    """Open an engine for a model; arguments and errors as `Classifier`."""
    check_options(engine, threads, accelerator, delegate)
    notes: list[str] = []
    if not model.vouched:
        from edge_runtime.engines.first_load import require_safe

        require_safe(model, engine=engine, again=revalidate, notes=notes)
    asked = accelerator if delegate is None else delegate
    options: dict[str, Any] = {"engine": engine, "threads": threads, "delegate": delegate}
    verdicts: tuple[Verdict, ...] = ()
    if (delegate is None and accelerator in ("cpu", "xnnpack")) or engine not in ("auto", "litert-c"):
        wanted = "cpu" if accelerator == "auto" else accelerator
        opened = open_engine(model.data, accelerator=wanted, **options)
    else:
        from edge_runtime.engines.fallback import first_accepted

        opened, verdicts = first_accepted(model, asked=accelerator, again=revalidate, notes=notes, **options)
    opened.skipped = (*opened.skipped, *notes)
    return Opened(model, opened, asked, verdicts)
