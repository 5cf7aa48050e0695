"""The report of a comparison: one page that needs nothing else, and its tables in Markdown."""

from collections.abc import Callable, Sequence
from pathlib import Path

from gasp_rl.report.charts import Axis, Series, Slice, around, line_chart, stacked, strip, swatch, whiskers
from gasp_rl.report.comparison import Advantage, Arm, Curve, Findings, Funnel, findings
from gasp_rl.report.comparison_words import (
    Table,
    advantages_table,
    columns_table,
    comparison_markdown,
    conditions,
    costs_table,
    facts,
    goalposts_table,
    lost,
    mean,
    more_table,
    named,
    remarks,
    results_table,
    sentences,
    signed,
)
from gasp_rl.report.html import Child, Html, details, el, join, table
from gasp_rl.report.ladders import WHY
from gasp_rl.report.numbers import Point
from gasp_rl.report.page import charts, document, funnel_row, navigation, section, theme_button, tile
from gasp_rl.report.text import one_line
from gasp_rl.report.words import plural
from gasp_rl.rollout import Rejection
from gasp_rl.runs.arms import read_comparison
from gasp_rl.runs.directory import encode_config
from gasp_rl.runs.whole import write_whole

PAGE = "comparison.html"
TABLES = "comparison.md"

COLOURS = ("c1", "c2", "c3", "c4", "c5")
DASHES = ("", "d1", "d2", "d3")
"""An arm has a colour and a way to be dashed: nobody has to tell arms apart by their colours alone."""

UNTRAINED = "base d2"

FATES = {
    Rejection.TOO_EASY: "c1",
    Rejection.TOO_HARD: "c2",
    Rejection.DUPLICATE: "base",
    Rejection.INVALID: "c5",
    Rejection.MALFORMED: "c4",
}
"""Colours of the commonest reasons; the others share one."""

TILES = 4
"""Arms that have one."""


def write_comparison(folder: Path, found: Findings | None = None) -> Path:
    """Write the report of the finished arms of a folder beside them, `comparison.html`, and its tables, `comparison.md`.

    `found`: what the arms say, where that is known already. Returns where the page is.
    """
    found = found or findings(read_comparison(folder))
    write_whole(folder / TABLES, comparison_markdown(found).encode())
    path = folder / PAGE
    write_whole(path, comparison_page(found, folder.resolve().name).encode())
    return path


def comparison_page(found: Findings, name: str) -> str:
    """The whole document."""
    parts: list[tuple[str, str, list[Child]]] = [
        ("results", "Results", _results(found)),
        ("goalposts", "Goalposts", _goalposts(found)),
        ("learning", "Learning", _learning(found)),
        ("proposals", "Proposals", _proposals(found)),
        ("cost", "Cost", [_table(costs_table(found), found)]),
        ("terms", "Terms", _terms(found)),
    ]
    there = [(anchor, title, children) for anchor, title, children in parts if children]
    first, *others = sentences(found)
    header = el(
        "header",
        el(
            "div",
            el("p", el("b", "gasp"), f" {one_line(name, 80)}", _seeds(found), class_="run"),
            theme_button(),
            class_="bar",
        ),
        el("h1", first),
        *(el("p", sentence, class_="lead") for sentence in (*others, *conditions(found))),
        navigation([(anchor, title) for anchor, title, _ in there]),
    )
    main = el("main", *(section(anchor, title, "", *children) for anchor, title, children in there))
    versions = ", ".join(dict.fromkeys(result.package for result in found.results))
    footer = el(
        "footer",
        f"Written by gasp report from what {plural(len(found.results), 'run')} of gasp-rl {one_line(versions, 60)} left.",
    )
    return document(f"{one_line(name, 80)} · gasp compare", [header, main, footer])


def _seeds(found: Findings) -> Html:
    said = f"{plural(len(found.arms), 'arm')}, {plural(len(found.results), 'finished run')}"
    return el("span", said, class_="state")


def _colour(found: Findings, arm: Arm) -> str:
    if not arm.trained:
        return UNTRAINED
    place = [one.name for one in found.arms].index(arm.name)
    return f"{COLOURS[place % len(COLOURS)]} {DASHES[place % len(DASHES)]}".strip()


def _legend(found: Findings) -> Html:
    return el("ul", *(el("li", swatch(_colour(found, arm)), named(arm)) for arm in found.arms), class_="legend")


