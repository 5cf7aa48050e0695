"""The engine `tinker`: a service samples and learns, adapters beside the weights of one of its models.

An update is the same whatever the service calls a loss. The log-probs that it finds say, token by token, what the gradient of
our loss is a multiple of; that number goes as an advantage into plain importance sampling, which every such service has. Items
are kept here until the step, so that a step is taken of all of them or of none.
"""

import hashlib
import json
import math
import uuid
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gasp_rl.config import ModelConfig, TinkerConfig
from gasp_rl.errors import ConfigError, EngineError
from gasp_rl.policy.engine import (
    ELSEWHERE,
    Answering,
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
from gasp_rl.policy.learner import require_learnable, require_prompts
from gasp_rl.policy.models import open_tokenizer
from gasp_rl.policy.sampler import require_answerable
from gasp_rl.policy.saved import replacing
from gasp_rl.policy.tinker_service import Service
from gasp_rl.policy.tokenizer import HfTokenizer

SEEDS = 2**30
"""Seeds are taken modulo this: servers hold them in 32 bits, and add the place of a sample among those of its request."""
ADAPTERS_SEED = 0
"""Equal models get equal adapters, as in `lora`."""
GRAD_NORM = "grad_norm"
"""Ends the name under which a service tells it, if it does."""


@dataclass(frozen=True, slots=True)
class Staged:
    """An item that waits for the step."""

    item: TrainItem
    advantages: NDArray[np.float64]
    """Of each token of its completion: the gradient of the loss is that of the sum of -ratio * advantage."""


@dataclass(frozen=True, slots=True)
class State:
    """What a checkpoint holds of a model that is elsewhere."""

    service: str
    model: str
    rank: int
    path: str
    """Where the service keeps weights and optimizer."""
    version: int
    digest: str


class Answers:
    """What answers: one state of the model, at the service."""

    def __init__(self, service: Service, client: Any, version: int, tokenizer: HfTokenizer, context: int) -> None:
        self._service = service
        self._client = client
        self._version = version
        self._tokenizer = tokenizer
        self._context = context

    @property
    def tokenizer(self) -> HfTokenizer:
        return self._tokenizer

    @property
    def context(self) -> int:
        return self._context

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[tuple[int, list[Sample]]]:
        """In the order of the requests, all of which are with the service at once."""
        require_answerable(requests, self._context)
        return self._answers(requests)

    def _answers(self, requests: Sequence[SampleRequest]) -> Iterator[tuple[int, list[Sample]]]:
        asked = [self._asked(request) if request.n else finished(None) for request in requests]
        try:
            for place, (request, answer) in enumerate(zip(requests, asked, strict=True)):
                found = self._service.wait(f"samples of request {place + 1} of {len(requests)}", answer)
                samples = [self._read(request, one) for one in found.sequences] if found else []
                if len(samples) != request.n:
                    raise EngineError(f"the service at {self._service.url} gave {len(samples)} samples for {request.n}")
                yield place, samples
        finally:
            for answer in asked:
                answer.cancel()

    def _asked(self, request: SampleRequest) -> "Future[Any]":
        sdk, params = self._service.sdk, request.params
        prompt = sdk.ModelInput.from_ints(list(request.prompt))
        limits = sdk.SamplingParams(
            max_tokens=self._room(request),
            seed=request.seed % SEEDS,
            stop=list(params.stop) or None,
            temperature=params.temperature,
        )
        future: Future[Any] = self._client.sample(prompt, request.n, limits)
        return future

    def _room(self, request: SampleRequest) -> int:
        return min(request.params.max_tokens, self._context - len(request.prompt))

    def _read(self, request: SampleRequest, sequence: Any) -> Sample:
        """A sample as we mean it: it ends where the first thing that ends it is complete, whatever the service let follow."""
        tokens, logprobs = tuple(sequence.tokens), tuple(sequence.logprobs or ())
        if len(logprobs) != len(tokens):
            raise EngineError(
                f"the service at {self._service.url} gave {len(logprobs)} log-probs for {len(tokens)} tokens"
            )
        ends = self._tokenizer.all_eos
        room = self._room(request)
        length = next((place + 1 for place, token in enumerate(tokens[:room]) if token in ends), min(len(tokens), room))
        ended = length > 0 and tokens[length - 1] in ends
        stop = Stop.EOS if ended else Stop.LENGTH
        if request.params.stop and self._holds(tokens[:length], request.params.stop):
            cut = 1 + bisect_left(
                range(1, length + 1), True, key=lambda count: self._holds(tokens[:count], request.params.stop)
            )
            if cut < length or not ended:
                length, stop = cut, Stop.STRING
        if stop is Stop.LENGTH and sequence.stop_reason == "stop" and length < room:
            raise EngineError(
                f"the service at {self._service.url} ended a sample with token {tokens[length - 1] if tokens else None}, "
                "which ends no text for the tokenizer here: name that of the service's model (--model.path)"
            )
        return Sample(tokens[:length], logprobs[:length], stop, self._version)

    def _holds(self, tokens: tuple[int, ...], stop: tuple[str, ...]) -> bool:
        text = self._tokenizer.decode(tokens)
        return any(one in text for one in stop)


class TinkerEngine:
    """Keeps the promises of `Engine` with a service."""

    def __init__(self, model: ModelConfig, config: TinkerConfig) -> None:
        """`model.path` says where the tokenizer is, and what the model is called if `config` does not."""
        self._config = config
        self._tokenizer = open_tokenizer(model.path)
        self._rank = model.lora.rank
        self._service = service = Service(config)
        try:
            self._model, self._context = self._served(config.model or model.path)
            self._digest = _digest("base", self._model, self._rank)
            self._version = 0
            self._stale = False
            """Whether the weights have moved since they were published."""
            self._staged: list[Staged] = []
            self._base = service.ask("the model itself", self._sampling_client_of_base, config.start_seconds)
            self._learner = self._new_learner()
            self._used = False
            """Whether anything was asked of the learner: a service loads into a new one only."""
            self._answers = self._answering(self._base)
        except BaseException:
            service.close()
            raise

    @property
    def tokenizer(self) -> HfTokenizer:
        return self._tokenizer

    @property
    def context(self) -> int:
        return self._context

    @property
    def lacks(self) -> frozenset[Lack]:
        return frozenset({Lack.TEMPERATURE, Lack.EXPORT})

    @property
    def version(self) -> int:
        return self._version

    @property
    def digest(self) -> str:
        """SHA-256 over the name of the model and all that it was taught."""
        return self._digest

    @property
    def dtype(self) -> str:
        """Services do not say."""
        return "unknown"

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[tuple[int, list[Sample]]]:
        return self._answers.sample(requests)

    def logprobs(self, items: Sequence[TrainItem], temperature: float = 1.0) -> Future[list[list[float]]]:
        require_prompts(items)
        _require_warmth_one(temperature)
        return finished([found.tolist() for found in self._logprobs(items)])

    def forward_backward(self, items: Sequence[TrainItem], loss: Loss) -> Future[StepStats]:
        """The loss, and what each token is to weigh in the step."""
        require_learnable(items)
        _require_warmth_one(loss.temperature)
        totals = np.zeros(3)
        largest, tokens = 0.0, 0
        for item, new in zip(items, self._logprobs(items), strict=True):
            if not item.completion:
                continue
            log_ratio = new - np.array(item.old_logprobs)
            value, factor, clipped = _objective(new, log_ratio, item.advantage, loss)
            with np.errstate(invalid="ignore"):  # not finite: the step is skipped
                scale = item.weight / loss.denominator
                self._staged.append(Staged(item, factor * item.advantage * scale))
                totals += [-scale * value.sum(), -new.sum(), clipped.sum()]
            largest = max(largest, float(np.abs(log_ratio).max()))
            tokens += len(item.completion)
        mean = 1 / tokens if tokens else 0.0
        total, surprise, clipped_tokens = totals.tolist()
        return finished(StepStats(total, tokens, surprise * mean, largest, clipped_tokens * mean))

    def optim_step(self, params: OptimParams) -> Future[OptimStats]:
        """With all that waits for it, or, if a number in it is not finite, with none."""
        staged, self._staged = self._staged, []
        if not staged:
            return finished(OptimStats(0.0, skipped=False))
        if not all(np.isfinite(one.advantages).all() for one in staged):
            return finished(OptimStats(math.inf, skipped=True))

        data = [self._datum(one, len(staged)) for one in staged]
        adam = self._service.sdk.AdamParams(
            learning_rate=params.lr,
            beta1=params.betas[0],
            beta2=params.betas[1],
            eps=params.eps,
            weight_decay=params.weight_decay,
            grad_clip_norm=params.grad_clip,
        )
        learner, self._used = self._learner, True

        def step() -> Any:
            learner.forward_backward(data, "importance_sampling").result()
            return learner.optim_step(adam).result()

        told = self._service.ask("an update", step).metrics or {}
        self._stale = True
        self._digest = _digest(self._digest, [_history(one) for one in staged], asdict(params))
        norm = next((float(value) for name, value in told.items() if name.endswith(GRAD_NORM)), math.nan)
        return finished(OptimStats(norm, skipped=False))

    def publish(self) -> Future[int]:
        self._publish(self._version + 1)
        return finished(self._version)

    def save(self, path: Path) -> None:
        """Have the service keep weights and optimizer, and write down where."""
        if self._stale:
            raise EngineError(f"cannot save to {path}: weights have moved since version {self._version}; publish first")
        name, learner, self._used = f"gasp-{uuid.uuid4().hex}", self._learner, True
        kept = self._service.ask("a checkpoint", lambda: learner.save_state(name).result())
        state = State(self._service.url, self._model, self._rank, kept.path, self._version, self._digest)
        with replacing(path) as fresh:
            (fresh / ELSEWHERE).write_text(json.dumps(asdict(state), indent=2) + "\n")

    def load(self, path: Path) -> None:
        """Become what was saved, or stay what this is. Items that wait for a step are dropped."""
        state = read_state(path)
        if (state.model, state.rank) != (self._model, self._rank):
            raise EngineError(
                f"checkpoint {path} is of another model: {state.model} with adapters of rank {state.rank}"
            )
        learner = self._new_learner() if self._used else self._learner
        self._used = True
        try:
            self._service.ask(
                f"checkpoint {state.path}", lambda: learner.load_state_with_optimizer(state.path).result(),
                self._config.start_seconds,
            )  # fmt: skip
        except EngineError as error:
            raise type(error)(f"checkpoint {path} cannot be read: {error}") from error
        self._learner, self._digest, self._staged = learner, state.digest, []
        self._publish(state.version)

    def export_hf(self, path: Path) -> None:
        """Weights stay with the service: have it keep them for good, and write down where and how to get them."""
        name, learner, self._used = f"gasp-{uuid.uuid4().hex}", self._learner, True
        kept = self._service.ask("the trained adapters", lambda: learner.save_weights_for_sampler(name).result())
        state = State(self._service.url, self._model, self._rank, kept.path, self._version, self._digest)
        with replacing(path) as fresh:
            (fresh / ELSEWHERE).write_text(json.dumps(asdict(state), indent=2) + "\n")

    @contextmanager
    def untrained(self) -> Iterator[Answering]:
        """The model as it was before it learned."""
        yield self._answering(self._base)

    def close(self) -> None:
        self._service.close()

    def _served(self, name: str) -> tuple[str, int]:
        """The name and the context of a model that the service has."""
        known = self._service.models()
        found = next((one for one in known if one.name == name), None)
        if found is None:
            names = ", ".join(one.name for one in known[:8]) or "none"
            raise ConfigError(f"the Tinker service at {self._service.url} does not serve {name!r} but {names}: name the model "
                              "as it does (--tinker.model)")  # fmt: skip
        context = self._config.context or found.context
        if not context:
            raise ConfigError(f"the Tinker service at {self._service.url} does not say how many tokens {name} can hold: say "
                              "so (--tinker.context 32768)")  # fmt: skip
        return name, context

    def _sampling_client_of_base(self) -> Any:
        return self._service.client.create_sampling_client(base_model=self._model)

    def _new_learner(self) -> Any:
        def make() -> Any:
            return self._service.client.create_lora_training_client(
                base_model=self._model, rank=self._rank, seed=ADAPTERS_SEED, train_unembed=False
            )

        return self._service.ask("a model with adapters", make, self._config.start_seconds)

    def _publish(self, version: int) -> None:
        self._used = True
        client = self._service.ask("its weights to sample with", self._learner.save_weights_and_get_sampling_client)
        self._version, self._stale = version, False
        self._answers = self._answering(client)

    def _answering(self, client: Any) -> Answers:
        return Answers(self._service, client, self._version, self._tokenizer, self._context)

    def _logprobs(self, items: Sequence[TrainItem]) -> list[NDArray[np.float64]]:
        """The learner's, of each item's completion."""
        asked = [item for item in items if item.completion]
        if not asked:
            return [np.zeros(0) for _ in items]
        data = [self._plain_datum(item) for item in asked]
        learner, self._used = self._learner, True
        found = self._service.ask("log-probs", lambda: learner.forward(data, "cross_entropy").result())
        outputs = iter(found.loss_fn_outputs)
        return [self._of_completion(item, next(outputs, {})) if item.completion else np.zeros(0) for item in items]

    def _of_completion(self, item: TrainItem, output: Any) -> NDArray[np.float64]:
        told = np.array(output["logprobs"].data if "logprobs" in output else [], np.float64)
        if len(told) != len(item.prompt) + len(item.completion) - 1:
            raise EngineError(f"the service at {self._service.url} gave {len(told)} log-probs for a text of "
                              f"{len(item.prompt) + len(item.completion)} tokens")  # fmt: skip
        found = told[len(item.prompt) - 1 :]
        if not np.isfinite(found).all():
            raise EngineError(f"the service at {self._service.url} gave log-probs that are not finite: its model is broken; go "
                              "on from a checkpoint")  # fmt: skip
        return found

    def _plain_datum(self, item: TrainItem) -> Any:
        return self._made(item, weights=_behind(item, np.ones(len(item.completion))))

    def _datum(self, staged: Staged, count: int) -> Any:
        item = staged.item
        length = len(item.prompt) + len(item.completion) - 1
        factor = length * count if self._config.sums == "means" else 1
        return self._made(
            item,
            logprobs=_behind(item, np.array(item.old_logprobs)),
            advantages=_behind(item, staged.advantages * factor),
        )

    def _made(self, item: TrainItem, **inputs: NDArray[np.float32]) -> Any:
        sdk, text = self._service.sdk, [*item.prompt, *item.completion]
        tensors = {name: sdk.TensorData.from_numpy(value) for name, value in inputs.items()}
        target = sdk.TensorData.from_numpy(np.array(text[1:], np.int64))
        return sdk.Datum(
            model_input=sdk.ModelInput.from_ints(text[:-1]), loss_fn_inputs={"target_tokens": target, **tensors}
        )


def read_state(path: Path) -> State:
    """EngineError if it is damaged, or a checkpoint of another engine."""
    try:
        return State(**json.loads((path / ELSEWHERE).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(f"checkpoint {path} cannot be read: {error}") from error


def _objective(
    logprobs: NDArray[np.float64], log_ratio: NDArray[np.float64], advantage: float, loss: Loss
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Per token: what is to grow; what the gradient of it is, over that of ratio * advantage; whether it was clipped."""
    with np.errstate(over="ignore", invalid="ignore"):  # not finite: the step is skipped
        ratio = np.exp(log_ratio)
        if loss.truncate:
            held = np.minimum(ratio, loss.truncate)
            over = ratio > loss.truncate
            return held * advantage * logprobs, np.where(over, held / ratio, 1.0), over
        free = ratio * advantage
        bounded = np.clip(ratio, 1 - loss.clip_low, 1 + loss.clip_high) * advantage
        return np.minimum(free, bounded), np.where(bounded < free, 0.0, 1.0), bounded < free


def _behind(item: TrainItem, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values of a completion's tokens where those are predicted, zeros where the prompt's are."""
    return np.concatenate([np.zeros(len(item.prompt) - 1), values]).astype(np.float32)


def _require_warmth_one(temperature: float) -> None:
    if temperature != 1.0:
        raise EngineError(f"the engine tinker has log-probs and losses of temperature 1 only, got {temperature:g}: set "
                          "sampling.temperature=1")  # fmt: skip


def _history(staged: Staged) -> list[object]:
    item = staged.item
    return [item.prompt, item.completion, item.old_logprobs, staged.advantages.tolist()]


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
