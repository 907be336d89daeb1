"""`dermedge explore CONFIG.toml|RUN`: one HTML page about a dataset and its split, before training. pandas.

Classes, kinds of diagnosis, ages, sexes, sites, photos per lesion, the split and the expected leakage of a random one,
near-duplicates across lesions, and photos as the network sees them. Without TensorFlow; seconds for a run, and for a
config the time of decoding every photo.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from edge_runtime.contract import Label, ModelContract
from edge_runtime.errors import DataInvalid, RunInvalid, UsageError, escaped
from train.artifacts.command import NOTHING_WRITTEN, command_parser, run_command
from train.artifacts.files import read_object
from train.artifacts.labels import units_of
from train.artifacts.manifest import Photo
from train.artifacts.run import find_root, read_contract, source_names, source_of
from train.configs.contract import make_contract
from train.configs.loading import load_config
from train.data.near_duplicates import HASH_BITS
from train.data.sources import find_data, merged_labels, read_sources, split_sources
from train.evaluation.metrics import UNKNOWN
from train.evaluation.results import read_photos_of
from train.reports import charts
from train.reports import html as page
from train.reports.html import Figure, Markup, Section

TEMPLATE = page.TEMPLATES / "data.html.j2"
PAGE_NAME = "data.html"
NOT_TRAINED = {"run_id": "not trained", "commit": "unknown"}
LEAK_KEYS = (
    "random_leak", "random_leak_of_class", "near_duplicate_bits", "near_duplicates_across_lesions", "merged_groups",
    "sizes", "group_sizes",
)  # fmt: skip
LEAK_TITLE = "Expected leakage of a random image-level split (analytical)"
PAIRS_SHOWN = 24
SAMPLES_OF_CLASS = 8
SAMPLE_SEED = 20181
AGE_STEP, OLDEST = 5, 90
MOST_PHOTOS = 6


# ------------------------------------------------------------------ the data


@dataclass(frozen=True)
class DataView:
    """Everything that the page shows."""

    name: str
    """Of the dataset, or of several joined by `+`."""
    origin: str
    """Where this was read: a config or a run."""
    photos: pd.DataFrame
    """The fields of `Photo`, with `group` (lesion and near-duplicates, never divided) and `source` (the dataset)."""
    labels: tuple[Label, ...]
    leaks: Mapping[str, Mapping[str, Any]]
    """Dataset to the fields of its `LeakReport`."""
    contract: ModelContract
    """How a photo becomes what the network sees."""
    root: Path | None
    """Of the photos' paths; None where they are not on this machine."""
    recorded_root: str
    licence: str

    @property
    def codes(self) -> list[str]:
        """Of the labels, in output order."""
        return [label.code for label in self.labels]

    @property
    def sources(self) -> list[str]:
        """The datasets, the one of the most photos first."""
        return list(self.photos["source"].value_counts().index)

    def by_class(self, column: pd.Series[Any]) -> list[tuple[str, list[int]]]:
        """Count the photos of each value of a column by class; the commonest value first, `unknown` last."""
        counts = pd.crosstab(column, self.photos["label"]).reindex(columns=self.codes, fill_value=0)
        rows = [
            (str(value), row.tolist()) for value, row in zip(counts.index, counts.to_numpy(), strict=True)
        ]
        return sorted(rows, key=lambda row: (row[0] == UNKNOWN, -sum(row[1]), row[0]))


