"""What memory is needed for, term by term, each with its arithmetic, and what would make it less. Knows no torch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial, reduce

from gasp_rl.config import LoraConfig, ModelConfig

GIB = 2**30

FEW_TOKENS = 16_384
"""Of the cache, that are still enough to sample with."""
SMALL_BATCH = 4096
"""Tokens that a learner still is about as fast with."""
RANK = 16
"""Of adapters, as most have it."""
MORE_LEARNERS = (2, 4, 8, 16, 32, 64)


class Part(StrEnum):
    """What memory is for."""

    WEIGHTS = "weights"
    MOMENTS = "optimizer"
    COPY = "sampling copy"
    CACHE = "cache of keys"
    GRADIENTS = "gradients"
    ACTIVATIONS = "activations"
    LOGITS = "logits"
    CAST = "weights cast"
    """For the arithmetic, while a micro-batch lasts."""
    GATHERED = "gathered weights"
    """Of a layer at a time, whole, where each process holds a share."""
    OPENING = "opening the model"
    SAVING = "saving"
    STORE = "object store"
    PUBLISHED = "published"


UPDATING = frozenset({Part.GRADIENTS, Part.ACTIVATIONS, Part.LOGITS, Part.CAST, Part.GATHERED})
"""Needed while the model learns, and not while it samples."""


@dataclass(frozen=True, slots=True)
class Term:
    """Bytes, at the most, for one thing."""

    part: Part
    size: int
    arithmetic: str = ""
    """How they come about."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Of one process, or of all that share a memory."""

    terms: tuple[Term, ...]
    cache_stays: bool = False
    """While the model learns."""
    opening: int = 0
    """Bytes, for a moment, in the machine's own memory: the whole model, before it goes where it belongs."""

    def of(self, part: Part) -> int:
        return sum(term.size for term in self.terms if term.part is part)

    @property
    def cache(self) -> int:
        return self.of(Part.CACHE)

    @property
    def update(self) -> int:
        return sum(term.size for term in self.terms if term.part in UPDATING)

    @property
    def total(self) -> int:
        """At the worst moment, that of opening apart."""
        always = sum(term.size for term in self.terms) - self.cache - self.update
        return always + (sum if self.cache_stays else max)((self.cache, self.update))

    def __str__(self) -> str:
        sizes = {part: self.of(part) for part in Part}
        return ", ".join(f"{part} {gib(size)}" for part, size in sizes.items() if size)


def side_by_side(several: Sequence[Needs], *, cache_stays: bool) -> Needs:
    """Of processes that share a memory."""
    terms = tuple(term for needs in several for term in needs.terms)
    return Needs(terms, cache_stays, sum(needs.opening for needs in several))


def gib(size: float) -> str:
    return f"{size / GIB:.1f}"


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings that memory depends on."""

    model: ModelConfig
    token_budget: int
    learners: int = 1
    """Processes that share what learns."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """Settings that make it fit, as flags, and what is needed with them."""

    flags: str
    needs: Needs


def refusal(setup: Setup, needed: Callable[[Setup], Needs], free: int, *, learns: bool, spreads: bool = False) -> str:
    """Why there is no room, and which settings would make some; empty where there is."""
    found = needed(setup)
    if found.total <= free:
        return ""
    fault = f"it needs about {gib(found.total)} GiB ({found}), and {gib(free)} are free"
    helps = remedy(setup, needed, free, learns=learns, spreads=spreads)
    if helps is None:
        return f"{fault}; no setting makes it fit: take a smaller model or a larger machine"
    return f"{fault}; with {helps.flags} it needs {gib(helps.needs.total)}"


def remedy(
    setup: Setup, needed: Callable[[Setup], Needs], free: int, *, learns: bool, spreads: bool = False
) -> Remedy | None:
    """Settings with which it fits, no more than it takes, what costs least first; None where nothing helps.

    `spreads`: whether more learners would have memory of their own.
    """

    def with_(chosen: Sequence[Saving]) -> Needs:
        return needed(reduce(lambda changed, saving: saving.change(changed), chosen, setup))

    chosen: list[Saving] = []
    for saving in _savings(setup, learns=learns, spreads=spreads):
        chosen = [*(one for one in chosen if one.flag != saving.flag), saving]
        if with_(chosen).total <= free:
            break
    else:
        return None
    for saving in tuple(chosen):
        others = [one for one in chosen if one is not saving]
        if with_(others).total <= free:
            chosen = others
    return Remedy(" ".join(f"{one.flag} {one.value}".strip() for one in chosen), with_(chosen))


@dataclass(frozen=True, slots=True)
class Saving:
    """A flag with its value, and what it changes."""

    flag: str
    value: str
    change: Callable[[Setup], Setup]


def _savings(setup: Setup, *, learns: bool, spreads: bool) -> Iterator[Saving]:
    yield Saving("--model.batch-tokens", str(FEW_TOKENS), _cache_less)
    if learns:
        yield Saving("--learn.token-budget", str(SMALL_BATCH), _learn_in_smaller_batches)
        yield Saving("--model.recompute", "", _recompute)
        for learners in MORE_LEARNERS if spreads else ():
            if learners > setup.learners:
                yield Saving("--ray.learners", str(learners), partial(replace, learners=learners))
        yield Saving("--model.lora.rank", str(RANK), _adapt)


def _cache_less(setup: Setup) -> Setup:
    return replace(setup, model=replace(setup.model, batch_tokens=min(setup.model.batch_tokens, FEW_TOKENS)))


def _learn_in_smaller_batches(setup: Setup) -> Setup:
    return replace(setup, token_budget=min(setup.token_budget, SMALL_BATCH))


def _recompute(setup: Setup) -> Setup:
    return replace(setup, model=replace(setup.model, recompute=True))


def _adapt(setup: Setup) -> Setup:
    return setup if setup.model.lora.rank else replace(setup, model=replace(setup.model, lora=LoraConfig(rank=RANK)))


@dataclass(frozen=True, slots=True)
class Resources:
    """What there is to run on. 0: nobody said."""

    device_memory: int = 0
    """Bytes of each device."""
    host_memory: int = 0
    """Bytes of each machine."""
    machines: int = 1

    @property
    def here(self) -> bool:
        """Nothing was said, so it is this machine."""
        return not self.device_memory and not self.host_memory and self.machines == 1


@dataclass(frozen=True, slots=True)
class Holder:
    """Processes that share a memory, or each of several alike, and what there is of it."""

    title: str
    needs: Needs
    available: int = 0
    """Bytes; 0: not known."""
    helps: Remedy | None = None
    """Where it does not fit and something would make it."""

    @property
    def fits(self) -> bool:
        return not self.available or self.needs.total <= self.available


@dataclass(frozen=True, slots=True)
class Machine:
    """Of a machine's own memory, by turns: while models are opened, and while weights are handed on or saved."""

    opening: Term
    standing: tuple[Term, ...]
    available: int = 0
    """Bytes; 0: not known."""

    @property
    def total(self) -> int:
        return max(self.opening.size, sum(term.size for term in self.standing))

    @property
    def fits(self) -> bool:
        return not self.available or self.total <= self.available


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    parameters: int
    learned: int
    """Of these, those that learn."""
    device: str
    dtype: str
    """Of the sampling copy."""
    holders: tuple[Holder, ...]
    machine: Machine
    checkpoint: int
    """Bytes on disk of one."""
    export: int
    """Bytes on disk of the trained model."""
