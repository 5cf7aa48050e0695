"""Credit assignment: rewards in, one number per rollout out. Knows nothing of models.

To add an estimator: the function, one line in `ESTIMATORS`, one `Literal` in config, one law in the tests.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from statistics import fmean
from typing import TypeAlias

from gasp_rl.rollout import Advantages, Rollout, RolloutGroup

Estimator: TypeAlias = Callable[[Sequence[RolloutGroup]], Advantages]

WHITEN_EPS = 1e-8  # inside the root, as in AZR's masked_whiten


def trr_token(groups: Sequence[RolloutGroup]) -> Advantages:
    """Task-relative REINFORCE++ as AZR's code computes it: statistics over *tokens* of each (role, kind).

    A_i = (R_i - mu) / sqrt(var + 1e-8), mu = sum L_i R_i / sum L_i, var = sum L_i (R_i - mu)^2 / (sum L_i - 1),
    with L_i the completion's tokens, so that long completions weigh more.
    """
    return _task_relative(groups, lambda rollout: len(rollout.completion.tokens))


def trr_sequence(groups: Sequence[RolloutGroup]) -> Advantages:
    """Task-relative REINFORCE++ as AZR's paper writes it (Eq. 8): statistics over rollouts of each (role, kind)."""
    return _task_relative(groups, lambda _: 1)


def grpo(groups: Sequence[RolloutGroup]) -> Advantages:
    """(R_i - mean) / (std + 1e-6) among the rollouts of one prompt (GRPO, arXiv:2402.03300; sample deviation)."""
    return [_per_prompt(group, _standardise) for group in groups]


def rloo(groups: Sequence[RolloutGroup]) -> Advantages:
    """R_i minus the mean of the other rollouts of the prompt (RLOO, arXiv:2402.14740)."""
    return [_per_prompt(group, _leave_one_out) for group in groups]


def reinforce(groups: Sequence[RolloutGroup]) -> Advantages:
    """The reward itself."""
    return [_per_prompt(group, list) for group in groups]


def estimator(name: str, whiten: str) -> Estimator:
    """The estimator a LearnConfig names."""
    return ESTIMATORS[(name, whiten) if name == "trr++" else name]


ESTIMATORS: dict[str | tuple[str, str], Estimator] = {
    ("trr++", "token"): trr_token,
    ("trr++", "sequence"): trr_sequence,
    "grpo": grpo,
    "rloo": rloo,
    "reinforce": reinforce,
}


def _task_relative(groups: Sequence[RolloutGroup], weight: Callable[[Rollout], int]) -> Advantages:
    pools: dict[Hashable, list[Rollout]] = {}
    for group in groups:
        pools.setdefault((group.role, group.kind), []).extend(r for r in group.rollouts if not r.masked)
    moments = {key: _moments([(r.reward, weight(r)) for r in pool]) for key, pool in pools.items()}
    credit: Advantages = []
    for group in groups:
        mean, scale = moments[group.role, group.kind]
        credit.append([0.0 if r.masked else (r.reward - mean) * scale for r in group.rollouts])
    return credit


def _moments(weighted: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """(mean, 1/deviation); the factor is 0 where there is nothing to compare, so that the advantage is 0."""
    rewards = [reward for reward, _ in weighted]
    total = sum(weight for _, weight in weighted)
    if len(rewards) < 2 or min(rewards) == max(rewards) or total < 2:
        return 0.0, 0.0
    mean = math.fsum(weight * reward for reward, weight in weighted) / total
    variance = math.fsum(weight * (reward - mean) ** 2 for reward, weight in weighted) / (total - 1)
    return mean, 1.0 / math.sqrt(variance + WHITEN_EPS)


def _per_prompt(group: RolloutGroup, credit: Callable[[Sequence[float]], list[float]]) -> list[float]:
    scored = iter(credit([r.reward for r in group.rollouts if not r.masked]))
    return [0.0 if r.masked else next(scored) for r in group.rollouts]


def _standardise(rewards: Sequence[float]) -> list[float]:
    if len(rewards) < 2 or min(rewards) == max(rewards):
        return [0.0] * len(rewards)
    mean = fmean(rewards)
    deviation = math.sqrt(math.fsum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1))
    return [(r - mean) / (deviation + 1e-6) for r in rewards]


def _leave_one_out(rewards: Sequence[float]) -> list[float]:
    if len(rewards) < 2:
        return [0.0] * len(rewards)
    total = math.fsum(rewards)
    return [r - (total - r) / (len(rewards) - 1) for r in rewards]
