"""Signals that foretell a collapse, read from journal records alone: a resumed run sees what a straight one saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean
from typing import Final

from gasp_rl.config import Alarm, HealthConfig, RunConfig
from gasp_rl.problems.microcode.operations import honest
from gasp_rl.rollout import BROKEN, Evaluation, Iteration, Judgement, Phase, Rejection
from gasp_rl.runs.journal import EvaluationRecord, IterationRecord, Journal
from gasp_rl.stats import mean_pass_at_k

LEAST: Final = 8
"""Proposals or answers that a share is taken of: fewer say nothing."""


class Signal(StrEnum):
    """What is watched; `HealthConfig` says what each means."""

    VALID = "valid"
    FLAT = "flat"
    DUPLICATES = "duplicates"
    DISSIMILARITY = "dissimilarity"
    DISHONEST = "dishonest"
    ENTROPY = "entropy"
    REWARD = "reward"
    HELD_OUT = "held_out"
    LOG_RATIO = "log_ratio"


FALLING: Final = frozenset({Signal.VALID, Signal.DISSIMILARITY, Signal.ENTROPY})
"""Signals that mean harm below their threshold; the others do above."""

WORDS: Final = {
    Signal.VALID: "{:.0%} of the proposals can be read and run",
    Signal.FLAT: "{:.0%} of the tried proposals were solved always or never",
    Signal.DUPLICATES: "{:.0%} of the proposals that run repeat what was accepted",
    Signal.DISSIMILARITY: "accepted proposals differ from those before by {:.2f}",
    Signal.DISHONEST: "{:.0%} of the tried proposals have a message that does not describe their program",
    Signal.ENTROPY: "{:.0%} is left of the entropy that training began with",
    Signal.REWARD: "the student's reward has fallen {:.2f} from its best",
    Signal.HELD_OUT: "pass@1 of validation or goalposts has fallen {:.2f} from its best",
    Signal.LOG_RATIO: "learner and sampler disagree by a log ratio of up to {:.2f}",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One signal at one iteration."""

    step: int
    signal: Signal
    value: float
    alarm: Alarm
    beyond: int
    """Iterations in a row that it has been beyond its threshold, this one included; 0 if it is not."""
    alarming: bool
    """It has just been so for long enough. It alarms again once it has recovered."""

    def __str__(self) -> str:
        limit = f"{'below' if self.signal in FALLING else 'above'} {self.alarm.threshold:g}"
        row = f" for {self.beyond} iterations" if self.beyond > 1 else ""
        return f"{WORDS[self.signal].format(self.value)} ({limit}{row})"


class Monitor:
    """Reads iterations one by one, in order."""

    def __init__(self, config: RunConfig) -> None:
        self._config: HealthConfig = config.health
        self._rungs = frozenset(rung.name for rung in config.gasp.ladder) if config.gasp else frozenset()
        self._told = config.model.prompts == "micro"
        self._beyond = dict.fromkeys(Signal, 0)
        self._entropies: list[float] = []
        self._rewards: list[float] = []
        self._best = float("-inf")
        self._best_rates: dict[str, float] = {}
        self._falls: dict[str, float] = {}

    def evaluated(self, evaluation: Evaluation) -> None:
        """Of the weights after the iterations that were read."""
        rate = mean_pass_at_k(evaluation.scores, 1)
        if evaluation.split in {"validation", "goalposts"} and rate is not None:
            best = max(rate, self._best_rates.get(evaluation.split, 0.0))
            self._best_rates[evaluation.split] = best
            self._falls[evaluation.split] = best - rate

    def read(self, iteration: Iteration) -> list[Reading]:
        """The signals that this iteration gives enough to read."""
        readings = []
        for signal, value in self._values(iteration).items():
            alarm: Alarm = getattr(self._config, signal)
            harmful = value < alarm.threshold if signal in FALLING else value > alarm.threshold
            self._beyond[signal] = self._beyond[signal] + 1 if harmful else 0
            alarming = alarm.action != "off" and self._beyond[signal] == self._config.patience
            readings.append(Reading(iteration.step, signal, value, alarm, self._beyond[signal], alarming))
        return readings

    def _values(self, iteration: Iteration) -> dict[Signal, float]:
        written = [p for phase in iteration.phases for p in phase.proposals]
        ours = [p for p in written if p.rejection is not Rejection.SANDBOX_FAULT]
        running = [p for p in ours if p.rejection not in BROKEN]
        tried = [p for p in running if p.tries]
        told = [p for p in tried if p.message] if self._told else []
        found: dict[Signal, float] = {}
        for signal, of, hits in (
            (Signal.VALID, ours, running),
            (Signal.FLAT, tried, [p for p in tried if p.passes in {0, p.tries}]),
            (Signal.DUPLICATES, running, [p for p in running if p.rejection is Rejection.DUPLICATE]),
            (Signal.DISHONEST, told, [p for p in told if not honest(p.message, p.program)]),
        ):
            if len(of) >= LEAST:
                found[signal] = len(hits) / len(of)
        if self._falls:
            found[Signal.HELD_OUT] = max(self._falls.values())
        return found | self._of_phases(iteration.phases)

    def _of_phases(self, phases: Sequence[Phase]) -> dict[Signal, float]:
        found: dict[Signal, float] = {}
        if distances := [
            p.dissimilarity for p in phases if p.name in self._rungs and any(q.accepted for q in p.proposals)
        ]:
            found[Signal.DISSIMILARITY] = min(distances)
        updates = [phase.update for phase in phases if phase.update and not phase.update.skipped]
        if updates:
            found[Signal.LOG_RATIO] = max(update.ratio_max for update in updates)
            entropy = sum(u.entropy * u.tokens for u in updates) / sum(u.tokens for u in updates)
            if len(self._entropies) < self._config.patience:
                self._entropies.append(entropy)
            elif (began := fmean(self._entropies)) > 0:
                found[Signal.ENTROPY] = entropy / began
        answers = [a for phase in phases for a in phase.answers if a.judgement is not Judgement.SANDBOX_FAULT]
        if len(answers) >= LEAST:
            self._rewards = [*self._rewards, fmean(answer.reward for answer in answers)][-self._config.patience :]
            if len(self._rewards) == self._config.patience:
                now = fmean(self._rewards)
                self._best = max(self._best, now)
                found[Signal.REWARD] = self._best - now
        return found


def alarms(journal: Journal) -> list[Reading]:
    """Every alarm of a run so far."""
    if journal.started is None:
        return []
    monitor = Monitor(journal.started.config)
    found: list[Reading] = []
    for record in journal.records:
        match record:
            case IterationRecord(iteration):
                found += [reading for reading in monitor.read(iteration) if reading.alarming]
            case EvaluationRecord(evaluation):
                monitor.evaluated(evaluation)
            case _:
                pass
    return found
