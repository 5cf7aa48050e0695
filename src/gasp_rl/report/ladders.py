"""The heart of the report: for each goalpost, what the teacher made of it, rung by rung, and when it fell."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gasp_rl.report import numbers
from gasp_rl.report.html import Html, details, el, join, table, written
from gasp_rl.report.text import one_line
from gasp_rl.report.words import plural
from gasp_rl.rollout import Axis, ProblemScore, Proposal, Rejection
from gasp_rl.runs.journal import GoalpostText, Journal

LADDERS = 3
"""Ladders shown per goalpost, the best first."""

CHILDREN = 3
"""Accepted proposals shown above one rung."""

REJECTED = 4
"""Rejected siblings shown in one fold."""

BUDGET = 3_000_000
"""Bytes of ladders on the page; goalposts beyond are counted, not shown."""

AXES = {Axis.IO: "varies the instances", Axis.F: "varies the function"}

WHY = {
    Rejection.MALFORMED: "could not be read",
    Rejection.UNSAFE: "not allowed",
    Rejection.INVALID: "failed when run",
    Rejection.NONDETERMINISTIC: "not the same twice",
    Rejection.CONTAMINATED: "too like an evaluation problem",
    Rejection.QUARANTINED: "too like an evaluation problem: set aside",
    Rejection.DUPLICATE: "nothing new",
    Rejection.TOO_HARD: "too hard",
    Rejection.TOO_EASY: "too easy",
    Rejection.SANDBOX_FAULT: "lost to a fault of ours",
}


@dataclass(frozen=True, slots=True)
class Written:
    """A proposal and the iteration it was written in."""

    step: int
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class Family:
    """Everything written for one goalpost."""

    goalpost: GoalpostText
    roots: tuple[Written, ...]
    """First rungs, made from the goalpost itself."""
    above: dict[str, list[Written]]
    """By the id of what they were made from."""
    history: Sequence[tuple[int, ProblemScore]]
    public_pairs: int
    """How many pairs of a proposal the student was shown."""

    @property
    def solves(self) -> int:
        return sum(score.confirmed for step, score in self.history if step > 0)

    def height(self, written: Written) -> int:
        """Accepted rungs from here up."""
        if not written.proposal.accepted:
            return 0
        return 1 + max((self.height(child) for child in self.above.get(written.proposal.id, ())), default=0)


def families(journal: Journal) -> list[Family]:
    """One per goalpost, those that fell first, then by how high their ladders reach."""
    roots: dict[str, list[Written]] = {}
    above: dict[str, list[Written]] = {}
    for iteration in journal.iterations:
        for proposal in (p for phase in iteration.phases for p in phase.proposals if p.goalpost):
            made_from = roots if proposal.parent == proposal.goalpost else above
            made_from.setdefault(proposal.parent, []).append(Written(iteration.step, proposal))

    known = {g.id: g for g in (journal.started.goalposts if journal.started else ())}
    public_pairs = numbers.public_pairs(journal)
    history = numbers.score_history(journal)
    ids = dict.fromkeys([*known, *roots])
    found = [
        Family(known.get(i, GoalpostText(i, "")), tuple(roots.get(i, ())), above, history.get(i, ()), public_pairs)
        for i in ids
    ]
    return sorted(found, key=lambda f: (-f.solves, -max((f.height(r) for r in f.roots), default=0)))


def ladders(journal: Journal) -> Html:
    """Families until the budget is spent. A run without goalposts shows what was proposed freely."""
    shown: list[Html] = []
    left = BUDGET
    found = families(journal)
    if not found:
        return _free(journal)
    for family in found:
        card = _family(family, journal, unfolded=not shown)
        if len(card.source) > left:
            break
        left -= len(card.source)
        shown.append(card)

    omitted = len(found) - len(shown)
    more = el("p", f"{plural(omitted, 'more goalpost')} left out to keep this page small.", class_="note")
    return join([*shown, more if omitted else None])


def _free(journal: Journal) -> Html:
    """The latest accepted proposals of each kind, where nothing guided them."""
    latest = [Written(i.step, p) for i in reversed(journal.iterations) for p in i.accepted]
    alone = Family(GoalpostText("", ""), (), {}, (), numbers.public_pairs(journal))
    shown = [w for kind in numbers.rungs(journal) for w in [w for w in latest if w.proposal.rung == kind][:LADDERS]]
    return join([_rung(w, alone) for w in shown] or [el("p", "Nothing has been accepted yet.", class_="empty")])


def _family(family: Family, journal: Journal, *, unfolded: bool) -> Html:
    accepted = sorted(
        (r for r in family.roots if r.proposal.accepted), key=lambda r: (-family.height(r), -r.proposal.reward, -r.step)
    )
    rejected = [r for r in family.roots if not r.proposal.accepted]
    goalpost = family.goalpost
    return details(
        join(
            [
                el("span", one_line(goalpost.id, 80), class_="id"),
                el("span", one_line(goalpost.statement, 90), class_="gist"),
                el("span", *_badges(family, journal), class_="badges"),
            ]
        ),
        el(
            "div",
            el("h4", "Goalpost"),
            written(goalpost.statement or "(its statement was not recorded)", 4000),
            _evidence(family.history),
            class_="step goal",
        ),
        *(_rung(r, family) for r in accepted[:LADDERS]),
        _left_out(len(accepted) - LADDERS, "more accepted here"),
        _rejected(rejected, "for this goalpost"),
        class_="family",
        open="" if unfolded else None,
    )


def _badges(family: Family, journal: Journal) -> list[Html]:
    """What is known of it at a glance."""
    draws = sum(score.samples for step, score in family.history if step > 0)
    if family.solves:
        fate = el("span", f"fell: {family.solves} of {draws:,} draws", class_="badge fell")
    elif draws:
        fate = el("span", f"0 of {draws:,} draws", class_="badge")
    else:
        fate = el("span", "not drawn yet", class_="badge")
    counts = Counter(w.proposal.rung for w in _climbed(family.roots, family))
    colours = rung_colours(journal)
    return [fate] + [
        el("span", plural(counts[rung], rung), class_=f"badge {colours[rung]}") for rung in colours if counts[rung]
    ]


def rung_colours(journal: Journal) -> dict[str, str]:
    """A class of the style sheet for each rung, in order of the ladder."""
    return {rung: f"c{i % 4 + 1}" for i, rung in enumerate(numbers.rungs(journal))}


def _climbed(roots: Iterable[Written], family: Family) -> Iterable[Written]:
    for root in roots:
        if root.proposal.accepted:
            yield root
            yield from _climbed(family.above.get(root.proposal.id, ()), family)


def _rung(found: Written, family: Family, depth: int = 1) -> Html:
    """An accepted proposal, with the rungs above it inside its own box."""
    p = found.proposal
    children = family.above.get(p.id, [])
    accepted = sorted((c for c in children if c.proposal.accepted), key=lambda c: -c.proposal.reward)
    return el(
        "div",
        el(
            "h4",
            el("span", p.rung.capitalize(), class_="rung"),
            f" iteration {found.step}",
            f" · {AXES[p.axis]}" if p.axis else None,
        ),
        meter(p),
        written(p.message, 1500, class_="message"),
        el("div", written(p.program, 3000, class_="program"), pairs(p, family.public_pairs), class_="facts"),
        *(_rung(child, family, depth + 1) for child in accepted[:CHILDREN]),
        _left_out(len(accepted) - CHILDREN, "more accepted above this one"),
        _rejected([c for c in children if not c.proposal.accepted], "above this one"),
        class_=f"step c{(depth - 1) % 4 + 1}",
    )


def meter(p: Proposal) -> Html | None:
    """K of N as filled and empty dots, and the reward it earned."""
    if not p.tries:
        return None
    return el(
        "p",
        el("span", "●" * p.passes, el("i", "●" * (p.tries - p.passes)), class_="dots", aria_hidden="true")
        if p.tries <= 20
        else None,
        f" solved {p.passes} of {p.tries} times · reward {p.reward:+.2f}",
        class_="meter",
    )


def pairs(p: Proposal, shown: int) -> Html | None:
    """Inputs and outputs: those the student saw, then those that judged it."""
    if not p.pairs:
        return None
    rows = [
        [
            "shown" if i < shown else "hidden",
            el("code", one_line(pair.input, 160)),
            el("code", one_line(pair.output, 160)),
        ]
        for i, pair in enumerate(p.pairs[:10])
    ]
    return table(["", "input", "output"], rows, label="Inputs and outputs")


def _evidence(history: Sequence[tuple[int, ProblemScore]]) -> Html | None:
    """The goalpost's own solves over time, and one program as proof."""
    if not history:
        return None
    cells = [
        el(
            "li",
            el("b", str(score.confirmed)),
            el("span", f"it. {step}" if step else "base"),
            class_="hit" if score.confirmed else None,
            title=f"iteration {step}: {score.confirmed} of {score.samples} draws solved it",
        )
        for step, score in history
    ]
    proof = next((score.program for _, score in reversed(history) if score.confirmed and score.program), "")
    return join(
        [
            el("p", f"Draws that solved it, of {history[-1][1].samples} at each evaluation:", class_="quiet"),
            el("ol", *cells, class_="history"),
            details("A program that solves it", written(proof, 4000, class_="program")) if proof else None,
        ]
    )


