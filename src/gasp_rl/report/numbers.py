"""What a journal says in numbers. Pure functions; the page and the terminal say the same because both ask here."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

from gasp_rl.intervals import Interval, bootstrap_interval
from gasp_rl.rollout import BROKEN, Answer, Evaluation, Judgement, Phase, ProblemScore, Proposal, Rejection, UpdateStats
from gasp_rl.runs.journal import Journal
from gasp_rl.runs.metrics import Measurement
from gasp_rl.stats import mean_pass_at_k, paired_exact_test, pass_at_k

GOALPOSTS = "goalposts"
MATCHED_BASE = "matched_base"
VALIDATION = "validation"

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Solves:
    """How one goalpost fared over several evaluations."""

    problem: str
    samples: int = 0
    passes: int = 0
    confirmed: int = 0

    @property
    def solved(self) -> bool:
        return self.confirmed > 0

    @property
    def solid(self) -> bool:
        """Two confirmed solves: one alone may be luck."""
        return self.confirmed > 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """The run against its base model on the same goalposts."""

    goalposts: frozenset[str]
    run: frozenset[str]
    """Goalposts that the run solved, at any evaluation."""
    base: frozenset[str]
    run_draws: int
    """Samples drawn per goalpost, on average."""
    base_draws: int

    @property
    def matched(self) -> bool:
        """As many draws on both sides, but for the few that a fault of ours may have cost."""
        return abs(self.run_draws - self.base_draws) <= 0.01 * self.base_draws

    @property
    def p_value(self) -> float:
        return paired_exact_test(self.goalposts, self.run, self.base).p_value


def of_split(journal: Journal, split: str) -> list[Evaluation]:
    return [e for e in journal.evaluations if e.split == split]


def trained(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Without those of the base model."""
    return [e for e in evaluations if e.step > 0]


def solves(evaluations: Iterable[Evaluation]) -> dict[str, Solves]:
    """Per goalpost, summed over evaluations, in order of first appearance."""
    totals: dict[str, Solves] = {}
    for score in (score for evaluation in evaluations for score in evaluation.scores):
        so_far = totals.get(score.problem, Solves(score.problem))
        totals[score.problem] = Solves(
            score.problem,
            so_far.samples + score.samples,
            so_far.passes + score.passes,
            so_far.confirmed + score.confirmed,
        )
    return totals


def comparison(journal: Journal) -> Comparison | None:
    """The matched-draw comparison; None until both sides were evaluated."""
    run = solves(trained(of_split(journal, GOALPOSTS)))
    base = solves(of_split(journal, MATCHED_BASE))
    both = run.keys() & base.keys()
    if not both:
        return None
    return Comparison(
        frozenset(both),
        frozenset(p for p in both if run[p].solved),
        frozenset(p for p in both if base[p].solved),
        round(sum(run[p].samples for p in both) / len(both)),
        round(sum(base[p].samples for p in both) / len(both)),
    )


def proposals(journal: Journal) -> list[Proposal]:
    return [p for iteration in journal.iterations for phase in iteration.phases for p in phase.proposals]


def rungs(journal: Journal) -> list[str]:
    """The kinds of proposal of this run, in order of first appearance."""
    gasp = journal.started.config.gasp if journal.started else None
    named = [rung.name for rung in gasp.ladder] if gasp else []
    return list(dict.fromkeys([*named, *(p.rung for p in proposals(journal))]))


def public_pairs(journal: Journal) -> int:
    """Pairs of a proposal that the student is shown."""
    config = journal.started.config if journal.started else None
    if config and config.gasp:
        return config.gasp.public_pairs
    return config.azr.pairs // 2 if config and config.azr else 0


@dataclass(frozen=True, slots=True)
class Stage:
    """One check of a funnel: how many passed it, and what stopped the others."""

    passed: str
    survivors: int
    lost: tuple[tuple[Rejection, int], ...]


CHECKS: tuple[tuple[str, tuple[Rejection, ...]], ...] = (
    ("could be read", (Rejection.MALFORMED,)),
    ("allowed", (Rejection.UNSAFE,)),
    ("ran on their own inputs", (Rejection.INVALID, Rejection.SANDBOX_FAULT)),
    ("gave the same twice", (Rejection.NONDETERMINISTIC,)),
    ("were new", (Rejection.DUPLICATE,)),
    (
        "accepted",
        (Rejection.TOO_HARD, Rejection.TOO_EASY, Rejection.CONTAMINATED, Rejection.QUARANTINED),
    ),
)
"""The checks in their order (arXiv:2603.15957 §3.3.1): the words for what passes each, and the rejections it can give."""


