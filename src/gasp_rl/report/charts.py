"""Small charts as SVG, drawn by hand: no script, no network, each with its numbers in a table behind it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gasp_rl.report.html import Html, details, el, join, table
from gasp_rl.report.numbers import Estimate, Point

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 38, 74, 12, 26
"""Margins; the names of the series stand in the right one, which grows with them."""

LETTER = 6.6
"""Width of one, in the units of the drawing, on average."""

MOST = 130
"""Of the right margin."""

LABEL = 13
"""Least distance between two names, in the units of the drawing."""

DOTS = 40
"""A longer series is drawn without a dot per point."""


@dataclass(frozen=True, slots=True)
class Series:
    """A curve. The first of a chart lies above the others."""

    name: str
    points: Sequence[Point]
    colour: str
    """Classes of the style sheet; a rung has one colour on the whole page."""
    parts: Sequence[Sequence[Point]] = ()
    """What it is the mean of, drawn faintly."""
    reach: Sequence[tuple[float, float, float]] = ()
    """(x, low, high) of intervals, drawn as a band."""

    @property
    def drawn(self) -> list[Point]:
        """All that has to have room."""
        ends = [(x, y) for x, low, high in self.reach for y in (low, high)]
        return [*self.points, *(point for part in self.parts for point in part), *ends]


@dataclass(frozen=True, slots=True)
class Axis:
    low: float
    high: float
    step: float
    """Between two lines of the grid; low and high are multiples of it."""
    percent: bool = False

    def text(self, value: float) -> str:
        return f"{100 * value:.4g}%" if self.percent else f"{value:,.4g}"

    def exact(self, value: float) -> str:
        return f"{value:.1%}" if self.percent else f"{value:,.4g}"


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where in the drawing a value lies."""

    axis: Axis
    last: float
    """On the right end of the abscissa; 0, or 1 if it is logarithmic, is on the left."""
    right: float
    """Margin."""
    log: bool

    def x(self, value: float) -> float:
        share = math.log(value) / math.log(self.last) if self.log else value / self.last
        return LEFT + share * (WIDTH - LEFT - self.right)

    def y(self, value: float) -> float:
        share = (value - self.axis.low) / (self.axis.high - self.axis.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def places(self, points: Iterable[Point]) -> str:
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)


def line_chart(
    title: str,
    meaning: str,
    series: Sequence[Series],
    axis: Axis | None = None,
    across: str = "iteration",
    *,
    log: bool = False,
) -> Html:
    """Curves over iterations, or whatever is counted across, their values in a folded table. Without a point, it says so.

    `log`: the abscissa is logarithmic, from 1.
    """
    shown = [s for s in series if s.points]
    if not shown:
        return el("figure", el("figcaption", el("b", title)), el("p", "No data yet.", class_="empty"), class_="chart")

    axis = axis or around([y for s in shown for _, y in s.drawn])
    last = max(2.0 if log else 1.0, *(x for s in shown for x, _ in s.drawn))
    frame = _Frame(axis, last, min(MOST, max(RIGHT, 10 + LETTER * max(len(s.name) for s in shown))), log)
    return el(
        "figure",
        el("figcaption", el("b", title), " ", el("span", meaning)),
        el(
            "svg",
            *_grid(frame),
            *(_behind(s, frame) for s in reversed(shown)),
            *(_curve(s, frame, across) for s in reversed(shown)),
            *_names(shown, frame),
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="img",
            aria_label=f"{title}: " + "; ".join(_spoken(s, axis) for s in shown),
        ),
        details("Numbers", _numbers(title, shown, axis, across)),
        class_="chart",
    )


def swatch(colour: str) -> Html:
    """A piece of a curve, for a legend."""
    line = el("line", x1=1, x2=27, y1=5, y2=5, class_=f"curve {colour}")
    return el("svg", line, viewBox="0 0 28 10", class_="swatch", aria_hidden="true")


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


def whiskers(
    value: float, low: float, high: float, ends: tuple[float, float], colour: str, parts: Sequence[float] = ()
) -> Html:
    """One estimate with its interval between two ends that all of a table share, and faintly what it is the mean of. A line
    marks 0 where it lies between them.
    """
    width, height = 160, 14

    def across(x: float) -> str:
        return f"{4 + (x - ends[0]) / (ends[1] - ends[0] or 1.0) * (width - 8):.1f}"

    zero = el("line", x1=across(0), x2=across(0), y1=0, y2=height, class_="zero") if ends[0] <= 0 <= ends[1] else None
    faint = (el("circle", cx=across(part), cy=height / 2, r=2.4, class_=f"dot faint {colour}") for part in parts)
    bar = el("line", x1=across(low), x2=across(high), y1=height / 2, y2=height / 2, class_=f"reach {colour}")
    dot = el("circle", cx=across(value), cy=height / 2, r=3.2, class_=f"dot {colour}")
    return el("svg", zero, *faint, bar, dot, viewBox=f"0 0 {width} {height}", class_="interval", aria_hidden="true")


@dataclass(frozen=True, slots=True)
class Slice:
    name: str
    share: float
    colour: str


