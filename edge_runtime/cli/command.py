"""edge-classify and the verbs of dermedge that run a model. Results go to stdout, everything else to stderr.

Exit status: 0 all good, 1 some photo failed, 2 usage, 3 model or interpreter unusable; 130 after Ctrl-C, 141 when the
reader of stdout went away.
"""

from __future__ import annotations

import os
import sys
from itertools import filterfalse
from time import perf_counter
from types import SimpleNamespace

from edge_runtime._startup import PLAIN
from edge_runtime._startup.process import EXIT_INTERRUPTED, GcPaused, import_ahead, interruptible
from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.cli.selection import has_photos, is_one_photo, is_open_ended, named_photos
from edge_runtime.errors import EXIT_OK, EXIT_PHOTO_FAILED, EdgeError, ImageError, UsageError, escaped
from edge_runtime.images import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from edge_runtime.classifier import Classifier
    from edge_runtime.cli.selection import Arguments, Named
    from edge_runtime.explain.heat_files import Explained
    from edge_runtime.result import Prediction

EXIT_BROKEN_PIPE = 141
PROGRESS_S = 0.2
# TensorFlow Lite announces its default kernels on stderr, once a process, and offers no switch.
NATIVE_CHATTER = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"


def run_guarded(work: Callable[[], int], *, failed: int = EXIT_PHOTO_FAILED) -> int:
    """Run `work` and return its exit status, or turn what ends it into a message and another.

    `failed` is that after an error of a photo or of stdout.
    """
    _prepare_streams()
    try:
        status = interruptible(work)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except EdgeError as error:
        _print_error(f"error: {error.message}")
        return failed if error.exit_status == EXIT_PHOTO_FAILED else error.exit_status
    except MemoryError:
        _print_error(f"error: {memory.no_memory('')}")
        return failed
    except KeyboardInterrupt:
        _print_error("interrupted")
        return EXIT_INTERRUPTED
    except OSError as error:
        # Of stdout: errors of files are EdgeErrors. Python flushes stdout at exit and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return EXIT_BROKEN_PIPE
        unwritten = EdgeError("the result cannot be written", found=error.strerror or str(error))
        _print_error(f"error: {unwritten}")
        return failed


def _command(verb: str) -> Callable[..., int]:
    """Return the function `(argv=None) -> exit status` of a verb of dermedge; of edge-classify if it is empty."""

    def run(argv: Sequence[str] | None = None) -> int:
        return run_guarded(lambda: _status(verb, sys.argv[1:] if argv is None else list(argv)))

    return run


main = _command("")
classify, watch, explain = _command("classify"), _command("watch"), _command("explain")
check, contract, bench = _command("check"), _command("contract"), _command("bench")


def _status(verb: str, words: list[str]) -> int:
    try:
        arguments = parse(words, verb)
    except SystemExit as ended:
        # argparse has printed everything: --help, --version, or what it does not understand.
        _print_error("", end="")
        return ended.code if isinstance(ended.code, int) else UsageError.exit_status
    return _run(arguments)


def _print_error(text: str, end: str = "\n") -> None:
    """Write to stderr. If that fails (a full disk), results on stdout must not suffer."""
    try:
        print(text, end=end, file=sys.stderr, flush=True)
    except OSError:
        # The text stays in the stream's buffer: Python would write it again at exit and end with status 120.
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115


def tell(text: str) -> None:
    """Write a remark to stderr, escaped."""
    _print_error(f"note: {escaped(text)}")


def _prepare_streams() -> None:
    if sys.stderr is None:
        # Closed by the caller: print() would write errors to stdout, and native code would write its own to the next
        # file that is opened.
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    if not sys.warnoptions:
        # Pillow's name no photo. Importing `warnings` would cost start-up time.
        import _warnings

        sys.modules.get("warnings", _warnings).filters.insert(0, ("ignore", None, Warning, None, 0))
    for stream in (sys.stdout, sys.stderr):
        # File names need not be valid in the terminal's encoding.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


# Defaults of the options, equal to those of `arguments.parser` by a test.
DEFAULTS: dict[str, object] = {
    "model": None, "top_k": 3, "json": False, "threads": None, "list": None, "watch": None,
    "require_signature": None, "min_version": None, "accelerator": None, "delegate": None, "bench": None,
    "self_check": False, "print_contract": False, "explain": None, "trust": False, "max_model_memory": 2048,
    "max_model_work": 100, "max_memory": None, "null": False, "recursive": False,
    "only_new": False, "state": None, "stream": None,
    "csv": None, "sort_into": None, "skip_done": False,
}  # fmt: skip


