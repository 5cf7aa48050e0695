"""What decides how a run goes on beside its settings: budgets and the health monitor.

Each decision is a record of the journal, made after an iteration and in force from then on: the course of a run is a
function of settings and journal. Only budgets of seconds ask the clock.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from gasp_rl.config import RunConfig
from gasp_rl.progress import Observer
from gasp_rl.rollout import Evaluation, Iteration
from gasp_rl.runs.health import Monitor, Reading, Signal
from gasp_rl.runs.journal import Course, Decided, EvaluationRecord, IterationRecord, Record, Started
from gasp_rl.runs.metrics import Spent
from gasp_rl.stats import mean_pass_at_k

SWITCHES = {Signal.VALID: Course.LENIENT, Signal.DUPLICATES: Course.MAPPING, Signal.DISSIMILARITY: Course.MAPPING}
"""What is switched where a signal's alarm asks for it."""


class Pilot:
    """Follows a run record by record and says how it goes on."""

    def __init__(self, config: RunConfig, observer: Observer, spent: Callable[[], Spent]) -> None:
        """`spent`: what the run has taken by now, by the wall clock."""
        self._config = config
        self._observer = observer
        self._spent = spent
        self._monitor = Monitor(config)
        self._trained = 0
        self._evaluated = 0
        self._versions: set[int] = set()
        """Steps after which the trained model was evaluated."""
        self._best: dict[int, tuple[float, int]] = {}
        """Best validation pass@k so far, by k, and after which iteration."""
        self._began: RunConfig | None = None
        self.decided: list[Decided] = []

    @property
    def stopped(self) -> str:
        """Why no further iteration begins; empty while they do."""
        return next((one.reason for one in self.decided if one.course is Course.STOP), "")

    def follow(self, record: Record) -> None:
        """Take note of what is in the journal already."""
        match record:
            case Started(config):
                if config != self._began:  # what ended it under other settings does not end it now
                    self.decided = [one for one in self.decided if one.course is not Course.STOP]
                self._began = config
            case IterationRecord(iteration):
                self._count(iteration)
                self._monitor.read(iteration)
            case EvaluationRecord(evaluation):
                self._evaluated += evaluation.sampled_tokens
                self._versions |= {evaluation.step} - {0}
                if evaluation.split == "validation" and evaluation.step:
                    self._rate(evaluation)
                self._monitor.evaluated(evaluation)
            case Decided():
                self.decided.append(record)
            case _:
                pass

    def decide(self, iteration: Iteration) -> list[Decided]:
        """What changes after an iteration that was just done; nothing for most."""
        self._count(iteration)
        wanted = [*self._alarms(iteration), *self._overspent()]
        made: list[Decided] = []
        for course, reason in wanted if iteration.step < self._config.steps else ():
            if not any(one.course is course for one in (*self.decided, *made)):
                made.append(Decided(iteration.step, course, reason))
                self._observer.note(str(made[-1]))
        self.decided += made
        return made

    def goes_on(self, step: int) -> bool:
        """Whether the next iteration begins while this one is still being learned from, with `learn.overlap`: nothing is to be
        evaluated, saved or decided between them.
        """
        config = self._config
        budget, health = config.budget, config.health
        acting = {getattr(health, signal).action for signal in Signal} & {"stop", "switch"}
        decides = acting or any((budget.tokens, budget.training_tokens, budget.seconds, budget.training_seconds))
        waits = step >= config.steps or decides or self.evaluation_due(step) or self.checkpoint_due(step)
        return config.learn.overlap and not waits

    def evaluation_due(self, step: int) -> bool:
        """Whether the model is evaluated after this iteration: every so many, or after another share of the budget."""
        cfg = self._config.evaluate
        if not cfg.times:
            return step % cfg.every == 0
        return min(cfg.times, math.floor(cfg.times * self._share())) > len(self._versions)

    def checkpoint_due(self, step: int) -> bool:
        """Whether a checkpoint follows this iteration: every so many, and where validation is better than ever."""
        every = self._config.checkpoint.every
        return every > 0 and (step % every == 0 or any(step == best for _, best in self._best.values()))

    def steps(self, done: int) -> int:
        """How many iterations there will be, as far as that can be known after these; 0 where it cannot."""
        budget = self._config.budget
        if not any((budget.tokens, budget.training_tokens, budget.seconds, budget.training_seconds)):
            return self._config.steps
        return min(self._config.steps, math.ceil(done / self._share())) if done and self._share() else 0

    def _share(self) -> float:
        """Of the budget that is spent most."""
        budget, spent = self._config.budget, self._spent()
        return max(
            (used / most for used, most in (
                (self._trained, budget.training_tokens), (self._trained + self._evaluated, budget.tokens),
                (spent.seconds, budget.seconds), (spent.training_seconds, budget.training_seconds),
            ) if most), default=0.0,
        )  # fmt: skip

    def _rate(self, evaluation: Evaluation) -> None:
        for k in self._config.checkpoint.best:
            rate = mean_pass_at_k(evaluation.scores, k)
            if rate is not None and rate > self._best.get(k, (-1.0, 0))[0]:
                self._best[k] = rate, evaluation.step

    def _count(self, iteration: Iteration) -> None:
        self._trained += sum(phase.sampled_tokens for phase in iteration.phases)

    def _alarms(self, iteration: Iteration) -> Iterator[tuple[Course, str]]:
        for reading in self._monitor.read(iteration):
            self._observer.signal(reading.signal, reading.value, str(reading) if reading.alarming else "")
            if reading.alarming:
                yield from _course(reading)

    def _overspent(self) -> Iterator[tuple[Course, str]]:
        budget, spent = self._config.budget, self._spent()
        if 0 < budget.training_tokens <= self._trained:
            yield Course.STOP, f"the budget of {budget.training_tokens:,} training tokens is spent"
        if 0 < budget.tokens <= self._trained + self._evaluated:
            yield Course.STOP, f"the budget of {budget.tokens:,} tokens is spent"
        if 0 < budget.seconds <= spent.seconds:
            yield Course.STOP, f"the budget of {budget.seconds:g} s is spent"
        if 0 < budget.training_seconds <= spent.training_seconds:
            yield Course.STOP, f"the budget of {budget.training_seconds:g} s of training is spent"


def switched(config: RunConfig, decided: Iterable[Decided]) -> RunConfig:
    """The settings after these decisions."""
    gasp, azr = config.gasp, config.azr
    for course in (one.course for one in decided):
        if course is Course.LENIENT and gasp:
            least = gasp.rewards.outside_band
            rewards = replace(gasp.rewards, malformed=least, unsafe=least, invalid=least, nondeterministic=least)
            gasp = replace(gasp, rewards=rewards)
        elif course is Course.LENIENT and azr:
            azr = replace(azr, invalid_reward=azr.zero_learnability_reward)
        elif course is Course.MAPPING and gasp:
            gasp = replace(gasp, axes=("f",))
    return replace(config, gasp=gasp, azr=azr)


def _course(reading: Reading) -> Iterator[tuple[Course, str]]:
    match reading.alarm.action:
        case "stop":
            yield Course.STOP, str(reading)
        case "switch":
            yield SWITCHES[reading.signal], str(reading)
        case _:
            return
