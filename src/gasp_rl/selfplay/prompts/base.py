"""A prompt set: how each role is asked, and how its replies are read. Data and pure functions; no model, no sandbox.

Readers never raise on what a model wrote: they return what they found, or `Unreadable` with the reason in words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gasp_rl.config import RungConfig
from gasp_rl.problem import Problem
from gasp_rl.rollout import Axis, Kind, Prompt, Proposal, Task


@dataclass(frozen=True, slots=True)
class Draft:
    """A proposal as written, before anything is known about it."""

    message: str
    program: str
    inputs: tuple[str, ...]
    """Literal text of each argument tuple, without its parentheses: `[1, 2], 3`."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why no proposal, program or answer could be read."""

    reason: str


class ProblemPrompts(Protocol):
    """How a real problem is asked and its answer read: all that an evaluation needs."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str:
        """SHA-256 over templates and code that decide prompts and readings; written into every run: the version."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end a completion."""
        ...

    def ask_problem(self, problem: Problem) -> Prompt:
        """Ask the student a real problem."""
        ...

    def read_program(self, text: str) -> str | Unreadable:
        """The program of an induction answer or of a solution to a problem."""
        ...


class PromptSet(ProblemPrompts, Protocol):
    """How every role of self-play is asked."""

    def teach(
        self, rung: RungConfig, axis: Axis, goalpost: Problem | None, previous: Proposal | None, pairs: int
    ) -> Prompt:
        """Ask the teacher for one rung. Exactly what `rung.sees` names is given; the rest is None."""
        ...

    def propose_freely(self, kind: Kind, references: Sequence[Proposal], pairs: int) -> Prompt:
        """Ask for a task with no goalpost (AZR). Induction proposals get one reference and write about its program."""
        ...

    def ask(self, task: Task) -> Prompt:
        """Ask the student one task of self-play."""
        ...

    def read_proposal(self, text: str, pairs: int) -> Draft | Unreadable:
        """Message, program and exactly `pairs` inputs from the teacher's reply to `teach`."""
        ...

    def read_free_proposal(
        self, kind: Kind, references: Sequence[Proposal], text: str, pairs: int
    ) -> Draft | Unreadable:
        """The reply to `propose_freely`: program and one input, or message and inputs for the reference's program."""
        ...

    def read_literal(self, text: str) -> str | Unreadable:
        """The literal of a deduction answer (an output) or an abduction answer (the arguments)."""
        ...
