"""Times, speed and memory of a run, one measurement per line. Never truth: two equal runs differ here."""

import math
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from gasp_rl.errors import RunError
from gasp_rl.progress import PUBLISH, UPDATE, Silent

EVALUATE = "evaluate"
CHECKPOINT = "checkpoint"
MATCHED_DRAWS = "base model, matched draws"
"""Phases in which nothing is learned."""


class Measurement(msgspec.Struct, frozen=True):
    """What one phase cost."""

    step: int
    phase: str
    seconds: float
    """From its beginning to that of the next, by the wall clock."""
    tokens: int = 0
    """Sampled in it."""
    memory_mb: float = 0.0
    """Most memory this process has held so far."""
    sampling_seconds: float = 0.0
    """Of `seconds`, those in which this process waited for the model to sample."""
    update_seconds: float = 0.0
    """Of `seconds`, those of the update of the weights."""
    publish_seconds: float = 0.0
    """Of `update_seconds`, those in which new weights went from what learns to what samples."""
    cpu_seconds: float = 0.0
    """CPU of this process, all threads: the model's too where it runs here on the CPU."""
    sandbox_cpu_seconds: float = 0.0
    """CPU of the processes that ran model-written programs, from fork to end. What their workers spend to fork them and
    to read what they left is not in it (docs/run-directory.md)."""
    programs: int = 0
    """Run by the sandbox; those whose outcome was remembered are not counted."""
    rounds: int = 0
    """Times that prompts were sampled for together."""
    prompts: int = 0
    """Answered, over all rounds."""
    prompt_tokens: int = 0
    """Of these prompts, each counted once, however many completions it has."""
    longest: int = 0
    """Tokens of the longest completion of each round, added up: so many had to be sampled one after the other."""
    spread: float = 0.0
    """Standard deviation of the tokens of a prompt's completions, all together, from prompt to prompt."""
    learned_tokens: int = 0
    """That the update ran over, those of prompts included."""
    cores: int = 0
    """Of the CPU, that this process may use."""

    @property
    def training(self) -> bool:
        """It was part of an iteration."""
        return self.step > 0 and self.phase not in {EVALUATE, CHECKPOINT, MATCHED_DRAWS}

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


@dataclass(slots=True)
class Spent:
    """What a run has taken by now, by the wall clock, its open phase and interruptions not counted."""

    seconds: float = 0.0
    training_seconds: float = 0.0

    def add(self, measurement: Measurement) -> None:
        self.seconds += measurement.seconds
        self.training_seconds += measurement.seconds if measurement.training else 0.0


def peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB


def read_measurements(path: Path) -> tuple[Measurement, ...]:
    """All whole lines; none where the file is missing."""
    if not path.is_file():
        return ()
    whole = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    try:
        return tuple(msgspec.json.decode(line, type=Measurement) for line in whole)
    except msgspec.MsgspecError as error:
        raise RunError(f"{path} is corrupt: {error}") from error


@dataclass(slots=True)
class _Lap:
    """A phase while it lasts."""

    phase: str
    since: float
    cpu_since: float
    tokens: int = 0
    sampling_seconds: float = 0.0
    sandbox_cpu_seconds: float = 0.0
    programs: int = 0
    prompts: int = 0
    prompt_tokens: int = 0
    squares: int = 0
    """Of the tokens of each prompt's completions, added up."""
    longest: list[int] = field(default_factory=list)
    """Of each round so far."""
    learned_tokens: int = 0
    model_since: float = 0.0
    """When the model last began to sample."""
    update_since: float | None = None
    publish_since: float | None = None

    @property
    def spread(self) -> float:
        if not self.prompts:
            return 0.0
        mean = self.tokens / self.prompts
        return math.sqrt(max(0.0, self.squares / self.prompts - mean * mean))


@dataclass(slots=True)
class Meter(Silent):
    """An observer that tells what each phase cost, when the next begins and at the end."""

    tell: Callable[[Measurement], None]
    clock: Callable[[], float] = time.monotonic
    cpu_clock: Callable[[], float] = time.process_time
    _step: int = field(default=0, init=False)
    _lap: _Lap | None = field(default=None, init=False)

    def iteration(self, step: int, steps: int) -> None:
        self.close()
        self._step = step

    def phase(self, name: str, detail: str = "") -> None:
        now = self.clock()
        if self._lap is None or self._lap.phase != name or detail not in {UPDATE, PUBLISH}:
            self.close()
            self._lap = _Lap(name, now, self.cpu_clock())
        if detail == UPDATE:
            self._lap.update_since = now
        if detail == PUBLISH:
            self._lap.publish_since = now

    def progress(self, done: int, total: int) -> None:
        if self._lap:
            self._lap.model_since = self.clock()
            if not done:
                self._lap.longest.append(0)

    def sampling(self, prompt: int, tokens: int, longest: int) -> None:
        if self._lap:
            self._lap.sampling_seconds += self.clock() - self._lap.model_since
            self._lap.tokens += tokens
            self._lap.prompts += 1
            self._lap.prompt_tokens += prompt
            self._lap.squares += tokens * tokens
            self._lap.longest[-1:] = [max([longest, *self._lap.longest[-1:]])]

    def learning(self, tokens: int) -> None:
        if self._lap:
            self._lap.learned_tokens += tokens

    def executed(self, cpu_seconds: float) -> None:
        if self._lap:
            self._lap.sandbox_cpu_seconds += cpu_seconds
            self._lap.programs += 1

    def close(self) -> None:
        """Tell of the phase that ends here, if one has begun."""
        lap, self._lap = self._lap, None
        if lap is None:
            return
        now = self.clock()
        updating = 0.0 if lap.update_since is None else now - lap.update_since
        publishing = 0.0 if lap.publish_since is None else now - lap.publish_since
        self.tell(
            Measurement(
                step=self._step,
                phase=lap.phase,
                seconds=round(now - lap.since, 3),
                tokens=lap.tokens,
                memory_mb=round(peak_memory_mb(), 1),
                sampling_seconds=round(lap.sampling_seconds, 3),
                update_seconds=round(updating, 3),
                cpu_seconds=round(self.cpu_clock() - lap.cpu_since, 3),
                sandbox_cpu_seconds=round(lap.sandbox_cpu_seconds, 3),
                publish_seconds=round(publishing, 3),
                programs=lap.programs,
                rounds=len(lap.longest),
                prompts=lap.prompts,
                prompt_tokens=lap.prompt_tokens,
                longest=sum(lap.longest),
                spread=round(lap.spread, 3),
                learned_tokens=lap.learned_tokens,
                cores=len(os.sched_getaffinity(0)),
            )
        )