def _photos(photos: Sequence[Photo], groups: Sequence[str], sources: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame([asdict(photo) for photo in photos]).assign(group=list(groups), source=list(sources))


def view_of_config(config_path: Path, data: Path | None) -> DataView:
    """Read, check and split the photos of a config as training would; nothing is written.

    Raises:
        ConfigInvalid, DataInvalid, SplitLeaks: As in training.
    """
    config = load_config(config_path)
    found = split_sources(config, read_sources(config, find_data(config, data)))
    labels, photos = merged_labels(config), found.manifest.photos
    ids = [photo.photo_id for photo in photos]
    return DataView(
        name=found.manifest.name,
        origin=config_path.name,
        photos=_photos(photos, [found.group_of[i] for i in ids], [found.source_of[i] for i in ids]),
        labels=labels.labels,
        leaks={name: asdict(leak) for name, leak in found.leaks.items()},
        contract=make_contract(config, labels, found.manifest, NOT_TRAINED),
        root=found.manifest.root,
        recorded_root=str(found.manifest.root),
        licence=labels.licence,
    )


def view_of_run(run: Path, data: Path | None) -> DataView:
    """Read what a run directory, finished or not, holds of its data; of a cross-validation its first fold.

    Raises:
        RunInvalid: Not a run directory, or its files cannot be read.
        DataInvalid: No manifest, or `data` is not a folder.
    """
    folder = run / "fold0" if (run / "fold0").is_dir() else run
    if not (folder / "run.json").is_file():
        raise RunInvalid(
            "not a run directory", where=str(run), found="no run.json",
            expected="a config, a run directory or a cross-validation's folder",
        )  # fmt: skip
    if data is not None and not data.is_dir():
        raise DataInvalid("no such data folder", where=str(data), expected="the folder of the first dataset")
    state, contract = read_object(folder / "run.json"), read_contract(folder)
    photos, groups = zip(*read_photos_of(folder).values(), strict=True)
    name, names = contract.provenance.data_name, source_names(state)
    return DataView(
        name=name,
        origin=f"run {folder.resolve().name}",
        photos=_photos(photos, groups, [source_of(photo.path, names) for photo in photos]),
        labels=contract.labels,
        leaks=_read_leaks(folder, name),
        contract=contract,
        root=find_root(state, data),
        recorded_root=str(state.get("data", {}).get("root", "nowhere")),
        licence=contract.provenance.data_licence,
    )


def _read_leaks(run: Path, name: str) -> Mapping[str, Mapping[str, Any]]:
    """split.json: a leak report of each dataset; in older runs the only one, without its name."""
    path = run / "split.json"
    if not path.is_file():
        return {}
    content = read_object(path)
    leaks = {name: content} if "random_leak" in content else content
    missing = sorted(
        {key for leak in leaks.values() for key in LEAK_KEYS if not isinstance(leak, dict) or key not in leak}
    )
    if missing:
        raise RunInvalid(
            "not a leak report", where=str(path), found=f"no {', no '.join(missing)}", fix="Train again"
        )
    return leaks


# ------------------------------------------------------------------ the page


def make_page(view: DataView, *, photos: bool = True) -> str:
    """Make the page; `photos` shows thumbnails where the photos are on this machine."""
    units = units_of(view.labels, "objects")
    root, macros = view.root if photos else None, page.macros(TEMPLATE, units)
    missing = photos and root is None
    leaks = [_leak_chart(leak) for leak in view.leaks.values()]
    sections = [
        ("classes", "Classes", macros.classes(view, **_classes(view, units), missing=missing)),
        ("diagnosis", "Kind of diagnosis", macros.cross(view, *_cross(view, "dx_type", "kind of diagnosis"))),
        ("age", "Age", macros.ages(view, _ages(view))),
        ("sex", "Sex", macros.cross(view, *_cross(view, "sex", "sex"))),
        ("site", "Site", macros.cross(view, *_cross(view, "site", "site"))),
        ("lesions", f"Photos per {units[:-1]}", macros.lesion_sizes(*_lesion_sizes(view, units))),
        ("split", "Split and leakage", macros.split(view, LEAK_TITLE, leaks)),
        ("duplicates", f"Near-duplicates across {units}", macros.duplicates(**_duplicates(view, root))),
    ]
    if len(view.sources) > 1:
        rows = view.by_class(view.photos["source"])
        sections.insert(1, ("datasets", "Datasets", macros.datasets(view, rows)))
    if root is not None:
        sheet = macros.sample(view, _sample_sheet(view, root), SAMPLES_OF_CLASS)
        sections.append(("sample", "Sample sheet", sheet))
    subtitle = f"{view.origin}: {page.counted(len(view.photos), 'photo')}"
    shown = [Section(anchor, title, [content]) for anchor, title, content in sections]
    return page.page(f"Data of {view.name}", subtitle, view.licence, shown, view.contract.notice)


def _bars(title: str, counts: Mapping[str, int]) -> Markup:
    """Bars with counts and their shares of the total."""
    total = sum(counts.values())
    rows = [(name, value, f"{value:,} ({page.share(value, total)})") for name, value in counts.items()]
    return charts.bar_chart(title, rows)


def _classes(view: DataView, units: str) -> dict[str, Any]:
    photos = view.photos["label"].value_counts().reindex(view.codes, fill_value=0)
    lesions = view.photos.groupby("label")["lesion_id"].nunique().reindex(view.codes, fill_value=0)
    order = sorted(view.codes, key=lambda code: -photos[code])
    return {
        "photos": photos.to_dict(),
        "lesions": {"all": view.photos["lesion_id"].nunique(), "of": lesions.to_dict()},
        "groups": view.photos["group"].nunique(),
        "largest": photos.idxmax(),
        "smallest": photos.idxmin(),
        "malignant": int(photos[[label.code for label in view.labels if label.group == "malignant"]].sum()),
        "figures": [
            Figure(_bars(f"{what} of each class", of[order].to_dict()), title=what)
            for what, of in (("Photos", photos), (units.capitalize(), lesions))
        ],
    }


def _cross(view: DataView, column: str, name: str) -> tuple[str, list[tuple[str, list[int]]], Markup]:
    """Photos by a field of the manifest and class, and a chart of them; no rows where the field is empty."""
    values = view.photos[column].str.replace("_", " ").replace("", UNKNOWN)
    rows = [] if (values == UNKNOWN).all() else view.by_class(values)
    return name, rows, _bars(f"Photos by {name}", {value: sum(counts) for value, counts in rows})


def _ages(view: DataView) -> list[tuple[str, Markup, int, float]]:
    """Histograms of all ages and of each class that has any: name, drawing, number and median."""
    years = pd.to_numeric(view.photos["age"], errors="coerce").replace([np.inf, -np.inf], np.nan)
    known = years.dropna()
    groups = {"all classes": known} | {code: known[view.photos["label"] == code] for code in view.codes}
    return [
        (name, _age_histogram(name, ages, small=i > 0), len(ages), ages.median())
        for i, (name, ages) in enumerate(groups.items())
        if len(ages)
    ]


def _age_histogram(name: str, ages: pd.Series[float], *, small: bool) -> Markup:
    """Photos by steps of five years; a dataset that rounds to five puts 50 into 50 to 54."""
    lefts = np.arange(0, OLDEST, AGE_STEP)
    counts = np.histogram(np.clip(ages, 0, OLDEST - 1), bins=[*lefts, OLDEST])[0]
    if small:
        labels, tick, size = ("", ""), 30, (charts.SMALL_WIDTH, charts.SMALL_HEIGHT)
    else:
        labels, tick, size = ("years", "photos"), 15, (charts.WIDTH, 170)
    x = charts.Axis(0, OLDEST, labels[0], range(0, OLDEST + 1, tick))
    y = charts.nice_axis(0, float(counts.max()), labels[1], ticks=3)
    plot = charts.Plot(f"Age of {name}", x, y, *size)
    titles = [
        f"{left} to {left + AGE_STEP - 1} years: {count:,} photos"
        for left, count in zip(lefts, counts, strict=True)
    ]
    plot.bars(lefts, lefts + AGE_STEP, counts, "first", titles=titles)
    return plot.svg()


def _lesion_sizes(view: DataView, units: str) -> tuple[Markup, list[tuple[str, str, str, int]]]:
    """Draw lesions by number of photos, and tabulate them by class."""
    sizes = view.photos["lesion_id"].value_counts()
    lesions = sizes.clip(upper=MOST_PHOTOS).value_counts()
    names = [page.counted(n, "photo") for n in range(1, int(lesions.index.max()) + 1)]
    if sizes.max() > MOST_PHOTOS:
        names[-1] = f"{MOST_PHOTOS} or more"
    counts = {name: int(lesions.get(n, 0)) for n, name in enumerate(names, start=1)}
    rows = []
    for code in view.codes:
        of_class = view.photos.loc[view.photos["label"] == code, "lesion_id"].value_counts()
        if len(of_class):
            several = page.share(int((of_class > 1).sum()), len(of_class))
            rows.append((code, page.number(of_class.mean(), 2), several, len(of_class)))
    return _bars(f"{units.capitalize()} by number of photos", counts), rows


def _leak_chart(leak: Mapping[str, Any]) -> Markup:
    rows = [(code, share, page.share(share)) for code, share in leak["random_leak_of_class"].items()]
    return charts.bar_chart(LEAK_TITLE, rows, class_="fourth", most=1)


# ------------------------------------------------------------------ photos


def _duplicates(view: DataView, root: Path | None) -> dict[str, Any]:
    by_id, leaks = {photo.photo_id: photo for photo in view.photos.itertuples()}, view.leaks.values()
    bits = max((leak["near_duplicate_bits"] for leak in leaks), default=0)
    pairs = [
        (_bits_apart(by_id[first], by_id[second]), by_id[first], by_id[second])
        for leak in leaks
        for first, second in leak["near_duplicates_across_lesions"]
        if first in by_id and second in by_id
    ]
    # Known pairs first, then the most alike; stable, so that equal pairs stay in order of their ids.
    pairs.sort(key=lambda pair: (pair[0] <= bits, pair[0]))
    return {
        "pairs": [(apart, _card(view, a, root), _card(view, b, root)) for apart, a, b in pairs[:PAIRS_SHOWN]],
        "total": len(pairs),
        "known": sum(apart > bits for apart, _, _ in pairs),
        "unlike": sum(a.label != b.label for _, a, b in pairs),
        "merged": sum(leak["merged_groups"] for leak in leaks),
        "bits": bits,
        "hash_bits": HASH_BITS,
        "with_pictures": root is not None,
    }


def _bits_apart(a: Any, b: Any) -> int:
    """Differing bits of two photos' hashes; more than any where one was not computed."""
    if not (a.phash and b.phash):
        return HASH_BITS + 1
    return (int(a.phash, 16) ^ int(b.phash, 16)).bit_count()


def _sample_sheet(view: DataView, root: Path) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Draw lesions of each class and dataset, one photo each: code, dataset and cards."""
    rng = np.random.default_rng(SAMPLE_SEED)
    firsts = view.photos.drop_duplicates(["label", "source", "lesion_id"]).sort_values("lesion_id")
    rows = []
    for code, source in itertools.product(view.codes, view.sources):
        lesions = firsts[(firsts["label"] == code) & (firsts["source"] == source)]
        if not lesions.empty:
            drawn = lesions.iloc[sorted(rng.permutation(len(lesions))[:SAMPLES_OF_CLASS])]
            rows.append((code, source, [_card(view, photo, root) for photo in drawn.itertuples()]))
    return rows


def _card(view: DataView, photo: Any, root: Path | None) -> dict[str, Any]:
    return {"photo": photo, "picture": root and page.thumbnail(root / photo.path, view.contract)}


# ------------------------------------------------------------------ the command


def parser() -> argparse.ArgumentParser:
    """Build the parser of `dermedge explore`."""
    made = command_parser(
        "explore",
        "Write a self-contained HTML page about a dataset and its split.",
        "example:\n  dermedge explore train/configs/ham10000_lite0.toml --out data.html",
    )
    read = "read a config, whose photos are all decoded, or a run directory"
    made.add_argument("source", type=Path, metavar="CONFIG.toml|RUN", help=read)
    out = f"RUN/{PAGE_NAME}; required for a config"
    page.add_options(made, out=out, data="as the config or the run says")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 2 on an error, 130 when interrupted."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: _write_page(arguments), interrupted=NOTHING_WRITTEN)


def _write_page(arguments: argparse.Namespace) -> int:
    is_run = arguments.source.is_dir()
    if arguments.out is None and not is_run:
        raise UsageError("missing for a config", where="--out", expected="where to write the page")
    out = arguments.out or arguments.source / PAGE_NAME
    if arguments.out is not None:
        page.require_place(out)
    view = (view_of_run if is_run else view_of_config)(arguments.source, arguments.data)
    page.write_page(out, make_page(view, photos=not arguments.no_photos))
    print(escaped(str(out)))
    return 0
