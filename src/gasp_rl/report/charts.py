"""Small charts as SVG, drawn by hand: no script, no network, each with its numbers in a table behind it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gasp_rl.report.html import Html, details, el, join, table
from gasp_rl.report.numbers import Estimate, Point

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 38, 74, 12, 26
"""Margins; the names of the series stand in the right one."""

LABEL = 13
"""Least distance between two names, in the units of the drawing."""

DOTS = 40
"""A longer series is drawn without a dot per point."""


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    points: Sequence[Point]
    colour: str
    """A class of the style sheet; a rung has one colour on the whole page."""
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    low: float
    high: float
    step: float
    """Between two lines of the grid; low and high are multiples of it."""
    percent: bool = False

    def text(self, value: float) -> str:
        return f"{value:.0%}" if self.percent else f"{value:,.4g}"

    def exact(self, value: float) -> str:
        return f"{value:.1%}" if self.percent else f"{value:,.4g}"


def line_chart(
    title: str, meaning: str, series: Sequence[Series], axis: Axis | None = None, across: str = "iteration"
) -> Html:
    """Curves over iterations, or whatever is counted across, their values in a folded table. Without a point, it says so."""
    shown = [s for s in series if s.points]
    if not shown:
        return el("figure", el("figcaption", el("b", title)), el("p", "No data yet.", class_="empty"), class_="chart")

    axis = axis or _axis([y for s in shown for _, y in s.points])
    last = max(1.0, *(x for s in shown for x, _ in s.points))
    return el(
        "figure",
        el("figcaption", el("b", title), " ", el("span", meaning)),
        el(
            "svg",
            *_grid(axis, last),
            *(_curve(s, axis, last, across) for s in shown),
            *_names(shown, axis),
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="img",
            aria_label=f"{title}: " + "; ".join(_spoken(s, axis) for s in shown),
        ),
        details("Numbers", _numbers(title, shown, axis, across)),
        class_="chart",
    )


def histogram(counts: Sequence[int], accepted: range, colour: str, label: str) -> Html:
    """How often 0, 1, ... of N tries passed; the band that is accepted is filled."""
    width, height, floor = 11, 60, 62
    top = max(1, *counts)
    bars = [
        el(
            "rect",
            x=f"{i * (width + 3)}",
            y=f"{floor - (h := count / top * height):.1f}",
            width=width,
            height=f"{h:.1f}",
            rx=1.5,
            class_=f"bar {colour}" if i in accepted else "bar out",
        )
        for i, count in enumerate(counts)
    ]
    ticks = [
        el("text", str(i), x=i * (width + 3) + width / 2, y=floor + 12, text_anchor="middle", class_="tick")
        for i in range(len(counts))
    ]
    spoken = ", ".join(f"{i} right: {count}" for i, count in enumerate(counts))
    size = f"0 0 {len(counts) * (width + 3)} {floor + 16}"
    return el("svg", *bars, *ticks, viewBox=size, role="img", aria_label=f"{label}: {spoken}", class_="histogram")


def interval(before: Estimate, after: Estimate) -> Html:
    """Two estimates of a share on one line from 0 to 100 %: a bar for each interval, a dot for each value."""
    width, height = 160, 18
    parts = []
    for y, found, colour in ((5, before, "base"), (13, after, "fell")):
        low, high, value = (2 + x * (width - 4) for x in (found.interval.low, found.interval.high, found.value))
        parts.append(el("line", x1=f"{low:.1f}", x2=f"{high:.1f}", y1=y, y2=y, class_=f"reach {colour}"))
        parts.append(el("circle", cx=f"{value:.1f}", cy=y, r=3, class_=f"dot {colour}"))
    rule = el("line", x1=2, x2=width - 2, y1=height / 2, y2=height / 2, class_="grid")
    return el("svg", rule, *parts, viewBox=f"0 0 {width} {height}", class_="interval", aria_hidden="true")


def _axis(values: Sequence[float]) -> Axis:
    """From zero, or below it, to a round number above everything."""
    low, high = min(0.0, *values), max(0.0, *values)
    step = _round_up((high - low) / 4 or 0.25)
    if all(float(v).is_integer() for v in values):
        step = max(1.0, float(round(step)))
    bottom, top = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
    return Axis(bottom, top if top > bottom else bottom + step, step)


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 1.0
    while power < value:
        power *= 10
    while power / 10 >= value:
        power /= 10
    return next(power * part for part in (0.1, 0.2, 0.25, 0.5, 1.0) if power * part >= value * 0.999)


def _x(value: float, last: float) -> float:
    return LEFT + value / last * (WIDTH - LEFT - RIGHT)


def _y(value: float, axis: Axis) -> float:
    return HEIGHT - BOTTOM - (value - axis.low) / (axis.high - axis.low) * (HEIGHT - TOP - BOTTOM)


def _grid(axis: Axis, last: float) -> list[Html]:
    values = [axis.low + i * axis.step for i in range(round((axis.high - axis.low) / axis.step) + 1)]
    lines = [
        join(
            (
                el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{_y(v, axis):.1f}", y2=f"{_y(v, axis):.1f}", class_="grid"),
                el("text", axis.text(v), x=LEFT - 6, y=f"{_y(v, axis) + 3.5:.1f}", text_anchor="end", class_="tick"),
            )
        )
        for v in values
    ]
    step = int(max(1.0, _round_up(last / 4)))
    marks = [
        el("text", short(x), x=f"{_x(x, last):.1f}", y=HEIGHT - 10, text_anchor="middle", class_="tick")
        for x in range(0, int(last) + 1, step)
    ]
    return [*lines, *marks]


def short(n: float) -> str:
    """A count in few characters: 950, 12k, 3.4M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if n >= size:
            return f"{n / (10**3 if unit == 'k' else size):.3g}{unit}"
    return f"{n:,.0f}"


