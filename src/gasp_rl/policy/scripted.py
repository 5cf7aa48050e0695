"""A fake engine that says what a function tells it to, and remembers what it was taught. For tests; needs no torch.

It keeps every promise of `Engine` that does not need weights: its log-probs are one constant, so no step moves them.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeAlias

from gasp_rl.errors import EngineError
from gasp_rl.policy.engine import (
    Lack,
    Loss,
    OptimParams,
    OptimStats,
    Sample,
    SampleRequest,
    StepStats,
    Stop,
    TrainItem,
    finished,
)

Reply: TypeAlias = Callable[[str, int, int], str]
"""(text of the prompt, index of the sample, seed of the request) -> what to say."""


class CharTokenizer:
    """One token per character: its code point plus one, so that 0 is free to end a text."""

    eos = 0

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(ord(character) + 1 for character in text)

    def chat(self, messages: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        return self.encode("".join(f"<{role}>{content}\n" for role, content in messages) + "<assistant>")

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(chr(token - 1) for token in tokens if token != self.eos)


class ScriptedEngine:
    """Replies from a script. What it was taught lies open in `learned`, one list of items per optimizer step."""

    def __init__(self, reply: Reply, context: int = 1 << 20, logprob: float = -1.0) -> None:
        self._reply = reply
        self._logprob = logprob
        self._context = context
        self._version = 0
        self._pending: list[TrainItem] = []
        self.learned: list[list[TrainItem]] = []
        """The items of each optimizer step."""
        self.losses: list[Loss] = []
        """The loss of each call to `forward_backward`."""
        self.steps: list[OptimParams] = []

    @property
    def tokenizer(self) -> CharTokenizer:
        return CharTokenizer()

    @property
    def lacks(self) -> frozenset[Lack]:
        return frozenset({Lack.EXPORT})

    @property
    def version(self) -> int:
        return self._version

    @property
    def digest(self) -> str:
        return "scripted"

    @property
    def dtype(self) -> str:
        return "float32"

    @property
    def context(self) -> int:
        return self._context

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[tuple[int, list[Sample]]]:
        for index, request in enumerate(requests):
            yield index, [self._sample(request, place) for place in range(request.n)]

    def logprobs(self, items: Sequence[TrainItem], temperature: float = 1.0) -> Future[list[list[float]]]:
        return finished([[self._logprob] * len(item.completion) for item in items])

    def forward_backward(self, items: Sequence[TrainItem], loss: Loss) -> Future[StepStats]:
        self._pending.extend(items)
        self.losses.append(loss)

        total, tokens, clipped, log_ratio_max = 0.0, 0, 0, 0.0
        for item in items:
            for old in item.old_logprobs:
                ratio = math.exp(self._logprob - old)
                if loss.truncate:
                    total -= item.weight * min(ratio, loss.truncate) * item.advantage * self._logprob
                    clipped += ratio > loss.truncate
                else:
                    bounded = min(max(ratio, 1 - loss.clip_low), 1 + loss.clip_high)
                    total -= item.weight * min(ratio * item.advantage, bounded * item.advantage)
                    clipped += bounded * item.advantage < ratio * item.advantage
                log_ratio_max = max(log_ratio_max, abs(self._logprob - old))
                tokens += 1
        mean = 1 / tokens if tokens else 0.0
        return finished(
            StepStats(
                total / loss.denominator, tokens, -self._logprob if tokens else 0.0, log_ratio_max, clipped * mean
            )
        )

    def optim_step(self, params: OptimParams) -> Future[OptimStats]:
        self.learned.append(self._pending)
        self._pending = []
        self.steps.append(params)
        return finished(OptimStats(grad_norm=float(bool(self.learned[-1])), skipped=False))

    def publish(self) -> Future[int]:
        self._version += 1
        return finished(self._version)

    def save(self, path: Path) -> None:
        path.mkdir(parents=True)
        (path / "engine.json").write_text(json.dumps({"version": self._version, "steps": len(self.learned)}))

    def load(self, path: Path) -> None:
        self._version = json.loads((path / "engine.json").read_text())["version"]
        self._pending = []

    def export_hf(self, path: Path) -> None:
        raise EngineError(f"cannot export to {path}: a scripted engine has no weights")

    def close(self) -> None:
        pass

    def _sample(self, request: SampleRequest, place: int) -> Sample:
        tokenizer, params = self.tokenizer, request.params
        text = self._reply(tokenizer.decode(request.prompt), place, request.seed)
        ends = [text.index(stop) + len(stop) for stop in params.stop if stop in text]
        tokens = tokenizer.encode(text[: min(ends)]) if ends else (*tokenizer.encode(text), tokenizer.eos)
        stop = Stop.STRING if ends else Stop.EOS

        room = min(params.max_tokens, self._context - len(request.prompt))
        if len(tokens) > room:
            tokens, stop = tokens[:room], Stop.LENGTH
        return Sample(tokens, (self._logprob,) * len(tokens), stop, self._version)
