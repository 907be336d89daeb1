"""From a path to a checked model and an engine that runs it. No Pillow here: its import and this work overlap.

`Classifier.open` is these steps in a row. `edge-classify` lets a second thread import the classifier, and Pillow's core
with it, while the model is read and the inference library prepares it, which need no Python meanwhile.
"""

from __future__ import annotations

import os

from edge_runtime._startup.records import TYPE_CHECKING, dataclass
from edge_runtime.engines import Engine, check_options, open_engine
from edge_runtime.model.model_file import ModelFile, open_model

if TYPE_CHECKING:
    from edge_runtime.engines.ladder import Verdict


@dataclass(frozen=True)
class Opened:
    """A model, ready to run."""

    model: ModelFile
    engine: Engine
    asked: str = "cpu"
    """The accelerator or delegate that was asked for; what is used is `engine.accelerator`."""
    verdicts: tuple[Verdict, ...] = ()
    """What was found out about accelerators on the way."""


def open_trusted(path: str | os.PathLike[str] | None, signature_key: str | None) -> ModelFile:
    """Opens a model file; with a key, only one that is signed with it. Arguments and errors as `Classifier.open`."""
    model = open_model(path)
    if signature_key is not None:
        from edge_runtime.model.signature import require_signature

        require_signature(model, signature_key)
    return model


def open_engine_for(
    model: ModelFile, *, engine: str, threads: int, accelerator: str, delegate: str | None, revalidate: bool
) -> Opened:
    """Opens an engine for a model; arguments and errors as `Classifier.open`."""
    asked = accelerator if delegate is None else delegate
    if (delegate is None and accelerator in ("cpu", "xnnpack")) or engine not in ("auto", "litert-c"):
        wanted = "cpu" if accelerator == "auto" else accelerator
        plain = open_engine(model.data, engine=engine, threads=threads, accelerator=wanted, delegate=delegate)
        return Opened(model, plain, asked, ())
    from edge_runtime.engines.ladder import climb

    check_options(engine, threads, accelerator, delegate)
    proven, verdicts = climb(
        model, asked=accelerator, engine=engine, threads=threads, delegate=delegate, again=revalidate
    )
    return Opened(model, proven, asked, verdicts)
