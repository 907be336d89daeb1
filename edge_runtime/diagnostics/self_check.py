"""Does this machine give the answers that the model's maker got? Runs the golden vectors inside the model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from edge_runtime.classifier import Classifier
from edge_runtime.contract import GoldenVector
from edge_runtime.errors import SelfCheckFailed
from edge_runtime.images.preprocess import fit_pixels
from edge_runtime.model.tensors import largest_difference, raw_values


@dataclass(frozen=True)
class SelfCheck:
    """A passed check."""

    count: int
    """Golden pictures that were run."""
    largest_difference: float
    """Of any output, in the unit of the output tensor."""
    tolerance: float
    """The largest that was accepted."""

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return {
            "count": self.count,
            "largest_difference": self.largest_difference,
            "tolerance": self.tolerance,
        }

    def to_text(self) -> str:
        """One line."""
        return (
            f"self check passed: {self.count} golden pictures, largest difference {self.largest_difference:g} "
            f"(tolerance {self.tolerance:g})"
        )


def self_check(classifier: Classifier) -> SelfCheck:
    """Runs every golden picture of the model.

    Raises:
        SelfCheckFailed: The model has none, a picture or its pixels are not those of the contract, or an output
            differs by more than its tolerance. All failures are listed.
    """
    golden = classifier.contract.golden
    if not golden:
        raise SelfCheckFailed(
            f"{classifier.model.path}: the model cannot be checked",
            found="no golden pictures in its contract",
            expected="at least one",
            fix="convert the model with `python -m convert`",
        )
    problems: list[str] = []
    differences = [_check_one(classifier, vector, problems) for vector in golden]
    if problems:
        raise SelfCheckFailed(
            f"{classifier.model.path}: the model does not give its golden answers here ({classifier.engine.name})",
            found="; ".join(problems),
            expected=f"the answers of {golden[0].runtime}",
            fix="copy the model again; if it was not altered, do not trust this runtime with it",
        )
    return SelfCheck(len(golden), max(differences), max(vector.tolerance for vector in golden))


def _check_one(classifier: Classifier, vector: GoldenVector, problems: list[str]) -> float:
    """Appends what is wrong with one picture, and returns the largest difference of its outputs."""
    photo = classifier.model.read_entry(vector.image)
    if hashlib.sha256(photo).hexdigest() != vector.image_sha256:
        problems.append(f"{vector.image} is not the picture of the contract")
        return 0.0
    pixels_u8 = fit_pixels(photo, classifier.contract, name=vector.image)
    if hashlib.sha256(pixels_u8).hexdigest() != vector.pixels_sha256:
        problems.append(f"{vector.image}: preprocessing gives other pixels")
        return 0.0
    raw_output = classifier.run(classifier.input_tensor(pixels_u8))
    output = raw_values(raw_output, classifier.engine.output)
    difference = largest_difference(output, vector.output)
    if difference > vector.tolerance:
        problems.append(
            f"{vector.image}: outputs differ by {difference:g}, tolerance {vector.tolerance:g} "
            f"({[round(value, 6) for value in output]} against {[round(value, 6) for value in vector.output]})"
        )
    return difference
