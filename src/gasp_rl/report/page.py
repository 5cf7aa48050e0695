"""The report: one page that needs nothing else. Paragraphs from journal to HTML, each a pure function."""

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

from gasp_rl.config import Band, RunConfig
from gasp_rl.report import numbers, words
from gasp_rl.report.charts import Axis, Series, histogram, interval, line_chart, short
from gasp_rl.report.html import Child, Html, details, el, join, table, written
from gasp_rl.report.ladders import WHY, Packed, packed
from gasp_rl.report.numbers import Estimate
from gasp_rl.report.reproduce import reproduction
from gasp_rl.report.story import Sample, Story
from gasp_rl.report.text import one_line
from gasp_rl.report.words import brief, duration, plural, probability
from gasp_rl.rollout import Judgement, ProblemScore, Proposal, Rejection, UpdateStats
from gasp_rl.runs.directory import encode_config
from gasp_rl.runs.health import FALLING, Reading, Signal
from gasp_rl.runs.journal import Journal, Started
from gasp_rl.runs.ledger import Cost, Ledger, ledger
from gasp_rl.runs.metrics import Measurement

FALLEN = 40
"""Goalposts in the table of when they fell; all are among the ladders."""

SHARE = Axis(0.0, 1.0, 0.25, percent=True)


def rung_colours(journal: Journal) -> dict[str, str]:
    """A class of the style sheet for each rung, in order of the ladder."""
    return {rung: f"c{i % 4 + 1}" for i, rung in enumerate(numbers.rungs(journal))}


@dataclass(frozen=True, slots=True)
class Told:
    """All that a page is made of."""

    story: Story
    measurements: Sequence[Measurement] = ()
    name: str = ""
    recipe: RunConfig | None = None
    """The settings of the run's recipe as this version has them, to say what was changed."""


def page(told: Told, version: str = "") -> str:
    """The whole document. With a version it is a watched one, which asks where it came from for a newer one."""
    journal = told.story.journal
    found = packed(told.story, journal)
    packs = {"index": found.index} | {f"pack-{place}": pack for place, pack in enumerate(found.packs)}
    return document(
        f"{one_line(told.name, 80)} · gasp report",
        [
            el("a", "Skip to the ladders", href="#ladders", class_="skip"),
            _header(journal, told.name),
            el("main", *_sections(told, journal, found)),
            _footer(journal),
            el(
                "div",
                *(el("script", data, type="text/plain", id=place) for place, data in packs.items()),
                data_part="packs",
                hidden="",
            ),
        ],
        version,
    )


def document(title: str, body: Sequence[Html], version: str = "") -> str:
    """A page around its body. Its policy knows one script and one style sheet, by their hashes, and no network; with a
    version, it may ask where it came from.
    """
    script, style = _resource("page.js"), _resource("style.css")
    asking = "; connect-src 'self'" if version else ""
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'; "
        f"form-action 'none'{asking}"
    )
    return (
        "<!doctype html>\n"
        + el(
            "html",
            el(
                "head",
                el("meta", charset="utf-8"),
                el("meta", name="viewport", content="width=device-width, initial-scale=1"),
                el("meta", http_equiv="Content-Security-Policy", content=policy),
                el("title", title),
                Html(f"<style>{style}</style>"),
            ),
            el("body", *body, Html(f"<script>{script}</script>"), data_version=version or None),
            lang="en",
        ).source
        + "\n"
    )


def theme_button() -> Html:
    return el("button", "◐ auto", type="button", id="theme")


