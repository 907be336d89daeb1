"""A short run of the fuzzers, the fuzzers' own test, and photos cut short."""

from __future__ import annotations

import pytest

from edge_runtime.contract import ModelContract
from edge_runtime.errors import ImageError
from edge_runtime.images.preprocess import decode_rgb
from edge_runtime.model.model_file import open_model
from tests.edge_runtime import fuzz
from tests.edge_runtime.damaged_documents import try_verdict
from tests.fixtures import FIXTURES

SEED = 20261124
MODELS, GRAPHS, CONTRACTS, TAILS, PHOTOS = 600, 600, 600, 1000, 800
# A truncated file lacks pixels. The last bytes of some formats hold none: a trailer, a directory, a second page.
CUTS = [fraction / 20 for fraction in range(1, 17)]


@pytest.mark.parametrize(
    ("kind", "count"),
    [("models", MODELS), ("graphs", GRAPHS), ("contracts", CONTRACTS), ("tails", TAILS), ("photos", PHOTOS)],
)
def test_mutations_are_classified_or_refused_with_our_errors(kind: str, count: int) -> None:
    outcomes, wrong = fuzz.run(kind, SEED, count)
    assert wrong == {}
    assert sum(outcomes.values()) == count
    # Neither refused at the door, all of them, nor all let through.
    assert 0.1 * count < outcomes["answered"] < 0.8 * count
    assert len(outcomes) >= 2


@pytest.mark.parametrize(
    ("kind", "count"),
    [("verdicts", 60), ("configs", 60), pytest.param("runs", 60, marks=(pytest.mark.long, pytest.mark.slow))],
)
def test_damaged_documents_are_read_or_refused_with_our_errors(kind: str, count: int) -> None:
    if kind != "verdicts":
        pytest.importorskip("pydantic", reason="configs and runs are read by train")
    outcomes, wrong = fuzz.run(kind, SEED, count)
    assert wrong == {}
    assert sum(outcomes.values()) == count and len(outcomes) >= 2


@pytest.mark.parametrize("text", ["[" * 100_000, '{"why": 5}', '{"a":' * 900, "", "null", "\x00"])
def test_no_verdict_file_stops_the_runtime(text: str) -> None:
    assert try_verdict(text.encode()) in ("tried again", "model-unsafe")


# What ended the process in the long runs, by seed and case: signature entries without their names, operators whose
# output is larger than the output tensor, tensors that nothing makes, an operator under two numbers,
# a depthwise convolution without a place for its bias.
FOUND = {
    (1, 8787): "not-a-tflite",
    (1, 37824): "not-a-tflite",
    (1, 34031): "model-unsupported",
    (1, 35065): "model-unsupported",
    (2, 12917): "not-a-tflite",
    (2, 28898): "model-unsupported",
    (3, 6813): "not-a-tflite",
    (3, 24445): "model-unsupported",
}


@pytest.mark.parametrize(("seed", "index"), FOUND)
def test_what_the_long_run_found_stays_refused(seed: int, index: int) -> None:
    assert fuzz.try_model(fuzz.model_case(seed, index)) == FOUND[seed, index]


def test_the_fuzzer_sees_every_crime() -> None:
    outcomes, wrong = fuzz.run("crimes", 1, 9, hang_s=3.0, waiting_s=8.0)
    assert [what.partition(":")[0] for what in wrong.values()] == [
        "WRONG death",
        "WRONG KeyError",
        "WRONG hang",
        "WRONG silent image",
        "WRONG hang",
        "WRONG memory",
        "WRONG death",
    ]
    assert list(wrong) == [1, 2, 3, 4, 5, 6, 8] and "SIGSEGV" in wrong[1]
    assert outcomes["answered"] == 2


def test_a_case_is_the_same_bytes_every_time() -> None:
    for make in (fuzz.model_case, fuzz.photo_case):
        assert make(3, 50) == make(3, 50) != make(3, 51)


@pytest.mark.parametrize("index", range(len(fuzz.photo_bases())))
def test_a_truncated_photo_is_refused(index: int) -> None:
    contract: ModelContract = open_model(FIXTURES / "tiny_uint8.tflite").contract
    photo = fuzz.photo_bases()[index]
    if len(photo) < 500:
        pytest.skip("a few pixels end long before the file does")
    # Of several pages or frames only the first is owed; a TIFF's directory may stand before or after its pixels.
    several = bool(decoded_notes(photo, contract))
    for cut in CUTS[: len(CUTS) // 2 if several else None]:
        with pytest.raises(ImageError):
            decode_rgb(photo[: int(len(photo) * cut)], contract)


def decoded_notes(photo: bytes, contract: ModelContract) -> list[str]:
    notes: list[str] = []
    decode_rgb(photo, contract, notes=notes)
    return notes
