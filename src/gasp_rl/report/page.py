"""The report: one page that needs nothing else. Paragraphs from journal to HTML, each a pure function."""

from collections import Counter
from collections.abc import Callable, Sequence
from importlib import resources

from gasp_rl.config import Band
from gasp_rl.report import numbers, words
from gasp_rl.report.charts import Axis, Series, histogram, line_chart
from gasp_rl.report.html import Child, Html, details, el, join, table, written
from gasp_rl.report.ladders import WHY, ladders, rung_colours
from gasp_rl.report.text import one_line
from gasp_rl.report.words import brief, duration, plural, probability
from gasp_rl.rollout import Answer, Judgement, ProblemScore, Proposal, Rejection
from gasp_rl.runs.directory import encode_config
from gasp_rl.runs.journal import Journal
from gasp_rl.runs.ledger import Cost, Ledger, ledger
from gasp_rl.runs.metrics import Measurement

SHARE = Axis(0.0, 1.0, 0.25, percent=True)

ANSWERS = 2
"""Sample answers per kind and judgement."""


def page(journal: Journal, measurements: Sequence[Measurement], name: str) -> str:
    """The whole document. Its policy forbids scripts and the network, should an escape ever be missing."""
    return (
        "<!doctype html>\n"
        + el(
            "html",
            el(
                "head",
                el("meta", charset="utf-8"),
                el("meta", name="viewport", content="width=device-width, initial-scale=1"),
                el("meta", name="color-scheme", content="light dark"),
                el(
                    "meta",
                    http_equiv="Content-Security-Policy",
                    content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
                ),
                el("title", f"{one_line(name, 80)} · gasp report"),
                Html(f"<style>{_style()}</style>"),
            ),
            el("body", _header(journal, name), el("main", *_sections(journal, measurements)), _footer(journal)),
            lang="en",
        ).source
        + "\n"
    )


def _style() -> str:
    return resources.files("gasp_rl.report").joinpath("style.css").read_text(encoding="utf-8")


def _header(journal: Journal, name: str) -> Html:
    links = [
        ("how", "How it went"),
        ("teacher", "The teacher"),
        ("ladders", "Ladders"),
        ("answers", "Answers"),
        ("cost", "Cost"),
        ("settings", "Settings"),
    ]
    return el(
        "header",
        el(
            "p",
            el("b", "gasp"),
            f" {one_line(name, 80)}",
            el("span", one_line(words.ending(journal), 120), class_="state"),
            class_="run",
        ),
        el("h1", words.headline(journal)),
        *(el("p", one_line(note, 300), class_="note") for note in journal.notes),
        el("nav", *(el("a", text, href=f"#{anchor}") for anchor, text in links), aria_label="Sections"),
    )


def _sections(journal: Journal, measurements: Sequence[Measurement]) -> list[Html]:
    return [
        _tiles(journal, measurements),
        _section("how", "How it went", "", _remarks(journal), _curves(journal), _history(journal)),
        _section(
            "teacher",
            "What became of the teacher’s proposals",
            "A proposal is kept if it can be read, runs, gives the same twice, is new, and the student solves it "
            "sometimes: neither too often nor never.",
            *_funnels(journal),
        ),
        _section(
            "ladders",
            "Ladders",
            "What the teacher made of each goalpost, and what it built on that. Goalposts that fell come first.",
            ladders(journal),
        ),
        _section("answers", "What the student answered", "A few of its latest answers.", _answers(journal)),
        _section(
            "cost",
            "What it cost",
            "Sampling and updating are the model’s time; the programs’ is CPU time, spent while it samples.",
            _costs(ledger(journal, measurements)),
        ),
        _section("settings", "Settings and versions", "", _settings(journal)),
    ]


def _section(anchor: str, title: str, lead: str, *children: Child) -> Html:
    return el(
        "section",
        el("h2", title, id=f"{anchor}-title"),
        el("p", lead, class_="lead") if lead else None,
        *children,
        id=anchor,
        aria_labelledby=f"{anchor}-title",
    )


def _tiles(journal: Journal, measurements: Sequence[Measurement]) -> Html:
    """The numbers people look for first."""
    tiles = [_goalpost_tile(journal), _base_tile(journal)]
    tiles += [_rung_tile(journal, rung) for rung in numbers.rungs(journal)]
    tiles += [_validation_tile(journal), _cost_tile(journal, measurements)]
    return el("div", *tiles, class_="tiles")


def _tile(label: str, value: str, small: str, colour: str | None = None) -> Html:
    return el(
        "div", el("p", label), el("p", value, class_="value"), el("p", small), class_=f"tile {colour or ''}".strip()
    )


def _goalpost_tile(journal: Journal) -> Html:
    solves = numbers.solves(numbers.trained(numbers.of_split(journal, numbers.GOALPOSTS)))
    if not solves:
        return _tile("Goalposts solved", "–", "not evaluated yet")
    fallen = [s for s in solves.values() if s.solved]
    return _tile(
        "Goalposts solved",
        f"{len(fallen)} of {len(solves)}",
        f"{sum(s.solid for s in fallen)} at least twice",
        "fell" if fallen else None,
    )


def _base_tile(journal: Journal) -> Html:
    found = numbers.comparison(journal)
    if found is None:
        return _tile("Base, same draws", "–", "not compared yet")
    draws = f"{found.base_draws:,} draws each"
    small = probability(found.p_value) if found.matched else "draws not matched"
    return _tile("Base, same draws", f"{len(found.base)} of {len(found.goalposts)}", f"{draws} · {small}")


