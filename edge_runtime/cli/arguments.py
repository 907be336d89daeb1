"""Options of edge-classify and of the verbs classify, watch, explain, check, contract and bench.

A verb's parser is a subset of edge-classify's: `arguments_of` turns its words into the same namespace.
"""

from __future__ import annotations

import argparse
import os

from edge_runtime import __version__
from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.cli.selection import has_photos, is_one_photo
from edge_runtime.engines.opening import MODEL_OPTIONS
from edge_runtime.engines.options import OPTIONS
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
        **OPTIONS,
        "--schema": {"action": _PrintSchema, "nargs": 0, "default": argparse.SUPPRESS, "help": schema},
        "--version": {"action": "version", "version": VERSION, "help": "print the version and exit"},
    }


MODEL = " ".join(MODEL_OPTIONS)
ENGINE = f"--threads --max-memory {MODEL} --trust --accelerator --delegate"
OUTPUT = "--model --top-k --json --recursive --csv --sort-into --skip-done"


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


# Option -> what it does not go with, and what it needs.
EXCLUDED = {
    "print_contract": (
        "photos", "list", "watch", "stream", "self_check", "bench", "accelerator", "delegate", "explain", "threads",
        "trust", "csv", "sort_into", "skip_done",
    ),
    "bench": ("list", "watch", "stream", "explain", "csv", "sort_into", "skip_done"),
    "explain": ("watch", "stream"),
    "stream": ("watch", "sort_into"),
    "skip_done": ("stream",),
    "delegate": ("accelerator",),
}  # fmt: skip
NEEDED = {"only_new": "watch", "state": "watch", "null": "list"}

# Verb -> its description, an example, its options, and what it sets on top. Its photos or model come first.
VERBS: dict[str, tuple[str, str, str, dict[str, object]]] = {
    "watch": (
        "Classify photos as they arrive in a folder, until Ctrl-C.",
        "--json incoming/",
        f"{OUTPUT} --only-new --state {ENGINE}",
        {},
    ),
    "explain": (
        "Classify photos and write a heat map of the predicted label.",
        "photo.jpg --out heat.png",
        f"{OUTPUT} --list --null,-0 {ENGINE}",
        {},
    ),
    "check": (
        "Run a model's built-in self-test on this machine.",
        "model.tflite",
        f"--json {ENGINE}",
        {"self_check": True},
    ),
    "contract": (
        "Print the contract inside a model file as JSON.",
        "model.tflite",
        MODEL,
        {"print_contract": True},
    ),
    "bench": ("Time the stages of one photo.", "model.tflite photo.jpg --runs 100", f"--json {ENGINE}", {}),
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
    return _add(parsed, *options.split())


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
    given = [name for name, value in vars(arguments).items() if value]
    for name in given:
        if excluded := [other for other in EXCLUDED.get(name, ()) if other in given]:
            found = ", ".join("PHOTO" if other == "photos" else _option(other) for other in excluded)
            raise UsageError(f"{_option(name)} goes with no such option", found=found, fix="leave it out")
        if NEEDED.get(name, name) not in given:
            fix = f"add {_option(NEEDED[name])}, or leave it out"
            raise UsageError(f"{_option(name)} has no meaning here", fix=fix)
    checked_alone = arguments.self_check and not arguments.bench and arguments.explain is None
    if not (arguments.print_contract or checked_alone or has_photos(arguments)):
        expected = "PHOTO, a folder, or - for stdin"
        raise UsageError("no photo", expected=expected, fix="see dermedge classify --help")
    if arguments.threads is not None and arguments.threads > MAX_THREADS:
        found, expected = str(arguments.threads), f"1 to {MAX_THREADS}"
        raise UsageError("invalid number", where="--threads", found=found, expected=expected)
    from_stdin = [*arguments.photos, arguments.list, arguments.stream].count("-")
    if from_stdin > 1:
        raise UsageError("stdin can be read only once", found=f"- {from_stdin} times")
    if arguments.sort_into is not None:
        if "-" in arguments.photos:
            raise UsageError("no name to copy a photo under", where="--sort-into", found="a photo from stdin")
        inside = f"{os.path.realpath(arguments.sort_into)}/"
        for folder in [*arguments.photos, arguments.watch] if arguments.recursive else ():
            if folder and inside.startswith(f"{os.path.realpath(folder)}/"):
                fix = "name a folder elsewhere, or leave out --recursive"
                raise UsageError("copies would be photos again", where="--sort-into", found=folder, fix=fix)
    if arguments.csv is not None and not arguments.skip_done and os.path.lexists(arguments.csv):
        fix = "name another one, or add --skip-done to go on with it"
        raise UsageError("the table is there already", where=arguments.csv, fix=fix)
    if arguments.explain is not None:
        from edge_runtime.explain.heat_files import check_out

        check_out(arguments.explain, arguments.photos, several=not is_one_photo(arguments))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
