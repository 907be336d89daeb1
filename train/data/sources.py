"""From a config to one table of photos with its split: one or several data sets, each split on its own. stdlib, numpy.

Each data set is split by itself with the config's seed, so that adding another leaves the first one's folds as they
were, and variants can be compared as pairs. With several, paths start at the folder that holds them all.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract import Label
from edge_runtime.errors import ConfigInvalid, DataInvalid, DataNotFound, SplitLeaks
from train.artifacts.files import sha256_of
from train.artifacts.labels import LabelSet, load_labels, source_licence
from train.artifacts.manifest import Manifest, Photo, read_manifest
from train.artifacts.run import DATA_VARIABLE, SOURCE_SEPARATOR
from train.configs.schema import TrainConfig
from train.data.readers import read_photos
from train.data.split import LeakReport, Split, check_split, make_split, require_parts

DEVELOPER_DATA = Path(__file__).parents[3] / "shared" / "data"
# split.test_fold of a final model: it is trained on every fold, and has no test photos.
NO_TEST = -1


@dataclass(frozen=True)
class DataSet:
    """Photos, where they belong, and from which data set they come."""

    manifest: Manifest
    assignment: dict[str, str]
    """photo_id to `train`, `val` or `test`."""
    group_of: dict[str, str]
    """photo_id to the group that is never divided."""
    source_of: dict[str, str]
    """photo_id to the folder name of its data set."""
    leaks: dict[str, LeakReport]
    """Data set to its leak report; empty when read back."""

    def ids(self, part: str) -> list[str]:
        """The photo_ids of a part, sorted."""
        return [p.photo_id for p in self.manifest.photos if self.assignment[p.photo_id] == part]


def data_root() -> Path:
    """Return the folder that holds the data sets."""
    return Path(os.environ[DATA_VARIABLE]) if DATA_VARIABLE in os.environ else DEVELOPER_DATA


def find_data(config: TrainConfig, folder: Path | None) -> Path:
    """Return the first data set's folder.

    Raises:
        DataInvalid: It does not exist, or is one of several and its name is not the config's.
    """
    name = config.data.folder
    folder = data_root() / name if folder is None else folder
    if not folder.is_dir():
        fix = f"give it with --data, or set {DATA_VARIABLE} to the folder that holds {name}"
        where, expected = str(folder), f"the folder of {name}"
        raise DataNotFound(
            "the data folder does not exist", where=where, found=where, expected=expected, fix=fix
        )
    # Not resolved: a link may have the name that its target lacks.
    folder = folder.absolute()
    if config.source and folder.name != name:
        # Several data sets are distinguished by the first part of a photo's path, here and wherever a run is read.
        problem = "the first of several data sets has another name"
        fix = "rename the folder, or add a link of that name beside the others"
        raise DataInvalid(problem, where=str(folder), found=folder.name, expected=name, fix=fix)
    return folder


def merged_labels(config: TrainConfig) -> LabelSet:
    """Return the config's label set, with [[merge]] applied and the licences of all other data beside its own.

    A merged label takes the place of its first one.

    Raises:
        ConfigInvalid: An unknown label, one merged twice, a code that another label has, or labels of different
            groups: a merger may not hide whether a prediction is malignant.
    """
    labels = load_labels(config.data.labels)
    by_code = {label.code: label for label in labels.labels}
    named = Counter(code for merged in config.merge for code in merged.labels)
    problems = [f"{code} is unknown" for code in named if code not in by_code]
    problems += [f"{code} is merged twice" for code, count in named.items() if count > 1]
    kept_codes = Counter([merged.code for merged in config.merge] + [c for c in by_code if c not in named])
    problems += [f"{code} would name two labels" for code, count in kept_codes.items() if count > 1]
    for merged in config.merge:
        if len(merged.labels) < 2:
            problems.append(f"{merged.code} merges fewer than two labels")
        groups = sorted({by_code[code].group for code in merged.labels if code in by_code})
        if len(groups) > 1:
            problems.append(f"{merged.code} merges labels of the groups {', '.join(groups)}")
    if problems:
        expected = f"labels of one group of {labels.name}: {', '.join(labels.codes)}"
        found = "; ".join(problems)
        raise ConfigInvalid("[[merge]] does not fit the label set", found=found, expected=expected)
    first_of = {m.labels[0]: Label(m.code, m.name, by_code[m.labels[0]].group) for m in config.merge}
    left = {code: label for code, label in by_code.items() if code in first_of or code not in named}
    kept = (left | first_of).values()
    return dataclasses.replace(labels, labels=tuple(kept), licence=_licences(config, labels.licence))


def _licences(config: TrainConfig, of_first: str) -> str:
    """Join the licences of all that a model of the config is trained on; what has none on file is named as such."""
    weights = config.model.weights
    further = [(source.reader, source.folder) for source in config.source]
    further += [(config.outliers.folder,) * 2] if config.outliers.folder else []
    further += [] if weights == "none" else [(weights, f"weights of {Path(weights).name}")]
    licences = [of_first, *(source_licence(key) or f"{name}: licence not stated" for key, name in further)]
    if config.model.start:
        licences.append(f"weights of {Path(config.model.start).name}: as its contract says")
    return "; ".join(dict.fromkeys(licences))


def read_sources(config: TrainConfig, folder: Path) -> list[Manifest]:
    """Read and check the photos of every data set; takes minutes for tens of thousands of photos.

    Args:
        config: The experiment.
        folder: Of the first data set; the others lie beside it.

    Returns:
        A manifest per data set, the config's first one first. With several, all have the same root.

    Raises:
        DataInvalid: A folder is missing, photos are unusable, or a photo_id occurs in two data sets.
    """
    plain, merged = load_labels(config.data.labels), merged_labels(config)
    code_of = {code: entry.code for entry in config.merge for code in entry.labels}
    manifests = []
    for i, source in enumerate(config.sources):
        place = folder if i == 0 else folder.parent / source.folder
        name, on_problem = source.folder, config.data.on_problem
        read = read_photos(source.reader, place, plain, name=name, on_problem=on_problem, every_class=i == 0)
        root = folder.parent if config.source else read.root
        photos = []
        for photo in read.photos:
            path = (read.root / photo.path).relative_to(root).as_posix()
            photos.append(dataclasses.replace(photo, path=path, label=code_of.get(photo.label, photo.label)))
        manifests.append(Manifest(name, root, merged, tuple(photos)))
    ids = Counter(photo.photo_id for manifest in manifests for photo in manifest.photos)
    if twice := sorted(photo_id for photo_id, count in ids.items() if count > 1):
        found = ", ".join(twice[:5])
        raise DataInvalid("a photo_id occurs in two data sets", found=found, expected="each once")
    return manifests


def split_sources(config: TrainConfig, manifests: Sequence[Manifest]) -> DataSet:
    """Split each data set by itself and join them."""
    splits = [_split(config, manifest, first=i == 0) for i, manifest in enumerate(manifests)]
    photos = sorted((p for manifest in manifests for p in manifest.photos), key=lambda photo: photo.photo_id)
    assignment = {k: v for split in splits for k, v in split.assignment.items()}
    source_of = {photo.photo_id: manifest.name for manifest in manifests for photo in manifest.photos}
    if config.split.method != "random":
        _require_apart(photos, manifests[0].root, assignment, source_of)
    name = SOURCE_SEPARATOR.join(manifest.name for manifest in manifests)
    return DataSet(
        manifest=dataclasses.replace(manifests[0], name=name, photos=tuple(photos)),
        assignment=assignment,
        group_of={k: v for split in splits for k, v in split.group_of.items()},
        source_of=source_of,
        leaks={manifest.name: split.leak for manifest, split in zip(manifests, splits, strict=True)},
    )


def reread(config: TrainConfig, path: Path, folder: Path) -> DataSet:
    """Read the photos and split of an interrupted run back from its manifest.csv, and check them again."""
    root = folder.parent if config.source else folder
    name = SOURCE_SEPARATOR.join(source.folder for source in config.sources)
    manifest, assignment, group_of = read_manifest(path, root, name, merged_labels(config))
    source_of = {p.photo_id: p.path.split("/")[0] if config.source else name for p in manifest.photos}
    require_parts(manifest, assignment)
    if config.split.method != "random":
        for source in sorted(set(source_of.values())):
            photos = tuple(p for p in manifest.photos if source_of[p.photo_id] == source)
            parts = {p.photo_id: assignment[p.photo_id] for p in photos}
            check_split(dataclasses.replace(manifest, photos=photos), parts, config.split.near_duplicate_bits)
        _require_apart(manifest.photos, root, assignment, source_of)
    return DataSet(manifest, assignment, group_of, source_of, {})


def _require_apart(
    photos: Sequence[Photo], root: Path, assignment: Mapping[str, str], source_of: Mapping[str, str]
) -> None:
    """Refuse one file in two data sets and two splits.

    Data sets are split one by one, and look-alikes across them show different lesions (train/data/near_duplicates.py);
    copies of the same file do not.

    Raises:
        SplitLeaks: There is one.
    """
    of_hash: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        of_hash[photo.phash].append(photo)
    of_hash.pop("", None)
    for alike in of_hash.values():
        if any(len({of[p.photo_id] for p in alike}) < 2 for of in (source_of, assignment)):
            continue
        first: dict[str, Photo] = {}
        for photo in alike:
            other = first.setdefault(sha256_of(root / photo.path), photo)
            parts = assignment[other.photo_id], assignment[photo.photo_id]
            if parts[0] != parts[1]:
                problem = "Data leakage: the same image occurs in two datasets and two splits"
                found = f"{other.path} ({parts[0]}) and {photo.path} ({parts[1]})"
                fix = "remove the copies from one of the datasets"
                raise SplitLeaks(problem, found=found, expected="each photo once", fix=fix)


def _split(config: TrainConfig, manifest: Manifest, *, first: bool) -> Split:
    """Of one data set; only the first must have photos of every class."""
    given = config.split
    folds, test_fold, val_share = given.folds, given.test_fold, given.val_share
    renamed = {}
    if test_fold == NO_TEST and given.common_val:
        test_fold, renamed = 0, {"test": "train"}
    elif test_fold == NO_TEST:
        # One of 1 / val_share folds is val, the rest train.
        folds, test_fold, val_share, renamed = max(2, round(1 / val_share)), 0, 0.0, {"test": "val"}
    return make_split(
        manifest,
        folds=folds,
        test_fold=test_fold,
        val_share=val_share,
        near_duplicate_bits=given.near_duplicate_bits,
        seed=given.seed or config.seed,
        every_class=first,
        common_val=given.common_val,
        method=given.method,
        renamed=renamed,
    )