def _table(one: Table, found: Findings, drawn: str = "", drawings: Sequence[Html] = ()) -> Html:
    """With the arms' colours, and perhaps a column of drawings behind the others."""
    colours = {named(arm): swatch(_colour(found, arm)) for arm in found.arms}
    rows: list[list[Child]] = [
        [el("span", colours.get(row[0]), row[0], class_="arm") if row[0] in colours else row[0], *row[1:]]
        for row in one.rows
    ]
    if drawings:
        rows = [[*row, drawing] for row, drawing in zip(rows, drawings, strict=True)]
    return el(
        "div",
        table([*one.head, drawn] if drawings else one.head, rows, label=one.title),
        *(el("p", note, class_="quiet") for note in one.notes),
        class_="arms",
    )


def _results(found: Findings) -> list[Child]:
    parts: list[Child] = [_tiles(found), _remarks(found)]
    results, advantages = results_table(found), advantages_table(found)
    if results:
        parts += [el("h3", "On the test split"), _headlines(results, found)]
    if advantages:
        parts += [el("h3", advantages.title), _advantages(advantages, found)]
    folded = [one for one in (columns_table(found), more_table(found)) if one]
    return [*parts, *(details(one.title, _table(one, found)) for one in folded)]


def _tiles(found: Findings) -> Html:
    tiles = [
        tile(
            f"{named(arm)}: goalposts",
            mean(arm.goalposts.solid),
            f"of {arm.goalposts.count}, twice or more; {plural(len(arm.results), 'seed')}",
            COLOURS[place],
        )
        for place, arm in enumerate(found.arms[:TILES])
        if arm.goalposts
    ]
    cell = found.reference.cell(found.headline)
    if cell.estimate:
        low, high = cell.estimate.interval.low, cell.estimate.interval.high
        said = f"[{100 * low:.1f}, {100 * high:.1f}]"
        tiles.append(tile(f"{named(found.reference)}: test pass@{cell.metric.k}", f"{cell.estimate.value:.1%}", said))
    return el("div", *tiles, class_="tiles")


def _remarks(found: Findings) -> Html | None:
    said = remarks(found)
    return el("ul", *(el("li", remark) for remark in said), class_="remarks") if said else None


def _headlines(results: Table, found: Findings) -> Html:
    cells = [arm.cell(found.headline) for arm in found.arms]
    known = [one.estimate.interval for one in cells if one.estimate]
    reached = [
        *(end for one in known for end in (one.low, one.high)),
        *(value for one in cells for value in one.by_seed),
    ]
    ends = (min(reached, default=0.0), max(reached, default=1.0))
    drawings = [
        whiskers(one.value, one.interval.low, one.interval.high, ends, _colour(found, arm), cell.by_seed)
        if (one := cell.estimate)
        else join([])
        for cell, arm in zip(cells, found.arms, strict=True)
    ]
    return _table(results, found, f"{100 * ends[0]:.0f} to {100 * ends[1]:.0f} %", drawings)


def _advantages(advantages: Table, found: Findings) -> Html:
    intervals = [one.estimate.interval for one in found.advantages]
    ends = (min(0.0, *(one.low for one in intervals)), max(0.0, *(one.high for one in intervals)))
    drawings = [
        whiskers(
            one.estimate.value, one.estimate.interval.low, one.estimate.interval.high, ends, _colour(found, one.arm)
        )
        for one in found.advantages
    ]
    return _table(advantages, found, f"{signed(100 * ends[0])} to {signed(100 * ends[1])}", drawings)


def _goalposts(found: Findings) -> list[Child]:
    goalposts = goalposts_table(found)
    if goalposts is None:
        return []
    asked = [(arm, arm.goalposts) for arm in found.arms if arm.goalposts]
    top = max(max(one.solid.by_seed) for _, one in asked)
    drawings = [strip(one.solid.by_seed, top, _colour(found, arm)) for arm, one in asked]
    return [
        _table(goalposts, found, f"each seed, 0 to {top}", drawings),
        _legend(found),
        charts(
            _over_compute("Goalposts, twice or more", "so far, {}; faint: each seed", found, lambda arm: arm.fallen),
            _over_compute(
                "Goalposts, once or more", "so far, {}; faint: each seed", found, lambda arm: arm.fallen_once
            ),
            size="large",
        ),
    ]


def _learning(found: Findings) -> list[Child]:
    ks = [k for k, _ in found.reference.validation]
    drawn = [
        _over_compute(f"Validation pass@{k}", "{}; faint: each seed", found, _validation(place), percent=True)
        for place, k in enumerate(ks)
    ]
    if found.problems:
        of = f"of {plural(found.problems, 'test problem')}, over k"
        series = [Series(named(arm), arm.test.mean, _colour(found, arm), arm.test.seeds) for arm in found.arms]
        drawn.append(line_chart("Test pass@k", f"{of}; faint: each seed", series, _fitted(series), "k", log=True))
    if found.advantages:
        series = [_over_k(found, one) for one in found.advantages]
        of = f"{named(found.reference)} less each other, over k; bands: 95 % intervals"
        drawn.append(line_chart("Difference in test pass@k", of, series, _fitted(series, zero=True), "k", log=True))
    return [_legend(found), charts(*drawn, size="large")]


