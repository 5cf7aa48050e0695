"""How long an iteration takes with more devices, from what few were measured to take. Values in, values out; no speed is invented.

A run is a sequence of stages, one after the other: sampling, with programs run beside it, then an update, then publishing.

*Sampling.* Tokens of one completion come one after the other, on however many devices; different prompts are shared. By
least squares of relative errors over all that was measured, none of the three below 0,

    seconds = a * tokens + p * prompted + b * longest

(`longest`: tokens of the longest completion of each round, added up; `tokens` sampled and `prompted`, those of prompts: of the
sampler that had most). With S samplers prompts are shared. How long their completions become nobody knows beforehand,
so one sampler has more to do than the mean: for R prompts a round whose tokens differ by a coefficient of variation c,

    share(S, c) = 1/S + c * sqrt(2 ln S / (S R)), at least 1/R, at most 1

(the largest of S normal sums is about sqrt(2 ln S) standard deviations above their mean). What S samplers take is to what
was measured as these seconds are to those: share(S, c) of the tokens, share(S, 0) of the prompts, and all of `longest`.

*Programs* run while the model samples; what was not hidden behind it, `rest`, is measured. They take CPU / workers at the
least, and with more workers W that part of `rest` shrinks likewise:

    stage = max(sampling(S) + rest(W), programs(W))

On one machine whose processors also hold the model there is a third bound: all of their work / cores.

*Update.* Items are dealt by their tokens, which are known, so learners have nearly the same: update * (measured L) / L, and on top of it
what FSDP2 sends, if a link's speed is known: for each micro-batch every weight is gathered twice in the type of the
arithmetic and its gradient summed once in float32, (L-1)/L of each. It is sent layer by layer, so the speed that counts is
that of messages of a layer's size.

*Publishing.* As measured; and weights in float32 are gathered once from the learners, (L-1)/L of them, and sent to
every further machine.

Everything else stays as it was measured.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

CLOCK = 1e-3
"""Seconds that measurements tell apart."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the time of sampling depends on."""

    tokens: float
    """Sampled by whoever samples most."""
    prompted: float
    """Likewise of prompts."""
    longest: float
    """Sampled one after the other, by anybody."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What was measured, by few learners and samplers."""

    name: str
    seconds: float
    """By the wall clock, all in all."""
    sampling: float = 0.0
    """Of these, waiting for the model to sample."""
    update: float = 0.0
    """Of these, learning, publishing not included."""
    publish: float = 0.0
    programs: float = 0.0
    """CPU seconds of the programs that ran beside."""
    tokens: float = 0.0
    """Sampled."""
    longest: float = 0.0
    rounds: float = 0.0
    prompts: float = 0.0
    spread: float = 0.0
    """Standard deviation of the tokens per prompt."""
    learned: float = 0.0
    """Tokens that the update ran over."""
    programs_run: float = 0.0
    prompted: float = 0.0
    """Tokens of the prompts."""

    def load(self, samplers: int) -> Load:
        """What is waited for with so many samplers: of tokens and prompts, those of the sampler that has most."""
        mean = self.tokens / self.prompts if self.prompts else 0.0
        each_round = self.prompts / self.rounds if self.rounds else self.prompts
        most = busiest(each_round, self.spread / mean if mean else 0.0, samplers)
        return Load(self.tokens * most, self.prompted * busiest(each_round, 0.0, samplers), self.longest)

    @property
    def rest(self) -> float:
        """Programs and bookkeeping that no sampling hid."""
        return max(0.0, self.seconds - self.sampling - self.update - self.publish)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What goes between devices. A speed of 0: not known, so not counted."""

    parameters: float = 0.0
    """Of the model."""
    learned: float = 0.0
    """Of these, those that learn."""
    itemsize: int = 4
    """Bytes of a weight as it is gathered."""
    token_budget: int = 16_384
    """Of a micro-batch."""
    link: float = 0.0
    """Bytes per second that a device receives of others on its machine, in messages of a layer's size."""
    network: float = 0.0
    """Likewise between machines."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Who does the work."""

    learners: int = 1
    samplers: int = 1
    colocated: bool = True
    """Samplers and learners share the devices, by turns."""
    workers: int = 1
    """Programs run at a time, on all machines."""
    machines: int = 1

    @property
    def devices(self) -> int:
        return max(self.learners, self.samplers) if self.colocated else self.learners + self.samplers


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of a stage, or of several, by what they are spent on."""

    sampling: float = 0.0
    programs: float = 0.0
    """Not hidden behind sampling, bookkeeping included."""
    update: float = 0.0
    transfer: float = 0.0
    """Between learners, and from learners to samplers."""

    @property
    def total(self) -> float:
        return self.sampling + self.programs + self.update + self.transfer

    @property
    def bottleneck(self) -> str:
        """What most of it is spent on."""
        found = {"sampling": self.sampling, "programs": self.programs, "update": self.update, "transfer": self.transfer}
        return max(found, key=lambda name: found[name])

    def __add__(self, other: "Times") -> "Times":
        return Times(
            self.sampling + other.sampling, self.programs + other.programs, self.update + other.update,
            self.transfer + other.transfer,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of sampling per token sampled, per token of a prompt, and per token that waits for the one before it."""

    shared: float
    reading: float
    serial: float

    def seconds(self, load: Load) -> float:
        return self.shared * load.tokens + self.reading * load.prompted + self.serial * load.longest


