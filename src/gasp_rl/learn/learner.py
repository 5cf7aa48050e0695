"""Rollouts in, one optimizer step out. The only place where a loss is normalised."""

import math
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from statistics import fmean

from gasp_rl.config import LearnConfig
from gasp_rl.learn.advantages import Estimator, estimator
from gasp_rl.policy.engine import Loss, OptimParams, OptimStats, StepStats, Trainer, TrainItem
from gasp_rl.progress import PUBLISH, UPDATE, Observer, Silent
from gasp_rl.rollout import Advantages, Iteration, Role, RolloutGroup, UpdateStats


class Learner:
    """Turns rollout groups into updates of the engine's weights and publishes them to the sampler: each at once or, with
    `learn.overlap`, when the next update begins.
    """

    def __init__(self, engine: Trainer, cfg: LearnConfig, temperature: float, observer: Observer | None = None) -> None:
        self._engine = engine
        self._observer = observer or Silent()
        self._cfg = cfg
        self._temperature = temperature
        self._estimator = estimator(cfg.advantages, cfg.whiten)
        self._optim = OptimParams(lr=cfg.lr, betas=cfg.betas, weight_decay=cfg.weight_decay, grad_clip=cfg.grad_clip)
        self._unpublished = False
        """Whether the sampler lacks the last update."""
        self._asked: deque[tuple[Future[StepStats], Future[OptimStats]]] = deque()
        """Of each update that is not `settled` yet."""

    def update(self, phase: str, groups: Sequence[RolloutGroup], credit: Estimator | None = None) -> UpdateStats:
        """One update from all rollouts of a phase. Masked rollouts take no part at all; rollouts whose advantage is
        zero count in the denominator but are not run, since they add nothing to the gradient.

        What only the engine can say of it is not a number until it is `settled`: it may be at work still.
        """
        self._observer.phase(phase, UPDATE)
        advantages = (credit or self._estimator)(groups)
        items = train_items(groups, advantages, self._cfg)
        scored = [r for group in groups for r in group.rollouts if not r.masked]
        mean_reward = fmean(r.reward for r in scored) if scored else 0.0
        if not items:
            self.catch_up()
            return UpdateStats(phase, 0, 0, mean_reward, 0.0, 0.0, 0.0, 0.0, True, _frozen(advantages))

        newest = self._engine.version + self._unpublished
        before = self._engine.publish() if self._unpublished else None
        loss = Loss(
            denominator(groups, self._cfg),
            self._cfg.clip_low,
            self._cfg.clip_high,
            truncate=self._cfg.truncate,
            temperature=self._temperature,
        )
        self._observer.learning(sum(len(item.prompt) + len(item.completion) for item in items))
        step, optim = self._engine.forward_backward(items, loss), self._engine.optim_step(self._optim)
        self._asked.append((step, optim))
        if before:
            before.result()
        self._unpublished = True
        if not self._cfg.overlap:
            optim.result()
            self._observer.phase(phase, PUBLISH)
            self.catch_up()
        return UpdateStats(
            phase=phase,
            rollouts=len(items),
            tokens=sum(len(item.completion) for item in items),
            mean_reward=mean_reward,
            loss=math.nan,
            grad_norm=math.nan,
            entropy=math.nan,
            ratio_max=math.nan,
            skipped=False,
            advantages=_frozen(advantages),
            lag=newest - min(rollout.completion.version for rollout in scored),
        )

    def catch_up(self) -> None:
        """Have the sampler go on with all that was learned; waits for it."""
        if self._unpublished:
            self._engine.publish().result()
            self._unpublished = False

    def settled(self, iteration: Iteration) -> Iteration:
        """The same with what the engine says of its updates; waits for them. Iterations come as they were made, each once."""
        return replace(iteration, phases=tuple(replace(p, update=self._told(p.update)) for p in iteration.phases))

    def _told(self, update: UpdateStats | None) -> UpdateStats | None:
        if not (update and update.rollouts):
            return update
        asked_step, asked_optim = self._asked.popleft()
        step, optim = asked_step.result(), asked_optim.result()
        return replace(
            update, loss=step.loss, grad_norm=optim.grad_norm, entropy=step.entropy, ratio_max=step.log_ratio_max,
            skipped=optim.skipped,
        )  # fmt: skip


def train_items(
    groups: Sequence[RolloutGroup], advantages: Sequence[Sequence[float]], cfg: LearnConfig
) -> list[TrainItem]:
    """One item per rollout that carries a gradient, weighted so that `denominator` normalises their sum."""
    pool_tokens = _pool_tokens(groups)
    return [
        TrainItem(
            group.prompt,
            rollout.completion.tokens,
            advantage,
            rollout.completion.logprobs,
            weight=_weight(cfg, len(rollout.completion.tokens), pool_tokens[group.role, group.kind]),
        )
        for group, credit in zip(groups, advantages, strict=True)
        for rollout, advantage in zip(group.rollouts, credit, strict=True)
        if advantage != 0.0 and rollout.completion.tokens
    ]


def denominator(groups: Sequence[RolloutGroup], cfg: LearnConfig) -> float:
    """What the weighted sum over tokens is divided by: the one place that decides how a loss is normalised."""
    pool_tokens = _pool_tokens(groups)
    match cfg.normalise:
        case "token":
            return float(sum(pool_tokens.values()))
        case "sequence":
            return float(sum(not r.masked for group in groups for r in group.rollouts))
        case "group":
            return float(sum(tokens > 0 for tokens in pool_tokens.values()))
        case "constant":
            return cfg.constant


def _frozen(advantages: Advantages) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(credit) for credit in advantages)


def _weight(cfg: LearnConfig, tokens: int, pool_tokens: int) -> float:
    match cfg.normalise:
        case "token" | "constant":
            return 1.0
        case "sequence":
            return 1.0 / tokens
        case "group":
            return 1.0 / pool_tokens


def _pool_tokens(groups: Sequence[RolloutGroup]) -> Counter[tuple[Role, str]]:
    pools: Counter[tuple[Role, str]] = Counter()
    for group in groups:
        pools[group.role, group.kind] += sum(len(r.completion.tokens) for r in group.rollouts if not r.masked)
    return pools
