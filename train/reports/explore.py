"""`dermedge explore CONFIG.toml|RUN`: one HTML page about a dataset and its split, before training. pandas.

Classes, kinds of diagnosis, ages, sexes, sites, photos per lesion, the split and the expected leakage of a random one,
near-duplicates across lesions, and photos as the network sees them. Without TensorFlow; seconds for a run, and for a
config the time of decoding every photo.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from edge_runtime.contract import Label, ModelContract
from edge_runtime.errors import DataInvalid, RunInvalid, UsageError
from train.artifacts.command import NOTHING_WRITTEN, command_parser, run_command
from train.artifacts.files import read_object
from train.artifacts.manifest import Photo
from train.artifacts.run import find_root, read_contract, source_names, source_of
from train.configs.contract import make_contract
from train.configs.loading import load_config
from train.data.sources import find_data, merged_labels, read_sources, split_sources
from train.evaluation.metrics import UNKNOWN
from train.evaluation.results import read_photos_of
from train.reports import charts
from train.reports import html as page
from train.reports.html import Markup, Section

PAGE_NAME = "data.html"
NOT_TRAINED = {"run_id": "not trained", "commit": "unknown"}
LEAK_KEYS = (
    "random_leak", "random_leak_of_class", "near_duplicate_bits", "near_duplicates_across_lesions", "merged_groups",
    "sizes", "group_sizes",
)  # fmt: skip
PAIRS_SHOWN = 24
SAMPLES_OF_CLASS = 8
SAMPLE_SEED = 20181
AGE_STEP, OLDEST = 5, 90
MOST_PHOTOS = 6
HASH_BITS = 64


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
    """Dataset to `LeakReport.to_dict`."""
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
        leaks={name: leak.to_dict() for name, leak in found.leaks.items()},
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


# ------------------------------------------------------------------ classes


def make_page(view: DataView, *, photos: bool = True) -> str:
    """Make the page.

    Args:
        view: The data.
        photos: Whether to show thumbnails, where the photos are on this machine.
    """
    root = view.root if photos else None
    remarks = []
    if photos and root is None:
        remarks.append(
            page.note(f"The photos are not on this machine ({view.recorded_root}): no thumbnails.")
        )
    sections = [
        Section("classes", "Classes", [*remarks, _headline(view), _classes(view)]),
        Section("diagnosis", "Kind of diagnosis", [_cross(view, "dx_type", "kind of diagnosis")]),
        Section("age", "Age", [_ages(view)]),
        Section("sex", "Sex", [_cross(view, "sex", "sex")]),
        Section("site", "Site", [_cross(view, "site", "site")]),
        Section("lesions", "Photos per lesion", [_lesion_sizes(view)]),
        Section("split", "Split and leakage", [_split(view)]),
        Section("duplicates", "Near-duplicates across lesions", [_duplicates(view, root)]),
    ]
    if len(view.sources) > 1:
        table = page.heat_table("dataset \\ class", view.codes, view.by_class(view.photos["source"]))
        sections.insert(1, Section("datasets", "Datasets", [table]))
    if root is not None:
        sections.append(Section("sample", "Sample sheet", [_sample_sheet(view, root)]))
    subtitle = f"{view.origin}: {page.counted(len(view.photos), 'photo')}"
    return page.page(f"Data of {view.name}", subtitle, view.licence, sections)


def _headline(view: DataView) -> Markup:
    counts = view.photos["label"].value_counts().reindex(view.codes, fill_value=0)
    largest, smallest = counts.idxmax(), counts.idxmin()
    malignant = int(counts[[label.code for label in view.labels if label.group == "malignant"]].sum())
    total = len(view.photos)
    figures = [
        ("Photos", page.count(total), f"of {page.counted(view.photos['lesion_id'].nunique(), 'lesion')}"),
        ("Groups", page.count(view.photos["group"].nunique()), "lesions with near-duplicates, never divided"),
        ("Classes", page.count(len(view.labels)), f"{largest} {counts[largest]:,} to {smallest} {counts[smallest]:,}"),
        ("Majority class", page.share(counts[largest], total), f"accuracy of always predicting {largest}"),
    ]  # fmt: skip
    if malignant:
        figures.insert(2, ("Malignant", page.share(malignant, total), page.counted(malignant, "photo")))
    return page.tiles(figures)


def _bars(title: str, counts: Mapping[str, int] | Sequence[tuple[str, int]]) -> Markup:
    """Bars with counts and their shares of the total."""
    names, values = zip(*dict(counts).items(), strict=True)
    texts = [f"{value:,} ({page.share(value, sum(values))})" for value in values]
    return charts.bar_chart(title, names, [[value] for value in values], texts)


def _classes(view: DataView) -> Markup:
    photos = view.photos["label"].value_counts().reindex(view.codes, fill_value=0)
    lesions = view.photos.groupby("label")["lesion_id"].nunique().reindex(view.codes, fill_value=0)
    order = sorted(view.codes, key=lambda code: -photos[code])
    figures = [
        page.figure(_bars(f"{what} of each class", [(code, int(of[code])) for code in order]), title=what)
        for what, of in (("Photos", photos), ("Lesions", lesions))
    ]
    rows = [
        (label.code, int(photos[label.code]), int(lesions[label.code]), label.name, label.group)
        for label in view.labels
    ]
    header = ("Class", "Photos", "Lesions", "Name", "Group")
    return page.join([page.grid(*figures, size="wide"), page.table(header, rows, texts=(3, 4))])


# ------------------------------------------------------------------ metadata


def _cross(view: DataView, column: str, name: str) -> Markup:
    """Photos by a field of the manifest, and the classes of each value."""
    values = view.photos[column].str.replace("_", " ").replace("", UNKNOWN)
    if (values == UNKNOWN).all():
        return page.paragraph(f"No {name} metadata.")
    rows = view.by_class(values)
    bars = _bars(f"Photos by {name}", [(value, sum(counts)) for value, counts in rows])
    table = page.heat_table(f"{name} \\ class", view.codes, rows)
    return page.join(
        [page.figure(bars), page.paragraph("Photos, and below them their share of the row."), table]
    )


def _ages(view: DataView) -> Markup:
    years = pd.to_numeric(view.photos["age"], errors="coerce").replace([np.inf, -np.inf], np.nan)
    known = years.dropna()
    if known.empty:
        return page.paragraph("No age metadata.")
    total = page.counted(len(years), "photo")
    caption = f"{len(known):,} of {total} with an age; median {known.median():g} years."
    drawn = _age_histogram("all classes", known, charts.WIDTH, 170)
    small = []
    for code in view.codes:
        ages = known[view.photos["label"] == code]
        if len(ages):
            histogram = _age_histogram(code, ages, charts.SMALL_WIDTH, charts.SMALL_HEIGHT)
            median = f"median {ages.median():g}, {page.counted(len(ages), 'photo')}"
            small.append(page.figure(histogram, median, title=code))
    whole = page.grid(page.figure(drawn, caption, title="All classes"), size="wide")
    return page.join([whole, page.grid(*small, size="small")])


def _age_histogram(name: str, ages: pd.Series[float], width: int, height: int) -> Markup:
    """Photos by steps of five years; a dataset that rounds to five puts 50 into 50 to 54."""
    lefts = np.arange(0, OLDEST, AGE_STEP)
    counts = np.histogram(np.clip(ages, 0, OLDEST - 1), bins=[*lefts, OLDEST])[0]
    small = width == charts.SMALL_WIDTH
    ticks = (0, 30, 60, 90) if small else (0, 15, 30, 45, 60, 75, 90)
    plot = charts.Plot(
        f"Age of {name}",
        charts.Axis(0, OLDEST, "" if small else "years", ticks),
        charts.nice_axis(0, float(counts.max()), "" if small else "photos", ticks=3),
        width,
        height,
    )
    titles = [
        f"{left} to {left + AGE_STEP - 1} years: {count:,} photos"
        for left, count in zip(lefts, counts, strict=True)
    ]
    plot.bars(lefts, lefts + AGE_STEP, counts, "first", titles=titles)
    return plot.svg()


def _lesion_sizes(view: DataView) -> Markup:
    sizes = view.photos["lesion_id"].value_counts()
    lesions = sizes.clip(upper=MOST_PHOTOS).value_counts()
    counts = [
        (page.counted(n, "photo"), int(lesions.get(n, 0))) for n in range(1, int(lesions.index.max()) + 1)
    ]
    if sizes.max() > MOST_PHOTOS:
        counts[-1] = (f"{MOST_PHOTOS} or more", counts[-1][1])
    rows = []
    for code, labels in view.photos.groupby("label")["lesion_id"]:
        of_class = labels.value_counts()
        several = page.share(int((of_class > 1).sum()), len(of_class))
        rows.append((str(code), page.number(of_class.mean(), 2), several, len(of_class)))
    rows.sort(key=lambda row: view.codes.index(row[0]))
    header = ("Class", "Photos per lesion", "Lesions with several photos", "Lesions")
    title = "Lesions by number of photos"
    return page.join([page.figure(_bars(title, counts), title=title), page.table(header, rows)])


# ------------------------------------------------------------------ split


def _split(view: DataView) -> Markup:
    blocks = []
    for source, leak in view.leaks.items():
        rows = []
        for part, counts in leak["sizes"].items():
            of_class = [counts.get(code, 0) for code in view.codes]
            rows.append((part, sum(of_class), leak["group_sizes"][part], *of_class))
        caption = f"Split of {source} ({leak.get('method', 'grouped')})"
        blocks += [
            page.table(("Split", "Photos", "Groups", *view.codes), rows, caption=caption),
            _leakage(leak),
        ]
    return page.join(blocks) if blocks else page.paragraph("The run has no leak report (split.json).")


def _leakage(leak: Mapping[str, Any]) -> Markup:
    title = "Expected leakage of a random image-level split (analytical)"
    of_class = leak["random_leak_of_class"]
    shares, texts = (
        [[share] for share in of_class.values()],
        [page.share(share) for share in of_class.values()],
    )
    bars = charts.bar_chart(title, list(of_class), shares, texts, classes=("fourth",), most=1)
    leaked = leak.get("leaked", 0)
    caption = (
        f"{page.share(leak['random_leak'])} of random test photos would show a lesion that is also in training. "
        + (
            f"Random split (leaky by design): {page.counted(leaked, 'test photo')} leak."
            if leaked
            else "This split: no lesion occurs in two splits."
        )
    )
    return page.figure(bars, caption, title=title)


# ------------------------------------------------------------------ photos


def _duplicates(view: DataView, root: Path | None) -> Markup:
    by_id = {photo.photo_id: photo for photo in view.photos.itertuples()}
    pairs = [
        (by_id[first], by_id[second])
        for leak in view.leaks.values()
        for first, second in leak["near_duplicates_across_lesions"]
        if first in by_id and second in by_id
    ]
    if not pairs:
        return page.paragraph("None found.")
    merged = sum(leak["merged_groups"] for leak in view.leaks.values())
    bits = max(leak["near_duplicate_bits"] for leak in view.leaks.values())
    known = sum(_bits(*pair) > bits for pair in pairs)
    unlike = sum(a.label != b.label for a, b in pairs)
    intro = page.paragraph(
        f"{page.counted(len(pairs), 'pair')} of photos of different lesions stay on one side of the split: "
        f"{len(pairs) - known:,} whose perceptual hashes differ in at most {bits} of {HASH_BITS} bits, "
        f"{known:,} that are further apart but known to show one lesion. They merge lesions into "
        f"{page.counted(merged, 'group')}. In {page.counted(unlike, 'pair')} the two have different classes. "
        "A small distance does not prove a copy: small round lesions in even skin look alike."
    )
    # Known pairs first, then the most alike; stable, so that equal pairs stay in order of their ids.
    pairs.sort(key=lambda pair: (_bits(*pair) <= bits, _bits(*pair)))
    lead = f"The first {PAIRS_SHOWN} of {len(pairs)}: " if len(pairs) > PAIRS_SHOWN else ""
    order = page.paragraph(f"{lead}known ones first, then by distance of their hashes.")
    return page.join([intro, order, _pairs(view, pairs[:PAIRS_SHOWN], root, bits)])


def _pairs(view: DataView, pairs: Sequence[tuple[Any, Any]], root: Path | None, bits: int) -> Markup:
    if root is None:
        rows = [
            (
                f"{a.photo_id}, {b.photo_id}",
                f"{a.label}, {b.label}",
                f"{a.lesion_id}, {b.lesion_id}",
                _bits(a, b),
            )
            for a, b in pairs
        ]
        return page.table(("Photos", "Classes", "Lesions", "Bits apart"), rows, texts=(1, 2))
    cards = []
    for pair in pairs:
        apart = page.paragraph(f"{_bits(*pair)} bits apart" + (", known" if _bits(*pair) > bits else ""))
        cards.append(page.element("div", *(_card(view, photo, root) for photo in pair), apart, class_="pair"))
    return page.photo_row(cards)


def _bits(a: Any, b: Any) -> int:
    """Differing bits of two photos' hashes; more than any where one was not computed."""
    if not (a.phash and b.phash):
        return HASH_BITS + 1
    return (int(a.phash, 16) ^ int(b.phash, 16)).bit_count()