def parse(words: list[str], verb: str = "") -> Arguments:
    """Parse and check the words of a verb of dermedge, or of edge-classify.

    Photos alone, with --json at most, need no argparse: 4 ms of a run on one photo.

    Raises:
        UsageError: Invalid options.
        SystemExit: argparse printed help, a version or an error.
    """
    photos = [word for word in words if word != "--json"]
    only_photos = photos and not any(word.startswith("-") for word in photos)
    if only_photos and verb in ("", "classify") and not PLAIN:
        return SimpleNamespace(**{**DEFAULTS, "photos": photos, "json": len(photos) < len(words)})
    from edge_runtime.cli import arguments

    if verb:
        return arguments.arguments_of(verb, words, DEFAULTS)
    parsed = arguments.parser().parse_args(words)
    arguments.check(parsed)
    return parsed


def _run(arguments: Arguments) -> int:
    if sys.stdout is None:
        raise UsageError("stdout is closed", expected="an open stdout for the results")
    if arguments.print_contract:
        return _print_contract(arguments)
    if arguments.bench or not is_one_photo(arguments):
        return _work(arguments)
    # What one photo leaves behind ends with the process.
    with GcPaused():
        return _work(arguments)


def _print_contract(arguments: Arguments) -> int:
    from edge_runtime.engines.opening import open_requested

    text = open_requested(arguments, arguments.model)[0].contract.to_json()
    if (sys.stdout.encoding or "").lower().replace("_", "-") not in ("utf-8", "utf8"):
        # Outside UTF-8, JSON is ASCII: stdout's own escapes are not JSON's.
        import json

        text = json.dumps(json.loads(text), indent=2) + "\n"
    print(text, end="")
    return EXIT_OK


def _work(arguments: Arguments) -> int:
    memory.limit(arguments.max_memory and arguments.max_memory * 1024**2)
    with _open_classifier(arguments) as classifier:
        if classifier.engine.skipped:
            tell(f"skipped {'; '.join(classifier.engine.skipped)}")
        if arguments.self_check:
            _self_check(classifier, arguments)
        if has_photos(arguments):
            from edge_runtime.result import notice

            _print_error(notice(classifier.contract))
        return _classify_all(classifier, arguments)


def _takes_several_at_once(arguments: Arguments) -> bool:
    """Return whether photos are classified side by side: not as they arrive, nor for heat maps."""
    one_by_one = (arguments.watch, arguments.stream, arguments.explain) != (None, None, None)
    return not (one_by_one or is_one_photo(arguments))


def _open_classifier(arguments: Arguments) -> Classifier:
    # Threads are those of the inference for one photo at a time, else one worker each.
    alone = arguments.bench or not _takes_several_at_once(arguments)
    with GcPaused(), _NativeChatterDropped():
        from edge_runtime.engines.opening import open_engine_for, open_requested

        import_ahead(_import_classifier)
        opened = open_engine_for(
            open_requested(arguments, arguments.model)[0],
            engine="auto",
            threads=(arguments.threads or 1) if alone else 1,
            accelerator=arguments.accelerator or "cpu",
            delegate=arguments.delegate,
            revalidate=arguments.self_check,
        )
        from edge_runtime.classifier import Classifier

        return Classifier.of(opened)


def _import_classifier() -> None:
    import edge_runtime.classifier  # noqa: F401


def _self_check(classifier: Classifier, arguments: Arguments) -> None:
    """Run the self-test: the result on stdout without photos, a remark on stderr with them."""
    from edge_runtime.diagnostics.self_check import self_check

    checked = self_check(classifier)
    if has_photos(arguments):
        _print_error(checked.to_text())
    elif arguments.json:
        from edge_runtime.result import JSON_SCHEMA, json_line

        runtime = classifier.describe_runtime()
        print(json_line({"schema": JSON_SCHEMA, "self_check": checked.to_dict(), "runtime": runtime}))
    else:
        print(checked.to_text())


