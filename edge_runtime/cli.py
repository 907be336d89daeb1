"""edge-classify: photos in, scores out. Results on stdout, everything else on stderr.

Exit status: 0 all good, 1 some photo failed, 2 usage, 3 model or interpreter unusable; 130 after Ctrl-C, 141 when the
reader of stdout went away.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_runtime import __version__
from edge_runtime.errors import EXIT_OK, EXIT_PHOTO_FAILED, EdgeError, ImageError, UsageError

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
MAX_BENCH_RUNS = 100_000
# TensorFlow Lite announces its default kernels on stderr, once a process, and offers no switch.
NATIVE_CHATTER = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs edge-classify and returns its exit status."""
    _prepare_streams()
    arguments = _parser().parse_args(argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except EdgeError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as error:
        # Only stdout can be meant: what reads files turns their errors into ours. Python flushes stdout once more at
        # exit and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return EXIT_BROKEN_PIPE
        print(f"error: the result cannot be written; found: {error.strerror or error}", file=sys.stderr)
        return EXIT_PHOTO_FAILED


def _prepare_streams() -> None:
    if sys.stderr is None:
        # Closed by the caller. Left so, print() would send errors to stdout, and the next file to be opened would
        # become what native code takes for stderr.
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        # File names need not be valid in the terminal's encoding.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-classify",
        description="Classifies photos with a .tflite model that carries its contract inside.",
        epilog="Exit status: 0 all good, 1 some photo failed, 2 usage, 3 model or interpreter unusable.",
        allow_abbrev=False,
        # With a width of its own: asking for the terminal's imports shutil and all its archive formats, for every run.
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100),
    )
    parser.add_argument(
        "photos", nargs="*", metavar="PHOTO", help="a photo, a folder of photos, or - for stdin"
    )
    parser.add_argument("--model", metavar="M", help="a .tflite file (default: the bundled model)")
    parser.add_argument(
        "--top-k", type=_positive, default=3, metavar="N", help="labels shown as text (default: 3)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, with all scores")
    parser.add_argument("--threads", type=_positive, default=1, metavar="N", help="CPU threads (default: 1)")
    parser.add_argument(
        "--accelerator",
        metavar="NAME",
        help="cpu (default), xnnpack (refused unless it takes part), or one that is proven here first and replaced by "
        "the CPU where it fails: gpu, npu, edgetpu, auto (the first of them that holds)",
    )
    parser.add_argument(
        "--delegate",
        metavar="LIB[:K=V,...]",
        help="an external TensorFlow Lite delegate with its options, proven first",
    )
    parser.add_argument("--bench", type=_positive, metavar="N", help="measure N runs of each photo")
    parser.add_argument("--self-check", action="store_true", help="first run the model's golden pictures")
    parser.add_argument("--print-contract", action="store_true", help="print the model's contract and stop")
    parser.add_argument("--version", action="version", version=f"edge-classify {__version__}")
    return parser


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= MAX_BENCH_RUNS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_BENCH_RUNS}")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    if arguments.print_contract:
        from edge_runtime.model_file import open_model

        print(open_model(arguments.model).contract.to_json(), end="")
        return EXIT_OK
    with _open_classifier(arguments) as classifier:
        if classifier.engine.skipped:
            print(f"note: passed over {'; '.join(classifier.engine.skipped)}", file=sys.stderr)
        if arguments.self_check:
            _self_check(classifier, arguments)
        if arguments.photos:
            from edge_runtime.result import notice

            print(notice(classifier.contract), file=sys.stderr)
        return _classify_all(classifier, arguments)


def _open_classifier(arguments: argparse.Namespace) -> Classifier:
    with _garbage_collector_paused(), _native_chatter_dropped():
        from edge_runtime.classifier import Classifier

        return Classifier.open(
            arguments.model,
            threads=arguments.threads,
            accelerator=arguments.accelerator or "cpu",
            delegate=arguments.delegate,
            prove_again=arguments.self_check,
        )


def _self_check(classifier: Classifier, arguments: argparse.Namespace) -> None:
    """The check is the result when nothing else is asked for; beside photos it is a remark."""
    from edge_runtime.self_check import self_check

    checked = self_check(classifier)
    if arguments.photos:
        print(checked.to_text(), file=sys.stderr)
    elif arguments.json:
        print(json.dumps({"self_check": checked.to_dict(), "runtime": classifier.describe_runtime()}))
    else:
        print(checked.to_text())


def _check(arguments: argparse.Namespace) -> None:
    """What argparse cannot say."""
    if sys.stdout is None:
        raise UsageError("stdout is closed", expected="a place for the results")
    if arguments.print_contract and (arguments.photos or arguments.self_check or arguments.bench):
        raise UsageError(
            "--print-contract stands alone",
            found="other work on the same line",
            fix="run edge-classify twice",
        )
    if not (arguments.photos or arguments.print_contract or (arguments.self_check and not arguments.bench)):
        raise UsageError(
            "no photo", expected="PHOTO, a folder, or - for stdin", fix="see edge-classify --help"
        )
    if arguments.accelerator and arguments.delegate:
        raise UsageError(
            "a delegate and an accelerator exclude each other",
            found=f"--accelerator {arguments.accelerator} and --delegate {arguments.delegate}",
            expected="one of them",
        )
    if arguments.photos.count("-") > 1:
        raise UsageError("stdin can be read once only", found=f"- {arguments.photos.count('-')} times")


def _classify_all(classifier: Classifier, arguments: argparse.Namespace) -> int:
    from edge_runtime.photos import list_photos

    status = EXIT_OK
    for argument in arguments.photos:
        try:
            names = list_photos(argument)
        except ImageError as error:
            status = _report(argument, error, arguments.json)
            continue
        for name in names:
            try:
                _answer(classifier, name, arguments)
            except ImageError as error:
                status = _report(name, error, arguments.json)
    return status


def _answer(classifier: Classifier, name: str, arguments: argparse.Namespace) -> None:
    """Prints one photo's result, flushed: the next photo may take long."""
    if arguments.bench:
        from edge_runtime.bench import measure
        from edge_runtime.photos import read_photo

        bench = measure(classifier, read_photo(name), arguments.bench, name=name)
        print(json.dumps(bench.to_dict()) if arguments.json else bench.to_text(), flush=True)
        return
    prediction = classifier.classify(name)
    print(prediction.to_json() if arguments.json else prediction.to_text(arguments.top_k), flush=True)


def _report(name: str, error: ImageError, as_json: bool) -> int:
    if as_json:
        print(
            json.dumps({"image": name, "error": {"code": error.code, "message": error.message}}), flush=True
        )
    else:
        print(f"error: {error.message}", file=sys.stderr)
    return EXIT_PHOTO_FAILED


@contextmanager
def _garbage_collector_paused() -> Iterator[None]:
    """Start-up makes many objects and no garbage: looking for it takes 4 % of a run on one photo."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _native_chatter_dropped() -> Iterator[None]:
    """Holds back what native code writes to stderr meanwhile, and passes on all of it but the chatter."""
    try:
        kept, held = os.dup(2), os.memfd_create("stderr")
    except (OSError, AttributeError):
        yield  # stderr is closed, or this is not Linux.
        return
    os.dup2(held, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.lseek(held, 0, os.SEEK_SET)
        with os.fdopen(held, "rb") as written:
            os.write(2, written.read().replace(NATIVE_CHATTER, b""))


if __name__ == "__main__":
    sys.exit(main())