def funnel(written: Sequence[Proposal]) -> list[Stage]:
    """How many proposals are left after each check."""
    return stages(len(written), Counter(p.rejection for p in written if p.rejection))


def stages(written: int, why: Counter[Rejection]) -> list[Stage]:
    """How many of so many proposals are left after each check."""
    left = written
    found = []
    for words, reasons in CHECKS:
        left -= sum(why[reason] for reason in reasons)
        found.append(Stage(words, left, tuple((reason, why[reason]) for reason in reasons if why[reason])))
    return found


def tried(written: Iterable[Proposal]) -> Counter[tuple[int, int]]:
    """How often each (passes, tries) was seen, of proposals the student tried."""
    return Counter((p.passes, p.tries) for p in written if p.tries)


def goalposts_over_time(journal: Journal) -> tuple[list[Point], list[Point]]:
    """(solved at each evaluation, solved so far)."""
    now: list[Point] = []
    ever: list[Point] = []
    union: set[str] = set()
    for evaluation in of_split(journal, GOALPOSTS):
        union |= set(evaluation.solved)
        now.append((evaluation.step, len(evaluation.solved)))
        ever.append((evaluation.step, len(union)))
    return now, ever


def validation_over_time(journal: Journal, k: int) -> list[Point]:
    values = [(e.step, mean_pass_at_k(e.scores, k)) for e in of_split(journal, VALIDATION)]
    return [(step, value) for step, value in values if value is not None]


def accepted_over_time(journal: Journal, rung: str) -> list[Point]:
    return [
        (iteration.step, sum(p.accepted and p.rung == rung for phase in iteration.phases for p in phase.proposals))
        for iteration in journal.iterations
    ]


def runnable_over_time(journal: Journal, rung: str) -> list[Point]:
    """Share of proposals that could be read and run: the first thing to fall when a teacher collapses."""
    points = []
    for iteration in journal.iterations:
        written = [p for phase in iteration.phases for p in phase.proposals if p.rung == rung]
        if written:
            points.append((float(iteration.step), sum(p.rejection not in BROKEN for p in written) / len(written)))
    return points


def reward_over_time(journal: Journal, phase: str) -> list[Point]:
    """Mean reward of a phase in the iterations in which it had anything to learn from."""
    return [
        (iteration.step, found.update.mean_reward)
        for iteration in journal.iterations
        for found in iteration.phases
        if found.name == phase and found.update is not None and math.isfinite(found.update.mean_reward)
        if found.proposals or found.answers or found.update.rollouts
    ]


def phase_names(journal: Journal) -> list[str]:
    return list(dict.fromkeys(phase.name for iteration in journal.iterations for phase in iteration.phases))


def answers(phases: Iterable[Phase]) -> list[Answer]:
    return [answer for phase in phases for answer in phase.answers]


def correct_over_time(journal: Journal, kind: str) -> list[Point]:
    """Share of the student's answers of one kind that were right; faults of ours are not counted."""
    points = []
    for iteration in journal.iterations:
        judged = [
            a.judgement
            for a in answers(iteration.phases)
            if a.kind == kind and a.judgement is not Judgement.SANDBOX_FAULT
        ]
        if judged:
            points.append((float(iteration.step), judged.count(Judgement.CORRECT) / len(judged)))
    return points


def kinds(journal: Journal) -> list[str]:
    return list(dict.fromkeys(a.kind.value for i in journal.iterations for a in answers(i.phases)))


def sampled_tokens(journal: Journal) -> int:
    """Tokens sampled for training and for evaluation."""
    return sum(phase.sampled_tokens for iteration in journal.iterations for phase in iteration.phases) + sum(
        evaluation.sampled_tokens for evaluation in journal.evaluations
    )


def score_history(journal: Journal) -> dict[str, list[tuple[int, ProblemScore]]]:
    """Per goalpost, (step, score) at each evaluation."""
    history: dict[str, list[tuple[int, ProblemScore]]] = {}
    for evaluation in of_split(journal, GOALPOSTS):
        for score in evaluation.scores:
            history.setdefault(score.problem, []).append((evaluation.step, score))
    return history


