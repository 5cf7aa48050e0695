"""What the algorithm sees of a model: prompts in, completions out. Knows nothing of weights or gradients."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from gasp_rl.policy.engine import Answering, Sample, SampleRequest, SamplingParams, Stop
from gasp_rl.policy.respondent import Respondent
from gasp_rl.progress import Observer, Silent
from gasp_rl.rollout import Completion, Draws, Prompt


class Policy(Respondent, Protocol):
    """A respondent whose prompts have tokens to learn from. What it yields comes in an order that prompts and seeds
    decide; its tokens are the compute that arms of a comparison are matched by.
    """

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of a prompt: raw text as it is, messages under the model's chat template."""
        ...


def prompt_digest(prompt: Prompt) -> str:
    """The start of the SHA-256 of a prompt: two prompts are the same if theirs is."""
    return hashlib.sha256(msgspec.json.encode(prompt)).hexdigest()[:16]


class EnginePolicy:
    """Samples completions from an engine, and counts what that cost."""

    def __init__(self, engine: Answering, observer: Observer | None = None) -> None:
        self._engine = engine
        self._observer = observer or Silent()
        self.sampled_tokens = 0

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        tokenizer = self._engine.tokenizer
        match prompt:
            case str():
                return tokenizer.encode(prompt)
            case _:
                return tokenizer.chat([(message.role, message.content) for message in prompt])

    def sample(
        self, prompts: Sequence[Prompt], n: int, params: SamplingParams, seeds: Sequence[int]
    ) -> Iterator[tuple[int, list[Completion]]]:
        requests, places = [], []
        for place, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            tokens = self.encode(prompt)
            if len(tokens) >= self._engine.context:
                yield place, []
            else:
                requests.append(SampleRequest(tokens, n, params, seed))
                places.append(place)

        self._observer.progress(0, len(requests))
        for done, (index, samples) in enumerate(self._engine.sample(requests), start=1):
            lengths = [len(sample.tokens) for sample in samples]
            self.sampled_tokens += sum(lengths)
            self._observer.sampling(len(requests[index].prompt), sum(lengths), max(lengths, default=0))
            yield places[index], [self._completion(sample) for sample in samples]
            self._observer.progress(done, len(requests))

    def _completion(self, sample: Sample) -> Completion:
        text = self._engine.tokenizer.decode(sample.tokens)
        return Completion(sample.tokens, sample.logprobs, text, sample.stop is not Stop.LENGTH, sample.version)


class RecordingPolicy:
    """Passes on what another policy writes, and keeps it until it is taken."""

    def __init__(self, inner: Policy) -> None:
        self._inner = inner
        self._draws: list[Draws] = []

    @property
    def sampled_tokens(self) -> int:
        return self._inner.sampled_tokens

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        return self._inner.encode(prompt)

    def sample(
        self, prompts: Sequence[Prompt], n: int, params: SamplingParams, seeds: Sequence[int]
    ) -> Iterator[tuple[int, list[Completion]]]:
        for place, completions in self._inner.sample(prompts, n, params, seeds):
            self._draws.append(_draws(seeds[place], prompts[place], completions))
            yield place, completions

    def take(self) -> tuple[Draws, ...]:
        """What was written since this was last asked, in order."""
        taken, self._draws = tuple(self._draws), []
        return taken


def _draws(seed: int, prompt: Prompt, completions: Sequence[Completion]) -> Draws:
    return Draws(
        seed,
        prompt_digest(prompt),
        texts=tuple(completion.text for completion in completions),
        tokens=tuple(len(completion.tokens) for completion in completions),
        finished=tuple(completion.finished for completion in completions),
    )
