"""The committed fixtures are what their generator makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime import Classifier
from edge_runtime.diagnostics.self_check import self_check
from edge_runtime.model.model_file import open_model
from tests.fixtures import FIXTURES, MODEL_NAMES
from tests.fixtures import pictures as p
from tests.fixtures.make_lesion_model import LESION_MODEL, lesion_contract
from tests.fixtures.make_models import base_contract

MAX_FIXTURE_BYTES = 16 * 1024
# Another TensorFlow may order operators or choose a quantization range differently by a rounding.
STEPS = 2.0
FLOAT = 1e-4


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_fixtures_are_small_and_carry_their_contract(name: str) -> None:
    model = open_model(FIXTURES / name)
    assert len(model.data) < MAX_FIXTURE_BYTES
    plain = {**vars(model.contract), "golden": ()}
    assert plain == vars(base_contract(name))
    assert len(model.contract.golden) == 3


def test_no_fixture_is_left_without_a_test() -> None:
    assert sorted(path.name for path in FIXTURES.glob("*.tflite")) == sorted([*MODEL_NAMES, LESION_MODEL])


def test_the_lesion_model_is_small_and_carries_its_contract() -> None:
    model = open_model(FIXTURES / LESION_MODEL)
    assert len(model.data) < 2 * MAX_FIXTURE_BYTES
    assert model.contract == lesion_contract()


@pytest.mark.tf
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TensorFlow's own
def test_the_generator_makes_the_committed_fixtures(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    from tests.fixtures.make_models import build_all

    built = build_all(tmp_path)
    assert [path.name for path in built] == list(MODEL_NAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(MODEL_NAMES)
    for path in built:
        with Classifier.open(FIXTURES / path.name) as committed, Classifier.open(path) as made:
            one, other = committed.contract, made.contract
            assert {**vars(one), "golden": ()} == {**vars(other), "golden": ()}
            assert committed.engine.inputs == made.engine.inputs
            self_check(made)
            tolerance = STEPS / 256 if committed.engine.input.quantized else FLOAT
            for index in range(6):
                photo = p.jpeg(120, 90, index)
                assert made.classify(photo).scores == pytest.approx(
                    committed.classify(photo).scores, abs=tolerance
                )