def _sample_sheet(view: DataView, root: Path) -> Markup:
    rng = np.random.default_rng(SAMPLE_SEED)
    blocks: list[Markup] = [
        page.paragraph(
            f"Up to {SAMPLES_OF_CLASS} random lesions of each class, one photo each, cropped and resized as for "
            f"the network, but {page.THUMBNAIL_PX} instead of {view.contract.input.height_px} pixels a "
            f"side. The photos are the dataset's, under its licence: {view.licence}. --no-photos leaves them out."
        )
    ]
    firsts = view.photos.drop_duplicates(["label", "source", "lesion_id"]).sort_values("lesion_id")
    for label in view.labels:
        title = f"{label.code}: {label.name}" if label.name != label.code else label.code
        blocks.append(page.element("h3", title))
        for source in view.sources:
            lesions = firsts[(firsts["label"] == label.code) & (firsts["source"] == source)]
            if lesions.empty:
                continue
            drawn = lesions.iloc[sorted(rng.permutation(len(lesions))[:SAMPLES_OF_CLASS])]
            if len(view.sources) > 1:
                blocks.append(page.paragraph(source, class_="subtitle"))
            blocks.append(
                page.photo_row(_card(view, photo, root, label=False) for photo in drawn.itertuples())
            )
    if unreadable := sum(block.count('class="missing"') for block in blocks):
        blocks.insert(1, page.note(f"{page.counted(unreadable, 'photo')} of these cannot be read any more."))
    return page.join(blocks)


