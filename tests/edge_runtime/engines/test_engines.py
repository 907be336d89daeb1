"""Engines: the same output by every binding, errors of our own, no accelerator that does not run."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from edge_runtime.engines import Engine, litert_c, loading, open_engine
from edge_runtime.engines import interpreter as interpreter_module
from edge_runtime.errors import (
    DelegateUnusable,
    EdgeError,
    InterpreterBroken,
    InterpreterError,
    ModelMismatch,
    NoInterpreter,
    UsageError,
)
from edge_runtime.images.preprocess import fit_pixels, input_bytes
from edge_runtime.model.model_file import ModelFile, open_model
from edge_runtime.model.tensors import TensorSpec, check_tensors, dequantize, raw_values
from tests.fixtures import FIXTURES, MODEL_NAMES
from tests.fixtures.bad_models import good

HAS_TFLITE_RUNTIME = importlib.util.find_spec("tflite_runtime") is not None
BINDINGS = [
    "litert-c",
    "litert",
    pytest.param(
        "tflite-runtime",
        marks=pytest.mark.skipif(not HAS_TFLITE_RUNTIME, reason="tflite-runtime is not installed"),
    ),
]


def first_input(model: ModelFile, engine: Engine) -> bytes:
    pixels_u8 = fit_pixels(model.read_entry("golden_0.png"), model.contract)
    spec = engine.input
    return input_bytes(pixels_u8, model.contract.normalization, spec.dtype, spec.scale, spec.zero_point)


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_binding_runs_every_model(binding: str, name: str) -> None:
    model = open_model(FIXTURES / name)
    engine = open_engine(model.data, engine=binding)
    check_tensors(model.contract, engine.inputs, engine.outputs, name)
    assert engine.name.startswith(binding + " ")
    assert (engine.accelerator, engine.threads, engine.skipped) == ("cpu", 1, ())
    output = raw_values(engine.run(first_input(model, engine)), engine.output)
    golden = model.contract.golden[0]
    assert len(output) == len(golden.output)
    assert max(abs(a - b) for a, b in zip(output, golden.output, strict=True)) <= golden.tolerance
    engine.close()
    engine.close()
    with pytest.raises(InterpreterBroken) as caught:
        engine.run(b"")
    assert caught.value.expected == "an open engine"


@pytest.mark.parametrize("binding", BINDINGS)
def test_all_bindings_describe_the_tensors_alike(binding: str) -> None:
    for name in MODEL_NAMES:
        described = open_engine(good(name), engine=binding)
        reference = open_engine(good(name), engine="litert-c")
        assert described.inputs == reference.inputs
        assert described.outputs == reference.outputs


@pytest.mark.parametrize("binding", BINDINGS)
def test_runs_do_not_depend_on_what_ran_before(binding: str) -> None:
    model = open_model(FIXTURES / "tiny_uint8.tflite")
    engine = open_engine(model.data, engine=binding)
    tensor = first_input(model, engine)
    first = engine.run(tensor)
    other = engine.run(bytes(len(tensor)))
    assert engine.run(tensor) == first != other


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("length", [0, 1, 24 * 32 * 3 - 1, 24 * 32 * 3 + 1])
def test_a_tensor_of_the_wrong_length_is_refused(binding: str, length: int) -> None:
    """LiteRT's own buffers accept too little and keep the rest of the picture before."""
    engine = open_engine(good(), engine=binding)
    with pytest.raises(InterpreterBroken) as caught:
        engine.run(bytes(length))
    assert caught.value.found == f"{length} bytes"


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_model_that_the_library_refuses(binding: str) -> None:
    """Past `model_file` on purpose: whatever a library says of nonsense becomes our error."""
    with pytest.raises(InterpreterBroken) as caught:
        open_engine(b"\x1c\0\0\0TFL3" + bytes(64), engine=binding)
    assert caught.value.exit_status == 3


def test_auto_takes_the_c_api() -> None:
    engine = open_engine(good())
    assert engine.name == f"litert-c {litert_c.find_library()[1]}"
    assert engine.skipped == ()