def _over_k(found: Findings, one: Advantage) -> Series:
    points = [(float(k), at.value) for k, at in one.over_k]
    reach = [(float(k), at.interval.low, at.interval.high) for k, at in one.over_k]
    return Series(named(one.arm), points, _colour(found, one.arm), (), reach)


def _fitted(series: Sequence[Series], *, zero: bool = False) -> Axis | None:
    """In percent, around all that is drawn."""
    values = [y for one in series for _, y in one.drawn]
    return around(values, zero=zero, percent=True) if values else None


def _validation(place: int) -> Callable[[Arm], Curve]:
    return lambda arm: arm.validation[place][1]


def _over_compute(
    title: str, meaning: str, found: Findings, of: Callable[[Arm], Curve], *, percent: bool = False
) -> Html:
    across = f"training {found.terms.match}"
    series = [_series(found, arm, of(arm)) for arm in found.arms]
    return line_chart(title, meaning.format(f"over {across}"), series, _fitted(series) if percent else None, across)


def _series(found: Findings, arm: Arm, curve: Curve) -> Series:
    """What cost nothing is as good at every price: the untrained model’s is drawn across."""
    if arm.trained or not curve.mean:
        return Series(named(arm), curve.mean, _colour(found, arm), curve.seeds)
    level = curve.mean[-1][1]
    across: tuple[Point, ...] = ((0.0, level), (found.terms.budget, level))
    return Series(named(arm), across, _colour(found, arm))


def _proposals(found: Findings) -> list[Child]:
    """What became of what each arm's teacher wrote."""
    every = [(arm, funnel) for arm in found.arms for funnel in arm.funnels if funnel.proposals]
    if not every:
        return []
    names = {one.name: one.colour for _, funnel in every for one in _slices(funnel)}
    legend = (el("li", el("span", swatch(colour), class_="thick"), name) for name, colour in names.items())
    said = "Of all seeds together: the share of proposals that was accepted, and what became of the others."
    return [
        el("p", said, class_="lead"),
        el("ul", *legend, class_="legend"),
        el("div", *(_stack(arm, funnel) for arm, funnel in every), class_="stacks"),
        details("Check by check", el("div", *(_funnel(found, arm, funnel) for arm, funnel in every), class_="funnels")),
    ]


def _stack(arm: Arm, funnel: Funnel) -> Html:
    return el(
        "div",
        el("span", f"{named(arm)}: {one_line(funnel.rung, 40)}", class_="label"),
        stacked(_slices(funnel)),
        el("span", f"{funnel.accepted / funnel.proposals:.1%}", class_="count"),
        class_="row",
    )


def _slices(funnel: Funnel) -> list[Slice]:
    """Accepted first, then from what nearly was to what could not even be read."""
    lost = [(reason, n) for stage in reversed(funnel.stages) for reason, n in stage.lost]
    return [
        Slice("accepted", funnel.accepted / funnel.proposals, "fell"),
        *(Slice(WHY[reason], n / funnel.proposals, FATES.get(reason, "soft")) for reason, n in lost),
    ]


def _funnel(found: Findings, arm: Arm, funnel: Funnel) -> Html:
    colour = _colour(found, arm)
    return el(
        "div",
        el("h3", f"{named(arm)}: {one_line(funnel.rung, 40)}"),
        el(
            "div",
            funnel_row("written", funnel.proposals, funnel.proposals, "", colour),
            *(
                funnel_row(stage.passed, stage.survivors, funnel.proposals, lost([stage], funnel.proposals), colour)
                for stage in funnel.stages
                if stage.lost or stage.passed == "accepted"
            ),
            class_="funnel",
        ),
    )


def _terms(found: Findings) -> list[Child]:
    rows: list[list[Child]] = [
        [named(arm), el("code", one_line(one.place, 60)), one_line(str(one.before), 60), one_line(str(one.after), 60)]
        for arm in found.arms[1:]
        for one in arm.unlike(found.reference)
    ]
    head = ["arm", "setting", named(found.reference), "this arm"]
    return [
        el(
            "dl",
            *(el(tag, text) for fact in facts(found) for tag, text in zip(("dt", "dd"), fact, strict=True)),
            class_="facts",
        ),
        details("In what the arms differ", table(head, rows, label="In what the arms differ")) if rows else None,
        *(
            details(
                f"All settings of {named(arm)}",
                el("pre", encode_config(arm.results[0].config).decode(), class_="program"),
            )
            for arm in found.arms
        ),
    ]
