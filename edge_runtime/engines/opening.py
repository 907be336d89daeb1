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
    from types import SimpleNamespace
    from typing import Any

    from edge_runtime.engines.fallback import Verdict

MODEL_OPTIONS = ("--require-signature", "--min-version", "--max-model-memory", "--max-model-work")
"""Of every command that opens model files; those that run them have --trust too."""


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


def add_model_options(parser: ArgumentParser, *, runs: bool = True) -> None:
    """Add the options for `open_requested` to the parser of a command that runs models, or only reads them."""
    from edge_runtime.engines.options import OPTIONS

    for name in (*MODEL_OPTIONS, "--trust") if runs else MODEL_OPTIONS:
        parser.add_argument(name, **OPTIONS[name])


def names_delegate(accelerator: str | None, delegate: str | None) -> bool:
    """Return whether these arguments of `Classifier` name more than the CPU."""
    return delegate is not None or accelerator not in (None, "cpu", "xnnpack")


def open_requested(
    arguments: Namespace | SimpleNamespace, *paths: str | os.PathLike[str] | None
) -> list[ModelFile]:
    """Open model files as their options say, which are taken out of `arguments`; errors as `Classifier`."""
    given = vars(arguments)
    named = names_delegate(given.get("accelerator"), given.get("delegate"))
    limits = Limits(given.pop("max_model_memory"), given.pop("max_model_work"), named)
    key, oldest, trust = given.pop("require_signature"), given.pop("min_version"), given.pop("trust", False)
    return [open_trusted(path, key, oldest, trust=trust, limits=limits) for path in paths]


def open_engine_for(
    model: ModelFile, *, engine: str, threads: int, accelerator: str, delegate: str | None, revalidate: bool
) -> Opened:
    """Open an engine for a model; arguments and errors as `Classifier`."""
    check_options(engine, threads, accelerator, delegate)
    notes: list[str] = []
    validated = names_delegate(accelerator, delegate) and engine in ("auto", "litert-c")
    # What the CPU cannot run is first loaded by the delegate's child.
    if not (model.vouched or (model.needs_delegate and validated)):
        from edge_runtime.engines.first_load import require_safe

        require_safe(model, engine=engine, again=revalidate, notes=notes)
    asked = accelerator if delegate is None else delegate
    options: dict[str, Any] = {"engine": engine, "threads": threads, "delegate": delegate}
    verdicts: tuple[Verdict, ...] = ()
    if not validated:
        wanted = "cpu" if accelerator == "auto" else accelerator
        opened = open_engine(model.data, accelerator=wanted, **options)
    else:
        from edge_runtime.engines.fallback import first_accepted

        opened, verdicts = first_accepted(model, asked=accelerator, again=revalidate, notes=notes, **options)
    opened.skipped = (*opened.skipped, *notes)
    return Opened(model, opened, asked, verdicts)