def _rejected(rejected: Sequence[Written], where: str) -> Html | None:
    """Failed siblings, folded, with the reasons in the summary."""
    if not rejected:
        return None
    reasons = Counter(WHY[w.proposal.rejection] for w in rejected if w.proposal.rejection)
    words = ", ".join(f"{count} {why}" for why, count in reasons.most_common())
    return details(
        f"{len(rejected)} rejected {where}: {words}",
        *(_failure(w) for w in _varied(rejected)[:REJECTED]),
        _left_out(len(rejected) - REJECTED, "more"),
        class_="rejected",
    )


def _varied(rejected: Sequence[Written]) -> list[Written]:
    """The latest of each reason first, so that a short list shows every reason."""
    seen: Counter[Rejection | None] = Counter()
    ranked: list[tuple[int, int, Written]] = []
    for place, w in enumerate(reversed(rejected)):
        seen[w.proposal.rejection] += 1
        ranked.append((seen[w.proposal.rejection], place, w))
    return [w for _, _, w in sorted(ranked, key=lambda item: item[:2])]


def _failure(w: Written) -> Html:
    p = w.proposal
    why = WHY[p.rejection] if p.rejection else ""
    return el(
        "div",
        el("p", el("b", why), f" · iteration {w.step}", f" · {one_line(p.detail, 200)}" if p.detail else None),
        meter(p),
        written(p.message or p.text, 600),
        written(p.program, 1000, class_="program") if p.program else None,
        class_="failure",
    )


def _left_out(count: int, what: str) -> Html | None:
    return el("p", f"{count} {what}, not shown.", class_="note") if count > 0 else None