def pace(stages: Iterable[Stage], samplers: int = 1) -> Pace:
    """Of stages that so many samplers had part in. By least squares of relative errors over these stages, none below 0.

    >>> found = pace([Stage("a", 3, 3.0, tokens=100, longest=10), Stage("b", 5, 5.0, tokens=200, longest=10)])
    >>> round(found.shared, 6), found.reading, round(found.serial, 6)
    (0.02, 0.0, 0.1)
    """
    from scipy.optimize import nnls

    loads = [(stage.load(samplers), stage.sampling) for stage in stages if stage.tokens and stage.sampling >= CLOCK]
    if not loads:
        return Pace(0.0, 0.0, 0.0)
    found, _ = nnls([[load.tokens / s, load.prompted / s, load.longest / s] for load, s in loads], [1.0] * len(loads))
    return Pace(*map(float, found))


def busiest(prompts: float, variation: float, hands: int) -> float:
    """The share of the work of whoever has most of it, dealt by number.

    >>> busiest(64, 0.0, 4), busiest(2, 0.0, 4), round(busiest(64, 1.0, 4), 3)
    (0.25, 0.5, 0.354)
    """
    if hands == 1 or not prompts:
        return 1.0
    more = variation * math.sqrt(2 * math.log(hands) / (hands * prompts))
    return min(1.0, max(1 / prompts, 1 / hands + more))


@dataclass(frozen=True, slots=True)
class Work:
    """What a run has to do, as it was measured."""

    iteration: tuple[Stage, ...]
    evaluation: tuple[Stage, ...] = ()
    """One of them all in all; empty where none was measured."""
    laps: tuple[Stage, ...] = ()
    """All that was measured, each for itself; by default what is above."""
    goalposts: float = 0.0
    """Share of an evaluation's tokens that were drawn for goalposts."""
    checkpoint: float = 0.0
    """Seconds of one."""
    learners: int = 1
    """That did it."""
    samplers: int = 1
    workers: int = 1
    """Programs that were run at a time."""
    shared_cores: int = 0
    """Of the processors that both model and programs ran on; 0: the model was elsewhere."""

    @property
    def measured(self) -> Arrangement:
        return Arrangement(self.learners, self.samplers, self.learners == self.samplers == 1, self.workers)

    @property
    def pace(self) -> Pace:
        return pace(self.laps or (*self.iteration, *self.evaluation), self.samplers)


@dataclass(frozen=True, slots=True)
class Measured:
    """What an earlier run took."""

    run: str
    engine: str
    iterations: int
    work: Work
    others: tuple[str, ...] = ()
    """Settings that were others than those that are planned for, in words."""


def predicted(work: Work, stage: Stage, traffic: Traffic, to: Arrangement) -> Times:
    """What a stage of this work takes there. With those who did it, what was measured."""
    paced = work.pace
    then, now = (paced.seconds(stage.load(samplers)) for samplers in (work.samplers, to.samplers))
    sampling = stage.sampling * (now / then if then else 1.0)

    own = stage.sampling + stage.rest
    fewer = min(1.0, work.workers / to.workers)
    running = min(stage.programs / work.workers, own)
    waited = min(running, stage.rest)
    bounds = [sampling + stage.rest - waited * (1 - fewer), running * fewer]
    if work.shared_cores:
        bounds.append(min(own, (stage.sampling + stage.programs) / work.shared_cores))
    return Times(
        sampling=sampling,
        programs=max(bounds) - sampling,
        update=stage.update * work.learners / to.learners,
        transfer=stage.publish + max(0.0, _sent(stage, traffic, to) - _sent(stage, traffic, work.measured)),
    )


def _sent(stage: Stage, traffic: Traffic, to: Arrangement) -> float:
    """Seconds that an update and its publication spend on the way between devices."""
    speed = traffic.network if to.machines > 1 else traffic.link
    found = 0.0
    if stage.update and speed and to.learners > 1:
        found += sent_bytes(stage, traffic, to.learners) / speed
    if stage.publish and traffic.network and to.machines > 1:
        found += 4 * traffic.learned * (to.machines - 1) / traffic.network
    return found


def sent_bytes(stage: Stage, traffic: Traffic, learners: int) -> float:
    """That each learner receives in an update: gathered weights, summed gradients, and what is published."""
    batches = max(1, math.ceil(stage.learned / learners / traffic.token_budget))
    gathered = 2 * traffic.itemsize * traffic.parameters + 4 * traffic.learned
    return (batches * gathered + 4 * traffic.learned) * (1 - 1 / learners)


def altogether(work: Work, stages: Iterable[Stage], traffic: Traffic, to: Arrangement) -> Times:
    return sum((predicted(work, stage, traffic, to) for stage in stages), Times())


def best_division(devices: int, work: Work, traffic: Traffic, like: Arrangement) -> Arrangement:
    """So many devices, divided among learners and samplers, or shared by both as `like` has it, so that an iteration is
    shortest. One device is shared.
    """
    if like.colocated or devices == 1:
        return replace(like, learners=devices, samplers=devices, colocated=True)
    ways = [replace(like, learners=n, samplers=devices - n) for n in range(1, devices)]
    return min(ways, key=lambda way: altogether(work, work.iteration, traffic, way).total)


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of each a run will do."""

    iterations: int
    evaluations: int
    """Of the trained model and of the untrained one."""
    matched: int
    """Draws of the untrained model at the end, in evaluations of goalposts."""
    checkpoints: int


def whole_run(work: Work, amounts: Amounts, traffic: Traffic, to: Arrangement) -> float:
    """Seconds, interruptions not counted."""
    iteration = altogether(work, work.iteration, traffic, to).total
    evaluation = altogether(work, work.evaluation, traffic, to).total
    drawn = amounts.evaluations + amounts.matched * work.goalposts
    return amounts.iterations * iteration + drawn * evaluation + amounts.checkpoints * work.checkpoint