def goalposts_over_tokens(journal: Journal) -> list[Point]:
    """(tokens sampled to learn from, goalposts solved so far) at each evaluation of the goalposts."""
    spent = {0: 0}
    for iteration in journal.iterations:
        before = spent[max(spent)]
        spent[iteration.step] = before + sum(phase.sampled_tokens for phase in iteration.phases)
    _, ever = goalposts_over_time(journal)
    return [(float(spent[int(step)]), solved) for step, solved in ever if int(step) in spent]


@dataclass(frozen=True, slots=True)
class Estimate:
    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Gain:
    """pass@k of the first and the last evaluation of one split, over the same problems."""

    k: int
    problems: int
    before: Estimate
    after: Estimate
    change: Estimate
    """Paired by problem."""


def gains(journal: Journal, split: str) -> list[Gain]:
    """For every k that both evaluations have samples for; none until the trained model was evaluated too."""
    evaluations = of_split(journal, split)
    if len(evaluations) < 2 or evaluations[0].step > 0:
        return []
    first, last = ({s.problem: s for s in e.scores} for e in (evaluations[0], evaluations[-1]))
    ks = journal.started.config.evaluate.ks if journal.started else (1,)
    found = []
    for k in ks:
        both = [p for p in first if p in last and min(first[p].samples, last[p].samples) >= k]
        if both:
            before, after = (
                tuple(pass_at_k(scores[p].samples, scores[p].passes, k) for p in both) for scores in (first, last)
            )
            halves = tuple((a - b + 1) / 2 for a, b in zip(after, before, strict=True))
            change = _estimate(halves)
            found.append(
                Gain(
                    k,
                    len(both),
                    _estimate(before),
                    _estimate(after),
                    Estimate(2 * change.value - 1, Interval(2 * change.interval.low - 1, 2 * change.interval.high - 1)),
                )
            )
    return found


@lru_cache(maxsize=64)
def _estimate(values: tuple[float, ...]) -> Estimate:
    """Of a watched run the same is asked again and again."""
    return Estimate(fmean(values), bootstrap_interval(values))


def by_difficulty_over_time(journal: Journal) -> dict[str, list[Point]]:
    """Share of draws that solved the goalposts of each difficulty, where a difficulty is known."""
    known = {g.id: g.difficulty for g in (journal.started.goalposts if journal.started else ())}
    found: dict[str, list[Point]] = {name: [] for name in sorted({name for name in known.values() if name})}
    for evaluation in of_split(journal, GOALPOSTS):
        for name, points in found.items():
            scores = [s for s in evaluation.scores if known.get(s.problem) == name]
            if samples := sum(s.samples for s in scores):
                points.append((float(evaluation.step), sum(s.confirmed for s in scores) / samples))
    return found


def tries_over_time(journal: Journal, rung: str) -> list[Point]:
    """Mean pass rate of the student on the candidates it tried: is the teacher in the band?"""
    points = []
    for iteration in journal.iterations:
        tried_ones = [p for phase in iteration.phases for p in phase.proposals if p.rung == rung and p.tries]
        if tried_ones:
            points.append((float(iteration.step), fmean(p.passes / p.tries for p in tried_ones)))
    return points


def update_over_time(journal: Journal, phase: str, quantity: Callable[[UpdateStats], float]) -> list[Point]:
    """Of the updates that were made: one that was skipped has no figures."""
    return [
        (float(iteration.step), value)
        for iteration in journal.iterations
        for found in iteration.phases
        if found.name == phase and found.update is not None and not found.update.skipped
        if math.isfinite(value := quantity(found.update))
    ]


def dissimilarity_over_time(journal: Journal, phase: str) -> list[Point]:
    return [
        (float(iteration.step), found.dissimilarity)
        for iteration in journal.iterations
        for found in iteration.phases
        if found.name == phase and any(p.accepted for p in found.proposals)
    ]


def measured_over_time(
    measurements: Iterable[Measurement], phase: str, quantity: Callable[[Measurement], float]
) -> list[Point]:
    """Summed over the parts of a phase within one iteration."""
    sums: dict[int, float] = {}
    for m in measurements:
        if m.phase == phase:
            sums[m.step] = sums.get(m.step, 0.0) + quantity(m)
    return [(float(step), total) for step, total in sorted(sums.items())]


def memory_over_time(measurements: Iterable[Measurement]) -> list[Point]:
    most: dict[int, float] = {}
    for m in measurements:
        most[m.step] = max(most.get(m.step, 0.0), m.memory_mb)
    return [(float(step), value) for step, value in sorted(most.items())]
