"""Opening model files: good ones whole, bad ones refused with the right error, mutated ones never a crash."""

from __future__ import annotations

import hashlib
import random
import struct
from pathlib import Path

import pytest

from edge_runtime.contract import LABELS_ENTRY
from edge_runtime.errors import (
    EXIT_MODEL_UNUSABLE,
    ContractInvalid,
    EdgeError,
    ModelFileError,
    ModelNotFound,
    ModelTooLarge,
    ModelUnsupported,
    NotATfliteFile,
)
from edge_runtime.model import model_file
from edge_runtime.model.flatbuffer import Table, walk_model
from edge_runtime.model.model_file import open_model, parse_model, read_contract, read_entry
from edge_runtime.model.tensors import TensorSpec
from edge_runtime.model.zip_tail import ZipTail
from tests.fixtures import FIXTURES, MODEL_NAMES
from tests.fixtures.bad_models import BAD_MODELS, append_entries, entries_of, flatbuffer_of, good

MUTATIONS = 400
SEED = 7


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_a_good_model_opens(name: str) -> None:
    model = open_model(FIXTURES / name)
    assert model.path == str(FIXTURES / name)
    assert model.data == (FIXTURES / name).read_bytes()
    assert model.sha256 == hashlib.sha256(model.data).hexdigest()
    assert model.contract == read_contract(model.data)
    assert model.contract.model_id == name.removesuffix(".tflite")


def test_the_walk_sees_what_is_there() -> None:
    structure = walk_model(good("tiny_uint8.tflite"), where="m")
    assert structure.inputs == (TensorSpec((1, 24, 32, 3), "uint8", 1 / 128, 128),)
    assert structure.outputs == (TensorSpec((1, 3), "uint8", 1 / 256, 0),)
    assert structure.operator_count >= 5
    assert walk_model(good("tiny_float32.tflite"), where="m").inputs == (
        TensorSpec((1, 32, 32, 3), "float32", 0.0, 0),
    )


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_bad_model_is_refused(name: str, tmp_path: Path) -> None:
    make, code = BAD_MODELS[name]
    path = tmp_path / f"{name}.tflite"
    path.write_bytes(make())
    with pytest.raises(ModelFileError) as caught:
        open_model(path)
    assert caught.value.code == code
    assert caught.value.exit_status == EXIT_MODEL_UNUSABLE
    assert str(path) in caught.value.message
    assert caught.value.found and caught.value.expected and caught.value.fix


