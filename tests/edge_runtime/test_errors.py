"""The tree of errors: codes, classes, messages."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import pytest

from edge_runtime import errors
from edge_runtime.errors import (
    MAX_DETAILS,
    ConfigInvalid,
    ContractInvalid,
    EdgeError,
    ImageNotFound,
    InterpreterBroken,
    UsageError,
)

CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, EdgeError)
]
README = Path(errors.__file__).with_name("README.md")


def test_every_class_has_a_code_of_its_own_which_the_readme_lists() -> None:
    codes = [kind.code for kind in CLASSES]
    assert len(set(codes)) == len(codes) > 20
    rows = re.findall(
        r"^\| `([a-z_-]+)` \| `(\w+)` \| (\d) \| (.+?) \|$", README.read_text(encoding="utf-8"), re.M
    )
    owed = [(kind.code, kind.__name__, str(kind.exit_status), kind.__doc__) for kind in CLASSES[1:]]
    assert rows == owed, "\n".join("| `{}` | `{}` | {} | {} |".format(*row) for row in owed)


def test_a_message_names_the_object_the_problem_both_values_and_the_fix() -> None:
    error = UsageError("invalid number", where="--threads", found="65", expected="1 to 64", fix="use fewer")
    assert str(error) == error.message == "--threads: invalid number (got 65, expected 1 to 64). Use fewer."
    assert str(EdgeError("no photo")) == "no photo."
    # A cached refusal is read back from a file.
    assert EdgeError("no library", fix=" ").message.startswith("no library.")
    assert str(EdgeError("no library", fix="pip install x")) == "no library. Run pip install x"
    assert error.to_dict() == {
        "code": "usage", "message": error.message, "problem": "invalid number", "found": "65",
        "expected": "1 to 64", "fix": "use fewer",
    }  # fmt: skip


def test_details_are_lines_of_their_own_and_bounded() -> None:
    one = ContractInvalid("Invalid contract", where="m.tflite", details=["x is missing"])
    assert str(one) == "m.tflite: Invalid contract: x is missing." and one.found == "x is missing"
    many = ContractInvalid("Invalid contract", details=[f"key{i} is unknown" for i in range(5000)])
    lines = str(many).splitlines()
    assert lines[:2] == ["Invalid contract.", "  - key0 is unknown"]
    assert len(lines) == MAX_DETAILS + 2 and lines[-1] == f"  - and {5000 - MAX_DETAILS} more"
    assert len(str(EdgeError("x" * 100_000, found="y" * 100_000))) < 5000


@pytest.mark.parametrize("char", ["\n", "\r", "\x1b", "\x00", "\x9b", "\u202e", "\u2066", "\u2028", "\udc80"])
def test_nothing_invisible_reaches_the_message(char: str) -> None:
    error = ImageNotFound(f"not {char} read", where=f"a{char}.jpg", found=char, expected=char, fix=f"x{char}")
    assert error.message.isprintable()
    assert error.message.count(repr(char)[1:-1]) == 5
    assert error.where == f"a{char}.jpg"


def test_ordinary_text_is_not_escaped() -> None:
    text = "\ud55c\uad6d\uc5b4 caf\u00e9 \u3000 \U0001f52c.jpg"
    assert str(EdgeError("x", where=text)).startswith(text)


def test_python_knows_them_by_its_own_names() -> None:
    for kind in (UsageError, ConfigInvalid):
        assert issubclass(kind, ValueError)
    absent = [kind for kind in CLASSES if kind.__name__.endswith("NotFound")]
    assert len(absent) == 5
    for missing in absent:
        error = missing("the file cannot be read", where="x")
        assert isinstance(error, FileNotFoundError)
        assert (error.filename, error.errno) == ("x", 2)
    assert not issubclass(InterpreterBroken, OSError | ValueError)


@pytest.mark.parametrize("kind", CLASSES)
def test_errors_survive_a_process_boundary(kind: type[EdgeError]) -> None:
    error = kind("p", where="w", found="f", expected="e", fix="x", details=["d"])
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind and vars(again) == vars(error) and str(again) == str(error)
