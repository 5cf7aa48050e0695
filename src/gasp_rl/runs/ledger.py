"""What a run cost and what that bought: journal and measurements, added up."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Self

from gasp_rl.rollout import Evaluation, Iteration
from gasp_rl.runs.journal import Journal
from gasp_rl.runs.metrics import EVALUATE, MATCHED_DRAWS, Measurement


@dataclass(frozen=True, slots=True)
class Cost:
    tokens: float = 0.0
    """Sampled."""
    seconds: float = 0.0
    """By the wall clock, all else included."""
    sampling_seconds: float = 0.0
    """Of the model, while this process waited for it."""
    update_seconds: float = 0.0
    """Of the model, learning."""
    sandbox_cpu_seconds: float = 0.0
    """Of the processes that ran model-written programs."""

    def __add__(self, other: Self) -> "Cost":
        return Cost(*(mine + yours for mine, yours in zip(astuple(self), astuple(other), strict=True)))

    def per(self, count: int) -> "Cost":
        return Cost(*(total / count for total in astuple(self)))


@dataclass(frozen=True, slots=True)
class Bought:
    """So many of a thing, and what each cost."""

    what: str
    count: int
    each: Cost


@dataclass(frozen=True, slots=True)
class Ledger:
    phases: tuple[tuple[str, Cost], ...]
    """In order of first appearance, iterations that a crash cost and that were done again included."""
    bought: tuple[Bought, ...]
    """Accepted proposals of each rung, at the cost of the phase that wrote and tried them; goalposts solved, at the cost
    of everything but the base model's matched draws."""
    done_again: int
    """Tokens of iterations that were lost and done again: measured, and not in the journal."""

    @property
    def total(self) -> Cost:
        return sum((cost for _, cost in self.phases), Cost())


def ledger(journal: Journal, measurements: Sequence[Measurement]) -> Ledger:
    """Where nothing was measured, tokens alone, as the journal has them."""
    costs: dict[str, Cost] = {}
    for phase, cost in _measured(measurements) if measurements else _recorded(journal):
        costs[phase] = costs.get(phase, Cost()) + cost

    accepted: dict[str, int] = {}
    for proposal in (p for iteration in journal.iterations for phase in iteration.phases for p in phase.proposals):
        accepted[proposal.rung] = accepted.get(proposal.rung, 0) + proposal.accepted
    bought = [Bought(f"accepted {rung}", n, costs[rung].per(n)) for rung, n in accepted.items() if n and rung in costs]
    if solved := len({p for e in journal.evaluations if e.split == "goalposts" and e.step > 0 for p in e.solved}):
        spent = sum((cost for phase, cost in costs.items() if phase != MATCHED_DRAWS), Cost())
        bought.append(Bought("goalpost solved", solved, spent.per(solved)))

    counted = trained_tokens(journal.iterations) + sum(e.sampled_tokens for e in journal.evaluations)
    measured = sum(m.tokens for m in measurements)
    return Ledger(tuple(costs.items()), tuple(bought), max(0, measured - counted))


def trained_tokens(iterations: Iterable[Iteration]) -> int:
    """Tokens sampled to learn from."""
    return sum(phase.sampled_tokens for iteration in iterations for phase in iteration.phases)


def _measured(measurements: Iterable[Measurement]) -> Iterable[tuple[str, Cost]]:
    for m in measurements:
        yield m.phase, Cost(m.tokens, m.seconds, m.sampling_seconds, m.update_seconds, m.sandbox_cpu_seconds)


def _recorded(journal: Journal) -> Iterable[tuple[str, Cost]]:
    for phase in (phase for iteration in journal.iterations for phase in iteration.phases):
        yield phase.name, Cost(phase.sampled_tokens)
    for evaluation in journal.evaluations:
        yield _phase_of(evaluation), Cost(evaluation.sampled_tokens)


def _phase_of(evaluation: Evaluation) -> str:
    return MATCHED_DRAWS if evaluation.split == "matched_base" else EVALUATE