def threads_of_this_process() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_threads_are_really_used() -> None:
    before = threads_of_this_process()
    one = open_engine(good(), engine="litert-c")
    one.run(bytes(one.input.nbytes))
    assert threads_of_this_process() == before
    three = open_engine(good(), engine="litert-c", threads=3)
    output = three.run(bytes(three.input.nbytes))
    assert threads_of_this_process() == before + 2
    assert output == one.run(bytes(one.input.nbytes))
    three.close()
    assert threads_of_this_process() == before


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither inference library can be found or imported."""

    class Blocker:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name.partition(".")[0] in ("ai_edge_litert", "tflite_runtime"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for module in [
        name for name in sys.modules if name.partition(".")[0] in ("ai_edge_litert", "tflite_runtime")
    ]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Blocker, *sys.meta_path])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    yield


@pytest.mark.usefixtures("nothing_installed")
def test_nothing_installed_says_what_to_install() -> None:
    with pytest.raises(NoInterpreter, match="pip install ai-edge-litert") as caught:
        open_engine(good())
    assert caught.value.exit_status == 3
    for binding in ("litert-c", "litert", "tflite-runtime"):
        assert binding in caught.value.message
        with pytest.raises(NoInterpreter) as alone:
            open_engine(good(), engine=binding)
        # No index has a package dermedge: whoever claims the name would be installed.
        assert "pip install " in alone.value.fix and "dermedge" not in alone.value.fix


@pytest.mark.skipif(not HAS_TFLITE_RUNTIME, reason="tflite-runtime is not installed")
@pytest.mark.parametrize(
    "error",
    [
        SystemError("<built-in> returned a result with an exception set"),
        ImportError("numpy.core.multiarray failed to import"),
    ],
)
def test_numpy_2_under_tflite_runtime_is_named_with_its_fix(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """With numpy 2 tflite-runtime 2.14 imports, then dies with SystemError when the Interpreter is built."""
    import numpy
    from tflite_runtime import interpreter

    def dies(**options: object) -> None:
        raise error

    monkeypatch.setattr(interpreter, "Interpreter", dies)
    monkeypatch.setattr(
        interpreter_module, "LIBRARY_ERRORS", (*interpreter_module.LIBRARY_ERRORS, ImportError)
    )
    monkeypatch.setattr(numpy, "__version__", "2.1.3")
    with pytest.raises(InterpreterBroken, match="pip install 'numpy<2'") as caught:
        open_engine(good(), engine="tflite-runtime")
    assert "numpy 2.1.3" in caught.value.message
    assert caught.value.__cause__ is error


def test_when_nothing_works_every_attempt_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str, *_: object) -> Engine:
        raise InterpreterBroken(f"{name} is out of order", found="smoke")

    monkeypatch.setattr(loading, "_open_one", fails)
    with pytest.raises(InterpreterBroken) as caught:
        open_engine(good())
    for binding in ("litert-c", "litert", "tflite-runtime"):
        assert f"{binding} is out of order (smoke)" in caught.value.message


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "onnx"},
        {"accelerator": "tpu"},
        {"engine": "litert", "accelerator": "gpu"},
        {"threads": 0},
        {"threads": 65},
        {"delegate": "x.so", "accelerator": "xnnpack"},
        {"engine": "litert-c", "accelerator": "xnnpack"},
        {"engine": "litert-c", "delegate": "x.so"},
    ],
)
def test_invalid_options(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        open_engine(good(), **options)  # type: ignore[arg-type]


def test_xnnpack_is_used_only_if_it_takes_nodes() -> None:
    model = open_model(FIXTURES / "tiny_float32.tflite")
    engine = open_engine(model.data, accelerator="xnnpack")
    assert engine.name.startswith("litert ")
    assert engine.accelerator == "xnnpack (5 of 5 operators)"
    engine.run(first_input(model, engine))


@pytest.mark.skipif(not HAS_TFLITE_RUNTIME, reason="tflite-runtime is not installed")
def test_xnnpack_is_refused_where_it_takes_nothing() -> None:
    """tflite-runtime's XNNPACK leaves this int8 model to the plain kernels."""
    with pytest.raises(DelegateUnusable) as caught:
        open_engine(good(), engine="tflite-runtime", accelerator="xnnpack")
    assert caught.value.found == "0 nodes"


