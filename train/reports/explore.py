"""`python -m train.reports.explore CONFIG.toml|RUN`: one HTML page of the data, before anybody trains on it. numpy.

Classes, kinds of diagnosis, ages, sexes, sites, photos per lesion, the split and what a random one would leak,
near-duplicates across lesions, and photos as the network sees them. Without TensorFlow; of a run in seconds, of a
config in as long as it takes to decode every photo.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edge_runtime.errors import UsageError
from train.artifacts.command import NOTHING_WRITTEN, run_command
from train.artifacts.manifest import Photo
from train.evaluation.metrics import UNKNOWN
from train.reports import charts
from train.reports import html as page
from train.reports.data_view import DataView, view_of_config, view_of_run
from train.reports.html import Markup, Section

PAGE_NAME = "data.html"
PAIRS_SHOWN = 24
SAMPLES_OF_CLASS = 8
SAMPLE_SEED = 20181
AGE_STEP, OLDEST = 5, 90
MOST_PHOTOS_TOLD = 6


def make_page(view: DataView, *, photos: bool = True) -> str:
    """The page.

    Args:
        view: The data.
        photos: Whether to show thumbnails, where the photos are on this machine.
    """
    root = view.root if photos else None
    remarks = []
    if photos and root is None:
        remarks.append(page.note(f"The photos are not on this machine ({view.told_root}): no thumbnails."))
    sections = [
        Section("classes", "Classes", [*remarks, _headline(view), _classes(view)]),
        Section("diagnosis", "Kind of diagnosis", [_cross(view, "dx_type", "kind of diagnosis")]),
        Section("age", "Age", [_ages(view)]),
        Section("sex", "Sex", [_cross(view, "sex", "sex")]),
        Section("site", "Site", [_cross(view, "site", "site")]),
        Section("lesions", "Photos per lesion", [_lesion_sizes(view)]),
        Section("split", "Split and leaks", [_split(view)]),
        Section("duplicates", "Near-duplicates across lesions", [_duplicates(view, root)]),
    ]
    if len(view.sources) > 1:
        sections.insert(1, Section("data-sets", "Data sets", [_data_sets(view)]))
    if root is not None:
        sections.append(Section("sample", "Sample sheet", [_sample_sheet(view, root)]))
    subtitle = f"{view.origin}: {page.counted(len(view.photos), 'photo')}"
    return page.page(f"Data of {view.name}", subtitle, view.licence, sections)


# ------------------------------------------------------------------ classes


def _headline(view: DataView) -> Markup:
    lesions = len({photo.lesion_id for photo in view.photos})
    counts = view.class_counts(view.photos)
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    malignant = sum(counts[label.code] for label in view.labels if label.group == "malignant")
    total = len(view.photos)
    figures = [
        ("Photos", page.count(total), f"of {page.counted(lesions, 'lesion')}"),
        ("Groups", page.count(len(set(view.group_of.values()))), "lesions with near-duplicates, never divided"),
        ("Classes", page.count(len(view.labels)), f"{largest} {counts[largest]:,} to {smallest} {counts[smallest]:,}"),
        ("Commonest class", page.share(counts[largest], total), f"accuracy of always answering {largest}"),
    ]  # fmt: skip
    if malignant:
        figures.insert(2, ("Malignant", page.share(malignant, total), page.counted(malignant, "photo")))
    return page.tiles(figures)


def _classes(view: DataView) -> Markup:
    counts = view.class_counts(view.photos)
    lesions = {
        code: len({photo.lesion_id for photo in view.photos if photo.label == code}) for code in view.codes
    }
    order = sorted(view.codes, key=lambda code: -counts[code])
    bars = [
        charts.bar_chart(
            f"{what} of each class",
            order,
            [[of[code]] for code in order],
            [_part(of[code], sum(of.values())) for code in order],
        )
        for what, of in (("Photos", counts), ("Lesions", lesions))
    ]
    rows = [
        (label.code, counts[label.code], lesions[label.code], label.name, label.group)
        for label in view.labels
    ]
    return page.join(
        [
            page.grid(
                page.figure(bars[0], title="Photos"), page.figure(bars[1], title="Lesions"), size="wide"
            ),
            page.table(("Class", "Photos", "Lesions", "Name", "Group"), rows, texts=(3, 4)),
        ]
    )


def _data_sets(view: DataView) -> Markup:
    rows = [
        (source, [counts[code] for code in view.codes])
        for source in view.sources
        if (counts := view.class_counts(p for p in view.photos if view.source_of[p.photo_id] == source))
    ]
    return page.heat_table("data set \\ class", view.codes, rows)


# ------------------------------------------------------------------ what is known of each lesion


def _cross(view: DataView, field: str, name: str) -> Markup:
    """Photos by a field of the manifest, and the classes of each value."""
    counts = Counter(getattr(photo, field) or UNKNOWN for photo in view.photos)
    if set(counts) == {UNKNOWN}:
        return page.paragraph(f"The data does not say the {name} of any photo.")
    values = sorted(counts, key=lambda value: (value == UNKNOWN, -counts[value], value))
    shown = [value.replace("_", " ") for value in values]
    bars = charts.bar_chart(
        f"Photos by {name}",
        shown,
        [[counts[value]] for value in values],
        [_part(counts[value], len(view.photos)) for value in values],
    )
    rows = []
    for value, text in zip(values, shown, strict=True):
        of_class = view.class_counts(p for p in view.photos if (getattr(p, field) or UNKNOWN) == value)
        rows.append((text, [of_class[code] for code in view.codes]))
    table = page.heat_table(f"{name} \\ class", view.codes, rows)
    told = page.paragraph("Photos, and below them their share of the row.")
    return page.join([page.figure(bars), told, table])


def _ages(view: DataView) -> Markup:
    ages = {photo.photo_id: age for photo in view.photos if (age := _years(photo)) is not None}
    if not ages:
        return page.paragraph("The data does not say the age of anybody.")
    everybody = list(ages.values())
    drawn = _age_histogram("all classes", everybody, charts.WIDTH, 170)
    known = (
        f"{len(ages):,} of {page.counted(len(view.photos), 'photo')} with an age; "
        f"median {np.median(everybody):g} years."
    )
    blocks = [page.grid(page.figure(drawn, known, title="All classes"), size="wide")]
    small = []
    for code in view.codes:
        of_class = [ages[p.photo_id] for p in view.photos if p.label == code and p.photo_id in ages]
        if of_class:
            drawn = _age_histogram(code, of_class, charts.SMALL_WIDTH, charts.SMALL_HEIGHT)
            told = f"median {np.median(of_class):g}, {page.counted(len(of_class), 'photo')}"
            small.append(page.figure(drawn, told, title=code))
    return page.join([*blocks, page.grid(*small, size="small")])


def _years(photo: Photo) -> float | None:
    try:
        years = float(photo.age)
    except ValueError:
        return None
    return years if np.isfinite(years) else None


def _age_histogram(name: str, ages: Sequence[float], width: int, height: int) -> Markup:
    """Photos by steps of five years; a data set that rounds to five puts 50 into 50 to 54."""
    lefts = np.arange(0, OLDEST, AGE_STEP)
    counts = np.histogram(np.clip(ages, 0, OLDEST - 1), bins=[*lefts, OLDEST])[0]
    small = width == charts.SMALL_WIDTH
    plot = charts.Plot(
        f"Age of {name}",
        charts.Axis(
            0, OLDEST, "" if small else "years", (0, 30, 60, 90) if small else (0, 15, 30, 45, 60, 75, 90)
        ),
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
    sizes = Counter(photo.lesion_id for photo in view.photos)
    lesions_of = Counter(min(size, MOST_PHOTOS_TOLD) for size in sizes.values())
    steps = range(1, max(lesions_of) + 1)
    largest = max(sizes.values())
    names = [
        f"{n} or more" if n == MOST_PHOTOS_TOLD and largest > n else page.counted(n, "photo") for n in steps
    ]
    bars = charts.bar_chart(
        "Lesions by number of photos",
        names,
        [[lesions_of[n]] for n in steps],
        [_part(lesions_of[n], len(sizes)) for n in steps],
    )
    rows = []
    for code in view.codes:
        of_class = Counter(photo.lesion_id for photo in view.photos if photo.label == code)
        if of_class:
            several = sum(size > 1 for size in of_class.values())
            rows.append(
                (
                    code,
                    page.number(sum(of_class.values()) / len(of_class), 2),
                    page.share(several, len(of_class)),
                    len(of_class),
                )
            )
    header = ("Class", "Photos per lesion", "Lesions of several photos", "Lesions")
    return page.join([page.figure(bars, title="Lesions with so many photos"), page.table(header, rows)])


# ------------------------------------------------------------------ split


def _split(view: DataView) -> Markup:
    blocks = []
    for source, leak in view.leaks.items():
        rows = []
        for part, counts in leak["sizes"].items():
            of_class = [counts.get(code, 0) for code in view.codes]
            rows.append((part, sum(of_class), leak["group_sizes"][part], *of_class))
        header = ("Part", "Photos", "Groups", *view.codes)
        blocks.append(
            page.table(header, rows, caption=f"Split of {source} ({leak.get('method', 'grouped')})")
        )
        of_class = leak["random_leak_of_class"]
        bars = charts.bar_chart(
            "Share of test photos whose lesion a random split would also train on",
            list(of_class),
            [[share] for share in of_class.values()],
            [page.share(share) for share in of_class.values()],
            classes=("fourth",),
            most=1,
        )
        told = (
            f"Were the test photos drawn at random, {page.share(leak['random_leak'])} of them would show a lesion that "
            "is also in training: the model would be asked what it has seen. Computed, not drawn. "
            + _leaked(leak.get("leaked", 0))
        )
        blocks.append(page.figure(bars, told, title="What a random split would leak"))
    if not blocks:
        return page.paragraph("The run keeps no leak report (split.json).")
    return page.join(blocks)


def _leaked(photos: int) -> str:
    if photos:
        return f"This split leaks on purpose: {page.counted(photos, 'test photo')}."
    return "This split leaks none."


# ------------------------------------------------------------------ photos


def _duplicates(view: DataView, root: Path | None) -> Markup:
    by_id = {photo.photo_id: photo for photo in view.photos}
    pairs = [
        (by_id[first], by_id[second])
        for leak in view.leaks.values()
        for first, second in leak["near_duplicates_across_lesions"]
        if first in by_id and second in by_id
    ]
    if not pairs:
        return page.paragraph("None were found.")
    merged = sum(leak["merged_groups"] for leak in view.leaks.values())
    bits = max(leak["near_duplicate_bits"] for leak in view.leaks.values())
    known = [pair for pair in pairs if _bits(*pair) > bits]
    unlike = sum(a.label != b.label for a, b in pairs)
    told = (
        f"{page.counted(len(pairs), 'pair')} of photos of different lesions stay on one side of the split: "
        f"{len(pairs) - len(known):,} whose perceptual hashes differ in at most {bits} of 64 bits, "
        f"{len(known):,} that are further apart but known to show one lesion. They merge lesions into "
        f"{page.counted(merged, 'group')}. In {page.counted(unlike, 'pair')} the two have different classes. "
        "A small distance does not prove a copy: small round lesions in even skin look alike."
    )
    # Known pairs first, then the most alike; stable, so that equal pairs stay in order of their ids.
    pairs.sort(key=lambda pair: (pair not in known, _bits(*pair)))
    chosen = pairs[:PAIRS_SHOWN]
    lead = f"The first {len(chosen)} of {len(pairs)}: " if len(chosen) < len(pairs) else ""
    order = page.paragraph(f"{lead}known ones first, then by distance of their hashes.")
    if root is None:
        rows = [
            (
                f"{a.photo_id}, {b.photo_id}",
                f"{a.label}, {b.label}",
                _bits(a, b),
                f"{a.lesion_id}, {b.lesion_id}",
            )
            for a, b in chosen
        ]
        header = ("Photos", "Classes", "Bits apart", "Lesions")
        return page.join([page.paragraph(told), order, page.table(header, rows, texts=(1, 3))])
    cards = (
        page.element(
            "div",
            *(_card(view, photo, root) for photo in pair),
            page.paragraph(f"{_bits(*pair)} bits apart" + (", known" if pair in known else "")),
            class_="pair",
        )
        for pair in chosen
    )
    return page.join([page.paragraph(told), order, page.photo_row(cards)])


def _bits(a: Photo, b: Photo) -> int:
    """Differing bits of the two hashes; more than any where one was not computed."""
    if not (a.phash and b.phash):
        return 65
    return (int(a.phash, 16) ^ int(b.phash, 16)).bit_count()


def _sample_sheet(view: DataView, root: Path) -> Markup:
    rng = np.random.default_rng(SAMPLE_SEED)
    blocks: list[Markup] = [
        page.paragraph(
            f"Up to {SAMPLES_OF_CLASS} lesions of each class drawn at random, one photo each, cropped and resized as "
            f"the network sees them, but {page.THUMBNAIL_PX} instead of {view.contract.input.height_px} pixels a "
            f"side. The photos are the data set's, under its licence: {view.licence}. --no-photos leaves them out."
        )
    ]
    lost = 0
    for label in view.labels:
        title = f"{label.code}: {label.name}" if label.name != label.code else label.code
        blocks.append(page.element("h3", title))
        for source in view.sources:
            lesions = _lesions(view, label.code, source)
            if not lesions:
                continue
            drawn = sorted(rng.permutation(len(lesions))[:SAMPLES_OF_CLASS])
            cards = [_card(view, lesions[i], root, label=False) for i in drawn]
            lost += sum("missing" in card for card in cards)
            if len(view.sources) > 1:
                blocks.append(page.paragraph(source, class_="subtitle"))
            blocks.append(page.photo_row(cards))
    if lost:
        blocks.insert(1, page.note(f"{page.counted(lost, 'photo')} of these cannot be read any more."))
    return page.join(blocks)


def _lesions(view: DataView, code: str, source: str) -> list[Photo]:
    """The first photo of each lesion of a class and data set, by lesion."""
    first_of: dict[str, Photo] = {}
    for photo in view.photos:
        if photo.label == code and view.source_of[photo.photo_id] == source:
            first_of.setdefault(photo.lesion_id, photo)
    return [first_of[lesion] for lesion in sorted(first_of)]


def _card(view: DataView, photo: Photo, root: Path, *, label: bool = True) -> Markup:
    facts = ", ".join(filter(None, (photo.sex, photo.age.removesuffix(".0"), photo.site)))
    lines = [page.element("b", photo.label)] if label else []
    return page.photo_card(
        page.thumbnail(root / photo.path, view.contract),
        *lines,
        facts or UNKNOWN,
        photo.photo_id,
        description=f"{photo.photo_id}: {photo.label}",
    )


def _part(value: int, total: int) -> str:
    return f"{value:,} ({page.share(value, total)})"


# ------------------------------------------------------------------ the command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.reports.explore",
        description="Write the HTML page of an experiment's data. It loads nothing from elsewhere.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "source", type=Path, metavar="CONFIG.toml|RUN",
        help="an experiment, whose photos are then all decoded; or a run directory, which knows them",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"the page (default: {PAGE_NAME} in the run; needed for a config)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="the first data set's own folder")
    parser.add_argument("--no-photos", action="store_true", help="no thumbnails: the page can then be shared")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, 2 on an error, 130 when interrupted."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _write_page(arguments), interrupted=NOTHING_WRITTEN)


def _write_page(arguments: argparse.Namespace) -> int:
    is_run = arguments.source.is_dir()
    out = arguments.out or arguments.source / PAGE_NAME
    view: Callable[[Path, Path | None], DataView] = view_of_run if is_run else view_of_config
    if arguments.out is None and not is_run:
        raise UsageError("--out is missing", expected="where to write the page of a config's data")
    if arguments.out is not None:
        page.require_place(out)
    page.write_page(out, make_page(view(arguments.source, arguments.data), photos=not arguments.no_photos))
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
