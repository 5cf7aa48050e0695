"""The prompt set of the embedded world: compact text with one header line per role, short enough for a small model.

Everything is plain lines. A teacher's reply is a message, a program and a block of inputs:

    sort ascending, then drop the first 2
    def f(x):
        # sort ascending
        x = sorted(x)
        # drop the first 2
        x = x[2:]
        return x
    # inputs
    1: [3, 1, 2]
    2: [9, 4]
    ...

A comment before each step is the model's room to think; a number before each input helps it count.

The writers here (`reply`, `free_reply`) are the inverse of the readers, and what the embedded model was pretrained on.
"""

import ast
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gasp_rl.config import RungConfig
from gasp_rl.problem import Problem
from gasp_rl.rollout import Axis, Kind, Pair, Prompt, Proposal, Task
from gasp_rl.selfplay.prompts.base import Draft, Unreadable

SOLVE = "# solve\n"
PROGRAM = "# program\n"
RUN = "# run\n"
INVERT = "# invert\n"
INPUT = "# input\n"
INPUTS = "# inputs\n"
GOALPOST = "# goalpost\n"
PREVIOUS = "# previous\n"
TEACH = "# write {direction}, axis {axis}, {pairs} inputs\n"
PROPOSE = {Kind.DEDUCTION: "# propose run\n", Kind.ABDUCTION: "# propose invert\n",
           Kind.INDUCTION: "# propose solve, {pairs} inputs\n"}  # fmt: skip
CALL = ">>> f({input})\n"
UNKNOWN = ">>> f(?)\n"

LONGEST_MESSAGE = 400
LONGEST_LITERAL = 300

_LITERAL = re.compile(r"[\[\](), 0-9-]+")


def shown(pairs: Sequence[Pair]) -> str:
    """Pairs as a Python session: each call and, on the next line, its value."""
    return "".join(f"{CALL.format(input=pair.input)}{pair.output}\n" for pair in pairs)


def numbered(inputs: Sequence[str]) -> str:
    return "\n".join(f"{place}: {text}" for place, text in enumerate(inputs, start=1))


def reply(draft: Draft) -> str:
    """What a teacher writes to propose this."""
    return f"{draft.message}\n{draft.program}\n{INPUTS}{numbered(draft.inputs)}"


def free_reply(kind: Kind, draft: Draft) -> str:
    """What a proposer writes to propose this freely."""
    if kind is Kind.INDUCTION:
        return f"{draft.message}\n{INPUTS}{numbered(draft.inputs)}"
    return f"{draft.program}\n{INPUT}{draft.inputs[0]}"


def _literal_fault(text: str) -> str:
    """Why this is not the literal text of numbers and lists; empty if it is."""
    if not text:
        return "empty"
    if len(text) > LONGEST_LITERAL:
        return f"longer than {LONGEST_LITERAL} characters"
    if not _LITERAL.fullmatch(text):
        return "not only numbers and lists"
    try:
        ast.literal_eval(f"({text},)")
    except (SyntaxError, ValueError) as fault:
        return f"not a literal ({type(fault).__name__})"
    return ""


def _read_message(text: str) -> str | Unreadable:
    if not text or text != text.strip():
        return Unreadable("the message is empty or padded")
    if len(text) > LONGEST_MESSAGE:
        return Unreadable(f"the message is longer than {LONGEST_MESSAGE} characters")
    if text.startswith(("#", "def ", ">>>")):
        return Unreadable("a message is missing before the program")
    return text


def _read_program(text: str) -> str | Unreadable:
    text = text.strip("\n")
    if not text.startswith("def "):
        return Unreadable("the program does not begin with def")
    if "def f(" not in text:
        return Unreadable("the program has no function f")
    if "\n#" in text or "\n>>>" in text:
        return Unreadable("something follows the program")
    return text