def _classify_all(classifier: Classifier, arguments: Arguments) -> int:
    names: Iterable[Named] = named_photos(arguments, tell)
    if arguments.bench:
        return max((_measure(classifier, name, arguments) for name in names), default=EXIT_OK)
    outputs = None
    if arguments.csv is not None or arguments.sort_into is not None or arguments.skip_done:
        from edge_runtime.cli.output import Outputs

        outputs = Outputs(arguments, classifier.contract.codes)
        names = filterfalse(outputs.is_done, names)
    total = None
    if not is_open_ended(arguments):
        names = list(names)
        total = len(names)
    results: Generator[tuple[str, Prediction | Explained | ImageError]]
    if arguments.explain is not None:
        from edge_runtime.explain.heat_files import explain_each

        results = explain_each(classifier, names, arguments.explain)
    elif _takes_several_at_once(arguments):
        from edge_runtime.batch import classify_each

        results = classify_each(classifier, names, workers=arguments.threads)
    else:
        results = _one_by_one(classifier, names, arguments)
    shown = sys.stderr.isatty() and not sys.stdout.isatty() and not is_one_photo(arguments)
    progress = _Progress(shown, total)
    status = EXIT_OK
    # Closed here, also when stdout fails: its workers must be gone before the classifier and its engine are.
    try:
        for name, result in results:
            if isinstance(result, ImageError):
                status = _report(name, result, arguments.json)
            else:
                # Flushed: the next photo may take long.
                text = result.to_json() if arguments.json else result.to_text(arguments.top_k)
                print(text, flush=True)
            if outputs is not None:
                outputs.add(name, result)
            progress.step()
    finally:
        results.close()
    progress.end()
    return status


def _one_by_one(
    classifier: Classifier, names: Iterable[Named], arguments: Arguments
) -> Generator[tuple[str, Prediction | Explained | ImageError]]:
    def answer(name: str, photo: str | bytes | ImageError) -> Prediction | ImageError:
        try:
            return photo if isinstance(photo, ImageError) else classifier.classify(photo, name=name)
        except ImageError as error:
            return error

    for name in names:
        yield (name, answer(name, name)) if isinstance(name, str) else name
    try:
        if arguments.stream is not None:
            from edge_runtime.images.stream import numbered_frames

            for number, frame in numbered_frames(arguments.stream):
                yield number, answer(number, frame)
        if arguments.watch is not None:
            from contextlib import closing

            from edge_runtime.files import STDOUT
            from edge_runtime.images import watch

            watch.cut_unfinished(STDOUT)
            with closing(watch.State(arguments.state or watch.state_file(arguments.watch))) as state:
                options = {"only_new": arguments.only_new, "recursive": arguments.recursive}
                yield from watch.answers(arguments.watch, state, answer, **options)
    except ImageError as error:
        yield arguments.stream or arguments.watch, error


def _measure(classifier: Classifier, name: Named, arguments: Arguments) -> int:
    from edge_runtime.diagnostics.bench import measure
    from edge_runtime.images.photos import read_photo
    from edge_runtime.result import json_line

    if not isinstance(name, str):
        return _report(*name, arguments.json)
    try:
        bench = measure(classifier, read_photo(name), arguments.bench, name=name)
    except ImageError as error:
        return _report(name, error, arguments.json)
    print(json_line(bench.to_dict()) if arguments.json else bench.to_text(), flush=True)
    return EXIT_OK


class _Progress:
    """Number of photos, photos per second and time left, on stderr if it is a terminal."""

    def __init__(self, shown: bool, total: int | None) -> None:
        self._shown, self._total = shown, total
        self._done = 0
        self._started = self._last = perf_counter()

    def step(self) -> None:
        """Count one more photo."""
        self._done += 1
        now = perf_counter()
        if self._shown and now - self._last > PROGRESS_S:
            self._last = now
            rate = self._done / (now - self._started)
            of_total, left = "", ""
            if self._total is not None:
                minutes, seconds = divmod(round((self._total - self._done) / rate), 60)
                of_total, left = f" of {self._total}", f", {minutes}:{seconds:02} left"
            _print_error(f"\r{self._done}{of_total} photos, {rate:.1f} per second{left} ", end="")

    def end(self) -> None:
        """End the line."""
        if self._shown and self._last > self._started:
            _print_error("")


def _report(name: str, error: ImageError, as_json: bool) -> int:
    if as_json:
        from edge_runtime.result import error_fields, json_line

        print(json_line(error_fields(name, error)), flush=True)
    else:
        _print_error(f"error: {error.message}")
    return EXIT_PHOTO_FAILED


class _NativeChatterDropped:
    """Holds back what native code writes to stderr meanwhile, and then writes all of it but NATIVE_CHATTER."""

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
            kept_bytes = written.read().replace(NATIVE_CHATTER, b"")
        try:
            os.write(2, kept_bytes)
        except OSError:
            return  # As `_print_error`.
