"""The engine interface: everything that touches weights, and nothing that knows the algorithm.

Token in, token out. Advantages, baselines and role weights are computed above and arrive as numbers, so an engine
needs one clipped policy-gradient loss. The conformance suite in tests/conformance checks every engine against the
promises written here.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")

ELSEWHERE = "tinker.json"
"""Stands in a directory for weights that a service keeps, and says where."""


class Stop(StrEnum):
    EOS = "eos"
    LENGTH = "length"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class SamplingParams:
    max_tokens: int
    temperature: float = 1.0
    """0 is greedy. Nothing else reshapes the distribution: a truncated one would bias the importance ratio."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion; their text stays part of it, so that tokens and text agree."""


@dataclass(frozen=True, slots=True)
class SampleRequest:
    prompt: tuple[int, ...]
    n: int
    params: SamplingParams
    seed: int
    """Decides this request's samples alone, whatever it is batched with (up to the rounding of the arithmetic)."""


@dataclass(frozen=True, slots=True)
class Sample:
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Natural logs under the sampling distribution; at temperature 0 those of temperature 1."""
    stop: Stop
    version: int


@dataclass(frozen=True, slots=True)
class TrainItem:
    """One token sequence to learn from."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    advantage: float
    old_logprobs: tuple[float, ...]
    """One per completion token: what the ratio is taken against."""
    weight: float = 1.0
    """Multiplies this item's summed loss."""


@dataclass(frozen=True, slots=True)
class Loss:
    """sum over items of weight * sum over tokens of -min(r A, clip(r, 1 - low, 1 + high) A), divided by `denominator`;
    r is the ratio of the learner's probability to the old one.

    The denominator is explicit and global, so that splitting a batch over calls or ranks cannot change the update.
    """

    denominator: float
    clip_low: float = 0.2
    clip_high: float = 0.2
    truncate: float = 0.0
    """Above 0, instead: -min(r, truncate) A log p, the first factor held fast (truncated importance sampling)."""
    temperature: float = 1.0
    """Of the samples: the learner's log-probs are taken of logits / temperature, like the sampler's."""


@dataclass(frozen=True, slots=True)
class StepStats:
    loss: float
    tokens: int
    entropy: float
    """Mean -log p of the completion tokens under the learner, nats."""
    log_ratio_max: float
    clip_fraction: float
    """Of the completion tokens, those whose ratio was out of bounds on the side that counts."""


@dataclass(frozen=True, slots=True)
class OptimParams:
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    eps: float = 1e-8
    grad_clip: float = 1.0


@dataclass(frozen=True, slots=True)
class OptimStats:
    grad_norm: float
    """Before clipping; not a number where a service does not tell."""
    skipped: bool
    """True if a gradient was not finite: the weights were left as they were."""


class Tokenizer(Protocol):
    """Text to tokens and back. `decode(encode(text)) == text` for plain text."""

    @property
    def eos(self) -> int: ...

    def encode(self, text: str) -> tuple[int, ...]: ...

    def chat(self, messages: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        """Token ids of (role, content) messages under the model's chat template, ready for the reply; where the last message is
        the assistant's, for the rest of it.
        """
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a completion; end-of-text tokens are dropped."""
        ...


def finished(value: T) -> Future[T]:
    """A future that has its answer already: of an engine that works while it is called."""
    future: Future[T] = Future()
    future.set_result(value)
    return future


class Later(Future[T]):
    """A future whose answer is fetched when it is first asked for: of an engine that works meanwhile."""

    def __init__(self, fetch: Callable[[], T]) -> None:
        super().__init__()
        self._fetch: Callable[[], T] | None = fetch

    def result(self, timeout: float | None = None) -> T:
        if self._fetch is not None:
            self.set_result(self._fetch())
            self._fetch = None
        return super().result(timeout)


class Trainer(Protocol):
    """What learns: accumulates gradients, steps, and hands the new weights to whatever samples.

    What is asked for is done in that order, also where nobody waits for the answer.
    """

    @property
    def version(self) -> int:
        """How often weights were published."""
        ...

    def forward_backward(self, items: Sequence[TrainItem], loss: Loss) -> Future[StepStats]: ...

    def optim_step(self, params: OptimParams) -> Future[OptimStats]: ...

    def publish(self) -> Future[int]: ...


class Answering(Protocol):
    """What answers."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def context(self) -> int:
        """Prompt and completion tokens together, at most."""
        ...

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[tuple[int, list[Sample]]]:
        """Yield (index of request, its n samples) as requests finish, so that grading can overlap sampling."""
        ...


class Lack(StrEnum):
    """What an engine may be without, by the nature of where it keeps the weights. It refuses it in one line."""

    TEMPERATURE = "temperature"
    """Log-probs and losses of the learner at temperatures other than 1."""
    EXPORT = "export"
    """Weights as files. `export_hf` writes down where they are."""


class Engine(Answering, Trainer, Protocol):
    """A model that samples and learns.

    1. `sample` answers in an order, and batches in a way, that depend only on the requests and on token counts.
    2. `forward_backward` accumulates gradients; only `optim_step` applies and clears them.
    3. Samples come from the weights last published; `publish` raises `version` by one.
    4. Right after `publish`, the learner's log-probs of a sample equal the sampler's up to rounding.
    5. `save` then `load` gives the same weights, optimizer state and version, bit for bit.
    """

    @property
    def lacks(self) -> frozenset[Lack]: ...

    @property
    def digest(self) -> str:
        """Of the weights as they are now: equal weights, equal digests. Where they are elsewhere: of what was done to them."""
        ...

    @property
    def dtype(self) -> str:
        """Of the arithmetic that samples."""
        ...

    def logprobs(self, items: Sequence[TrainItem], temperature: float = 1.0) -> Future[list[list[float]]]:
        """The learner's log-probs of each item's completion tokens."""
        ...

    def save(self, path: Path) -> None: ...

    def load(self, path: Path) -> None: ...

    def export_hf(self, path: Path) -> None:
        """Write a directory that `transformers` loads, weights in safetensors."""
        ...

    def close(self) -> None: ...