@pytest.mark.parametrize("library", ["/none/lib.so", "libc.so.6", str(FIXTURES / "tiny_uint8.tflite")])
def test_a_delegate_that_is_none(library: str) -> None:
    with pytest.raises(DelegateUnusable) as caught:
        open_engine(good(), delegate=library)
    assert caught.value.found
    assert isinstance(caught.value, InterpreterError)


IDLE_DELEGATE = """
#include <stddef.h>
#include <stdlib.h>
/* The fields of TfLiteDelegate that every version has; a Prepare that takes nothing and says all is well. */
struct delegate { void *data; int (*prepare)(void *, struct delegate *); void *rest[8]; };
static int idle(void *context, struct delegate *self) { (void)context; (void)self; return 0; }
void *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  struct delegate *made = calloc(1, sizeof *made);
  (void)keys; (void)values; (void)count; (void)report;
  made->prepare = idle;
  return made;
}
void tflite_plugin_destroy_delegate(void *made) { free(made); }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_delegate_that_silently_does_nothing_is_refused(tmp_path: Path) -> None:
    library = tmp_path / "libidle.so"
    source = tmp_path / "idle.c"
    source.write_text(IDLE_DELEGATE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    with pytest.raises(DelegateUnusable) as caught:
        open_engine(good(), delegate=str(library))
    assert caught.value.found == "0 nodes"


class Library:
    """What an inference library gives, as far as these tests go."""

    OpResolverType = MappingProxyType({"BUILTIN_WITHOUT_DEFAULT_DELEGATES": 0})

    def __init__(self, output_bytes: int = 3, fails: bool = False) -> None:
        self.output_bytes, self.fails = output_bytes, fails

    def Interpreter(self, **options: object) -> Library:  # noqa: N802
        self.options = options
        return self

    def load_delegate(self, path: str, options: dict[str, str]) -> object:
        return object()

    def allocate_tensors(self) -> None:
        if self.fails:
            raise RuntimeError("Failed to apply delegate.")

    def get_input_details(self) -> list[dict[str, object]]:
        return [self.details((1, 2), 0)]

    def get_output_details(self) -> list[dict[str, object]]:
        return [self.details((1, 3), 1)]

    @staticmethod
    def details(shape: tuple[int, ...], index: int) -> dict[str, object]:
        return {
            "shape": shape,
            "shape_signature": shape,
            "dtype": "uint8",
            "quantization": (0.5, 0),
            "index": index,
        }

    def set_tensor(self, index: int, values: object) -> None:
        return

    def invoke(self) -> None:
        return

    def get_tensor(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(tobytes=lambda: bytes(self.output_bytes))


@pytest.mark.parametrize("output_bytes", [0, 2, 4])
def test_an_output_of_another_size_is_refused(output_bytes: int) -> None:
    library: Any = Library(output_bytes)
    engine = interpreter_module.InterpreterEngine(library, name="n", accelerator="cpu", threads=1)
    with pytest.raises(InterpreterBroken) as caught:
        engine.run(b"12")
    assert caught.value.what.endswith(f"declared 3 bytes, computed {output_bytes} bytes")


def test_an_interpreter_gets_the_requested_threads() -> None:
    library: Any = Library()
    engine = interpreter_module.construct(
        library, good(), name="n", threads=3, accelerator="cpu", delegate=None, explain=pytest.fail
    )
    assert engine.threads == library.options["num_threads"] == 3


def test_a_delegate_that_fails_on_the_model_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the delegate's failure and not the library's: `auto` would go on to the next library."""
    monkeypatch.setattr(interpreter_module, "_load_delegate", lambda module, path: object())
    library: Any = Library(fails=True)
    with pytest.raises(DelegateUnusable, match=r"delegate x\.so fails on this model .*Failed to apply"):
        interpreter_module.construct(
            library, good(), name="n", threads=1, accelerator="auto", delegate="x.so",
            explain=lambda error: InterpreterBroken("the library"),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("binding", "package"), [("litert", "ai_edge_litert"), ("tflite-runtime", "tflite_runtime")]
)
@pytest.mark.parametrize("missing", ["flatbuffers", None])
def test_a_library_that_lacks_something_is_not_called_absent(
    binding: str, package: str, missing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told to install what is installed looks in the wrong place."""

    class Broken:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name.partition(".")[0] == package:
                raise ImportError("libthing.so.1: cannot open shared object file", name=missing)

    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    with pytest.raises(InterpreterBroken, match="libthing"):
        open_engine(good(), engine=binding)


def test_a_dequantized_tensor_is_the_formula() -> None:
    assert dequantize(bytes((0, 128, 255)), TensorSpec((1, 3), "uint8", 0.5, 128)) == [-64.0, 0.0, 63.5]
    assert dequantize(bytes((0x80, 0, 0x7F)), TensorSpec((1, 3), "int8", 1 / 256, -128)) == [
        0.0,
        0.5,
        255 / 256,
    ]
    assert dequantize(b"\0\0\x80?", TensorSpec((1, 1), "float32", 0.0, 0)) == [1.0]


PIXELS_IN = TensorSpec((1, 24, 32, 3), "uint8", 1 / 128, 128)
SCORES_OUT = TensorSpec((1, 3), "int8", 1 / 256, -128)


@pytest.mark.parametrize(
    ("inputs", "outputs", "problem"),
    [
        ((), (SCORES_OUT,), "0 input tensors, the contract knows one"),
        ((PIXELS_IN, PIXELS_IN), (SCORES_OUT,), "2 input tensors, the contract knows one"),
        ((PIXELS_IN,), (SCORES_OUT, SCORES_OUT), "2 output tensors, the contract knows one"),
        (
            (replace(PIXELS_IN, shape=(1, 32, 24, 3)),),
            (SCORES_OUT,),
            "input shape [1, 32, 24, 3], the contract says [1, 24, 32, 3]",
        ),
        (
            (PIXELS_IN,),
            (replace(SCORES_OUT, shape=(3,)),),
            "output shape [3], the contract says [1, 3]",
        ),
        (
            (replace(PIXELS_IN, dtype="int16"),),
            (SCORES_OUT,),
            "input dtype int16, not one of uint8, int8, float32",
        ),
        ((replace(PIXELS_IN, scale=0.0),), (SCORES_OUT,), "input is uint8 with scale 0.0"),
        ((replace(PIXELS_IN, scale=math.inf),), (SCORES_OUT,), "input is uint8 with scale inf"),
        ((replace(PIXELS_IN, scale=math.nan),), (SCORES_OUT,), "input is uint8 with scale nan"),
        ((replace(PIXELS_IN, zero_point=-1),), (SCORES_OUT,), "input is uint8 with zero point -1"),
        ((replace(PIXELS_IN, zero_point=256),), (SCORES_OUT,), "input is uint8 with zero point 256"),
        ((PIXELS_IN,), (replace(SCORES_OUT, zero_point=-129),), "output is int8 with zero point -129"),
        ((PIXELS_IN,), (replace(SCORES_OUT, zero_point=128),), "output is int8 with zero point 128"),
    ],
)
def test_tensors_that_the_contract_does_not_describe(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], problem: str
) -> None:
    contract = open_model(FIXTURES / "tiny_uint8.tflite").contract
    with pytest.raises(ModelMismatch, match="^m.tflite: ") as caught:
        check_tensors(contract, inputs, outputs, "m.tflite")
    assert caught.value.found == problem


def test_every_zero_point_that_a_dtype_has() -> None:
    contract = open_model(FIXTURES / "tiny_uint8.tflite").contract
    for pixel, score in ((0, -128), (255, 127)):
        tensors = (replace(PIXELS_IN, zero_point=pixel),), (replace(SCORES_OUT, zero_point=score),)
        check_tensors(contract, *tensors, "m.tflite")


def test_only_our_errors_are_raised() -> None:
    """No binding lets a library's own exception out."""
    for binding in ("litert-c", "litert"):
        for data in (b"", b"TFL3", good()[:1000]):
            with pytest.raises(EdgeError):
                open_engine(data, engine=binding)
