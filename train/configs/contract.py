"""The contract of a network before training. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_runtime import contract
from train.artifacts.labels import LabelSet
from train.artifacts.manifest import Manifest
from train.configs.schema import TrainConfig


def make_contract(
    config: TrainConfig, labels: LabelSet, manifest: Manifest, state: Mapping[str, Any]
) -> contract.ModelContract:
    """Make the contract of a model before training, without calibration and decision rules.

    `labels` are in output order; `state` is run.json, or has its `run_id` and `commit`.
    """
    given = config.input
    return contract.ModelContract(
        schema_version=contract.SCHEMA_VERSION,
        model_id=config.name,
        labels=labels.labels,
        input=contract.InputSpec(given.size_px, given.size_px, "RGB", "over_white"),
        geometry=contract.Geometry(
            decode_scaling=given.decode_scaling,
            decode_oversampling=given.decode_oversampling,
            exif="transpose",
            crop=given.crop,
            crop_fraction=given.crop_fraction,
            filter="bilinear",
        ),
        normalization=contract.Normalization(given.mean, given.std),
        output=contract.OutputSpec("softmax"),
        calibration=contract.Calibration("none", 1.0),
        decision=contract.Decision(refer=None, not_a_lesion=None),
        provenance=contract.Provenance(
            run_id=state["run_id"],
            recipe="none",
            data_name=manifest.name,
            data_manifest_sha256=manifest.sha256,
            data_licence=labels.licence,
            model_licence=labels.model_licence,
            commit=state["commit"],
        ),
        intended_use=labels.intended_use,
        golden=(),
    )