def _resource(name: str) -> str:
    return resources.files("gasp_rl.report").joinpath(name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def _header(journal: Journal, name: str) -> Html:
    links = [
        ("overview", "Overview"),
        ("ladders", "Ladders"),
        ("student", "Student"),
        ("health", "Health"),
        ("reproduce", "Reproduce"),
    ]
    return el(
        "header",
        el(
            "div",
            el(
                "p",
                el("b", "gasp"),
                f" {one_line(name, 80)}",
                el("span", one_line(words.ending(journal), 120), class_="state"),
                class_="run",
                data_part="standing",
            ),
            theme_button(),
            class_="bar",
        ),
        el(
            "div",
            el("h1", words.headline(journal)),
            *(el("p", one_line(note, 300), class_="note") for note in journal.notes),
            data_part="headline",
        ),
        navigation(links),
    )


def _sections(told: Told, journal: Journal, found: Packed) -> list[Html]:
    return [
        section(
            "overview",
            "Overview",
            "",
            _tiles(journal, told.measurements),
            _remarks(told, journal),
            _progress(journal),
            el("div", _gains(journal), _history(journal), class_="beside"),
            el("h3", "What became of the teacher’s proposals"),
            el(
                "p",
                "A proposal is kept if it can be read, runs, gives the same twice, is new, and the student solves it "
                "sometimes: neither too often nor never.",
                class_="lead",
            ),
            *_funnels(journal),
            el("h3", "What it cost"),
            el(
                "p",
                "Sampling and updating are the model’s time; the programs’ is CPU time, spent while it samples.",
                class_="lead",
            ),
            _costs(ledger(journal, told.measurements)),
        ),
        el(
            "section",
            el("h2", "Ladders", id="ladders-title"),
            el(
                "p",
                "What the teacher made of each goalpost, what it built on that, what was rejected on the way, and when "
                "the goalpost fell.",
                class_="lead",
            ),
            el(
                "div",
                el(
                    "p",
                    f"{plural(found.left_out, 'proposal')} of {len(numbers.proposals(journal)):,} are counted but left out "
                    "to keep this page small.",
                    class_="note",
                )
                if found.left_out
                else None,
                data_part="left-out",
            ),
            el("noscript", el("p", "The ladders are unpacked by a script of this page, which is off.", class_="note")),
            el("div", id="ladder-view"),
            id="ladders",
            aria_labelledby="ladders-title",
        ),
        section("student", "Student", "", _learning(journal), el("h3", "Some of its latest answers"), _answers(told)),
        section("health", "Health", "", _health(told, journal)),
        section("reproduce", "Reproduce", "", _reproduce(journal, told.recipe)),
    ]


def navigation(links: Iterable[tuple[str, str]]) -> Html:
    return el("nav", *(el("a", text, href=f"#{anchor}") for anchor, text in links), aria_label="Sections")


def section(anchor: str, title: str, lead: str, *children: Child) -> Html:
    return el(
        "section",
        el("h2", title, id=f"{anchor}-title"),
        el("p", lead, class_="lead") if lead else None,
        *children,
        id=anchor,
        aria_labelledby=f"{anchor}-title",
        data_part=anchor,
    )


def _tiles(journal: Journal, measurements: Sequence[Measurement]) -> Html:
    """The numbers people look for first."""
    tiles = [_goalpost_tile(journal), _base_tile(journal)]
    tiles += [_rung_tile(journal, rung) for rung in numbers.rungs(journal)]
    tiles += [_validation_tile(journal), _cost_tile(journal, measurements)]
    return el("div", *tiles, class_="tiles")


def tile(label: str, value: str, small: str, colour: str | None = None) -> Html:
    return el(
        "div", el("p", label), el("p", value, class_="value"), el("p", small), class_=f"tile {colour or ''}".strip()
    )


def _goalpost_tile(journal: Journal) -> Html:
    solves = numbers.solves(numbers.trained(numbers.of_split(journal, numbers.GOALPOSTS)))
    if not solves:
        return tile("Goalposts solved", "–", "not evaluated yet")
    fallen = [s for s in solves.values() if s.solved]
    return tile(
        "Goalposts solved",
        f"{len(fallen)} of {len(solves)}",
        f"{sum(s.solid for s in fallen)} at least twice",
        "fell" if fallen else None,
    )


def _base_tile(journal: Journal) -> Html:
    found = numbers.comparison(journal)
    if found is None:
        return tile("Base, same draws", "–", "not compared yet")
    draws = f"{found.base_draws:,} draws each"
    small = probability(found.p_value) if found.matched else "draws not matched"
    return tile("Base, same draws", f"{len(found.base)} of {len(found.goalposts)}", f"{draws} · {small}")


def _rung_tile(journal: Journal, rung: str) -> Html:
    proposed = [p for p in numbers.proposals(journal) if p.rung == rung]
    accepted = sum(p.accepted for p in proposed)
    share = f"{accepted / len(proposed):.0%} of {len(proposed):,} proposed" if proposed else "none proposed yet"
    return tile(f"{rung.capitalize()}s accepted", f"{accepted:,}", share, rung_colours(journal)[rung])


def _validation_tile(journal: Journal) -> Html:
    points = numbers.validation_over_time(journal, 1)
    if not points:
        return tile("Validation pass@1", "–", "not evaluated yet")
    (_, first), (_, last) = points[0], points[-1]
    return tile("Validation pass@1", f"{last:.1%}", f"{first:.1%} at the start")


def _cost_tile(journal: Journal, measurements: Sequence[Measurement]) -> Html:
    seconds = sum(m.seconds for m in measurements)
    return tile("Tokens sampled", short(numbers.sampled_tokens(journal)), f"in {duration(seconds)}" if seconds else "")


def charts(*drawn: Html, size: str = "") -> Html:
    return el("div", *drawn, class_=f"charts {size}".strip())


def _progress(journal: Journal) -> Html:
    """Goalposts and validation problems over the run."""
    colours = rung_colours(journal)
    now, ever = numbers.goalposts_over_time(journal)
    compared = numbers.comparison(journal)
    spent = numbers.goalposts_over_tokens(journal)
    base = float(len(compared.base)) if compared else 0.0
    ks = journal.started.config.evaluate.ks if journal.started else ()
    return charts(
        line_chart(
            "Goalposts solved",
            "so far and each time, over iterations",
            [
                Series("so far", ever, "fell"),
                Series("each time", now, "soft"),
                Series("base", [(x, base) for x, _ in (ever[0], ever[-1])] if compared and ever else [], "base dashed"),
            ],
        ),
        line_chart(
            "Goalposts solved",
            "so far, over tokens sampled to learn from",
            [
                Series("so far", spent, "fell"),
                Series(
                    "base", [(x, base) for x, _ in (spent[0], spent[-1])] if compared and spent else [], "base dashed"
                ),
            ],
            across="tokens",
        ),
        line_chart(
            "Validation pass@k",
            "on held-out problems",
            [
                Series(f"pass@{k}", numbers.validation_over_time(journal, k), f"k{i + 1}")
                for i, k in enumerate(_some(ks))
            ],
            SHARE,
        ),
        line_chart(
            "Accepted",
            "proposals per iteration",
            [Series(rung, numbers.accepted_over_time(journal, rung), colours[rung]) for rung in colours],
        ),
        size="large",
    )


def _gains(journal: Journal) -> Html | None:
    """pass@k of the untrained and of the trained model, with intervals."""
    rows = [
        (name, gain)
        for split, name in ((numbers.VALIDATION, "validation"), (numbers.GOALPOSTS, "goalposts"))
        for gain in numbers.gains(journal, split)
    ]
    if not rows:
        return None
    body: list[list[Child]] = [
        [
            name,
            f"pass@{gain.k}",
            _estimate(gain.before),
            _estimate(gain.after),
            interval(gain.before, gain.after),
            _estimate(gain.change, signed=True),
            f"{gain.problems:,}",
        ]
        for name, gain in rows
    ]
    head = ["problems", "", "before", "after", "0 to 100 %", "change", "over"]
    return el(
        "div",
        el("h3", "pass@k before and after"),
        table(head, body, label="pass@k before and after"),
        el(
            "p", "[low, high]: 95 % intervals by bootstrap over problems, the change paired by problem.", class_="quiet"
        ),
    )


def _estimate(found: Estimate, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    low, high = found.interval.low, found.interval.high
    return f"{100 * found.value:{sign}.1f} % [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def _learning(journal: Journal) -> Html:
    colours = rung_colours(journal)
    depths = numbers.by_difficulty_over_time(journal)
    return charts(
        line_chart(
            "Right answers",
            "in practice, by kind of task",
            [
                Series(kind, numbers.correct_over_time(journal, kind), f"c{i % 3 + 3}")
                for i, kind in enumerate(numbers.kinds(journal))
            ],
            SHARE,
        ),
        line_chart(
            "Goalposts by difficulty",
            "share of draws that solve them",
            [Series(one_line(name, 14), depths[name], f"c{i % 5 + 1}") for i, name in enumerate(list(depths)[:5])],
        ),
        line_chart(
            "Tries at candidates",
            "mean pass rate, by rung",
            [Series(rung, numbers.tries_over_time(journal, rung), colours[rung]) for rung in colours],
            SHARE,
        ),
        line_chart(
            "Reward",
            "mean of each phase",
            [
                Series(name, numbers.reward_over_time(journal, name), colours.get(name, "c3"))
                for name in numbers.phase_names(journal)
            ],
        ),
        size="large",
    )


def _health(told: Told, journal: Journal) -> Html:
    """What the monitor watches, with its thresholds; then what the updates and the machine say."""
    colours = rung_colours(journal)
    phases = numbers.phase_names(journal)
    measured = list(dict.fromkeys(m.phase for m in told.measurements if m.step > 0))

    def updates(title: str, meaning: str, quantity: Callable[[UpdateStats], float]) -> Html:
        series = [
            Series(name, numbers.update_over_time(journal, name, quantity), colours.get(name, "c3")) for name in phases
        ]
        return line_chart(title, meaning, series)

    return charts(
        *(_signal(signal, told.story.signals) for signal in Signal),
        updates("Entropy", "nats per sampled token, by phase", lambda u: u.entropy),
        updates("Log-prob drift", "largest |log ratio| of learner to sampler, by phase", lambda u: u.ratio_max),
        updates("Gradient norm", "before clipping, by phase", lambda u: u.grad_norm),
        line_chart(
            "Seconds",
            "of each phase, by the wall clock",
            [
                Series(
                    name,
                    numbers.measured_over_time(told.measurements, name, lambda m: m.seconds),
                    _phase_colour(name, i, colours),
                )
                for i, name in enumerate(measured[:6])
            ],
        ),
        line_chart(
            "Memory",
            "most that the process has held, MB",
            [Series("memory", numbers.memory_over_time(told.measurements), "c4")],
        ),
    )


def _meaning(signal: Signal) -> str:
    """In the space that a chart has."""
    match signal:
        case Signal.VALID:
            return "share of proposals that can be read and run"
        case Signal.FLAT:
            return "share of tried proposals solved always or never"
        case Signal.DUPLICATES:
            return "share of running proposals that repeat what was accepted"
        case Signal.DISSIMILARITY:
            return "of accepted proposals from those before"
        case Signal.DISHONEST:
            return "share of messages that do not describe their program"
        case Signal.ENTROPY:
            return "as a share of what training began with"
        case Signal.REWARD:
            return "lost by the student from its best"
        case Signal.LOG_RATIO:
            return "largest between learner and sampler"
        case Signal.HELD_OUT:
            return "pass@1 of validation or goalposts, lost from its best"


def _signal(signal: Signal, readings: Sequence[Reading]) -> Html:
    """One signal over iterations, and the threshold beyond which it means harm."""
    mine = [reading for reading in readings if reading.signal is signal]
    values = [(float(reading.step), reading.value) for reading in mine if math.isfinite(reading.value)]
    limit = [(x, mine[-1].alarm.threshold) for x, _ in (values[0], values[-1])] if values else []
    alarmed = any(reading.alarming for reading in mine)
    side = "below" if signal in FALLING else "above"
    limit_said = f"; alarm {side} {mine[-1].alarm.threshold:g}" if mine else ""
    return line_chart(
        signal.value.replace("_", " ").capitalize(),
        f"{_meaning(signal)}{limit_said}",
        [Series("signal", values, "c5" if alarmed else "c3"), Series("limit", limit, "base dashed")],
    )


def _remarks(told: Told, journal: Journal) -> Html | None:
    remarks = words.noticed(journal, told.story.alarms)
    return el("ul", *(el("li", remark) for remark in remarks), class_="remarks") if remarks else None


def _phase_colour(name: str, place: int, colours: dict[str, str]) -> str:
    return colours.get(name, f"c{place % 3 + 3}")


def _some(ks: Sequence[int]) -> list[int]:
    """At most four of them, the ends included."""
    return list(dict.fromkeys(ks[round(i * (len(ks) - 1) / 3)] for i in range(4))) if ks else []


def _history(journal: Journal) -> Html | None:
    """When each goalpost was solved: solves come and go."""
    history = numbers.score_history(journal)
    rows = sorted((h for h in history.items() if any(s.confirmed for _, s in h[1])), key=lambda h: h[1][0][0])
    if not rows:
        return None
    steps = sorted({step for scores in history.values() for step, _ in scores})
    body = []
    for problem, scores in rows[:FALLEN]:
        at = dict(scores)
        cells = [
            el(
                "td",
                str(at[s].confirmed) if s in at and at[s].confirmed else "",
                class_=_heat(at[s]) if s in at else None,
            )
            for s in steps
        ]
        body.append(el("tr", el("th", one_line(problem, 40), scope="row"), *cells))
    grid = el(
        "div",
        el(
            "table",
            el("thead", el("tr", el("th", "iteration", scope="col"), *(el("th", str(s), scope="col") for s in steps))),
            el("tbody", *body),
            class_="heat",
        ),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label="When goalposts fell",
    )
    more = f" {plural(len(rows) - FALLEN, 'more goalpost')} not shown." if len(rows) > FALLEN else ""
    return el(
        "div",
        el("h3", "When goalposts fell"),
        el("p", f"Draws that solved each, at each evaluation.{more}", class_="quiet"),
        grid,
    )


def _heat(score: ProblemScore) -> str | None:
    """A shade by the share of draws that solved it; solves are rare, so the scale is steep."""
    if not score.confirmed:
        return None
    share = score.confirmed / score.samples
    return f"h{1 + (share > 0.02) + (share > 0.1) + (share > 0.3)}"


def _funnels(journal: Journal) -> list[Html]:
    bands = (
        {r.name: r.band for r in journal.started.config.gasp.ladder}
        if journal.started and journal.started.config.gasp
        else {}
    )
    colours = rung_colours(journal)
    every = numbers.proposals(journal)
    if not every:
        alone = journal.started and not journal.started.config.gasp and not journal.started.config.azr
        said = "This recipe has no teacher." if alone else "Nothing has been proposed yet."
        return [el("p", said, class_="empty")]
    return [
        el(
            "div",
            *(_funnel(rung, [p for p in every if p.rung == rung], bands.get(rung), colours[rung]) for rung in colours),
            class_="funnels",
        )
    ]


def _funnel(rung: str, proposed: Sequence[Proposal], band: Band | None, colour: str) -> Html:
    if not proposed:
        return el("div", el("h3", f"{rung.capitalize()}s"), el("p", "None proposed yet.", class_="empty"))
    total = len(proposed)
    rows = [funnel_row("written", len(proposed), total, "", colour)]
    rows += [
        funnel_row(
            stage.passed,
            stage.survivors,
            total,
            ", ".join(f"{count:,} {WHY[reason]}" for reason, count in stage.lost),
            colour,
        )
        for stage in numbers.funnel(proposed)
        if stage.lost or stage.passed == "accepted"
    ]
    return el(
        "div",
        el("h3", f"{rung.capitalize()}s"),
        el("div", *rows, class_="funnel"),
        _pass_rates(rung, proposed, band, colour),
        _duplicates(proposed),
        _like_evaluation(proposed),
    )


def funnel_row(label: str, count: int, total: int, lost: str, colour: str) -> Html:
    return el(
        "div",
        el("span", label, class_="label"),
        _track(count / total, colour),
        el("span", f"{count:,}", class_="count"),
        el("span", f"− {lost}" if lost else "", class_="lost"),
        class_="row",
    )


def _track(share: float, colour: str) -> Html:
    return el(
        "svg",
        el("rect", width=f"{share:.1%}", height="100%", rx=3, class_=f"bar {colour}"),
        class_="track",
        aria_hidden="true",
    )


def _pass_rates(rung: str, proposed: Sequence[Proposal], band: Band | None, colour: str) -> Html | None:
    """The pass rates the teacher hit, against the band it should hit. Counts of the commonest number of tries."""
    seen = numbers.tried(proposed)
    if not seen:
        return None
    n = Counter(tries for _, tries in seen.elements()).most_common(1)[0][0]
    if n > 20:
        return None
    inside = [k for k in range(n + 1) if band is None or band.holds(k, n)]
    accepted = range(inside[0], inside[-1] + 1) if inside else range(0)
    counts = [seen[k, n] for k in range(n + 1)]
    return el(
        "div",
        histogram(counts, accepted, colour, f"{rung}: how many of {n} tries were right"),
        el("p", f"How many of {n} tries by the student were right; the filled bars are accepted.", class_="quiet"),
        class_="rates",
    )


def _duplicates(proposed: Sequence[Proposal]) -> Html | None:
    repeated = [p for p in proposed if p.rejection is Rejection.DUPLICATE]
    if not repeated:
        return None
    mean = sum(p.similarity for p in repeated) / len(repeated)
    return el(
        "p",
        f"{plural(len(repeated), 'proposal')} repeated what was known, at a mean similarity of {mean:.3f}.",
        class_="quiet",
    )


def _like_evaluation(proposed: Sequence[Proposal]) -> Html | None:
    """What the firewall found, used or not."""
    found = [p for p in proposed if p.likenesses]
    if not found:
        return None
    kinds = Counter(like.kind.value for p in found for like in p.likenesses)
    ways = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
    used = sum(p.accepted for p in found)
    return el(
        "p",
        f"{plural(len(found), 'proposal')} came too near to a problem that measures the model ({ways}); {used} of them used.",
        class_="quiet",
    )


def _answers(told: Told) -> Html:
    """The latest of each kind and judgement."""
    samples = told.story.samples
    if not samples:
        return el("p", "The student has not answered anything yet.", class_="empty")
    return join(
        details(
            el("span", kind.value.capitalize(), class_="id"),
            el("div", *(_answer(sample) for sample in samples if sample.answer.kind is kind), class_="cards"),
            class_="family",
        )
        for kind in dict.fromkeys(sample.answer.kind for sample in samples)
    )


def _answer(sample: Sample) -> Html:
    answer = sample.answer
    right = answer.judgement is Judgement.CORRECT
    return el(
        "div",
        el(
            "p",
            el("span", answer.judgement.value.replace("_", " "), class_=f"badge {'fell' if right else ''}".strip()),
            f" iteration {sample.step} · reward {answer.reward:+.2f}",
            f" · {one_line(answer.detail, 160)}" if answer.detail else None,
        ),
        written(sample.asked, 400, class_="message")
        if sample.asked
        else el("p", one_line(answer.source, 80), class_="quiet"),
        written(answer.text, 1200, class_="program"),
        class_="failure",
    )


def _costs(found: Ledger) -> Html:
    if not found.total.tokens and not found.total.seconds:
        return el("p", "Nothing has been spent yet.", class_="empty")
    rows = [_cost_row(phase, cost, duration) for phase, cost in (*found.phases, ("all", found.total))]
    rows += [_cost_row(f"per {one.what} ({one.count:,})", one.each, brief) for one in found.bought]
    again = f"{found.done_again:,} tokens were of iterations that were interrupted and done again."
    return join(
        [
            table(["phase", "tokens", "time", "sampling", "updating", "programs, CPU"], rows, label="What it cost"),
            el("p", again, class_="quiet") if found.done_again else None,
        ]
    )


def _cost_row(what: str, cost: Cost, words: Callable[[float], str]) -> list[str]:
    times = (cost.seconds, cost.sampling_seconds, cost.update_seconds, cost.sandbox_cpu_seconds)
    return [what, f"{cost.tokens:,.0f}", *(words(seconds) if seconds else "–" for seconds in times)]


def _reproduce(journal: Journal, recipe: RunConfig | None) -> Html:
    started = journal.started
    if started is None:
        return el("p", "The journal does not say how this run was set up.", class_="empty")
    found = reproduction(started.config, recipe)
    digests = [
        ("prompts", started.digests.prompts),
        ("embedder", started.digests.embedder),
        ("model", started.digests.model),
        ("goalposts", started.digests.goalposts),
        ("train", started.digests.train),
        ("validation", started.digests.validation),
        ("held out", started.digests.held_out),
    ]
    times = sum(isinstance(record, Started) for record in journal.records)
    return join(
        [
            el("p", f"gasp-rl {started.package}, recipe {started.config.recipe}, seed {started.config.seed}."),
            el("p", f"It went on with changed settings {plural(times - 1, 'time')}; these are the last.", class_="note")
            if times > 1
            else None,
            el("pre", found.command, class_="program command") if found.command else None,
            el(
                "p",
                "The command alone does not say all of the settings; the run’s config.json does."
                if found.command
                else f"This version has no recipe named {one_line(started.config.recipe, 60)} to compare with.",
                class_="note",
            )
            if not found.complete
            else None,
            table(
                ["setting", "recipe", "this run"],
                [[el("code", d.place), one_line(str(d.before), 80), one_line(str(d.after), 80)] for d in found.changed],
                caption="What differs from the recipe",
            )
            if found.changed
            else el("p", "All settings are the recipe’s.", class_="quiet")
            if recipe
            else None,
            table(
                ["what", "SHA-256"],
                [[what, el("code", digest)] for what, digest in digests if digest],
                caption="What decided this run, besides its settings",
            )
            if any(d for _, d in digests)
            else None,
            details("All settings", el("pre", encode_config(started.config).decode(), class_="program")),
        ]
    )


def _footer(journal: Journal) -> Html:
    version = f" {journal.started.package}" if journal.started else ""
    return el(
        "footer", f"Written by gasp report{version} from the run’s journal. Everything a model wrote is shown as text."
    )
