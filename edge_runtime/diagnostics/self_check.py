"""Run a model's built-in self-test: does this machine give the outputs that are stored in the model?"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from edge_runtime.contract import GoldenVector
from edge_runtime.errors import SelfCheckFailed
from edge_runtime.model.tensors import largest_difference

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier
    from edge_runtime.runner import Runner


@dataclass(frozen=True)
class SelfCheck:
    """A passed check."""

    count: int
    """Self-test vectors that were run."""
    largest_difference: float
    """Of any output, in the unit of the output tensor."""
    tolerance: float
    """The largest that was accepted."""

    def to_dict(self) -> dict[str, float]:
        """Return the fields for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """Return one line of text."""
        return (
            f"self-test passed: {self.count} vectors, largest difference {self.largest_difference:g} "
            f"(tolerance {self.tolerance:g})"
        )


@dataclass(frozen=True)
class VectorCheck:
    """One self-test vector, run again."""

    failed: str
    """The first of `picture`, `pixels` and `output` that differs from the vector; empty if none does."""
    problem: str
    """The same as a sentence; empty if nothing differs."""
    difference: float = 0.0
    """Largest of any raw output value, in the unit of the output tensor; 0 where the model was not run."""


def self_check(classifier: Classifier) -> SelfCheck:
    """Run every self-test vector of the model.

    Raises:
        SelfCheckFailed: The model has none, a picture or its pixels are not those of the contract, or an output
            differs by more than its tolerance. All failures are listed.
    """
    golden = classifier.contract.golden
    if not golden:
        problem, where = "the model cannot be checked", classifier.model.path
        found, fix = "no self-test vectors in its contract", "convert the model with dermedge convert"
        raise SelfCheckFailed(problem, where=where, found=found, expected="at least one", fix=fix)
    checks = [check_vector(classifier.runner, vector) for vector in golden]
    problems = [check.problem for check in checks if check.problem]
    if problems:
        problem = f"the self-test failed ({classifier.engine.name})"
        where, expected = classifier.model.path, f"the outputs of {golden[0].runtime}"
        fix = "copy the model again; if it was not altered, do not trust this runtime with it"
        raise SelfCheckFailed(problem, where=where, found="; ".join(problems), expected=expected, fix=fix)
    largest, tolerance = max(check.difference for check in checks), max(vector.tolerance for vector in golden)
    return SelfCheck(len(golden), largest, tolerance)


def check_vector(runner: Runner, vector: GoldenVector) -> VectorCheck:
    """Run one self-test vector of the runner's model.

    Raises:
        ContractInvalid: The model holds no such picture.
        ImageError, InterpreterBroken: It cannot be decoded, or the inference failed.
    """
    photo = runner.model.read_entry(vector.image)
    if hashlib.sha256(photo).hexdigest() != vector.image_sha256:
        return VectorCheck("picture", f"{vector.image} is not the picture of the contract")
    pixels_u8 = runner.pixels_u8(photo, name=vector.image)
    if hashlib.sha256(pixels_u8).hexdigest() != vector.pixels_sha256:
        return VectorCheck("pixels", f"{vector.image}: preprocessing gives other pixels")
    output = runner.raw_values(runner.run(runner.input_tensor(pixels_u8)))
    difference = largest_difference(output, vector.output)
    if difference <= vector.tolerance:
        return VectorCheck("", "", difference)
    problem = (
        f"{vector.image}: outputs differ by {difference:g}, tolerance {vector.tolerance:g} "
        f"({[round(value, 6) for value in output]} against {[round(value, 6) for value in vector.output]})"
    )
    return VectorCheck("output", problem, difference)
