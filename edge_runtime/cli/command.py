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

from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.errors import (
    EXIT_OK,
    EXIT_PHOTO_FAILED,
    EXIT_USAGE,
    EdgeError,
    ImageError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from edge_runtime.classifier import Classifier
    from edge_runtime.explain.heat_files import Explained
    from edge_runtime.images.photos import Arguments, Named
    from edge_runtime.result import Prediction

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
PROGRESS_S = 0.2
# TensorFlow Lite announces its default kernels on stderr, once a process, and offers no switch.
NATIVE_CHATTER = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs edge-classify and returns its exit status."""
    _prepare_streams()
    try:
        status = _status(sys.argv[1:] if argv is None else list(argv))
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except EdgeError as error:
        _tell(f"error: {error.message}")
        return error.exit_status
    except KeyboardInterrupt:
        _tell("interrupted")
        return EXIT_INTERRUPTED
    except OSError as error:
        # Only stdout can be meant: what reads files turns their errors into ours, and `_tell` has none. Python flushes
        # stdout once more at exit and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return EXIT_BROKEN_PIPE
        _tell(f"error: {EdgeError('the result cannot be written', found=error.strerror or str(error))}")
        return EXIT_PHOTO_FAILED


def _status(words: list[str]) -> int:
    try:
        arguments = parse(words)
    except SystemExit as ended:
        # argparse has said all there is to say: --help, --version, or what it does not understand.
        _tell("", end="")
        return ended.code if isinstance(ended.code, int) else EXIT_USAGE
    return _run(arguments)


def _tell(text: str, end: str = "\n") -> None:
    """Writes to stderr. A disk that is full of what is only said beside them must not cost the answers."""
    try:
        print(text, end=end, file=sys.stderr, flush=True)
    except OSError:
        # It stays in the stream's buffer, and Python would try it again at exit and end with status 120.
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115


def _prepare_streams() -> None:
    if sys.stderr is None:
        # Closed by the caller. Left so, print() would send errors to stdout, and the next file to be opened would
        # become what native code takes for stderr.
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        # File names need not be valid in the terminal's encoding.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


# What is not asked for, as `arguments.parser` has it; a test holds the two together.
DEFAULTS: dict[str, object] = {
    "model": None, "top_k": 3, "json": False, "threads": None, "list": None, "watch": None,
    "require_signature": None, "accelerator": None, "delegate": None, "bench": None, "self_check": False,
    "print_contract": False, "explain": None,
}  # fmt: skip


def parse(words: list[str]) -> Arguments:
    """The command line, checked. Photos alone, with --json at most, need no argparse: 4 ms of a run on one photo.

    Raises:
        UsageError: Options that cannot be meant.
        SystemExit: argparse has answered itself.
    """
    photos = [word for word in words if word != "--json"]
    if photos and not any(word.startswith("-") for word in photos):
        return SimpleNamespace(**{**DEFAULTS, "photos": photos, "json": len(photos) < len(words)})
    from edge_runtime.cli.arguments import check, parser

    arguments = parser().parse_args(words)
    check(arguments)
    return arguments


def _run(arguments: Arguments) -> int:
    if sys.stdout is None:
        raise UsageError("stdout is closed", expected="a place for the results")
    if arguments.print_contract:
        return _print_contract(arguments)
    from edge_runtime.images.photos import is_one_photo

    if arguments.bench or not is_one_photo(arguments):
        return _work(arguments)
    # What one photo leaves behind ends with the process.
    with _GarbageCollectorPaused():
        return _work(arguments)


def _print_contract(arguments: Arguments) -> int:
    from edge_runtime.engines.opening import open_trusted

    text = open_trusted(arguments.model, arguments.require_signature).contract.to_json()
    if (sys.stdout.encoding or "").lower().replace("_", "-") not in ("utf-8", "utf8"):
        # Outside UTF-8, JSON is ASCII: what stdout cannot encode would be written with escapes that JSON does not know.
        import json

        text = json.dumps(json.loads(text), indent=2) + "\n"
    print(text, end="")
    return EXIT_OK


def _work(arguments: Arguments) -> int:
    with _open_classifier(arguments) as classifier:
        if classifier.engine.skipped:
            _tell(f"note: passed over {'; '.join(classifier.engine.skipped)}")
        if arguments.self_check:
            _self_check(classifier, arguments)
        from edge_runtime.images.photos import has_photos

        if has_photos(arguments):
            from edge_runtime.result import notice

            _tell(notice(classifier.contract))
        return _classify_all(classifier, arguments)


def _takes_several_at_once(arguments: Arguments) -> bool:
    """Answers to what arrives must not wait for what arrives next; heat maps are made by one engine."""
    from edge_runtime.images.photos import is_one_photo

    return arguments.watch is None and arguments.explain is None and not is_one_photo(arguments)


def _open_classifier(arguments: Arguments) -> Classifier:
    # Who takes photos one after another spreads the inference over the threads, else they are the workers.
    alone = arguments.bench or not _takes_several_at_once(arguments)
    with _GarbageCollectorPaused(), _NativeChatterDropped():
        from edge_runtime.engines.opening import open_engine_for, open_trusted

        start_new_thread(_import_classifier, ())
        model = open_trusted(arguments.model, arguments.require_signature)
        opened = open_engine_for(
            model,
            engine="auto",
            threads=(arguments.threads or 1) if alone else 1,
            accelerator="cpu" if arguments.accelerator is None else arguments.accelerator,
            delegate=arguments.delegate,
            revalidate=arguments.self_check,
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
    from edge_runtime.diagnostics.self_check import self_check
    from edge_runtime.images.photos import has_photos

    checked = self_check(classifier)
    if has_photos(arguments):
        _tell(checked.to_text())
    elif arguments.json:
        print(_json({"self_check": checked.to_dict(), "runtime": classifier.describe_runtime()}))
    else:
        print(checked.to_text())


def _classify_all(classifier: Classifier, arguments: Arguments) -> int:
    from edge_runtime.images.photos import is_one_photo, named_photos

    names = named_photos(arguments)
    if arguments.bench:
        return max((_measure(classifier, name, arguments) for name in names), default=EXIT_OK)
    answers: Generator[tuple[str, Prediction | Explained | ImageError]]
    if arguments.explain is not None:
        from edge_runtime.explain.heat_files import explain_each

        answers = explain_each(classifier, names, arguments.explain)
    elif _takes_several_at_once(arguments):
        from edge_runtime.batch import classify_each

        answers = classify_each(classifier, names, workers=arguments.threads)
    else:
        answers = _one_by_one(classifier, names)
    progress = _Progress(sys.stderr.isatty() and not sys.stdout.isatty() and not is_one_photo(arguments))
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
    from edge_runtime.diagnostics.bench import measure
    from edge_runtime.images.photos import read_photo

    if not isinstance(name, str):
        return _report(*name, arguments.json)
    try:
        bench = measure(classifier, read_photo(name), arguments.bench, name=name)
    except ImageError as error:
        return _report(name, error, arguments.json)
    print(_json(bench.to_dict()) if arguments.json else bench.to_text(), flush=True)
    return EXIT_OK


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
            _tell(f"\r{self._done} photos, {rate:.1f} a second ", end="")

    def end(self) -> None:
        """Leaves the line."""
        if self._shown and self._last > self._started:
            _tell("")


def _report(name: str, error: ImageError, as_json: bool) -> int:
    if as_json:
        print(_json({"image": name, "error": {"code": error.code, "message": error.message}}), flush=True)
    else:
        _tell(f"error: {error.message}")
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
            said = written.read().replace(NATIVE_CHATTER, b"")
        try:
            os.write(2, said)
        except OSError:
            return  # As `_tell`.


if __name__ == "__main__":
    sys.exit(main())
