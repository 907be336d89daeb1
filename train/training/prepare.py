"""What happens before training: the run directory is opened; photos, split, contract and teacher are written to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from edge_runtime.errors import RunInvalid, escaped
from train.artifacts import files
from train.artifacts.manifest import Manifest, write_manifest
from train.artifacts.run import git_commit
from train.artifacts.writer import LOCK_FILE
from train.configs.contract import make_contract
from train.configs.loading import parse_config
from train.configs.schema import TrainConfig
from train.data.sources import NO_TEST, DataSet, find_data, merged_labels, read_sources, reread, split_sources
from train.training.distillation import COPY_NAME, read_soft_labels
from train.training.inputs import Inputs

# Their versions can change a run's figures.
PACKAGES = ("tensorflow", "tf_keras", "numpy", "pillow", "scikit-learn")
CONFIG_FILES = ("config.toml", "config.json")
# Made anew when the config of a run that has not been trained yet changes.
PREPARED_FILES = ("manifest.csv", "split.json", "contract.json", COPY_NAME)
# A folder with anything else holds work that another config would lose.
REPLACEABLE = {*CONFIG_FILES, *PREPARED_FILES, "run.json", "pixels", LOCK_FILE}


def open_run(config: TrainConfig, config_path: Path, run: Path) -> dict[str, Any]:
    """Open a run directory, new or interrupted.

    Returns:
        The content of run.json.

    Raises:
        RunInvalid: A folder of something else, or of another config.
    """
    resolved = config.to_dict()
    if (run / "run.json").exists():
        if state := _reopen(resolved, config_path, run):
            return state
    elif run.exists() and any(path.name not in (*CONFIG_FILES, LOCK_FILE) for path in run.iterdir()):
        expected, fix = "an empty or new folder, or an interrupted run", "choose another --workdir"
        raise RunInvalid(f"{run}: not a run directory", found="other files", expected=expected, fix=fix)
    run.mkdir(parents=True, exist_ok=True)
    _write_config(resolved, config_path, run)
    started = datetime.now(UTC)
    state = {
        "run_id": f"{config.name}-{started:%Y%m%d-%H%M%S}",
        "status": "training",
        "started": started.isoformat(timespec="seconds"),
        "seed": config.seed,
        "commit": git_commit(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }
    files.write_json(run / "run.json", state)
    return state


def _reopen(resolved: dict[str, Any], config_path: Path, run: Path) -> dict[str, Any] | None:
    """The state of an interrupted or finished run; None of one that begins anew.

    Another [decision] is accepted: it takes effect after training. Before training any other config is: the first one
    may have been refused for what only the photos could show.
    """
    # Parsed as any config is: keys added since then get their defaults.
    before = parse_config(files.read_object(run / "config.json"), str(run / "config.json")).to_dict()
    state = files.read_object(run / "run.json")
    changed = sorted(key for key in resolved if before[key] != resolved[key])
    if changed == ["decision"] and state.get("status") == "done" and not (run / "model.keras").exists():
        reason = state.get("not_for_conversion", "it was removed")
        found = f"another [decision], and no model.keras: {reason}"
        expected = "the [decision] it was finished with"
        fix = "choose another --workdir and train again, or restore the config"
        raise RunInvalid(
            f"{run}: this run cannot be evaluated again", found=found, expected=expected, fix=fix
        )
    if changed == ["decision"]:
        state["status"] = "training"
        files.write_json(run / "run.json", state)
        _write_config(resolved, config_path, run)
    elif changed and state.get("status") != "done" and REPLACEABLE.issuperset(p.name for p in run.iterdir()):
        for name in PREPARED_FILES:
            (run / name).unlink(missing_ok=True)
        return None
    elif changed:
        problem = f"{run}: this run directory belongs to another config"
        expected = "the config it was started with (only [decision] may change)"
        found, fix = f"differences in {', '.join(changed)}", "choose another --workdir, or restore the config"
        raise RunInvalid(problem, found=found, expected=expected, fix=fix)
    return state


def _write_config(resolved: dict[str, Any], config_path: Path, run: Path) -> None:
    files.write_text(run / "config.toml", config_path.read_text(encoding="utf-8"))
    files.write_json(run / "config.json", resolved)


def prepare(
    config: TrainConfig,
    run: Path,
    state: dict[str, Any],
    data_folder: Path | None,
    *,
    pixels: Path,
    manifests: Sequence[Manifest] | None,
) -> Inputs:
    """Write photos, split, contract and teacher of an opened run, or read them back.

    run.json is written again with the data in it. Arguments as `run_experiment`.

    Raises:
        ConfigInvalid, DataInvalid, SplitLeaks: The data do not fit the config.
    """
    labels = merged_labels(config)
    folder = find_data(config, data_folder)
    data = _prepare_data(config, run, folder, manifests)
    root = str(data.manifest.root.resolve())
    state["data"] = {"name": data.manifest.name, "root": root, "licence": labels.licence}
    if reason := _why_not_converted(config):
        state["not_for_conversion"] = reason
    files.write_json(run / "run.json", state)
    contract = make_contract(config, labels, data.manifest, state)
    files.write_text(run / "contract.json", contract.to_json())
    inputs = Inputs(config, contract, data, folder, pixels)
    read_soft_labels(config.distill, run, data.manifest, inputs.training_rows())  # Checked, and copied.
    return inputs


def _prepare_data(
    config: TrainConfig, run: Path, folder: Path, manifests: Sequence[Manifest] | None
) -> DataSet:
    """Photos and split; those of an interrupted run are read back and checked for leaks again."""
    path = run / "manifest.csv"
    if path.exists():
        return reread(config, path, folder)
    data = split_sources(config, manifests or read_sources(config, folder))
    for name, leak in data.leaks.items():
        print(escaped(f"{name}: {leak.text()}"))
    files.write_json(run / "split.json", {name: asdict(leak) for name, leak in data.leaks.items()})
    write_manifest(path, data.manifest, data.assignment, data.group_of)
    return data


def _why_not_converted(config: TrainConfig) -> str:
    """Why a run's metrics would not hold for one view of its exported model; empty if they do."""
    if config.split.method == "random":
        return "its random split leaks lesions into the test photos"
    if config.tiles.grid:
        return "its scores are means over tiles, which one view of the photo does not reproduce"
    if config.model.start and not config.model.start_trained_on and config.split.test_fold != NO_TEST:
        return "it is unknown whether the file it started from was trained on its test photos (model.start_trained_on)"
    return ""
