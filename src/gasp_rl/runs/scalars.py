"""A run as curves: a name and a number per iteration, for people's dashboards. docs/run-directory.md lists the names."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import TypeAlias

from gasp_rl.rollout import Answer, Evaluation, Iteration, Judgement, Phase, Proposal, Rejection, UpdateStats
from gasp_rl.runs.metrics import Measurement
from gasp_rl.stats import mean_pass_at_k

Scalars: TypeAlias = dict[str, float]


def of_iteration(iteration: Iteration) -> Scalars:
    """What the teacher wrote, what the student answered, what was learned. Phases of one name count together."""
    named: defaultdict[str, list[Phase]] = defaultdict(list)
    for phase in iteration.phases:
        named[_plain(phase.name)].append(phase)
    found: Scalars = {}
    for name, phases in named.items():
        found |= {f"{name}/{key}": value for key, value in _of_phases(phases)}
    return found


def of_evaluation(evaluation: Evaluation, ks: Sequence[int]) -> Scalars:
    rates = {f"{evaluation.split}/pass@{k}": mean_pass_at_k(evaluation.scores, k) for k in ks}
    solved = {f"{evaluation.split}/solved": float(len(evaluation.solved))}
    return solved | {name: rate for name, rate in rates.items() if rate is not None}


def of_measurements(measurements: Iterable[Measurement]) -> Scalars:
    """What the phases of one iteration cost, each and together."""
    named: defaultdict[str, list[Measurement]] = defaultdict(list)
    for measured in measurements:
        named[_plain(measured.phase)].append(measured)
        named["all"].append(measured)
    found: Scalars = {}
    for name, phases in named.items():
        found[f"cost/{name}/seconds"] = sum(m.seconds for m in phases)
        found[f"cost/{name}/sampling_seconds"] = sum(m.sampling_seconds for m in phases)
        found[f"cost/{name}/update_seconds"] = sum(m.update_seconds for m in phases)
        found[f"cost/{name}/sandbox_cpu_seconds"] = sum(m.sandbox_cpu_seconds for m in phases)
        found[f"cost/{name}/tokens"] = float(sum(m.tokens for m in phases))
    if "all" in named:
        found["cost/memory_mb"] = max(m.memory_mb for m in named["all"])
    return found


def _plain(phase: str) -> str:
    """The name of a phase where dashboards take only letters: `joint_update`."""
    return re.sub(r"\W+", "_", phase)


def _of_phases(phases: Sequence[Phase]) -> Iterator[tuple[str, float]]:
    proposals = [proposal for phase in phases for proposal in phase.proposals]
    if proposals:
        yield from _of_proposals(proposals)
    if any(proposal.accepted for proposal in proposals):
        yield "dissimilarity", fmean(phase.dissimilarity for phase in phases)
    answers = [answer for phase in phases for answer in phase.answers]
    if judged := [answer for answer in answers if answer.judgement is not Judgement.SANDBOX_FAULT]:
        yield from _of_answers(judged)
    for update in (phase.update for phase in phases if phase.update):
        yield from _of_update(update)


def _of_proposals(proposals: Sequence[Proposal]) -> Iterator[tuple[str, float]]:
    """The funnel as shares of what was written."""
    yield "proposals", float(len(proposals))
    yield "accepted", float(sum(proposal.accepted for proposal in proposals))
    yield "reward", fmean(proposal.reward for proposal in proposals)
    why = Counter(proposal.rejection for proposal in proposals)
    yield "share/accepted", why[None] / len(proposals)
    for reason in Rejection:
        yield f"share/{reason}", why[reason] / len(proposals)
    if rates := [proposal.passes / proposal.tries for proposal in proposals if proposal.tries]:
        yield "pass_rate", fmean(rates)


def _of_answers(answers: Sequence[Answer]) -> Iterator[tuple[str, float]]:
    yield "answer_reward", fmean(answer.reward for answer in answers)
    for kind in dict.fromkeys(answer.kind for answer in answers):
        yield f"correct/{kind}", fmean(a.judgement is Judgement.CORRECT for a in answers if a.kind is kind)


def _of_update(update: UpdateStats) -> Iterator[tuple[str, float]]:
    yield "update/mean_reward", update.mean_reward
    if update.skipped:
        return
    yield "update/tokens", float(update.tokens)
    yield "update/loss", update.loss
    yield "update/grad_norm", update.grad_norm
    yield "update/entropy", update.entropy
    yield "update/log_ratio_max", update.ratio_max
    yield "update/lag", float(update.lag)
