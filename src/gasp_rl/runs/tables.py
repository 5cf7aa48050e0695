"""A run as tables, for notebooks: flat typed rows, which `pandas.DataFrame` and `polars.DataFrame` take as they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gasp_rl.config import RunConfig
from gasp_rl.rollout import Answer, Evaluation, Iteration, Judgement, Phase
from gasp_rl.runs.directory import open_run, read_config
from gasp_rl.runs.journal import EvaluationRecord, IterationRecord, Started, read_whole
from gasp_rl.runs.metrics import Measurement, read_measurements


@dataclass(frozen=True, slots=True)
class ProposalRow:
    """What the teacher wrote, and what became of it."""

    step: int
    phase: str
    id: str
    rung: str
    axis: str
    """Empty where nothing was varied."""
    goalpost: str
    parent: str
    accepted: bool
    rejection: str
    """Empty: accepted."""
    detail: str
    passes: int
    tries: int
    reward: float
    similarity: float
    neighbour: str
    tokens: int
    message: str
    program: str
    text: str


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """What the student wrote, judged."""

    step: int
    phase: str
    purpose: str
    """`try`: it measured a candidate's pass rate; `practice`: it was learned from."""
    kind: str
    source: str
    """Id of the proposal or problem that was asked."""
    correct: bool
    judgement: str
    detail: str
    reward: float
    tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One problem at one evaluation."""

    step: int
    """Iterations trained before it; 0: the base model."""
    split: str
    temperature: float
    problem: str
    samples: int
    passes: int
    confirmed: int
    """Passing samples that passed again in a fresh sandbox."""
    truncated: int
    empty: int
    unreadable: int
    tokens: int
    program: str


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """Everything in a run's journal, row by row."""

    name: str
    config: RunConfig
    """As the run last went on with."""
    started: Started | None
    """None where the run has not begun."""
    proposals: tuple[ProposalRow, ...]
    rollouts: tuple[RolloutRow, ...]
    evaluations: tuple[EvaluationRow, ...]
    measurements: tuple[Measurement, ...]
    """Seconds, tokens, memory by phase."""


def load_run(path: str | Path) -> LoadedRun:
    """Read a run directory, finished or not. Nothing is changed. `pandas.DataFrame(load_run("runs/demo").proposals)`"""
    run = open_run(Path(path))
    started: Started | None = None
    proposals: list[ProposalRow] = []
    rollouts: list[RolloutRow] = []
    evaluations: list[EvaluationRow] = []
    for record in read_whole(run.journal) if run.journal.exists() else ():
        match record:
            case Started():
                started = record
            case IterationRecord(iteration):
                proposals += _proposals(iteration)
                rollouts += _rollouts(iteration)
            case EvaluationRecord(evaluation):
                evaluations += _evaluations(evaluation)
            case _:
                pass
    return LoadedRun(
        run.root.resolve().name,
        started.config if started else read_config(run.config),
        started,
        tuple(proposals),
        tuple(rollouts),
        tuple(evaluations),
        read_measurements(run.metrics),
    )


def _proposals(iteration: Iteration) -> Iterator[ProposalRow]:
    for phase in iteration.phases:
        for p in phase.proposals:
            yield ProposalRow(
                iteration.step,
                phase.name,
                p.id,
                p.rung,
                p.axis.value if p.axis else "",
                p.goalpost,
                p.parent,
                p.accepted,
                p.rejection.value if p.rejection else "",
                p.detail,
                p.passes,
                p.tries,
                p.reward,
                p.similarity,
                p.neighbour,
                p.tokens,
                p.message,
                p.program,
                p.text,
            )


def _rollouts(iteration: Iteration) -> Iterator[RolloutRow]:
    for phase in iteration.phases:
        for answer in phase.tries:
            yield _rollout(iteration, phase, "try", answer)
        for answer in phase.answers:
            yield _rollout(iteration, phase, "practice", answer)


def _rollout(iteration: Iteration, phase: Phase, purpose: str, answer: Answer) -> RolloutRow:
    return RolloutRow(
        iteration.step,
        phase.name,
        purpose,
        answer.kind.value,
        answer.source,
        answer.judgement is Judgement.CORRECT,
        answer.judgement.value,
        answer.detail,
        answer.reward,
        answer.tokens,
        answer.text,
    )


def _evaluations(evaluation: Evaluation) -> Iterator[EvaluationRow]:
    for score in evaluation.scores:
        yield EvaluationRow(
            evaluation.step,
            evaluation.split,
            evaluation.temperature,
            score.problem,
            score.samples,
            score.passes,
            score.confirmed,
            score.truncated,
            score.empty,
            score.unreadable,
            score.tokens,
            score.program,
        )