def _card(view: DataView, photo: Any, root: Path, *, label: bool = True) -> Markup:
    facts = ", ".join(filter(None, (photo.sex, photo.age.removesuffix(".0"), photo.site)))
    return page.photo_card(
        page.thumbnail(root / photo.path, view.contract),
        *([page.element("b", photo.label)] if label else []),
        facts or UNKNOWN,
        photo.photo_id,
        description=f"{photo.photo_id}: {photo.label}",
    )


# ------------------------------------------------------------------ the command


def parser() -> argparse.ArgumentParser:
    """Build the parser of `dermedge explore`."""
    made = command_parser(
        "explore",
        "Write a self-contained HTML page about a dataset and its split.",
        "example:\n  dermedge explore train/configs/ham10000_lite0.toml --out data.html",
    )
    made.add_argument(
        "source", type=Path, metavar="CONFIG.toml|RUN",
        help="read a config, whose photos are all decoded, or a run directory",
    )  # fmt: skip
    made.add_argument(
        "--out", type=Path, metavar="FILE",
        help=f"write the page there (default: RUN/{PAGE_NAME}; required for a config)",
    )  # fmt: skip
    made.add_argument(
        "--data", type=Path, metavar="DIR",
        help="folder of the first dataset (default: as the config or the run says)",
    )  # fmt: skip
    made.add_argument(
        "--no-photos", action="store_true",
        help="leave out thumbnails, so that the page can be shared (default: show them)",
    )  # fmt: skip
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
    print(out)
    return 0