def stacked(slices: Sequence[Slice]) -> Html:
    """Shares of a whole in a row."""
    left = 0.0
    parts = []
    for one in slices:
        parts.append(
            el(
                "rect",
                el("title", f"{one.name}: {one.share:.1%}"),
                x=f"{left:.2%}",
                width=f"{one.share:.2%}",
                height="100%",
                class_=f"slice {one.colour}",
            )
        )
        left += one.share
    spoken = ", ".join(f"{one.name} {one.share:.0%}" for one in slices)
    return el("svg", *parts, class_="track", role="img", aria_label=spoken)


def strip(counts: Sequence[float], top: float, colour: str) -> Html:
    """Each of a few values as a dot between 0 and a top that all of a table share."""
    width, height = 160, 14
    rule = el("line", x1=4, x2=width - 4, y1=height / 2, y2=height / 2, class_="grid")
    dots = [
        el(
            "circle",
            cx=f"{4 + count / (top or 1.0) * (width - 8):.1f}",
            cy=height / 2,
            r=3.2,
            class_=f"dot one {colour}",
        )
        for count in counts
    ]
    return el("svg", rule, *dots, viewBox=f"0 0 {width} {height}", class_="interval", aria_hidden="true")


def around(values: Sequence[float], *, zero: bool = True, percent: bool = False) -> Axis:
    """Between round numbers below and above everything, and 0 if that is wanted."""
    ends = (0.0, *values) if zero else tuple(values)
    low, high = min(ends), max(ends)
    step = _round_up((high - low) / 4 or 0.25)
    if all(float(v).is_integer() for v in values):
        step = max(1.0, float(round(step)))
    bottom, top = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
    return Axis(bottom, top if top > bottom else bottom + step, step, percent)


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 1.0
    while power < value:
        power *= 10
    while power / 10 >= value:
        power /= 10
    return next(power * part for part in (0.1, 0.2, 0.25, 0.5, 1.0) if power * part >= value * 0.999)


def _grid(frame: _Frame) -> list[Html]:
    axis = frame.axis
    values = [axis.low + i * axis.step for i in range(round((axis.high - axis.low) / axis.step) + 1)]
    lines = [
        join(
            (
                el("line", x1=LEFT, x2=f"{WIDTH - frame.right:.1f}", y1=y, y2=y, class_="grid"),
                el("text", axis.text(v), x=LEFT - 6, y=f"{frame.y(v) + 3.5:.1f}", text_anchor="end", class_="tick"),
            )
        )
        for v in values
        for y in [f"{frame.y(v):.1f}"]
    ]
    marks = [
        el("text", short(x), x=f"{frame.x(x):.1f}", y=HEIGHT - 10, text_anchor="middle", class_="tick")
        for x in (_powers(frame.last) if frame.log else range(0, int(frame.last) + 1, _stride(frame.last)))
    ]
    return [*lines, *marks]


def _stride(last: float) -> int:
    return int(max(1.0, _round_up(last / 4)))


def _powers(last: float) -> list[int]:
    """1, 2, 5, 10, ... as far as they go."""
    return [k * 10**power for power in range(len(f"{last:.0f}")) for k in (1, 2, 5) if k * 10**power <= last]


def short(n: float) -> str:
    """A count in few characters: 950, 12k, 3.4M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if n >= size:
            return f"{n / (10**3 if unit == 'k' else size):.3g}{unit}"
    return f"{n:,.0f}"


def _behind(series: Series, frame: _Frame) -> Html:
    """Band and parts, under all curves."""
    there = [(x, high) for x, _, high in series.reach]
    back = [(x, low) for x, low, _ in reversed(series.reach)]
    band = el("polygon", points=frame.places([*there, *back]), class_=f"band {series.colour}") if there else None
    parts = (el("polyline", points=frame.places(part), class_=f"part {series.colour}") for part in series.parts)
    return join([band, *parts])


def _curve(series: Series, frame: _Frame, across: str) -> Html:
    line = el("polyline", points=frame.places(series.points), class_=f"curve {series.colour}")
    dots = [
        el(
            "circle",
            el("title", f"{series.name}, {across} {x:,.12g}: {frame.axis.exact(y)}"),
            cx=f"{frame.x(x):.1f}",
            cy=f"{frame.y(y):.1f}",
            r=2.4,
            class_=f"dot {series.colour}",
        )
        for x, y in (series.points if len(series.points) <= DOTS else ())
    ]
    return join([line, *dots])


def _names(series: Sequence[Series], frame: _Frame) -> list[Html]:
    """Each name at the end of its curve, moved where it would cover another."""
    ends = sorted((frame.y(s.points[-1][1]), i) for i, s in enumerate(series))
    places: list[float] = []
    for y, _ in ends:
        places.append(max(y, places[-1] + LABEL) if places else y)
    below = HEIGHT - BOTTOM + 4.0 + LABEL
    for i in reversed(range(len(places))):
        below = places[i] = min(places[i], below - LABEL)
    x = f"{WIDTH - frame.right + 7:.1f}"
    return [
        el("text", series[i].name, x=x, y=f"{y + 4:.1f}", class_=f"name {series[i].colour}")
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
