"""Options of edge-classify and of the verbs classify, watch, explain, check, contract and bench.

A verb's parser is a subset of edge-classify's: `arguments_of` turns its words into the same namespace.
"""

from __future__ import annotations

import argparse

from edge_runtime import __version__
from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.cli.selection import has_photos, is_one_photo
from edge_runtime.engines import opening
from edge_runtime.errors import UsageError, with_nearest

if TYPE_CHECKING:
    from typing import Any, NoReturn

BENCH_RUNS = 50
MAX_THREADS = 64
SCHEMA_FILE = "lines.schema.json"
STATUS = "exit status: 0 success, 1 some photo failed, 2 usage, 3 model or interpreter unusable"
PROGRAM = "edge-classify"
VERSION = f"{PROGRAM} {__version__}"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are escaped and name the nearest option."""

    def error(self, message: str) -> NoReturn:
        """Print the message and end with status 2."""
        super().error(with_nearest(message, self._option_string_actions))


class _PrintSchema(argparse.Action):
    """Prints the JSON Schema of the JSON lines and ends, as --version does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from importlib.resources import files

        print(files("edge_runtime.cli").joinpath(SCHEMA_FILE).read_text(encoding="utf-8"), end="")
        parser.exit()


def _options() -> dict[str, dict[str, Any]]:
    schema = "print the JSON Schema of the JSON lines and exit"
    return {
        **opening.options(),
        "--schema": {"action": _PrintSchema, "nargs": 0, "default": argparse.SUPPRESS, "help": schema},
        "--version": {"action": "version", "version": VERSION, "help": "print the version and exit"},
    }


ENGINE = ("--threads", "--max-memory", *opening.MODEL_OPTIONS, "--trust", "--accelerator", "--delegate")


def _new(program: str, description: str, example: str) -> argparse.ArgumentParser:
    return Parser(
        prog=program,
        description=description,
        epilog=f"example:\n  {program} {example}\n\n{STATUS}",
        allow_abbrev=False,
        # With a width of its own: reading the terminal's width imports shutil and all its archive formats.
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100),
    )


def _add(parsed: argparse.ArgumentParser, *options: str) -> argparse.ArgumentParser:
    table = _options()
    for option in options or table:
        parsed.add_argument(*option.split(","), **table[option])
    return parsed


def _add_photos(parsed: argparse.ArgumentParser, nargs: str) -> None:
    parsed.add_argument(
        "photos", nargs=nargs, metavar="PHOTO", help="photo, folder of photos, or - for stdin"
    )


def parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """Return the parser of edge-classify and `dermedge classify`."""
    description = "Classify photos with a .tflite model that carries its contract."
    parsed = _new(program, description, "--json photo.jpg holiday/")
    _add_photos(parsed, "*")
    return _add(parsed)


# Verb -> its description, an example, its options, and what it sets on top. Its photos or model come first.
VERBS: dict[str, tuple[str, str, tuple[str, ...], dict[str, object]]] = {
    "watch": (
        "Classify photos as they arrive in a folder, until Ctrl-C.",
        "--json incoming/",
        ("--model", "--top-k", "--json", *ENGINE),
        {},
    ),
    "explain": (
        "Classify photos and write a heat map of the predicted label.",
        "photo.jpg --out heat.png",
        ("--model", "--top-k", "--json", "--list", "--null,-0", "--recursive", *ENGINE),
        {},
    ),
    "check": (
        "Run a model's built-in self-test on this machine.",
        "model.tflite",
        ("--json", *ENGINE),
        {"self_check": True},
    ),
    "contract": (
        "Print the contract inside a model file as JSON.",
        "model.tflite",
        opening.MODEL_OPTIONS,
        {"print_contract": True},
    ),
    "bench": ("Time the stages of one photo.", "model.tflite photo.jpg --runs 100", ("--json", *ENGINE), {}),
}


