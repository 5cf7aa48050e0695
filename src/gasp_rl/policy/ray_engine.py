"""The engine `ray`: learners that share the weights, samplers that share the requests, each in a process of its own.

What a process does depends on the requests and their sizes alone, never on who is faster, so equal runs are equal bytes. A
sampler that is lost is replaced and does its part again, which costs time and changes nothing. A learner that is lost takes
its share of the optimizer with it: the run ends, and goes on from its checkpoint.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from gasp_rl.cluster import Call, Cluster, Room, Worker, own_address, together
from gasp_rl.config import ModelConfig, RayConfig
from gasp_rl.errors import EngineError, GaspError, HandoverError, WorkerLostError
from gasp_rl.policy import llama
from gasp_rl.policy.dealing import deal_items, deal_requests
from gasp_rl.policy.engine import (
    Answering,
    Lack,
    Later,
    Loss,
    OptimParams,
    OptimStats,
    Sample,
    SampleRequest,
    StepStats,
    TrainItem,
    finished,
)
from gasp_rl.policy.learner import require_learnable, require_prompts
from gasp_rl.policy.local import choose_device, choose_dtype, sampler_for
from gasp_rl.policy.lora import add_lora
from gasp_rl.policy.meeting import Meeting
from gasp_rl.policy.memory import Place, free_memory, require_room_at, shape_of
from gasp_rl.policy.models import open_model
from gasp_rl.policy.sampler import Sampler, require_answerable
from gasp_rl.policy.saved import digest_of, export, read_state, replacing, write_index, write_share
from gasp_rl.policy.sharded import ShardedLearner, threads
from gasp_rl.policy.tokenizer import HfTokenizer

AHEAD: Final = 8
"""Answers that a sampler may be ahead of whoever grades them."""
LOSSES: Final = 3
"""Samplers that may be lost over one call before we give up: what they are asked may be what kills them."""

R = TypeVar("R")
S = TypeVar("S")
P = ParamSpec("P")
Note: TypeAlias = Callable[[str], None]
Weights: TypeAlias = dict[str, NDArray[np.float32]]
"""Those that learn, by name."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a sampler knows of the model."""

    tokenizer: HfTokenizer
    context: int
    dtype: str


class LearnerProcess:
    """One of the learners; lives in a process of its own."""

    def __init__(self, rank: int, size: int) -> None:
        self._rank = rank
        self._size = size
        self._config = ModelConfig()
        self._meeting: Meeting | None = None
        self._learner: ShardedLearner | None = None
        self._gathered: dict[str, Tensor] = {}

    def convene(self, seconds: float) -> tuple[str, int]:
        """Address and port where the others find this one, the first."""
        self._meeting = Meeting(own_address(), 0, first=True, seconds=seconds)
        return self._meeting.at

    def process(self) -> int:
        """Its id."""
        return os.getpid()

    def place(self, config: ModelConfig) -> Place:
        return place_for(config)

    def open(self, config: ModelConfig, token_budget: int, at: tuple[str, int], start: float, answer: float) -> None:
        torch.set_num_threads(threads(config.threads, self._size))
        device = choose_device(config.device)
        self._config = config
        self._meeting = self._meeting or Meeting(*at, first=False, seconds=start)
        self._meeting.join(self._rank, self._size, device, answer)
        model, _ = open_for(config)
        arithmetic = llama.arithmetic_of(choose_dtype(config.dtype, device), device)
        self._learner = ShardedLearner(model, token_budget, arithmetic, device, recompute=config.recompute)

    @property
    def _share(self) -> ShardedLearner:
        assert self._learner is not None
        return self._learner

    def forward_backward(self, items: Sequence[TrainItem], loss: Loss) -> StepStats:
        return self._share.forward_backward(items, loss)

    def logprobs(self, items: Sequence[TrainItem], temperature: float) -> list[list[float]]:
        return self._share.logprobs(items, temperature)

    def optim_step(self, params: OptimParams) -> OptimStats:
        return self._share.optim_step(params)

    def gather(self) -> None:
        """Bring the shares of all weights that learn together, at the first."""
        self._gathered = self._share.weights()

    def gathered(self) -> Weights:
        """What was, for the object store, which keeps it."""
        found, self._gathered = self._gathered, {}
        return {name: weight.numpy() for name, weight in found.items()}

    def hand_over(self, at: tuple[str, int], seconds: float) -> None:
        """What was, to those who take it there; it is kept for whoever takes the place of one that is lost."""
        Meeting(*at, first=False, seconds=seconds).hand_over(self._gathered, choose_device(self._config.device))

    def digest(self) -> str:
        return digest_of(self._share.all_weights())

    def save(self, folder: Path) -> None:
        """Its share, into a folder that is there."""
        if not folder.is_dir():
            raise EngineError(
                f"{folder} is not to be seen on {own_address()}, where learner {self._rank + 1} of {self._size} is: put the run "
                "where all machines of the cluster see it (--out)"
            )
        write_share(folder, self._share.own_weights(), self._share.own_moments(), self._share.share)

    def load(self, path: Path) -> int:
        """The version that it was."""
        saved = read_state(path, self._share.shapes, self._share.share.rows)
        self._share.restore(saved.weights, saved.moments)
        return saved.version

    def export(self, path: Path) -> None:
        weights = self._share.weights()
        if self._share.leads:
            model, tokenizer = open_for(self._config)
            parameters = dict(model.named_parameters())
            with torch.no_grad():
                for name, weight in weights.items():
                    parameters[name].copy_(weight)
            export(model, tokenizer, path)


