"""A model that only says and learns what a journal says it did: a step made again without weights."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from gasp_rl.policy.engine import Loss, OptimParams, OptimStats, SamplingParams, StepStats, TrainItem, finished
from gasp_rl.policy.policy import prompt_digest
from gasp_rl.rollout import Completion, Draws, Prompt, UpdateStats


class RecordedPolicy:
    """Completes the prompts of one iteration as they were completed then. Its tokens are only as many, all zero."""

    def __init__(self) -> None:
        self._draws: dict[tuple[int, str], Draws] = {}
        self.sampled_tokens = 0
        self.unknown = 0
        """Prompts, or numbers of completions, that were not asked for then."""

    def turn_to(self, draws: Sequence[Draws]) -> None:
        """Forget what was, and know these."""
        self._draws = {(one.seed, one.prompt): one for one in draws}
        self.unknown = 0

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        return ()

    def sample(
        self, prompts: Sequence[Prompt], n: int, params: SamplingParams, seeds: Sequence[int]
    ) -> Iterator[tuple[int, list[Completion]]]:
        for place, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            known = self._draws.get((seed, prompt_digest(prompt)))
            completions = _completions(known)[:n] if known else []
            too_long = known is not None and not known.texts  # got no completion then either
            self.unknown += len(completions) < n and not too_long
            self.sampled_tokens += sum(len(completion.tokens) for completion in completions)
            yield place, completions


class RecordedTrainer:
    """Answers each update with the figures of the one that was made then, whatever it is given to learn."""

    def __init__(self) -> None:
        self._coming: deque[UpdateStats] = deque()
        self._update: UpdateStats | None = None

    @property
    def version(self) -> int:
        """As far ahead of what was sampled, which is of version 0, as it was then."""
        return self._coming[0].lag if self._coming else 0

    def turn_to(self, updates: Sequence[UpdateStats]) -> None:
        """Forget what was, and answer the next updates with these. One that had nothing to learn from was never asked."""
        self._coming = deque(update for update in updates if update.rollouts)

    def forward_backward(self, items: Sequence[TrainItem], loss: Loss) -> Future[StepStats]:
        self._update = self._coming.popleft() if self._coming else None
        tokens = sum(len(item.completion) for item in items)
        if self._update is None:
            return finished(StepStats(math.nan, tokens, math.nan, math.nan, math.nan))
        return finished(StepStats(self._update.loss, tokens, self._update.entropy, self._update.ratio_max, 0.0))

    def optim_step(self, params: OptimParams) -> Future[OptimStats]:
        if self._update is None:
            return finished(OptimStats(math.nan, skipped=True))
        return finished(OptimStats(self._update.grad_norm, self._update.skipped))

    def publish(self) -> Future[int]:
        return finished(0)


def _completions(draws: Draws) -> list[Completion]:
    return [
        Completion((0,) * tokens, (0.0,) * tokens, text, finished, version=0)
        for text, tokens, finished in zip(draws.texts, draws.tokens, draws.finished, strict=True)
    ]
