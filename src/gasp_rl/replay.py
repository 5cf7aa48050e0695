"""Make recorded iterations again without the model, and say what came out differently.

The iteration's own code runs: it is only given the completions of then instead of a policy, and the figures of then (loss,
entropy, gradient norm) instead of a learner. Every program is read, executed and judged again; verdicts, novelty, rewards
and advantages are computed again. With the code that recorded a run, nothing may differ. With another version, what differs is what
that version changes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from gasp_rl.build import (
    PROMPT_SETS,
    ProblemSets,
    Sandboxes,
    fresh_sandbox,
    iteration_of,
    load_problems,
    problems_digest,
)
from gasp_rl.errors import ConfigError, RunError
from gasp_rl.learn.learner import Learner
from gasp_rl.policy.recorded import RecordedPolicy, RecordedTrainer
from gasp_rl.progress import Silent
from gasp_rl.rollout import Iteration, Phase
from gasp_rl.runs.course import switched
from gasp_rl.runs.differences import Difference, differences
from gasp_rl.runs.directory import open_run
from gasp_rl.runs.journal import Decided, IterationRecord, Started, read_whole, written_and_read
from gasp_rl.sandbox.base import Sandbox
from gasp_rl.sandbox.remote import open_sandbox


@dataclass(frozen=True, slots=True)
class Replayed:
    """One iteration, made again."""

    recorded: Iteration
    differences: tuple[Difference, ...]
    """Between what is recorded and what this code makes of it, by phase; none if they agree bit for bit."""
    unknown: int
    """Prompts that this code asks and that one did not, or not as often: they have no completions."""


def replay(root: Path, step: int | None = None, sandboxes: Sandboxes = open_sandbox) -> Iterator[Replayed]:
    """Make one iteration of a run again, or all. Each begins from what the journal says was there before it.

    Raises ConfigError if the problems are no longer those of the run, RunError if there is nothing to replay.
    """
    past: list[Iteration] = []
    decided: list[Decided] = []
    rehearsal: Rehearsal | None = None
    with ExitStack() as stack:
        for record in read_whole(open_run(root).journal):
            match record:
                case Started():
                    sandbox = stack.enter_context(closing(fresh_sandbox(record.config.sandbox, Silent(), sandboxes)))
                    rehearsal = Rehearsal(record, decided, sandbox)
                case IterationRecord() if rehearsal:
                    if step in {None, record.iteration.step}:
                        yield rehearsal.replay(record, past)
                    past.append(replace(record.iteration, phases=_without_tries(record.iteration.phases)))
                case Decided():
                    decided.append(record)
                    rehearsal = rehearsal and rehearsal.after(decided)
                case _:
                    pass

    if step not in {None, *(iteration.step for iteration in past)}:
        raise RunError(f"{root} has no iteration {step}, it has {len(past)}")


class Rehearsal:
    """What makes iterations again. While they come out as recorded, the state that they leave serves for the next."""

    def __init__(self, started: Started, decided: Sequence[Decided], sandbox: Sandbox) -> None:
        self._started = started
        self._config = switched(started.config, decided)
        self._sandbox = sandbox
        self._sets = _problems_of(started)
        self._policy, self._trainer = RecordedPolicy(), RecordedTrainer()
        self._iterate: Callable[[int], Iteration] | None = None
        self._expected = 0
        """The step that the state is ready for."""

    def after(self, decided: Sequence[Decided]) -> "Rehearsal":
        """The same run, whose course was changed."""
        return Rehearsal(self._started, decided, self._sandbox)

    def replay(self, record: IterationRecord, past: Sequence[Iteration]) -> Replayed:
        iteration = record.iteration
        if not record.draws:
            raise RunError(f"iteration {iteration.step} was recorded without what was sampled, by an older gasp-rl")
        if self._iterate is None or self._expected != iteration.step:
            self._iterate = self._begin(past)

        self._policy.turn_to(record.draws)
        self._trainer.turn_to([phase.update for phase in iteration.phases if phase.update])
        again = written_and_read(IterationRecord(self._learner.settled(self._iterate(iteration.step)))).iteration
        found = tuple(differences(_by_phase(iteration), _by_phase(again)))
        self._expected = iteration.step + 1 if not found else 0
        return Replayed(iteration, found, self._policy.unknown)

    def _begin(self, past: Sequence[Iteration]) -> Callable[[int], Iteration]:
        config = self._config
        # What was learned is known here: nothing overlaps.
        self._learner = Learner(self._trainer, replace(config.learn, overlap=False), config.sampling.temperature)
        prompts = PROMPT_SETS[config.model.prompts]
        return iteration_of(
            config, self._sets, self._policy, self._learner, self._sandbox, prompts, Silent(), past=past
        )  # fmt: skip


def _problems_of(started: Started) -> ProblemSets:
    sets = load_problems(started.config, Silent())
    for name, then, now in (
        ("goalposts", started.digests.goalposts, problems_digest(sets.goalposts)),
        ("train", started.digests.train, problems_digest(sets.train)),
        ("held_out", started.digests.held_out, problems_digest(sets.held_out)),
    ):
        if then != now:
            raise ConfigError(f"problems.{name} is no longer what the run had; put the file of then back to replay it")
    return sets


def _by_phase(iteration: Iteration) -> dict[str, object]:
    """Phases under their names, which a person finds again; a name that comes twice has its place behind it."""
    names = [phase.name for phase in iteration.phases]
    named: dict[str, object] = {"goalposts_drawn": iteration.goalposts_drawn}
    for place, phase in enumerate(iteration.phases):
        name = phase.name if names.count(phase.name) == 1 else f"{phase.name} {place}"
        named[name] = msgspec.to_builtins(phase)
    return named


def _without_tries(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    return tuple(replace(phase, tries=()) for phase in phases)