class SamplerProcess:
    """One of the samplers; lives in a process of its own."""

    def __init__(self, beside: int) -> None:
        """With so many others, one of a kind."""
        self._beside = beside
        self._streams: dict[int, Iterator[tuple[int, list[Sample]]]] = {}
        self._sampler: Sampler | None = None

    def place(self, config: ModelConfig) -> Place:
        return place_for(config)

    def open(self, config: ModelConfig) -> Facts:
        torch.set_num_threads(threads(config.threads, self._beside))
        device = choose_device(config.device)
        dtype = choose_dtype(config.dtype, device)
        self._model, tokenizer = open_for(config)
        torch.nn.Module.to(self._model, device)
        self._sampler = sampler_for(config, self._model, tokenizer, dtype)
        return Facts(tokenizer, int(self._model.config.max_position_embeddings), str(dtype).removeprefix("torch."))

    def publish(self, weights: Weights, version: int) -> None:
        """Sample with these from here on. What is being answered goes on with those that it began with."""
        assert self._sampler is not None
        parameters = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, weight in weights.items():
                parameters[name].copy_(torch.tensor(weight))  # a copy: what a cluster hands over is read only
        self._sampler.publish(self._model, version)

    def take_over(self, at: tuple[str, int], place: int, takers: int, version: int, seconds: float) -> None:
        """The same, of what is handed over there to so many, of whom this is one."""
        into = dict(self._model.named_parameters())
        Meeting(*at, first=False, seconds=seconds).take(into, place, takers, self._model.device)
        self.publish({}, version)

    def process(self) -> int:
        """Its id."""
        return os.getpid()

    def begin(self, stream: int, requests: Sequence[SampleRequest]) -> None:
        assert self._sampler is not None
        self._streams[stream] = self._sampler.sample(requests)

    def take(self, stream: int) -> tuple[int, list[Sample]] | None:
        """The next request that is answered; None once all are."""
        return next(self._streams[stream], None)

    def end(self, stream: int) -> None:
        self._streams.pop(stream, None)


def place_for(config: ModelConfig) -> Place:
    """Where this process is, and what is free there before it has opened anything."""
    device = choose_device(config.device)
    name = str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else "cpu"
    dtype, here = choose_dtype(config.dtype, device), torch.device("cpu")
    return Place(own_address(), device, name, dtype, free_memory(device), free_memory(here))


def open_for(config: ModelConfig) -> tuple[PreTrainedModel, HfTokenizer]:
    """The model on the CPU, with the adapters that are to learn."""
    model, tokenizer = open_model(config.path)
    if config.lora.rank:
        add_lora(model, config.lora)
    return model, tokenizer


class _Published(Protocol):
    """The weights last published, wherever they are."""

    def to(self, workers: Sequence[Worker[SamplerProcess]], version: int) -> list[Call[None]]:
        """Have these sample with them."""
        ...


