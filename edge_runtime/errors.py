"""Every error that DermEdge raises on purpose: one tree, one stable code each. stdlib only.

A message reads `<object>: <problem> (got X, expected Y). <Fix>.`; README.md lists the codes.
"""

from __future__ import annotations

import errno

from edge_runtime._startup.records import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

EXIT_OK = 0
EXIT_PHOTO_FAILED = 1
EXIT_USAGE = 2
EXIT_MODEL_UNUSABLE = 3

MAX_DETAILS = 10
MAX_PART_CHARS = 2000
# A fix that is a command is neither capitalised nor closed by a full stop: it is made to be copied.
COMMANDS = ("pip", "python", "dermedge", "edge-classify", "openssl")
# Spaces of other scripts, which `str.isprintable` counts among the invisible.
VISIBLE = "\u00a0\u3000"


def escaped(text: str) -> str:
    """Returns text with control characters, line breaks, bidi marks and surrogates as Python's escapes."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in VISIBLE else char.encode("unicode_escape").decode()
        for char in text
    )


def with_nearest(message: str, options: Iterable[str]) -> str:
    """Return argparse's message, where it is about an unknown option with the nearest known one."""
    from difflib import get_close_matches

    _, unknown, words = escaped(message).partition("unrecognized arguments: ")
    near = get_close_matches(words.split("=")[0].split(" ")[0], options, 1) if unknown else []
    return f"{escaped(message)}. Did you mean {near[0]}?" if near else escaped(message)


def quoted(name: str) -> str:
    """Return a file's name escaped, in quotes where it could pass for output."""
    shown = escaped(name)
    if not any(sign in name for sign in (": ", "  ")):
        return shown
    return "'" + shown.replace("'", r"\'") + "'"


class EdgeError(Exception):
    """Base of all DermEdge errors.

    Args:
        problem: What is wrong, without a full stop.
        where: The object that it is wrong with: a path, a field, an option.
        found: What was there.
        expected: What should have been there.
        fix: What to do next, as an imperative.
        details: Several problems of the same object, each printed on a line of its own, in place of found and
            expected; they are `found` if that is not given.
    """

    code = "error"
    exit_status = EXIT_PHOTO_FAILED

    def __init_subclass__(cls, *, code: str = "", exit_status: int | None = None) -> None:
        cls.code = code or cls.code
        if exit_status is not None:
            cls.exit_status = exit_status

    def __init__(
        self,
        problem: str,
        *,
        where: str = "",
        found: str = "",
        expected: str = "",
        fix: str = "",
        details: Sequence[str] = (),
    ) -> None:
        self.problem, self.where, self.expected, self.fix = problem, where, expected, fix
        self.found, self.details = found or _listed(details, "; "), tuple(details)
        number = errno.ENOENT if issubclass(type(self), FileNotFoundError) else errno.ENOSPC
        if issubclass(type(self), OSError):
            OSError.__init__(self, number, problem, where or None)
        else:
            super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Callable[..., EdgeError], tuple[Any, ...]]:
        fields = (self.problem, self.where, self.found, self.expected, self.fix, self.details)
        return _again, (type(self), fields)

    @property
    def what(self) -> str:
        """The object and the problem."""
        return f"{self.where}: {self.problem}" if self.where else self.problem

    @property
    def message(self) -> str:
        """The whole message for a terminal or a log: escaped, one line, and one more for each of several details."""
        text = _shown(self.what).rstrip(".")
        several = len(self.details) > 1
        if self.details and not several:
            text += f": {_shown(self.details[0])}"
        parts = [] if self.details else [("got", self.found), ("expected", self.expected)]
        if inside := ", ".join(f"{name} {_shown(value)}" for name, value in parts if value):
            text += f" ({inside})"
        text = _sentence(text)
        if self.fix:
            text += f" {_imperative(_shown(self.fix))}"
        return f"{text}\n{_listed(list(map(_shown, self.details)), chr(10), '  - ')}" if several else text

    def to_dict(self) -> dict[str, str]:
        """The object `error` of a JSON line."""
        names = ("code", "message", "problem", "found", "expected", "fix")
        return {name: getattr(self, name) for name in names}


def _again(kind: type[EdgeError], fields: tuple[Any, ...]) -> EdgeError:
    problem, where, found, expected, fix, details = fields
    return kind(problem, where=where, found=found, expected=expected, fix=fix, details=details)


def _shown(text: str) -> str:
    half = MAX_PART_CHARS // 2
    return escaped(text if len(text) <= MAX_PART_CHARS else f"{text[:half]} ... {text[-half:]}")


def _listed(details: Sequence[str], separator: str, bullet: str = "") -> str:
    lines = [f"{bullet}{detail}" for detail in details[:MAX_DETAILS]]
    if len(details) > MAX_DETAILS:
        lines.append(f"{bullet}and {len(details) - MAX_DETAILS} more")
    return separator.join(lines)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _imperative(fix: str) -> str:
    if fix.split(" ")[0] in COMMANDS:
        return f"Run {fix}"
    return _sentence(fix[:1].upper() + fix[1:])


class ModelFileError(EdgeError, code="model-file", exit_status=EXIT_MODEL_UNUSABLE):
    """The model file cannot be trusted or used."""


