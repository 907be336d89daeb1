"""The kit of the HTML pages: numbers, escaping, charts; and that its test reader notices what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import UsageError
from tests.train.html_reader import Page
from train.evaluation.metrics import Estimate
from train.reports import charts
from train.reports import html as page

BLOCKS = page.macros(page.TEMPLATES / "blocks.html.j2")


def test_numbers_read_well() -> None:
    assert page.number(0.7254) == "0.725"
    assert page.number(None) == "–"
    assert page.number(-0.5, 1) == "−0.5"
    assert [page.signed(v) for v in (0.0123, -0.0123, 0.0001, -0.0001)] == [
        "+0.012",
        "−0.012",
        "0.000",
        "0.000",
    ]
    assert page.share(0.386) == "38.6\N{NO-BREAK SPACE}%"
    assert page.share(1, 8) == "12.5\N{NO-BREAK SPACE}%"
    assert page.share(0, 0) == "–"
    assert [page.counted(n, "photo") for n in (0, 1, 10015)] == ["0 photos", "1 photo", "10,015 photos"]
    assert "0.725" in page.estimate(Estimate(0.7254, 0.6767, 0.7724))
    assert "0.677 to 0.772" in page.estimate(Estimate(0.7254, 0.6767, 0.7724))


def test_everything_that_is_not_markup_is_escaped() -> None:
    evil = '<script>alert("1")</script>'
    made = page.page(
        evil,
        evil,
        evil,
        [
            page.Section(
                "a",
                evil,
                [
                    evil,
                    BLOCKS.tiles([(evil, evil, evil)]),
                    BLOCKS.table([evil], [(evil,), (3,)], evil),
                    BLOCKS.definitions({evil: evil}),
                    BLOCKS.photo_card(None, [evil], evil),
                    BLOCKS.photo_card("data:image/jpeg;base64,AA", [evil], '" onload="x'),
                    charts.bar_chart(evil, [(evil, 1, evil)]),
                    BLOCKS.heat_table(evil, [evil], [(evil, [1])]),
                    BLOCKS.figures([page.Figure(page.Markup(), evil, evil, [(evil, "first")])]),
                ],
            )
        ],
    )
    read = Page(made)
    assert read.problems == []
    assert read.tags["script"] == 0
    assert read.text.count(evil) >= 15


def test_the_page_says_what_it_is_and_loads_nothing() -> None:
    made = page.page("T", "s", "CC BY 4.0", [page.Section("one", "One", ["text"])])
    read = Page(made)
    assert read.problems == []
    assert page.NOTICE in read.text
    assert "CC BY 4.0" in read.text
    assert read.links == ["#one"]
    assert "default-src 'none'" in made
    assert "prefers-color-scheme: dark" in made
    assert 'name="viewport"' in made


@pytest.mark.parametrize(
    "broken",
    [
        "<p>",
        "<p></div>",
        '<img src="https://example.org/x.png">',
        '<img src="photo.jpg">',
        "<script>1</script>",
        '<link href="style.css">',
        '<p onclick="x()"></p>',
        '<a href="#nowhere"></a>',
        '<p id="a"></p><p id="a"></p>',
        "<style>p { background: url(x.png) }</style>",
    ],
)
def test_the_reader_notices(broken: str) -> None:
    assert Page(f"<body>{broken}</body>").problems


def test_axes_end_at_round_numbers() -> None:
    axis = charts.nice_axis(0, 1341)
    assert (axis.low, axis.high) == (0, 1500)
    assert list(axis.ticks) == [0, 500, 1000, 1500]
    assert charts.nice_axis(0, 0).high > 0
    for low, high in ((0.1, 0.9), (-3, 17), (5, 5), (0, 1e-4)):
        axis = charts.nice_axis(low, high)
        assert axis.low <= low <= high <= axis.high
        assert 2 <= len(axis.ticks) <= 7


def test_a_line_is_broken_where_there_is_no_number_and_drops_repeated_points() -> None:
    plot = charts.Plot("t", charts.unit_axis(), charts.unit_axis())
    plot.line([0, 0.25, 0.5, 0.75, 1], [0, 0.5, np.nan, 0.5, 1], "first")
    (path,) = re.findall(r' d="([^"]*)"', plot.shapes[-1])
    assert (path.count("M"), path.count("L")) == (2, 2)
    plot.line(np.linspace(0, 1, 100_000), np.linspace(0, 1, 100_000), "first")
    assert len(plot.shapes[-1]) < 60_000


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    drawn = charts.bar_chart("t", [("a", 100, "100"), ("b", 25, "25"), ("c", 0, "0")])
    widths = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)"', drawn)]
    assert widths[1:] == [pytest.approx(widths[0] / 4, abs=0.2)]
    ends = [float(x) for x in re.findall(r'<text x="([\d.]+)"[^>]*class="quiet"', drawn)]
    assert len(ends) == 3
    assert max(ends) < charts.WIDTH


def test_a_cross_table_shows_counts_and_shares() -> None:
    read = Page(f"<body>{BLOCKS.heat_table('x', ['a', 'b'], [('row', [3, 1]), ('none', [0, 0])])}</body>")
    assert read.problems == []
    assert "75 %" in read.text
    assert "(4)" in read.text


def test_a_place_that_cannot_be_written_is_named_early(tmp_path: Path) -> None:
    page.require_place(tmp_path / "page.html")
    for out in (tmp_path / "absent" / "page.html", tmp_path):
        with pytest.raises(UsageError) as caught:
            page.require_place(out)
        assert str(out) in caught.value.what


def test_intervals_lie_where_their_numbers_say() -> None:
    rows = [("worse", (-2.0, -3.0, -1.0), "−2.0"), ("none", None, ""), ("better", (2.0, 1.0, 3.0), "+2.0")]
    drawn = charts.interval_chart("t", rows, "first = 0")
    places = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', drawn)]
    assert sum(places) / 2 == pytest.approx((18 + charts.WIDTH - 20) / 2, abs=0.2)
    assert re.findall(r'class="line (\w+)"', drawn) == ["worse", "better"]
    assert "first = 0" in drawn


def test_a_pair_is_coloured_by_its_direction() -> None:
    rows = [("a", 0.25, 0.75, ""), ("b", 0.75, 0.25, ""), ("c", 0.5, 0.5, ""), ("d", None, None, "–")]
    drawn = charts.pair_chart("t", rows)
    assert re.findall(r'class="line (\w+)"', drawn) == ["better", "worse", "pale"]
    before, after = (float(x) for x in re.findall(r'<circle cx="([\d.]+)"', drawn)[:2])
    middle = float(re.findall(r'<circle cx="([\d.]+)"', drawn)[4])
    assert after - middle == pytest.approx(middle - before, abs=0.2)


def test_a_curve_has_a_band_and_a_text_at_each_point() -> None:
    axis = charts.Axis(0, 2, "blur", (0, 1, 2))
    drawn = charts.curve_chart(
        "t", axis, [("m", "second broken", [(0.9, 0.8, 1.0), (0.5, 0.4, 0.6), (0.1, 0, 0.2)])]
    )
    assert 'class="band second"' in drawn
    assert 'class="line second broken"' in drawn
    assert "m at 1: 0.500 (0.400 to 0.600)" in drawn
