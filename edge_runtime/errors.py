"""Every error that DermEdge raises on purpose, in one tree. stdlib only.

EdgeError                      code               edge-classify exit status
├── ModelFileError                                3  the .tflite cannot be trusted or used
│   ├── ModelNotFound          model-not-found
│   ├── ModelTooLarge          model-too-large
│   ├── NotATfliteFile         not-a-tflite
│   ├── ContractMissing        contract-missing
│   ├── ContractInvalid        contract-invalid
│   ├── ContractTooNew         contract-too-new
│   ├── ModelMismatch          model-mismatch     contract and tensors disagree
│   ├── ModelUnsigned          model-unsigned     a signature was required
│   └── ModelNotExplainable    model-not-explainable
├── InterpreterError                              3  nothing here can run the model
│   ├── NoInterpreter          no-interpreter
│   ├── InterpreterBroken      interpreter-broken
│   ├── DelegateUnusable       delegate-unusable
│   └── SelfCheckFailed        self-check-failed
├── ImageError                                    1  this photo cannot be classified, others can
│   ├── ImageNotFound          image-not-found
│   ├── ImageUnreadable        image-unreadable
│   └── ImageTooLarge          image-too-large
├── HeatMapUnwritten           heat-map-unwritten 1  the answer is given, its picture is not
├── UsageError                 usage              2  the command itself cannot be meant
└── WorkshopError                                 2  train and convert
    ├── ConfigInvalid          config-invalid
    ├── DataInvalid            data-invalid
    ├── SplitLeaks             split-leaks
    ├── RunInvalid             run-invalid
    └── ConversionRefused      conversion-refused

A message says what failed and where, what was found, what was expected, and what to do next.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_PHOTO_FAILED = 1
EXIT_USAGE = 2
EXIT_MODEL_UNUSABLE = 3


class EdgeError(Exception):
    """Base of all DermEdge errors.

    Args:
        what: What failed, and where (a path, a field, a line).
        found: What was there.
        expected: What should have been there.
        fix: What the reader can do next.
    """

    code = "error"
    exit_status = EXIT_PHOTO_FAILED

    def __init__(self, what: str, *, found: str = "", expected: str = "", fix: str = "") -> None:
        self.what = what
        self.found = found
        self.expected = expected
        self.fix = fix
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """One line: what; found; expected; what to do."""
        parts = [self.what]
        if self.found:
            parts.append(f"found: {self.found}")
        if self.expected:
            parts.append(f"expected: {self.expected}")
        if self.fix:
            parts.append(f"what to do: {self.fix}")
        return "; ".join(parts)


class ModelFileError(EdgeError):
    """A model file cannot be trusted or used."""

    code = "model-file"
    exit_status = EXIT_MODEL_UNUSABLE


class ModelNotFound(ModelFileError):
    """No such model file, or it cannot be read."""

    code = "model-not-found"


class ModelTooLarge(ModelFileError):
    """A model file with more bytes than the cap."""

    code = "model-too-large"


class NotATfliteFile(ModelFileError):
    """The bytes are not a well-formed .tflite file."""

    code = "not-a-tflite"


class ContractMissing(ModelFileError):
    """A .tflite without `edge_contract.json`."""

    code = "contract-missing"


class ContractInvalid(ModelFileError):
    """A contract that breaks its schema; every problem is listed."""

    code = "contract-invalid"


class ContractTooNew(ModelFileError):
    """A contract written for a later schema than this code knows."""

    code = "contract-too-new"


class ModelMismatch(ModelFileError):
    """The contract and the tensors of the same file disagree."""

    code = "model-mismatch"


class ModelUnsigned(ModelFileError):
    """A signature was required, and the model has none that fits."""

    code = "model-unsigned"


class ModelNotExplainable(ModelFileError):
    """A heat map was asked for, and the model does not end in a form that gives one."""

    code = "model-not-explainable"


class InterpreterError(EdgeError):
    """No inference library here can run the model."""

    code = "interpreter"
    exit_status = EXIT_MODEL_UNUSABLE


class NoInterpreter(InterpreterError):
    """No inference library is installed."""

    code = "no-interpreter"


class InterpreterBroken(InterpreterError):
    """An inference library is installed but fails."""

    code = "interpreter-broken"


class DelegateUnusable(InterpreterError):
    """The requested accelerator or delegate cannot be used."""

    code = "delegate-unusable"


class SelfCheckFailed(InterpreterError):
    """The model does not give its golden answers on this machine."""

    code = "self-check-failed"


class ImageError(EdgeError):
    """One photo cannot be classified; the others are not affected."""

    code = "image"
    exit_status = EXIT_PHOTO_FAILED


class ImageNotFound(ImageError):
    """No such photo, or a folder without photos."""

    code = "image-not-found"


class ImageUnreadable(ImageError):
    """Not an image of an accepted format, or damaged."""

    code = "image-unreadable"


class ImageTooLarge(ImageError):
    """More pixels than the cap."""

    code = "image-too-large"


class HeatMapUnwritten(EdgeError):
    """A photo is classified, and the picture of its heat map cannot be written; others can."""

    code = "heat-map-unwritten"
    exit_status = EXIT_PHOTO_FAILED


class UsageError(EdgeError):
    """A command whose options cannot be meant together."""

    code = "usage"
    exit_status = EXIT_USAGE


class WorkshopError(EdgeError):
    """Training or conversion cannot go on."""

    code = "workshop"
    exit_status = EXIT_USAGE


class ConfigInvalid(WorkshopError):
    """An experiment's TOML file breaks its schema."""

    code = "config-invalid"


class DataInvalid(WorkshopError):
    """The photos or their table cannot be used as they are."""

    code = "data-invalid"


class SplitLeaks(WorkshopError):
    """A lesion, or near-duplicates, stand on both sides of a split."""

    code = "split-leaks"


class RunInvalid(WorkshopError):
    """A run directory lacks something or belongs to another config."""

    code = "run-invalid"


class ConversionRefused(WorkshopError):
    """The converted model differs too much from the Keras model; nothing was written."""

    code = "conversion-refused"
