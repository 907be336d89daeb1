"""Read the files of a model card, and check that they belong together. stdlib only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.files import report_path
from edge_runtime.contract import ModelContract
from edge_runtime.errors import RunInvalid
from edge_runtime.model.model_file import ModelFile
from train.artifacts.files import read_object, sha256_of

# Entries without which no card can be written; each level of a name is an object.
_REPORT_NEEDS = """
model.sha256 model.bytes options run.run_id run.model_keras_sha256 versions tensors.input.dtype tensors.operators
calibration qat golden.runtime golden.largest_difference_by_kernel_set check.photos check.photos_by_split
check.agreement check.mean_score_difference check.limits.min_agreement check.limits.max_mean_score_difference test
"""
REPORT_NEEDS = _REPORT_NEEDS.split()
RUN_NEEDS = {"run": (), "config": ("name", "model.backbone"), "split": (), "metrics": ()}
TEST_NEEDS = ("photos", "folds", "lesions", "photos_per_class", "keras.recall", "converted.recall")


@dataclass(frozen=True)
class Sources:
    """The content of a card."""

    run_folder: Path
    model_name: str
    contract: ModelContract
    """The model's."""
    run: dict[str, Any]
    config: dict[str, Any]
    split: dict[str, Any]
    metrics: dict[str, Any]
    report: dict[str, Any]
    """The .json beside the model."""
    crossval: dict[str, Any] | None = None
    """metrics_NAME.json of the recipe's cross-validation."""

    @property
    def test(self) -> dict[str, Any] | None:
        """Float and converted on held-out photos: of the model, or of its cross-validation."""
        return self.crossval or self.report["test"]

    @property
    def leaks(self) -> dict[str, dict[str, Any]]:
        """Dataset to its split and what a random one would have leaked; older runs on one dataset have no level."""
        name = self.contract.provenance.data_name
        return {name: self.split} if "sizes" in self.split else self.split


def read_sources(run: Path, model: ModelFile, crossval: Path | None = None) -> Sources:
    """Read all files and check that they belong together; of a cross-validation the card then gives the metrics.

    Raises:
        RunInvalid: A file is missing or not JSON, or model, report and run are not of one conversion.
    """
    contract, path = model.contract, Path(model.path)
    provenance = contract.provenance
    report = _read(report_path(path), REPORT_NEEDS)
    mismatches = [
        f"{what}: {found} against {expected}"
        for what, found, expected in (
            ("sha256 of the model and in its report", model.sha256, report["model"]["sha256"]),
            ("run in the report and in the model", report["run"]["run_id"], provenance.run_id),
            ("model.keras", sha256_of(run / "model.keras"), report["run"]["model_keras_sha256"]),
        )
        if found != expected
    ]
    if mismatches:
        problem = f"{path}: model, report and run directory are not of one conversion"
        fix = "Give the run directory that the model was converted from, or convert again"
        raise RunInvalid(problem, found="; ".join(mismatches), fix=fix)
    run_files = {name: _read(run / f"{name}.json", needs) for name, needs in RUN_NEEDS.items()}
    pooled = None
    if crossval is not None:
        pooled = _read(crossval / f"metrics_{provenance.recipe}.json", TEST_NEEDS)
        _require_same_config(run_files["config"], _read(crossval / "crossval.json"), crossval)
        _require_same_options(report["options"], pooled.get("options"), crossval)
    return Sources(run, path.name, contract, report=report, crossval=pooled, **run_files)


def _require_same_config(config: dict[str, Any], of_folds: dict[str, Any], crossval: Path) -> None:
    """A cross-validation holds for a model only if nothing but the split differs."""
    theirs = of_folds.get("config", {})
    differing = sorted(
        key for key in {*config, *theirs} - {"split", "name"} if config.get(key) != theirs.get(key)
    )
    if differing:
        problem = f"{crossval}: cross-validation of another config than the model's"
        found = f"differences in {', '.join(differing)}"
        fix = "Give the cross-validation of the model's own config"
        raise RunInvalid(problem, found=found, expected="equal configs, except the split", fix=fix)


def _require_same_options(options: list[str], of_folds: list[str] | None, crossval: Path) -> None:
    """... and if its folds were converted with the model's options; older reports without options pass."""
    if of_folds is not None and of_folds != options:
        raise RunInvalid(
            f"{crossval}: folds were converted with other options than the model",
            found=" ".join(of_folds),
            expected=" ".join(options),
            # Layers to keep in float are searched for one model.
            fix="Leave --crossval out: folds are never converted with --keep-float"
            if "--keep-float" in options
            else "Convert the folds with the model's options: dermedge convert FOLDS",
        )


def _read(path: Path, needs: Sequence[str] = ()) -> dict[str, Any]:
    """Read a JSON object that has certain entries, named with a dot for each level."""
    content = read_object(path)
    if missing := [name for name in needs if not _has(content, name)]:
        problem = f"{path}: entries are missing"
        found, fix = f"no {', no '.join(missing)}", "Take that file, or train or convert again"
        raise RunInvalid(problem, found=found, expected="the file as training or conversion left it", fix=fix)
    return content


def _has(content: Any, name: str) -> bool:
    for part in name.split("."):
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True
