import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.report.charts import HEIGHT, LEFT, TOP, WIDTH, Series, Slice, around, histogram, line_chart, stacked

numbers = st.floats(-1e9, 1e9, allow_nan=False).map(lambda x: round(x, 6))


@given(st.lists(numbers, min_size=1, max_size=20))
def test_an_axis_holds_every_value_and_zero_between_a_handful_of_round_lines(values: list[float]) -> None:
    axis = around(values)

    assert axis.low <= min(0.0, *values) + 1e-6 * axis.step
    assert axis.high >= max(0.0, *values) - 1e-6 * axis.step
    assert 1 <= round((axis.high - axis.low) / axis.step) <= 6


@pytest.mark.parametrize(
    ("values", "low", "high", "step"),
    [
        ([0.0, 3.0], 0, 3, 1),
        ([0.0], 0, 1, 1),
        ([-0.62, -0.55], -0.8, 0, 0.2),
        ([-0.4, 0.13], -0.4, 0.2, 0.2),
        ([7.0, 16.0], 0, 20, 5),
        ([0.001], 0, 0.001, 0.00025),
    ],
)
def test_axes_are_round(values: list[float], low: float, high: float, step: float) -> None:
    axis = around(values)

    assert (axis.low, axis.high, axis.step) == pytest.approx((low, high, step))


@given(st.lists(st.tuples(st.integers(0, 500), numbers), min_size=1, max_size=30, unique_by=lambda p: p[0]))
def test_every_point_lies_inside_the_drawing_and_in_the_table(points: list[tuple[int, float]]) -> None:
    source = line_chart("Title", "what it means", [Series("one", sorted(points), "c1")]).source

    places = re.findall(r"([\d.]+),([\d.]+)", re.findall(r'points="([^"]*)"', source)[0])
    assert len(places) == len(points)
    assert all(0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT for x, y in places)
    assert source.count("<tr>") == len(points) + 1


def test_names_at_the_ends_of_curves_do_not_cover_each_other() -> None:
    series = [Series(f"s{i}", [(0, 0), (5, 1.0)], "c1") for i in range(4)]

    source = line_chart("Title", "", series).source

    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)" class="name', source))
    assert all(b - a >= 12.9 for a, b in pairwise(heights))


def test_a_name_that_has_room_stays_at_its_curve() -> None:
    series = [Series(name, [(0, 0), (5, y)], "c1") for name, y in [("high", 10.0), ("one", 0.0), ("two", 0.0)]]

    source = line_chart("Title", "", series).source

    high = re.findall(r'y="([\d.]+)" class="name c1">high', source)
    assert float(high[0]) == TOP + 4


def test_a_logarithmic_abscissa_begins_at_1_and_has_as_much_room_for_each_doubling() -> None:
    source = line_chart(
        "Title", "", [Series("one", [(1, 0.5), (4, 0.5), (16, 0.5)], "c1")], across="k", log=True
    ).source

    first, second, third = (
        float(x) for x, _ in re.findall(r"([\d.]+),([\d.]+)", re.findall(r'points="([^"]*)"', source)[0])
    )
    assert first == LEFT
    assert third - second == pytest.approx(second - first, abs=0.11)


@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=8))
def test_bands_and_parts_lie_inside_the_drawing_too(values: list[tuple[float, float, float]]) -> None:
    reach = [(float(x), min(low, high), max(low, high)) for x, (low, _, high) in enumerate(values)]
    series = Series("one", [(x, y) for x, (_, y, _) in enumerate(values)], "c1", [[(x, y) for x, y, _ in reach]], reach)

    source = line_chart("Title", "", [series]).source

    places = [place for points in re.findall(r'points="([^"]*)"', source) for place in points.split()]
    assert len(places) == 4 * len(values)
    assert all(0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT for x, y in (place.split(",") for place in places))


def test_slices_lie_side_by_side_and_can_be_heard() -> None:
    source = stacked([Slice("kept", 0.25, "c1"), Slice("lost", 0.75, "c2")]).source

    assert re.findall(r'x="([\d.]+%)" width="([\d.]+%)"', source) == [("0.00%", "25.00%"), ("25.00%", "75.00%")]
    assert 'aria-label="kept 25%, lost 75%"' in source


def test_a_chart_without_data_says_so() -> None:
    assert "No data yet." in line_chart("Title", "", [Series("one", [], "c1")]).source


def test_a_histogram_fills_what_is_accepted_and_can_be_heard() -> None:
    source = histogram([4, 0, 2], range(1, 3), "c1", "lemma").source

    assert re.findall(r'class="bar (\w+)"', source) == ["out", "c1", "c1"]
    assert "lemma: 0 right: 4, 1 right: 0, 2 right: 2" in source
