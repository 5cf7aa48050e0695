"""What the algorithm sees of an engine: prompts in, completions out. Knows nothing of weights or gradients."""

from collections.abc import Iterator, Sequence

from gasp_rl.policy.engine import Engine, Sample, SampleRequest, SamplingParams, Stop
from gasp_rl.progress import Observer, Silent
from gasp_rl.rollout import Completion, Prompt


class Policy:
    """Sample completions from an engine, and count what that cost."""

    def __init__(self, engine: Engine, observer: Observer | None = None) -> None:
        self._engine = engine
        self._observer = observer or Silent()
        self.sampled_tokens = 0
        """Tokens sampled so far: the compute that arms of a comparison are matched by."""

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of a prompt: raw text as it is, messages under the model's chat template."""
        tokenizer = self._engine.tokenizer
        match prompt:
            case str():
                return tokenizer.encode(prompt)
            case _:
                return tokenizer.chat([(message.role, message.content) for message in prompt])

    def sample(
        self, prompts: Sequence[Prompt], n: int, params: SamplingParams, seeds: Sequence[int]
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield (place of prompt, its n completions) as prompts finish, in an order that the prompts and seeds decide.

        A prompt that leaves the context no room for a single token gets no completions.
        """
        requests, places = [], []
        for place, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            tokens = self.encode(prompt)
            if len(tokens) >= self._engine.context:
                yield place, []
            else:
                requests.append(SampleRequest(tokens, n, params, seed))
                places.append(place)

        for done, (index, samples) in enumerate(self._engine.sample(requests), start=1):
            count = sum(len(sample.tokens) for sample in samples)
            self.sampled_tokens += count
            self._observer.sampling(count)
            self._observer.progress(done, len(requests))
            yield places[index], [self._completion(sample) for sample in samples]

    def _completion(self, sample: Sample) -> Completion:
        text = self._engine.tokenizer.decode(sample.tokens)
        return Completion(sample.tokens, sample.logprobs, text, sample.stop is not Stop.LENGTH, sample.version)
