"""The light frozen dataclasses behave as the standard library's."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys

import pytest

from edge_runtime._startup import records
from edge_runtime._startup.records import dataclass
from edge_runtime.contract import Label
from edge_runtime.model.tensors import TensorSpec
from tests.edge_runtime._startup import needs_tricks


@dataclass(frozen=True)
class Ours:
    """One required field, one with a default."""

    a: int
    b: str = "b"


@dataclasses.dataclass(frozen=True)
class Theirs:
    a: int
    b: str = "b"


def test_it_behaves_as_the_standard_librarys() -> None:
    for cls in (Ours, Theirs):
        one = cls(1)
        assert (one.a, one.b) == (1, "b")
        assert one == cls(1, "b") == cls(b="b", a=1) != cls(2)
        assert one != (1, "b")
        assert hash(one) == hash(cls(1)) == hash((1, "b"))
        assert repr(one) == f"{cls.__name__}(a=1, b='b')"
        assert dataclasses.is_dataclass(one) and dataclasses.is_dataclass(cls)
        assert dataclasses.asdict(one) == {"a": 1, "b": "b"}
        assert dataclasses.replace(one, a=5) == cls(5)
        assert [(field.name, field.default) for field in dataclasses.fields(cls)][1] == ("b", "b")
        assert copy.deepcopy(one) == one
        with pytest.raises(dataclasses.FrozenInstanceError):
            one.a = 2  # type: ignore[misc]
        with pytest.raises(dataclasses.FrozenInstanceError):
            del one.a
        for wrong in ({}, {"a": 1, "c": 2}):
            with pytest.raises(TypeError):
                cls(**wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            cls(1, "b", "c")  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            cls(1, a=1)  # type: ignore[misc]
        match one:
            case cls(a, b):
                assert (a, b) == (1, "b")


def test_with_dermedge_plain_the_decorator_is_the_standard_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "PLAIN", True)

    @dataclass(frozen=True)
    class Some:
        a: int
        b: list[int]
        c: str = "c"

        COMPARED = ("a",)

    assert "__dataclass_fields__" in vars(Some) and dataclasses.fields(Some)[1].compare is False
    one = Some(1, [2])
    assert one == Some(1, [3], "d") != Some(2, [2]) and hash(one) == hash(Some(1, []))
    assert repr(one).endswith("Some(a=1)") and one.c == "c"


def test_records_cross_processes() -> None:
    spec = TensorSpec((1, 3), "uint8", 0.5, 0)
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert dataclasses.replace(Label("a", "b", "c"), name="d") == Label("a", "d", "c")


def test_only_frozen_ones() -> None:
    with pytest.raises(TypeError):
        dataclass(frozen=False)


@needs_tricks
def test_classifying_does_not_import_dataclasses() -> None:
    probe = (
        "import sys, edge_runtime.cli.command, edge_runtime.classifier, edge_runtime.engines.litert_c\n"
        "print('dataclasses' in sys.modules, 'inspect' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path[:0]={sys.path!r}\n{probe}"],
                         capture_output=True, text=True, check=True)  # fmt: skip
    assert ran.stdout == "False False\n"