def verb_parser(verb: str) -> argparse.ArgumentParser:
    """Return the parser of a verb of VERBS."""
    description, example, options, _ = VERBS[verb]
    parsed = _new(f"dermedge {verb}", description, example)
    if verb == "watch":
        parsed.add_argument("watch", metavar="FOLDER", help="folder to watch")
    elif verb == "explain":
        _add_photos(parsed, "*")
        text = "PNG file to write; an existing folder for several photos"
        parsed.add_argument("--out", dest="explain", required=True, metavar="OUT", help=text)
    elif verb == "bench":
        parsed.add_argument("model", metavar="MODEL", help="path of the .tflite file")
        _add_photos(parsed, "+")
        text = "number of measured runs (default: %(default)s)"
        changed = {"dest": "bench", "default": BENCH_RUNS, "help": text}
        parsed.add_argument("--runs", **{**_options()["--bench"], **changed})
    else:
        parsed.add_argument("model", nargs="?", **_options()["--model"] | {"metavar": "MODEL"})
    return _add(parsed, *options)


def arguments_of(verb: str, words: list[str], defaults: dict[str, object]) -> argparse.Namespace:
    """Parse the words after a verb of VERBS or `classify` into edge-classify's arguments, which have `defaults`.

    Raises:
        UsageError: Invalid options.
        SystemExit: argparse printed help, a version or an error.
    """
    if verb == "classify":
        arguments = parser("dermedge classify").parse_args(words)
    else:
        given = vars(verb_parser(verb).parse_args(words))
        arguments = argparse.Namespace(**{**defaults, "photos": [], **given, **VERBS[verb][-1]})
    check(arguments)
    return arguments


def check(arguments: argparse.Namespace) -> None:
    """Refuse what argparse cannot.

    Raises:
        UsageError: An option is invalid, alone or with another.
    """
    for name, value in vars(arguments).items():
        if value == "":
            fix = "check the variable that holds it, or leave the option out"
            raise UsageError("empty value", where=_option(name), expected="a value", fix=fix)
    if arguments.print_contract:
        _check_print_contract(arguments)
    elif not (has_photos(arguments) or (arguments.self_check and not arguments.bench)):
        expected = "PHOTO, a folder, or - for stdin"
        raise UsageError("no photo", expected=expected, fix="see dermedge classify --help")
    if arguments.accelerator is not None and arguments.delegate is not None:
        found = f"--accelerator {arguments.accelerator} and --delegate {arguments.delegate}"
        problem = "--delegate and --accelerator cannot be combined"
        raise UsageError(problem, found=found, expected="one of them")
    if arguments.threads is not None and arguments.threads > MAX_THREADS:
        found, expected = str(arguments.threads), f"1 to {MAX_THREADS}"
        raise UsageError("invalid number", where="--threads", found=found, expected=expected)
    from_stdin = [*arguments.photos, arguments.list].count("-")
    if from_stdin > 1:
        raise UsageError("stdin can be read only once", found=f"- {from_stdin} times")
    if arguments.bench and not (arguments.list is None and arguments.watch is None):
        raise UsageError("--bench needs explicit photo paths", fix="name the photos as arguments")
    if arguments.explain is not None:
        _check_explain(arguments)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_print_contract(arguments: argparse.Namespace) -> None:
    others = (
        "photos", "list", "watch", "self_check", "bench", "accelerator", "delegate", "explain", "threads", "trust",
    )  # fmt: skip
    given = [_option(name) if name != "photos" else "PHOTO" for name in others if getattr(arguments, name)]
    if given:
        problem = "--print-contract cannot be combined with other options"
        expected = "--model, --require-signature and --min-version at most"
        raise UsageError(problem, found=", ".join(given), expected=expected, fix="run edge-classify twice")


def _check_explain(arguments: argparse.Namespace) -> None:
    from edge_runtime.explain.heat_files import check_out

    if arguments.bench or arguments.watch is not None or not has_photos(arguments):
        found = "--bench" if arguments.bench else "--watch" if arguments.watch else "no photo"
        expected = "PHOTO, a folder, --list FILE, or - for stdin"
        raise UsageError("heat maps need photos that are named", found=found, expected=expected)
    check_out(arguments.explain, arguments.photos, several=not is_one_photo(arguments))