def _read_inputs(text: str, n: int) -> tuple[str, ...] | Unreadable:
    lines = text.removesuffix("\n").split("\n")
    if len(lines) != n:
        return Unreadable(f"{len(lines)} inputs instead of {n}")
    inputs: list[str] = []
    for place, line in enumerate(lines, start=1):
        number, _, literal = line.partition(": ")
        if number != str(place):
            return Unreadable(f"input {place} does not begin with its number")
        if fault := _literal_fault(literal):
            return Unreadable(f"input {place} is {fault}")
        if literal in inputs:  # a hidden pair that repeats a public one tests nothing
            return Unreadable(f"input {place} repeats input {inputs.index(literal) + 1}")
        inputs.append(literal)
    return tuple(inputs)


def _read_input(text: str) -> tuple[str, ...] | Unreadable:
    literal = text.removesuffix("\n")
    fault = _literal_fault(literal)
    return Unreadable(f"the input is {fault}") if fault else (literal,)


@dataclass(frozen=True, slots=True)
class MicroPrompts:
    """Implements `PromptSet`."""

    @property
    def name(self) -> str:
        return "micro"

    @property
    def digest(self) -> str:
        return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()

    @property
    def stop(self) -> tuple[str, ...]:
        return ()  # the end-of-text token ends every reply

    def teach(
        self, rung: RungConfig, axis: Axis, goalpost: Problem | None, previous: Proposal | None, pairs: int
    ) -> Prompt:
        header = TEACH.format(direction=rung.direction, axis=axis.value, pairs=pairs)
        above = f"{GOALPOST}{goalpost.statement}\n" if goalpost else ""
        below = f"{PREVIOUS}{previous.message}\n{previous.program}\n" if previous else ""
        return f"{above}{below}{header}"

    def propose_freely(self, kind: Kind, references: Sequence[Proposal], pairs: int) -> Prompt:
        programs = "".join(f"{PROGRAM}{reference.program}\n" for reference in references)
        return programs + PROPOSE[kind].format(pairs=pairs)

    def ask(self, task: Task) -> Prompt:
        match task.kind:
            case Kind.INDUCTION | Kind.PROBLEM:
                return f"{SOLVE}{task.message}\n{shown(task.shown)}{PROGRAM}"
            case Kind.DEDUCTION:
                return f"{RUN}{task.program}\n{CALL.format(input=task.shown[0].input)}"
            case Kind.ABDUCTION:
                return f"{INVERT}{task.program}\n{UNKNOWN}{task.shown[0].output}\n{INPUT}"

    def ask_problem(self, problem: Problem) -> Prompt:
        pairs = tuple(Pair(test.input, test.output) for test in problem.public_tests)
        return self.ask(Task(Kind.PROBLEM, problem.id, problem.statement, shown=pairs))

    def read_proposal(self, text: str, pairs: int) -> Draft | Unreadable:
        head, found, tail = text.partition("\n" + INPUTS)
        if not found:
            return Unreadable("no block of inputs")
        message, _, body = head.partition("\n")
        return _draft(_read_message(message), _read_program(body), _read_inputs(tail, pairs))

    def read_free_proposal(
        self, kind: Kind, references: Sequence[Proposal], text: str, pairs: int
    ) -> Draft | Unreadable:
        block = INPUTS if kind is Kind.INDUCTION else INPUT
        head, found, tail = text.partition("\n" + block)
        if not found:
            return Unreadable("no block of inputs" if kind is Kind.INDUCTION else "no input")
        if kind is Kind.INDUCTION:
            message = _read_message(head) if "\n" not in head else Unreadable("the message is longer than one line")
            return _draft(message, references[0].program, _read_inputs(tail, pairs))
        return _draft("", _read_program(head), _read_input(tail))

    def read_program(self, text: str) -> str | Unreadable:
        return _read_program(text)

    def read_literal(self, text: str) -> str | Unreadable:
        line = text.removesuffix("\n")
        if fault := _literal_fault(line):
            return Unreadable(f"the answer is {fault}")
        return line


def _draft(
    message: str | Unreadable, program: str | Unreadable, inputs: tuple[str, ...] | Unreadable
) -> Draft | Unreadable:
    """The draft, or the first thing that is wrong with it."""
    if isinstance(message, Unreadable):
        return message
    if isinstance(program, Unreadable):
        return program
    if isinstance(inputs, Unreadable):
        return inputs
    return Draft(message, program, inputs)


MICRO = MicroPrompts()