def _curve(series: Series, axis: Axis, last: float, across: str) -> Html:
    places = [(_x(x, last), _y(y, axis), x, y) for x, y in series.points]
    line = el(
        "polyline",
        points=" ".join(f"{px:.1f},{py:.1f}" for px, py, _, _ in places),
        class_=f"curve {series.colour}{' dashed' if series.dashed else ''}",
    )
    dots = [
        el(
            "circle",
            el("title", f"{series.name}, {across} {x:,.12g}: {axis.exact(y)}"),
            cx=f"{px:.1f}",
            cy=f"{py:.1f}",
            r=2.4,
            class_=f"dot {series.colour}",
        )
        for px, py, x, y in (places if len(places) <= DOTS else ())
    ]
    return join([line, *dots])


def _names(series: Sequence[Series], axis: Axis) -> list[Html]:
    """Each name at the end of its curve, moved down where it would cover another."""
    ends = sorted((_y(s.points[-1][1], axis), i) for i, s in enumerate(series))
    places: list[float] = []
    for y, _ in ends:
        places.append(max(y, places[-1] + LABEL) if places else y)
    overflow = max(0.0, places[-1] - (HEIGHT - BOTTOM + 4))
    return [
        el("text", series[i].name, x=WIDTH - RIGHT + 7, y=f"{y - overflow + 4:.1f}", class_=f"name {series[i].colour}")
        for y, (_, i) in zip(places, ends, strict=True)
    ]


def _spoken(series: Series, axis: Axis) -> str:
    (_, first), (_, last) = series.points[0], series.points[-1]
    return f"{series.name} from {axis.exact(first)} to {axis.exact(last)}"


def _numbers(title: str, series: Sequence[Series], axis: Axis, across: str) -> Html:
    steps = sorted({x for s in series for x, _ in s.points})
    columns = [dict(s.points) for s in series]
    rows = [[f"{x:,.12g}", *(axis.exact(c[x]) if x in c else "" for c in columns)] for x in steps]
    return table([across, *(s.name for s in series)], rows, caption=title)
