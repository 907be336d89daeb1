"""edge-classify: photos in, scores out. Results on stdout, everything else on stderr.

Exit status: 0 all good, 1 some photo failed, 2 usage, 3 model or interpreter unusable; 130 after Ctrl-C, 141 when the
reader of stdout went away.
"""

from __future__ import annotations

import gc
import os
import sys
from _thread import start_new_thread
from time import perf_counter
from types import SimpleNamespace

from edge_runtime import __version__
from edge_runtime.errors import EXIT_OK, EXIT_PHOTO_FAILED, EdgeError, ImageError, UsageError
from edge_runtime.records import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from edge_runtime.classifier import Classifier
    from edge_runtime.heat_files import Explained
    from edge_runtime.result import Prediction

    Named = str | tuple[str, ImageError]
    """A photo, or what could not be listed and why."""
    Arguments = argparse.Namespace | SimpleNamespace

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
MAX_BENCH_RUNS = 100_000
MAX_THREADS = 64
PROGRESS_S = 0.2
# TensorFlow Lite announces its default kernels on stderr, once a process, and offers no switch.
NATIVE_CHATTER = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs edge-classify and returns its exit status."""
    _prepare_streams()
    arguments = parse(sys.argv[1:] if argv is None else list(argv))
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


# What is not asked for, as `_parser` has it; a test holds the two together.
TOP_K = 3
DEFAULTS: dict[str, object] = {
    "model": None, "top_k": TOP_K, "json": False, "threads": None, "list": None, "watch": None,
    "require_signature": None, "accelerator": None, "delegate": None, "bench": None, "self_check": False,
    "print_contract": False, "explain": None,
}  # fmt: skip


def parse(words: list[str]) -> Arguments:
    """The command line. Photos alone, with --json at most, need no argparse: 4 ms of a run on one photo."""
    if words and all(word == "--json" or not word.startswith("-") for word in words):
        photos = [word for word in words if word != "--json"]
        return SimpleNamespace(**{**DEFAULTS, "photos": photos, "json": "--json" in words})
    return _parser().parse_args(words)


def _parser() -> argparse.ArgumentParser:
    import argparse

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
        "--top-k",
        type=_positive,
        default=TOP_K,
        metavar="N",
        help="labels shown as text (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, with all scores")
    parser.add_argument(
        "--threads",
        type=_positive,
        metavar="N",
        help="CPU threads (default: 1 for one photo, all cores for several)",
    )
    parser.add_argument("--list", metavar="FILE", help="photos named in FILE, a path a line; - reads stdin")
    parser.add_argument(
        "--watch", metavar="FOLDER", help="classify the photos that arrive in FOLDER, until Ctrl-C"
    )
    parser.add_argument(
        "--explain",
        metavar="OUT",
        help="write a picture of where the answer comes from: a .png file, or a folder for several photos",
    )
    parser.add_argument(
        "--require-signature",
        metavar="KEY",
        help="refuse the model unless MODEL.sig is its Ed25519 signature by this public key (PEM)",
    )
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
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_BENCH_RUNS}")
    return int(text)


def _run(arguments: Arguments) -> int:
    _check(arguments)
    if arguments.print_contract:
        from edge_runtime.model_file import open_model

        print(open_model(arguments.model).contract.to_json(), end="")
        return EXIT_OK
    if arguments.bench or not _is_one_photo(arguments):
        return _work(arguments)
    # What one photo leaves behind ends with the process.
    with _GarbageCollectorPaused():
        return _work(arguments)


def _work(arguments: Arguments) -> int:
    with _open_classifier(arguments) as classifier:
        if classifier.engine.skipped:
            print(f"note: passed over {'; '.join(classifier.engine.skipped)}", file=sys.stderr)
        if arguments.self_check:
            _self_check(classifier, arguments)
        if _has_photos(arguments):
            from edge_runtime.result import notice

            print(notice(classifier.contract), file=sys.stderr)
        return _classify_all(classifier, arguments)


def _has_photos(arguments: Arguments) -> bool:
    return bool(arguments.photos or arguments.list or arguments.watch)


def _is_one_photo(arguments: Arguments) -> bool:
    """Whether one engine is enough: a second costs what it never earns on one photo."""
    from edge_runtime.photos import is_folder

    return (
        not (arguments.list or arguments.watch)
        and len(arguments.photos) <= 1
        and not any(map(is_folder, arguments.photos))
    )


def _open_classifier(arguments: Arguments) -> Classifier:
    alone = arguments.bench or _is_one_photo(arguments)
    with _GarbageCollectorPaused(), _NativeChatterDropped():
        from edge_runtime.opening import open_engine_for, open_trusted

        start_new_thread(_import_classifier, ())
        model = open_trusted(arguments.model, arguments.require_signature)
        opened = open_engine_for(
            model,
            engine="auto",
            threads=(arguments.threads or 1) if alone else 1,
            accelerator=arguments.accelerator or "cpu",
            delegate=arguments.delegate,
            prove_again=arguments.self_check,
        )
        from edge_runtime.classifier import Classifier

        return Classifier.of(opened)


def _import_classifier() -> None:
    """In a thread, see `opening`. What fails here fails again where the classifier is asked for, and is told there."""
    try:
        import edge_runtime.classifier  # noqa: F401
    except Exception:  # noqa: BLE001
        return


def _self_check(classifier: Classifier, arguments: Arguments) -> None:
    """The check is the result when nothing else is asked for; beside photos it is a remark."""
    from edge_runtime.self_check import self_check

    checked = self_check(classifier)
    if _has_photos(arguments):
        print(checked.to_text(), file=sys.stderr)
    elif arguments.json:
        print(_json({"self_check": checked.to_dict(), "runtime": classifier.describe_runtime()}))
    else:
        print(checked.to_text())


def _check(arguments: Arguments) -> None:
    """What argparse cannot say."""
    if sys.stdout is None:
        raise UsageError("stdout is closed", expected="a place for the results")
    if arguments.print_contract and (_has_photos(arguments) or arguments.self_check or arguments.bench):
        raise UsageError(
            "--print-contract stands alone",
            found="other work on the same line",
            fix="run edge-classify twice",
        )
    if not (
        _has_photos(arguments) or arguments.print_contract or (arguments.self_check and not arguments.bench)
    ):
        raise UsageError(
            "no photo", expected="PHOTO, a folder, or - for stdin", fix="see edge-classify --help"
        )
    if arguments.accelerator and arguments.delegate:
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
    if arguments.bench and (arguments.list or arguments.watch):
        raise UsageError("--bench measures single photos", fix="name the photos themselves")
    if arguments.explain is not None:
        _check_explain(arguments)


def _check_explain(arguments: Arguments) -> None:
    from edge_runtime.heat_files import check_out

    if arguments.bench or arguments.watch or not _has_photos(arguments):
        raise UsageError(
            "--explain draws a picture for each photo that is named",
            found="--bench" if arguments.bench else "--watch" if arguments.watch else "no photo",
            expected="PHOTO, a folder, --list FILE, or - for stdin",
        )
    check_out(arguments.explain, arguments.photos, several=not _is_one_photo(arguments))


def _classify_all(classifier: Classifier, arguments: Arguments) -> int:
    names = _named_photos(arguments)
    if arguments.bench:
        return max((_measure(classifier, name, arguments) for name in names), default=EXIT_OK)
    answers: Generator[tuple[str, Prediction | Explained | ImageError]]
    if arguments.explain is not None:
        from edge_runtime.heat_files import explain_each

        answers = explain_each(classifier, names, arguments.explain)
    elif arguments.watch or _is_one_photo(arguments):
        # Answers to what arrives must not wait for what arrives next.
        answers = _one_by_one(classifier, names)
    else:
        from edge_runtime.pipeline import classify_each

        answers = classify_each(classifier, names, workers=arguments.threads)
    progress = _Progress(sys.stderr.isatty() and not sys.stdout.isatty() and not _is_one_photo(arguments))
    status = EXIT_OK
    # Closed here, also when stdout fails: its workers must be gone before the classifier and its engine are.
    try:
        for name, answer in answers:
            if isinstance(answer, ImageError):
                status = _report(name, answer, arguments.json)
            else:
                # Flushed: the next photo may take long.
                text = answer.to_json() if arguments.json else answer.to_text(arguments.top_k)
                print(text, flush=True)
            progress.step()
    finally:
        answers.close()
    progress.end()
    return status


def _one_by_one(
    classifier: Classifier, names: Iterable[Named]
) -> Generator[tuple[str, Prediction | Explained | ImageError]]:
    for name in names:
        if not isinstance(name, str):
            yield name
            continue
        try:
            yield name, classifier.classify(name)
        except ImageError as error:
            yield name, error


def _measure(classifier: Classifier, name: Named, arguments: Arguments) -> int:
    from edge_runtime.bench import measure
    from edge_runtime.photos import read_photo

    if not isinstance(name, str):
        return _report(*name, arguments.json)
    try:
        bench = measure(classifier, read_photo(name), arguments.bench, name=name)
    except ImageError as error:
        return _report(name, error, arguments.json)
    print(_json(bench.to_dict()) if arguments.json else bench.to_text(), flush=True)
    return EXIT_OK


def _named_photos(arguments: Arguments) -> Iterator[Named]:
    """The photos that the command line names, in order; in their place the folders and lists that cannot be read."""
    from edge_runtime.photos import list_photos, listed_photos

    for argument in arguments.photos:
        try:
            yield from list_photos(argument)
        except ImageError as error:
            yield argument, error
    try:
        if arguments.list:
            yield from listed_photos(arguments.list)
        if arguments.watch:
            from edge_runtime.watch import arrivals

            yield from arrivals(arguments.watch)
    except ImageError as error:
        yield arguments.watch or arguments.list, error


class _Progress:
    """Photos done and photos a second, on a terminal's stderr."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._done = 0
        self._started = self._last = perf_counter()

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        now = perf_counter()
        if self._shown and now - self._last > PROGRESS_S:
            self._last = now
            rate = self._done / (now - self._started)
            print(f"\r{self._done} photos, {rate:.1f} a second ", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leaves the line."""
        if self._shown and self._last > self._started:
            print(file=sys.stderr)


def _report(name: str, error: ImageError, as_json: bool) -> int:
    if as_json:
        print(_json({"image": name, "error": {"code": error.code, "message": error.message}}), flush=True)
    else:
        print(f"error: {error.message}", file=sys.stderr)
    return EXIT_PHOTO_FAILED


def _json(fields: dict[str, object]) -> str:
    import json

    return json.dumps(fields)


class _GarbageCollectorPaused:
    """Start-up makes many objects and no garbage: looking for it takes 4 % of a run on one photo."""

    def __enter__(self) -> None:
        self._enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._enabled:
            gc.enable()


class _NativeChatterDropped:
    """Holds back what native code writes to stderr meanwhile, and passes on all of it but the chatter."""

    def __enter__(self) -> None:
        self._kept = -1
        try:
            kept, self._held = os.dup(2), os.memfd_create("stderr")
        except (OSError, AttributeError):
            return  # stderr is closed, or this is not Linux.
        os.dup2(self._held, 2)
        self._kept = kept

    def __exit__(self, *_: object) -> None:
        if self._kept < 0:
            return
        os.dup2(self._kept, 2)
        os.close(self._kept)
        os.lseek(self._held, 0, os.SEEK_SET)
        with os.fdopen(self._held, "rb") as written:
            os.write(2, written.read().replace(NATIVE_CHATTER, b""))


if __name__ == "__main__":
    sys.exit(main())