class _Stored:
    """In the object store of each machine, or as they were opened: nothing else has learned then."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def to(self, workers: Sequence[Worker[SamplerProcess]], version: int) -> list[Call[None]]:
        return [worker.call(SamplerProcess.publish, self._weights, version) for worker in workers]


class _Broadcast:
    """With the first learner, who hands them to all at once and keeps them until there are others."""

    def __init__(self, learner: Worker[LearnerProcess], seconds: float) -> None:
        """It is to hand over what it has gathered by now, before whatever it is asked next. Within so many seconds of a call
        to a sampler, which has to have told by then that it was left alone.
        """
        self._learner = learner
        self._seconds = seconds / 2
        self._call()

    def _call(self) -> None:
        """Have the learner go where they will meet."""
        self._meeting = Meeting(own_address(), 0, first=True, seconds=self._seconds)
        self._sent = self._learner.call(LearnerProcess.hand_over, self._meeting.at, self._seconds)
        self._over = False

    def to(self, workers: Sequence[Worker[SamplerProcess]], version: int) -> list[Call[None]]:
        if self._over:
            with suppress(HandoverError):  # one of those it was meant for was lost, not the learner
                self._sent.result(self._seconds)
            self._call()
        self._over = True
        self._meeting.expect(len(workers))
        return [
            worker.call(SamplerProcess.take_over, self._meeting.at, place, len(workers), version, self._seconds)
            for place, worker in enumerate(workers)
        ]


class _Samplers:
    """The sampler processes, each at its place; one that is lost is replaced."""

    def __init__(
        self,
        workers: Sequence[Worker[SamplerProcess]],
        start: Callable[[int], Worker[SamplerProcess]],
        config: ModelConfig,
        ray: RayConfig,
        note: Note,
    ) -> None:
        """With these, which have been started; `start` replaces the one at a place."""
        self._start = start
        self._config = config
        self._ray = ray
        self._note = note
        self.workers = list(workers)
        self.facts = together(self._opened(self.workers), ray.start_seconds)[0]
        self.version = 0
        self._published: _Published = _Stored({})
        self.publish(self._published, 0)

    def _opened(self, workers: Sequence[Worker[SamplerProcess]]) -> list[Call[Facts]]:
        return [worker.call(SamplerProcess.open, self._config) for worker in workers]

    def publish(self, published: _Published, version: int) -> None:
        """Whoever is lost meanwhile is replaced by one that has them."""
        self._published, self.version = published, version
        for worker in self._each:  # or those who live would wait for it
            try:
                worker.call(SamplerProcess.process).result(self._ray.answer_seconds)
            except WorkerLostError as lost:
                self._replace(worker, lost)
        self._hand_over(self._each)

    def _hand_over(self, workers: Sequence[Worker[SamplerProcess]], losses: int = LOSSES) -> None:
        """What was published. If one of these is lost meanwhile, the others may have to be given it again."""
        without: list[Worker[SamplerProcess]] = []
        for worker, call in zip(workers, self._published.to(workers, self.version), strict=True):
            try:
                call.result(self._ray.answer_seconds)
            except HandoverError:
                if not losses:
                    raise
                without.append(worker)
            except WorkerLostError as lost:
                if not losses:
                    raise
                without += self._replace(worker, lost)
        if without:
            self._hand_over(without, losses - 1)

    def reset(self) -> None:
        """Sample as before anything was learned."""
        together(self._opened(self._each), self._ray.start_seconds)
        self.publish(_Stored({}), 0)

    def replace(self, gone: Worker[SamplerProcess], lost: WorkerLostError) -> None:
        """By a new process in the same place or, where none can be had, by another sampler, which has more to do then."""
        if fresh := self._replace(gone, lost):
            self._hand_over(fresh)

    def _replace(self, gone: Worker[SamplerProcess], lost: WorkerLostError) -> list[Worker[SamplerProcess]]:
        """Whoever is new, and has no weights yet but those it opened."""
        if gone not in self.workers:
            return []
        self._note(f"{lost}; another takes its place and samples the same again")
        gone.kill()
        others = [worker for worker in self.workers if worker is not gone]
        fresh = []
        try:
            stead = self._start(self.workers.index(gone))
            stead.call(SamplerProcess.open, self._config).result(self._ray.start_seconds)
            fresh = [stead]
        except WorkerLostError as error:
            if not others:
                raise
            stead = others[0]
            self._note(f"{error}; {stead.name} does its part")
        self.workers = [stead if worker is gone else worker for worker in self.workers]
        return fresh

    @property
    def _each(self) -> list[Worker[SamplerProcess]]:
        """Each once."""
        return list(dict.fromkeys(self.workers))

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[tuple[int, list[Sample]]]:
        """What the samplers answer, by turns: an order that no clock decides."""
        parts = deal_requests(requests, len(self.workers))
        streams = [_Stream(self, place, [requests[i] for i in part]) for place, part in enumerate(parts) if part]
        try:
            live = list(zip([part for part in parts if part], streams, strict=True))
            while live:
                for part, stream in list(live):
                    answer = stream.following()
                    if answer is None:
                        live.remove((part, stream))
                    else:
                        yield part[answer[0]], answer[1]
        finally:
            for stream in streams:
                stream.end()

    @property
    def answer_seconds(self) -> float:
        return self._ray.answer_seconds


class _Stream:
    """What one sampler was asked, and its answers. One that is lost half way is replaced and does it all again: what is
    batched together is the same then, and so is every bit.
    """

    def __init__(self, samplers: _Samplers, place: int, requests: Sequence[SampleRequest]) -> None:
        self._samplers = samplers
        self._place = place
        self._requests = requests
        self._version = samplers.version
        self._received = 0
        self._losses = 0
        self._begin()

    def _begin(self) -> None:
        self._worker = self._samplers.workers[self._place]
        self._worker.call(SamplerProcess.begin, id(self), self._requests)
        self._known = self._received
        """Answers to come that we have already."""
        self._asked = 0
        self._calls: deque[Call[tuple[int, list[Sample]] | None]] = deque()
        self._ask()

    def _ask(self) -> None:
        while len(self._calls) < AHEAD and self._asked <= len(self._requests):
            self._calls.append(self._worker.call(SamplerProcess.take, id(self)))
            self._asked += 1

    def following(self) -> tuple[int, list[Sample]] | None:
        while True:
            try:
                answer = self._calls[0].result(self._samplers.answer_seconds)
            except WorkerLostError as lost:
                self._losses += 1
                if self._losses > LOSSES or self._version != self._samplers.version:
                    raise
                self._samplers.replace(self._worker, lost)
                self._begin()
                continue
            self._calls.popleft()
            self._ask()
            if self._known:
                self._known -= 1
            else:
                self._received += 1
                return answer

    def end(self) -> None:
        self._worker.call(SamplerProcess.end, id(self))


class RayEngine:
    """Keeps the promises of `Engine` with processes of a cluster."""

    def __init__(
        self, cluster: Cluster, config: ModelConfig, ray: RayConfig, token_budget: int, note: Note = lambda _: None
    ) -> None:
        """Opens the model that `config` names in every process; ModelError, before that, if they cannot all fit. `note`
        hears of what was lost and replaced.
        """
        shape_of(config.path)  # a model that is not there is said before any process is started
        self._ray = ray
        self._version = 0
        self._steps: list[Future[OptimStats]] = []
        """Since the weights were published."""
        self._await: Callable[[], object] = _nothing
        """Waits for all that the learners were asked."""
        self._published: Future[int] = finished(0)
        gpus = 0 if config.device == "cpu" or (config.device == "auto" and not cluster.gpus) else 1
        room = Room(1, gpus / 2 if ray.colocate else gpus)
        count = max(ray.learners, ray.samplers) if ray.colocate else ray.learners + ray.samplers
        first = 0 if ray.colocate else ray.learners
        self._places = cluster.reserve([Room(2, gpus) if ray.colocate else room] * count, ray.start_seconds)

        def sampler(index: int) -> Worker[SamplerProcess]:
            name = f"sampler {index + 1} of {ray.samplers}"
            return self._places.start(first + index, name, room, SamplerProcess, ray.samplers)

        def learner(rank: int) -> Worker[LearnerProcess]:
            name = f"learner {rank + 1} of {ray.learners}"
            return self._places.start(rank, name, room, LearnerProcess, rank, ray.learners)

        self._learners = [learner(rank) for rank in range(ray.learners)]
        samplers = [sampler(index) for index in range(ray.samplers)]
        start, answer = ray.start_seconds, ray.answer_seconds
        require_room_at(
            together([one.call(LearnerProcess.place, config) for one in self._learners], start),
            together([one.call(SamplerProcess.place, config) for one in samplers], start),
            config,
            token_budget,
        )
        at = self._learners[0].call(LearnerProcess.convene, start).result(start)
        opened = [one.call(LearnerProcess.open, config, token_budget, at, start, answer) for one in self._learners]
        self._samplers = _Samplers(samplers, sampler, config, ray, note)
        together(opened, start)

    @property
    def tokenizer(self) -> HfTokenizer:
        return self._samplers.facts.tokenizer

    @property
    def lacks(self) -> frozenset[Lack]:
        return frozenset()

    @property
    def version(self) -> int:
        return self._version

    @property
    def context(self) -> int:
        return self._samplers.facts.context

    @property
    def dtype(self) -> str:
        """Of the sampling copies."""
        return self._samplers.facts.dtype

    @property
    def digest(self) -> str:
        """As `LocalEngine.digest`."""
        return self._all(LearnerProcess.digest).result()[0]

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[tuple[int, list[Sample]]]:
        require_answerable(requests, self.context)
        self._published.result()
        return self._samplers.sample(requests)

    def logprobs(self, items: Sequence[TrainItem], temperature: float = 1.0) -> Future[list[list[float]]]:
        require_prompts(items)
        shares = deal_items(items, len(self._learners))

        def joined(parts: list[list[list[float]]]) -> list[list[float]]:
            found: list[list[float]] = [[] for _ in items]
            for share, part in zip(shares, parts, strict=True):
                for place, logprobs in zip(share, part, strict=True):
                    found[place] = logprobs
            return found

        calls = [
            one.call(LearnerProcess.logprobs, [items[place] for place in share], temperature)
            for one, share in zip(self._learners, shares, strict=True)
        ]
        return self._later(calls, joined)

    def forward_backward(self, items: Sequence[TrainItem], loss: Loss) -> Future[StepStats]:
        require_learnable(items)
        calls = [
            one.call(LearnerProcess.forward_backward, [items[place] for place in share], loss)
            for one, share in zip(self._learners, deal_items(items, len(self._learners)), strict=True)
        ]
        return self._later(calls, _joined)

    def optim_step(self, params: OptimParams) -> Future[OptimStats]:
        calls = [one.call(LearnerProcess.optim_step, params) for one in self._learners]
        self._steps.append(self._later(calls, lambda stats: stats[0]))
        return self._steps[-1]

    def publish(self) -> Future[int]:
        """What the learners are asked after this they begin before the samplers have the weights."""
        self._version += 1
        return self._publish()

    def save(self, path: Path) -> None:
        """As `LocalEngine` does, in one share per learner, each written where that is."""
        if not all(step.result().skipped for step in self._steps):
            raise EngineError(f"cannot save to {path}: weights have moved since version {self._version}; publish first")
        with replacing(path.absolute()) as fresh:
            self._all(LearnerProcess.save, fresh).result()
            write_index(fresh, self._version, len(self._learners))

    def load(self, path: Path) -> None:
        self._version = self._all(LearnerProcess.load, path.absolute()).result()[0]
        self._publish().result()

    def export_hf(self, path: Path) -> None:
        self._all(LearnerProcess.export, path.absolute()).result()
        _require_here(path)

    @contextmanager
    def untrained(self) -> Iterator[Answering]:
        """The model as it was before it learned; meanwhile this engine does not sample."""
        self._samplers.reset()
        yield self
        self._publish().result()

    def close(self) -> None:
        for learner in self._learners:
            learner.kill()
        for sampler in self._samplers.workers:
            sampler.kill()
        self._places.give_back()

    def _publish(self) -> Future[int]:
        version, self._steps = self._version, []
        first, seconds = self._learners[0], self._ray.answer_seconds
        calls = [one.call(LearnerProcess.gather) for one in self._learners]
        match self._ray.transfer:
            case "store":
                published: _Published = _Stored(first.call(LearnerProcess.gathered).handed_on)
            case "broadcast":
                published = _Broadcast(first, seconds)

        def handed_over(_: list[None]) -> int:
            self._samplers.publish(published, version)
            return version

        self._published = self._later(calls, handed_over)
        return self._published

    def _all(
        self, method: Callable[Concatenate[LearnerProcess, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> Future[list[R]]:
        """Have all learners do the same."""
        return self._later([one.call(method, *args, **kwargs) for one in self._learners], lambda found: found)

    def _later(self, calls: Sequence[Call[R]], joined: Callable[[list[R]], S]) -> Future[S]:
        """The answer of all learners together. What they were asked before is looked at first: its failure would be the
        cause of this one's.
        """
        before = self._await

        def fetch() -> S:
            try:
                before()
                return joined(together(calls, self._ray.answer_seconds))
            except GaspError:
                self._await = _nothing  # it is told: what is asked from here on stands for itself
                raise

        future = Later(fetch)
        self._await = future.result
        return future


def _nothing() -> None:
    pass


def _joined(parts: Sequence[StepStats]) -> StepStats:
    """Of all items together."""
    tokens = sum(part.tokens for part in parts)

    def mean(values: Iterable[float]) -> float:
        return sum(value * part.tokens for value, part in zip(values, parts, strict=True)) / max(tokens, 1)

    return StepStats(
        loss=sum(part.loss for part in parts),
        tokens=tokens,
        entropy=mean(part.entropy for part in parts),
        log_ratio_max=max(part.log_ratio_max for part in parts),
        clip_fraction=mean(part.clip_fraction for part in parts),
    )


def _require_here(path: Path) -> None:
    if not path.is_dir():
        raise EngineError(
            f"{path} was written on the machine of the first learner and is not to be seen here: put the run where all "
            "machines of the cluster see it (--out)"
        )