def _rung_tile(journal: Journal, rung: str) -> Html:
    proposed = [p for p in numbers.proposals(journal) if p.rung == rung]
    accepted = sum(p.accepted for p in proposed)
    share = f"{accepted / len(proposed):.0%} of {len(proposed):,} proposed" if proposed else "none proposed yet"
    return _tile(f"{rung.capitalize()}s accepted", f"{accepted:,}", share, rung_colours(journal)[rung])


def _validation_tile(journal: Journal) -> Html:
    points = numbers.validation_over_time(journal, 1)
    if not points:
        return _tile("Validation pass@1", "–", "not evaluated yet")
    (_, first), (_, last) = points[0], points[-1]
    return _tile("Validation pass@1", f"{last:.1%}", f"{first:.1%} at the start")


def _cost_tile(journal: Journal, measurements: Sequence[Measurement]) -> Html:
    seconds = sum(m.seconds for m in measurements)
    return _tile(
        "Tokens sampled", _short(numbers.sampled_tokens(journal)), f"in {duration(seconds)}" if seconds else ""
    )


def _curves(journal: Journal) -> Html:
    """Six views of the run over its iterations."""
    colours = rung_colours(journal)
    now, ever = numbers.goalposts_over_time(journal)
    compared = numbers.comparison(journal)
    base = [(x, float(len(compared.base))) for x, _ in (ever[0], ever[-1])] if compared and ever else []
    ks = journal.started.config.evaluate.ks if journal.started else ()
    return el(
        "div",
        line_chart(
            "Goalposts solved",
            "so far and each time",
            [
                Series("so far", ever, "fell"),
                Series("each time", now, "soft"),
                Series("base", base, "base", dashed=True),
            ],
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
        line_chart(
            "Right answers",
            "by kind of task",
            [
                Series(kind, numbers.correct_over_time(journal, kind), f"c{i % 3 + 3}")
                for i, kind in enumerate(numbers.kinds(journal))
            ],
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
        line_chart(
            "Proposals that run",
            "of all proposed",
            [Series(rung, numbers.runnable_over_time(journal, rung), colours[rung]) for rung in colours],
            SHARE,
        ),
        class_="charts",
    )


def _remarks(journal: Journal) -> Html | None:
    remarks = words.noticed(journal)
    return el("ul", *(el("li", remark) for remark in remarks), class_="note") if remarks else None


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
    for problem, scores in rows[:40]:
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
    return join(
        [el("h3", "When goalposts fell"), el("p", "Draws that solved each, at each evaluation.", class_="quiet"), grid]
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
    rows = [_funnel_row("written", len(proposed), total, "", colour)]
    rows += [
        _funnel_row(
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


def _funnel_row(label: str, count: int, total: int, lost: str, colour: str) -> Html:
    return el(
        "div",
        el("span", label, class_="label"),
        el("span", el("i", class_=f"fill {colour}", style=f"width:{count / total:.1%}"), class_="track"),
        el("span", f"{count:,}", class_="count"),
        el("span", f"− {lost}" if lost else "", class_="lost"),
        class_="row",
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


def _answers(journal: Journal) -> Html:
    """The latest of each kind and judgement."""
    by_id = {p.id: p for p in numbers.proposals(journal)}
    shown: Counter[tuple[str, Judgement]] = Counter()
    cards: list[tuple[str, Html]] = []
    for iteration in reversed(journal.iterations):
        for answer in numbers.answers(iteration.phases):
            key = (answer.kind.value, answer.judgement)
            if shown[key] < ANSWERS:
                shown[key] += 1
                cards.append((answer.kind.value, _answer(iteration.step, answer, by_id.get(answer.source))))
    if not cards:
        return el("p", "The student has not answered anything yet.", class_="empty")
    return join(
        details(
            el("span", kind.capitalize(), class_="id"),
            el("div", *(card for its, card in cards if its == kind), class_="cards"),
            class_="family",
        )
        for kind in dict.fromkeys(kind for kind, _ in cards)
    )


def _answer(step: int, answer: Answer, source: Proposal | None) -> Html:
    right = answer.judgement is Judgement.CORRECT
    return el(
        "div",
        el(
            "p",
            el("span", answer.judgement.value.replace("_", " "), class_=f"badge {'fell' if right else ''}".strip()),
            f" iteration {step} · reward {answer.reward:+.2f}",
            f" · {one_line(answer.detail, 160)}" if answer.detail else None,
        ),
        written(source.message, 400, class_="message")
        if source
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


def _settings(journal: Journal) -> Html:
    started = journal.started
    if started is None:
        return el("p", "The journal does not say how this run was set up.", class_="empty")
    digests = [
        ("prompts", started.digests.prompts),
        ("embedder", started.digests.embedder),
        ("model", started.digests.model),
        ("goalposts", started.digests.goalposts),
        ("train", started.digests.train),
        ("validation", started.digests.validation),
    ]
    return join(
        [
            el("p", f"gasp-rl {started.package}, recipe {started.config.recipe}, seed {started.config.seed}."),
            table(
                ["what", "SHA-256"],
                [[what, el("code", digest[:16])] for what, digest in digests if digest],
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


def _short(n: int) -> str:
    if n >= 10**6:
        return f"{n / 10**6:.1f} M"
    return f"{n / 10**3:.0f} k" if n >= 10**4 else f"{n:,}"
