"""The data of an experiment for `explore`: read from the photos themselves, or from a run that has read them. numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.contract import Label, ModelContract
from edge_runtime.errors import DataInvalid, RunInvalid
from train.artifacts.files import read_object
from train.artifacts.manifest import Photo
from train.artifacts.run import find_root, read_contract, source_names, source_of
from train.configs.contract import make_contract
from train.configs.loading import load_config
from train.data.sources import find_data, merged_labels, read_sources, split_sources
from train.evaluation.results import read_photos_of

NOT_TRAINED = {"run_id": "not trained", "commit": "unknown"}
LEAK_KEYS = (
    "random_leak", "random_leak_of_class", "near_duplicate_bits", "near_duplicates_across_lesions", "merged_groups",
    "sizes", "group_sizes",
)  # fmt: skip


@dataclass(frozen=True)
class DataView:
    """Everything that the page of the data shows."""

    name: str
    """Of the data set, or of several joined by `+`."""
    origin: str
    """Where this was read: a config or a run."""
    photos: tuple[Photo, ...]
    labels: tuple[Label, ...]
    group_of: dict[str, str]
    """photo_id to its lesion and near-duplicates, never divided."""
    source_of: dict[str, str]
    """photo_id to its data set."""
    leaks: dict[str, dict[str, Any]]
    """Data set to `LeakReport.to_dict`."""
    contract: ModelContract
    """How a photo becomes what the network sees."""
    root: Path | None
    """Of the photos' paths; None where they are not on this machine."""
    told_root: str
    """Where they are said to be."""
    licence: str

    @property
    def codes(self) -> tuple[str, ...]:
        """Of the labels, in output order."""
        return tuple(label.code for label in self.labels)

    @property
    def sources(self) -> tuple[str, ...]:
        """The data sets, the one of the most photos first."""
        return tuple(name for name, _ in Counter(self.source_of.values()).most_common())

    def class_counts(self, photos: Iterable[Photo]) -> dict[str, int]:
        """Photos of each class, in the labels' order, zeros too."""
        counts = Counter(photo.label for photo in photos)
        return {code: counts[code] for code in self.codes}


def view_of_config(config_path: Path, data: Path | None) -> DataView:
    """Reads, checks and splits the photos of an experiment, as training would; nothing is written.

    Raises:
        ConfigInvalid, DataInvalid, SplitLeaks: As in training.
    """
    config = load_config(config_path)
    found = split_sources(config, read_sources(config, find_data(config, data)))
    labels = merged_labels(config)
    return DataView(
        name=found.manifest.name,
        origin=config_path.name,
        photos=found.manifest.photos,
        labels=labels.labels,
        group_of=found.group_of,
        source_of=found.source_of,
        leaks={name: leak.to_dict() for name, leak in found.leaks.items()},
        contract=make_contract(config, labels, found.manifest, NOT_TRAINED),
        root=found.manifest.root,
        told_root=str(found.manifest.root),
        licence=labels.licence,
    )


def view_of_run(run: Path, data: Path | None) -> DataView:
    """What a run directory, finished or not, knows of its data; of a cross-validation what its first fold knows.

    Raises:
        RunInvalid: Not a run directory, or its files cannot be read.
        DataInvalid: No manifest, or `data` is not a folder.
    """
    folder = run / "fold0" if (run / "fold0").is_dir() else run
    if not (folder / "run.json").is_file():
        raise RunInvalid(
            f"{run}: no run directory",
            found="no run.json",
            expected="a config, a run directory or a cross-validation's folder",
        )
    if data is not None and not data.is_dir():
        raise DataInvalid(f"{data}: no such data folder", expected="the folder of the first data set")
    state = read_object(folder / "run.json")
    contract = read_contract(folder)
    photos = read_photos_of(folder)
    name = contract.provenance.data_name
    return DataView(
        name=name,
        origin=f"run {folder.resolve().name}",
        photos=tuple(photo for photo, _ in photos.values()),
        labels=contract.labels,
        group_of={photo_id: group for photo_id, (_, group) in photos.items()},
        source_of={
            photo_id: source_of(photo.path, source_names(state)) for photo_id, (photo, _) in photos.items()
        },
        leaks=_read_leaks(folder, name),
        contract=contract,
        root=find_root(state, data),
        told_root=str(state.get("data", {}).get("root", "nowhere")),
        licence=contract.provenance.data_licence,
    )


def _read_leaks(run: Path, name: str) -> dict[str, dict[str, Any]]:
    """split.json: a leak report of each data set; in older runs the only one, without its name."""
    path = run / "split.json"
    if not path.is_file():
        return {}
    content = read_object(path)
    leaks = {name: content} if "random_leak" in content else content
    lacking = [
        key for leak in leaks.values() for key in LEAK_KEYS if not isinstance(leak, dict) or key not in leak
    ]
    if lacking:
        raise RunInvalid(f"{path}: not a leak report", found=f"no {', no '.join(lacking)}", fix="train again")
    return leaks