def test_no_such_model(tmp_path: Path) -> None:
    for path in (tmp_path / "none.tflite", tmp_path, Path("bad\0name")):
        with pytest.raises(ModelNotFound):
            open_model(path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
def test_a_device_is_not_read() -> None:
    with pytest.raises(ModelNotFound, match="not a regular file"):
        open_model("/dev/zero")


def test_the_missing_bundled_model_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(model_file, "_bundled_model", lambda: str(tmp_path / "none.tflite"))
    with pytest.raises(ModelNotFound, match="--model"):
        open_model()


def test_a_model_above_the_cap_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.tflite"
    with path.open("wb") as file:
        file.truncate(model_file.MAX_MODEL_BYTES + 1)  # sparse: takes no room
    with pytest.raises(ModelTooLarge):
        open_model(path)


def test_entries_are_read_by_name() -> None:
    model = open_model(FIXTURES / "tiny_uint8.tflite")
    entries = entries_of(model.data)
    assert len(entries) == 5
    for name, content in entries.items():
        assert model.read_entry(name) == content
    with pytest.raises(ContractInvalid, match=r"no entry none\.png"):
        read_entry(model.data, "none.png")


def test_a_zip_written_with_offsets_of_its_own_is_read() -> None:
    """`cat model.tflite tail.zip`: offsets count from the start of the archive, not of the file."""
    model = good()
    tail = append_entries(b"", list(entries_of(model).items()))
    joined = flatbuffer_of(model) + tail
    assert parse_model(joined, "m").contract == parse_model(model, "m").contract
    assert ZipTail(joined, "m").start == len(flatbuffer_of(model))


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\x7f", "\x85", "\u202egnp", "\u2028"])
def test_a_name_with_control_characters_is_refused(name: str) -> None:
    model = good()
    entries = [*entries_of(model).items(), (name, b"")]
    with pytest.raises(ContractInvalid) as caught:
        parse_model(append_entries(flatbuffer_of(model), entries), "m")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("change", [b"", b"\n", b"\xff", b"other\n"])
def test_labels_of_another_text_are_refused(change: bytes) -> None:
    model = good()
    entries = entries_of(model)
    entries[LABELS_ENTRY] = change + entries[LABELS_ENTRY] if change else b""
    with pytest.raises(ContractInvalid) as caught:
        parse_model(append_entries(flatbuffer_of(model), list(entries.items())), "m")
    assert caught.value.found
    entries[LABELS_ENTRY] = entries_of(model)[LABELS_ENTRY].removesuffix(b"\n")
    parse_model(append_entries(flatbuffer_of(model), list(entries.items())), "m")


def test_a_zip_comment_does_not_hide_the_tail() -> None:
    model = bytearray(good())
    struct.pack_into("<H", model, len(model) - 2, 5)
    assert parse_model(bytes(model) + b"hello", "m").contract.model_id == "tiny_uint8"


@pytest.mark.parametrize(
    ("mark", "offset", "values", "problem"),
    [
        (b"PK\x01\x02", 8, "0100", r"not stored plainly \(got compression method 0, flags 0x1,"),
        (b"PK\x01\x02", 20, "ffffff00ffffff00", "has a local header that does not fit"),
        (b"PK\x03\x04", 30, "58", "has a local header that does not fit"),
        (b"PK\x05\x06", 4, "0100", "got end record: disk 1, 5 entries"),
        (b"PK\x05\x06", 10, "0400", "got the directory ends at byte"),
        (b"PK\x05\x06", 10, "e903", "got end record: disk 0, 1001 entries"),
    ],
)
def test_a_damaged_tail_is_refused(mark: bytes, offset: int, values: str, problem: str) -> None:
    model, change = bytearray(good()), bytes.fromhex(values)
    place = model.index(mark) + offset
    model[place : place + len(change)] = change
    with pytest.raises(ContractInvalid, match=problem):
        parse_model(bytes(model), "m")


def test_the_flatbuffer_may_not_reach_into_the_tail() -> None:
    model = good()
    with pytest.raises(NotATfliteFile):
        walk_model(model, where="m", end=len(flatbuffer_of(model)) // 2)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_truncation_is_refused(name: str) -> None:
    model = good(name)
    lengths = [*range(0, 64), *range(64, len(model), 97), len(model) - 2, len(model) - 1]
    for length in lengths:
        with pytest.raises(ModelFileError):
            parse_model(model[:length], "m")


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_mutations_give_nothing_but_our_errors(name: str) -> None:
    """Flipped bits, overwritten words, cut and doubled pieces: refused, or still a model that is well-formed."""
    chance = random.Random(SEED)
    model = good(name)
    opened = refused = 0
    for _ in range(MUTATIONS):
        try:
            parse_model(mutate(model, chance), "m")
            opened += 1
        except EdgeError as error:
            assert isinstance(error, ModelFileError)
            refused += 1
    assert opened + refused == MUTATIONS
    assert refused > MUTATIONS // 4  # a walk that looks at nothing would refuse almost none


def test_every_offset_of_the_flatbuffer_is_checked() -> None:
    """Each aligned word is replaced by hostile values; the walk must end with its own error or none, in short time."""
    body = flatbuffer_of(good("tiny_float32.tflite"))
    refused = 0
    for position in range(0, len(body) - 4, 4):
        for value in (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, len(body), 1):
            hostile = bytearray(body)
            struct.pack_into("<I", hostile, position, value)
            try:
                walk_model(bytes(hostile), where="m")
            except (NotATfliteFile, ModelUnsupported):
                refused += 1
    assert refused > 500


def inject(body: bytes, find: bytes, value: bytes) -> bytes:
    """The model with one unique piece replaced by another of the same length."""
    assert body.count(find) == 1 and len(find) == len(value)
    return body.replace(find, value)


def test_what_crashed_the_native_library_is_refused() -> None:
    """Each of these was a segmentation fault, an abort or an endless loop in LiteRT 2.3.0, found by mutation."""
    body = flatbuffer_of(good("tiny_uint8.tflite"))
    output = struct.pack("<I", 1) + struct.pack("<q", -128) + struct.pack("<If", 1, 1 / 256)
    for zero_point, scale, reason in (
        (-33_024, 1 / 256, "zero point that int8 does not have"),
        (-128, 1e-42, "scale that is too small"),
        (-128, 0.0, "scale that is too small"),
    ):
        hostile = struct.pack("<I", 1) + struct.pack("<q", zero_point) + struct.pack("<If", 1, scale)
        with pytest.raises(NotATfliteFile, match=reason):
            walk_model(inject(body, output, hostile), where="m")
    # The first operator of the float model reads tensors 0, 6 and 7; without its filter LiteRT dereferences null.
    body = flatbuffer_of(good("tiny_float32.tflite"))
    reads = struct.pack("<4i", 3, 0, 6, 7)
    with pytest.raises(ModelUnsupported):
        walk_model(inject(body, reads, struct.pack("<4i", 3, 0, -1, 7)), where="m")
    walk_model(inject(body, reads, struct.pack("<4i", 3, 0, 6, -1)), where="m")  # a bias may be left out


def test_graphs_that_libraries_run_into_memory_not_theirs_are_refused() -> None:
    body = flatbuffer_of(good("tiny_uint8.tflite"))
    root = Table(body, len(body), struct.unpack_from("<I", body, 0)[0], "Model")
    graph = root.children(2, "SubGraph")[0]
    first, *_, last = operators = graph.children(3, "Operator")
    quantizations = [tensor.child(4, "quantization") for tensor in graph.children(0, "Tensor")]
    axes = [one.field(6, 4) for one in quantizations if one is not None and len(one.numbers(2, "f")) > 1]
    weights = graph.children(0, "Tensor")[first.numbers(1, "i")[0]]
    for tensor in graph.children(0, "Tensor"):
        if len(tensor.numbers(0, "i")) == 4 and root.children(4, "B")[tensor.scalar(2, "I")].vector(0, 1)[1]:
            weights = tensor
    for place, value, problem in (
        (root.field(0, 4), 4, "schema version 4, not 3"),
        (
            operators[1].vector(2, 4)[0],
            first.numbers(2, "i")[0],
            "which has a value already|follows from its inputs",
        ),
        (first.vector(1, 4)[0], last.numbers(2, "i")[0], "before anything made it|follows from its inputs"),
        (weights.vector(0, 4)[0] + 4, 1, r"has \d+ bytes, not \d+"),
        (next(axis for axis in axes if axis), 1, "scales for axis 1"),
    ):
        assert place
        hostile = bytearray(body)
        struct.pack_into("<i", hostile, place, value)
        with pytest.raises((NotATfliteFile, ModelUnsupported), match=problem):
            walk_model(bytes(hostile), where="m")


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One to four random injuries."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if len(changed) < 16:
            break
        place = chance.randrange(len(changed) - 8)
        kind = chance.randrange(5)
        if kind == 0:
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            struct.pack_into(
                "<I", changed, place, chance.choice((0, 1, 0xFFFFFFFF, 0x7FFFFFFF, len(changed)))
            )
        elif kind == 2:
            del changed[place : place + chance.randint(1, 64)]
        elif kind == 3:
            changed[place:place] = changed[place : place + chance.randint(1, 64)]
        else:
            changed[place : place + 8] = chance.randbytes(8)
    return bytes(changed)