class ModelNotFound(ModelFileError, FileNotFoundError, code="model-not-found"):
    """The model file does not exist or cannot be read."""


class ModelTooLarge(ModelFileError, code="model-too-large"):
    """The model file has more bytes than the limit."""


class NotATfliteFile(ModelFileError, code="not-a-tflite"):
    """The bytes are not a well-formed .tflite file."""


class ModelUnsupported(ModelFileError, code="model-unsupported"):
    """The file is a well-formed .tflite that holds what no image classifier of this runtime does."""


class ContractMissing(ModelFileError, code="contract-missing"):
    """The .tflite file holds no `edge_contract.json`."""


class ContractInvalid(ModelFileError, code="contract-invalid"):
    """The contract breaks its schema; `details` lists the problems."""


class ContractTooNew(ModelFileError, code="contract-too-new"):
    """The contract was written for a later schema."""


class ModelMismatch(ModelFileError, code="model-mismatch"):
    """The contract and the tensors of the same file disagree."""


class ModelUnsigned(ModelFileError, code="model-unsigned"):
    """A signature is required, and the model has none that fits."""


class ModelOutdated(ModelFileError, code="model-outdated"):
    """The signature's version is older than the oldest that is to be accepted."""


class ModelUnsafe(ModelFileError, code="model-unsafe"):
    """The first load of an unknown file crashed its child process, or took more time or memory than the limits."""


class ModelNotExplainable(ModelFileError, code="model-not-explainable"):
    """The end of the model's graph is not supported by heat maps."""


class InterpreterError(EdgeError, code="interpreter", exit_status=EXIT_MODEL_UNUSABLE):
    """No inference library on this machine can run the model."""


class NoInterpreter(InterpreterError, code="no-interpreter"):
    """No inference library is installed."""


class InterpreterBroken(InterpreterError, code="interpreter-broken"):
    """An inference library is installed but fails."""


class DelegateUnusable(InterpreterError, code="delegate-unusable"):
    """The requested accelerator or delegate cannot be used."""


class SelfCheckFailed(InterpreterError, code="self-check-failed"):
    """The model's outputs differ from its self-test vectors on this machine."""


class ImageError(EdgeError, code="image"):
    """One photo cannot be classified; other photos are not affected."""


class ImageNotFound(ImageError, FileNotFoundError, code="image-not-found"):
    """The photo cannot be found or read, or a folder holds none."""


class ImageUnreadable(ImageError, code="image-unreadable"):
    """The image is damaged, or no image."""


class ImageUnsupported(ImageUnreadable, code="image-unsupported"):
    """The image is intact as far as is known, but of a kind that is not decoded here."""


class ImageUnsuitable(ImageError, code="image-unsuitable"):
    """The photo is too small, too narrow or blank to be classified; `rule` has the measure and its limit."""

    rule: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The object `error` of a JSON line, with the rule."""
        return {**super().to_dict(), "rule": self.rule}


class ImageTooLarge(ImageError, code="image-too-large"):
    """The image has more pixels or scans, or takes more memory, or its file more bytes, than the limit."""


class OutOfMemory(ImageTooLarge, code="out_of_memory"):
    """This machine, or --max-memory, has too little memory for the image; other photos are not affected."""


class HeatMapUnwritten(EdgeError, code="heat-map-unwritten"):
    """The photo is classified, but its heat map cannot be written."""


class OutputUnwritten(EdgeError, code="output-unwritten"):
    """A table, a copy of a photo or the state of --watch cannot be written."""


class UsageError(EdgeError, ValueError, code="usage", exit_status=EXIT_USAGE):
    """An argument or option is invalid, alone or with another."""


class PipelineError(EdgeError, code="pipeline", exit_status=EXIT_USAGE):
    """Training or conversion cannot go on."""


class ConfigInvalid(PipelineError, ValueError, code="config-invalid"):
    """The config breaks its schema; `details` lists the problems."""


class ConfigNotFound(ConfigInvalid, FileNotFoundError, code="config-not-found"):
    """The config does not exist or cannot be read."""


class DataInvalid(PipelineError, code="data-invalid"):
    """The photos or their table cannot be used as they are."""


class DataNotFound(DataInvalid, FileNotFoundError, code="data-not-found"):
    """The data folder or manifest does not exist."""


class SplitLeaks(PipelineError, code="split-leaks"):
    """A lesion, or near-duplicate photos, occur in several splits."""


class RunInvalid(PipelineError, code="run-invalid"):
    """The run directory lacks something or belongs to another config."""


class RunNotFound(RunInvalid, FileNotFoundError, code="run-not-found"):
    """There is no run directory of that name."""


class RunBusy(RunInvalid, code="run-busy"):
    """Another process writes to the run directory."""


class ModelHoldsCode(RunInvalid, code="model-holds-code"):
    """A Keras model or SavedModel holds code, or operators that reach files or Python; nothing of it was run."""


class DiskFull(PipelineError, OSError, code="disk-full"):
    """A disk has too little space for what training or conversion writes."""


class ConversionRefused(PipelineError, code="conversion-refused"):
    """The converted model differs too much from its source; nothing was written."""
