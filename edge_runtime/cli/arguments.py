"""What edge-classify may be asked: its options, and which of them cannot be meant together.

Photos alone come past this file, see `cli.parse`.
"""

from __future__ import annotations

import argparse

from edge_runtime import __version__
from edge_runtime.errors import UsageError
from edge_runtime.images.photos import has_photos, is_one_photo

TOP_K = 3
MAX_BENCH_RUNS = 100_000
MAX_THREADS = 64


def parser() -> argparse.ArgumentParser:
    """The options; without abbreviations."""
    parsed = argparse.ArgumentParser(
        prog="edge-classify",
        description="Classifies photos with a .tflite model that carries its contract inside.",
        epilog="Exit status: 0 all good, 1 some photo failed, 2 usage, 3 model or interpreter unusable.",
        allow_abbrev=False,
        # With a width of its own: asking for the terminal's imports shutil and all its archive formats, for every run.
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100),
    )
    parsed.add_argument(
        "photos", nargs="*", metavar="PHOTO", help="a photo, a folder of photos, or - for stdin"
    )
    parsed.add_argument("--model", metavar="M", help="a .tflite file (default: the bundled model)")
    parsed.add_argument(
        "--top-k",
        type=_positive,
        default=TOP_K,
        metavar="N",
        help="labels shown as text (default: %(default)s)",
    )
    parsed.add_argument("--json", action="store_true", help="one JSON object a line, with all scores")
    parsed.add_argument(
        "--threads",
        type=_positive,
        metavar="N",
        help="CPU threads (default: all cores for several photos, 1 for one, --watch and --explain)",
    )
    parsed.add_argument("--list", metavar="FILE", help="photos named in FILE, a path a line; - reads stdin")
    parsed.add_argument(
        "--watch", metavar="FOLDER", help="classify the photos that arrive in FOLDER, until Ctrl-C"
    )
    parsed.add_argument(
        "--explain",
        metavar="OUT",
        help="write a picture of where the answer comes from: a .png file, or a folder for several photos",
    )
    parsed.add_argument(
        "--require-signature",
        metavar="KEY",
        help="refuse the model unless MODEL.sig is its Ed25519 signature by this public key (PEM)",
    )
    parsed.add_argument(
        "--accelerator",
        metavar="NAME",
        help="cpu (default), xnnpack (refused unless it takes part), or one that is proven here first and replaced by "
        "the CPU where it fails: gpu, npu, edgetpu, auto (the first of them that holds)",
    )
    parsed.add_argument(
        "--delegate",
        metavar="LIB[:K=V,...]",
        help="an external TensorFlow Lite delegate with its options, proven first",
    )
    parsed.add_argument("--bench", type=_positive, metavar="N", help="measure N runs of each photo")
    parsed.add_argument("--self-check", action="store_true", help="first run the model's golden pictures")
    parsed.add_argument("--print-contract", action="store_true", help="print the model's contract and stop")
    parsed.add_argument("--version", action="version", version=f"edge-classify {__version__}")
    return parsed


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= MAX_BENCH_RUNS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_BENCH_RUNS}")
    return int(text)


def check(arguments: argparse.Namespace) -> None:
    """What argparse cannot say.

    Raises:
        UsageError: Options that cannot be meant, alone or together.
    """
    for name in ("model", "list", "watch", "require_signature", "accelerator", "delegate", "explain"):
        if getattr(arguments, name) == "":
            raise UsageError(
                f"{_option(name)} is empty",
                expected="a value",
                fix="look at the variable that was to give it, or leave the option out",
            )
    if arguments.print_contract:
        _check_print_contract(arguments)
    elif not (has_photos(arguments) or (arguments.self_check and not arguments.bench)):
        raise UsageError(
            "no photo", expected="PHOTO, a folder, or - for stdin", fix="see edge-classify --help"
        )
    if arguments.accelerator is not None and arguments.delegate is not None:
        raise UsageError(
            "a delegate and an accelerator exclude each other",
            found=f"--accelerator {arguments.accelerator} and --delegate {arguments.delegate}",
            expected="one of them",
        )
    if arguments.threads is not None and arguments.threads > MAX_THREADS:
        raise UsageError(
            "the number of threads", found=str(arguments.threads), expected=f"1 to {MAX_THREADS}"
        )
    from_stdin = [*arguments.photos, arguments.list].count("-")
    if from_stdin > 1:
        raise UsageError("stdin can be read once only", found=f"- {from_stdin} times")
    if arguments.bench and not (arguments.list is None and arguments.watch is None):
        raise UsageError("--bench measures single photos", fix="name the photos themselves")
    if arguments.explain is not None:
        _check_explain(arguments)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_print_contract(arguments: argparse.Namespace) -> None:
    others = (
        "photos",
        "list",
        "watch",
        "self_check",
        "bench",
        "accelerator",
        "delegate",
        "explain",
        "threads",
    )
    asked = [_option(name) if name != "photos" else "PHOTO" for name in others if getattr(arguments, name)]
    if asked:
        raise UsageError(
            "--print-contract stands alone",
            found=", ".join(asked),
            expected="--model and --require-signature beside it at most",
            fix="run edge-classify twice",
        )


def _check_explain(arguments: argparse.Namespace) -> None:
    from edge_runtime.explain.heat_files import check_out

    if arguments.bench or arguments.watch is not None or not has_photos(arguments):
        raise UsageError(
            "--explain draws a picture for each photo that is named",
            found="--bench" if arguments.bench else "--watch" if arguments.watch else "no photo",
            expected="PHOTO, a folder, --list FILE, or - for stdin",
        )
    check_out(arguments.explain, arguments.photos, several=not is_one_photo(arguments))
