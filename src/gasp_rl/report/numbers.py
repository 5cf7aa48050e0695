"""What a journal says in numbers. Pure functions; the page and the terminal say the same because both ask here."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gasp_rl.rollout import Answer, Evaluation, Judgement, Phase, ProblemScore, Proposal, Rejection
from gasp_rl.runs.journal import Journal
from gasp_rl.stats import mean_pass_at_k, paired_exact_test

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
    why = Counter(p.rejection for p in written)
    left = len(written)
    stages = []
    for words, reasons in CHECKS:
        left -= sum(why[reason] for reason in reasons)
        stages.append(Stage(words, left, tuple((reason, why[reason]) for reason in reasons if why[reason])))
    return stages


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
    broken = {Rejection.MALFORMED, Rejection.UNSAFE, Rejection.INVALID, Rejection.NONDETERMINISTIC}
    points = []
    for iteration in journal.iterations:
        written = [p for phase in iteration.phases for p in phase.proposals if p.rung == rung]
        if written:
            points.append((float(iteration.step), sum(p.rejection not in broken for p in written) / len(written)))
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
