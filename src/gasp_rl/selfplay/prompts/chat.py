"""Prompts for instruct models: short requests as chat messages, each with a worked reply. `replies` reads the answers.

Nothing is cut to fit: a statement goes in whole, and a prompt that leaves no room for a reply is for the caller to
refuse. An example too long to show is left out and the prompt says so.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from gasp_rl.config import RungConfig
from gasp_rl.problem import Encoding, IoMode, Problem, TestCase
from gasp_rl.rollout import Axis, Kind, Message, Pair, Proposal, Task
from gasp_rl.selfplay.prompts import replies
from gasp_rl.selfplay.prompts.base import Draft, Unreadable

Conversation: TypeAlias = tuple[Message, ...]

EXAMPLE_CHARACTERS = 400
"""An example longer than this explains nothing that a short one would not."""

STUDENT = "You are an expert Python programmer."

RULES = """\
Code: one function `f`, at most 12 lines. It takes at least one argument, returns a value and is deterministic. \
Standard library only, imports on top; no class, no printing, no reading of input, no randomness."""

TEACHER = f"""\
You write short Python exercises. The student sees your description and a few inputs with their outputs, not the code, \
and has to write the function `f`.

{{motif}} {{axis}}

You always reply with one ```python block and nothing else: a description and calls in comments, then the function `f`.
Description: one or two sentences of your own that say exactly what `f` returns, at most 40 words, no story.
Calls: {{pairs}} calls of `f`, one on each line, with short literal arguments that differ and reach different cases.
{RULES}"""

OPENING = """\
```python
# Given"""
"""How the teacher's reply begins, which it is given: a small model goes on in a form that it would not have begun."""

GOALPOST = """\
This problem is too hard for the student. Do not solve it.

<problem>
{statement}
</problem>
{examples}"""

PREVIOUS = """\
The student solves this exercise about half of the time:

{message}

```python
{program}
```

{examples}"""

TEACH = """\
{shown}
Write one {direction} exercise."""

EASIER = """\
You are shown problems and write an EASIER exercise for each: take one small step of what the problem asks for and make \
an exercise of that step alone, about numbers, lists or strings. It has to be clearly easier, but not trivial."""

HARDER = """\
You are shown exercises and write a HARDER one for each: keep its idea and make it one step harder, so that it needs a \
little more thought and stays solvable."""

AXES = {
    ("easier", Axis.IO): "Make the DATA simpler and keep the computation: fewer or flat arguments, plain values.",
    ("easier", Axis.F): "Make the COMPUTATION simpler and keep the kind of data: drop conditions, use fewer steps.",
    ("harder", Axis.IO): "Make the DATA richer and keep the computation: nested or several lists, another encoding.",
    ("harder", Axis.F): "Make the COMPUTATION richer and keep the kind of data: add one condition or one more step.",
}

FREE_TEACHER = f"""\
You write short Python puzzles: a function `f` and one input for it. {{aim}} A good puzzle needs careful step-by-step \
reasoning, yet its function is short.

You always reply with a ```python block and an ```input block, in this order, and nothing else.
{RULES}
Input: one line, all arguments of `f` as Python literals separated by commas, strings in quotes, no names, no call."""

FREE_AIMS = {
    Kind.DEDUCTION: "A student is shown both and has to predict what `f` returns.",
    Kind.ABDUCTION: "A student is shown `f` and what it returns, and has to find an input that gives it.",
}

FREE_REFERENCES = """\
These puzzles exist already:

{tasks}

Write a new one that differs from all of them."""

FREE_FIRST = "Write a puzzle."

FREE_OPENINGS = {Kind.DEDUCTION: "```python", Kind.ABDUCTION: "```python", Kind.INDUCTION: "```message"}
"""How a free reply begins, likewise."""

MESSAGE_TEACHER = """\
You turn Python functions into exercises. The student sees your message and some inputs with their outputs, not the \
code, and has to write the function.

You always reply with two blocks, in this order, and nothing else: ```message, ```inputs.
Message: one or two sentences that help to find the function; no code.
Inputs: {pairs} short lines. Each line is one input: all arguments of the function as Python literals separated by \
commas, strings in quotes, no names, no call. All different, to reach different cases."""

INDUCTION = """\
Write a Python function `f` that does this:

{message}

Examples:
{examples}

Your function is tested on other inputs too. Standard library only; no printing, no reading of input.
Reply with the function in one ```python block and nothing else."""

DEDUCTION = """\
```python
{program}
```

What does `f({input})` return?
Follow the code step by step, briefly. End with the value as a Python literal, strings in quotes, in this form:

```output
...
```"""

ABDUCTION = """\
```python
{program}
```

For which arguments does `f` return the following value?

{output}

Any arguments that give it will do. Think briefly. End with the arguments as Python literals separated by commas, \
strings in quotes, in this form:

```input
...
```"""

PROBLEM = """\
Solve this programming problem in Python.

<problem>
{statement}
</problem>
{examples}
{task}"""

PROBLEM_STDIN = """\
Write a complete program that reads standard input and prints the answer in the required form, nothing else.
Reply with the program in one ```python block."""

PROBLEM_STARTER = """\
Complete this code; keep its names and arguments, and import what you use:

```python
{starter}
```

Reply with the complete code in one ```python block."""

PROBLEM_FUNCTION = """\
Write a function named `{entry_point}` that takes the arguments in the given order and returns the answer.
Reply with the function, and the imports it needs, in one ```python block."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A goalpost, an exercise made from it, and what is made from either on each axis. All hand-made."""

    goalpost: Problem
    previous: Proposal
    replies: dict[tuple[str, Axis], Draft]


def _shot(statement: str, test: TestCase, outputs: tuple[str, str], replies: dict[tuple[str, Axis], Draft]) -> Shot:
    lemma = replies["easier", Axis.F]
    pairs = tuple(Pair(text, output) for text, output in zip(lemma.inputs, outputs, strict=False))
    previous = Proposal("", "", "", message=lemma.message, program=lemma.program, pairs=pairs)
    return Shot(Problem("", statement, (test,), (), entry_point="solve"), previous, replies)


LAMPS = _shot(
    """\
Along a road stand lamps; lamp i has brightness light[i], negative where it flickers. A drone makes k flights: each \
covers at most m neighbouring lamps, no lamp is covered twice, and the drone collects the brightness of all lamps that \
it covers. Return the largest total that it can collect.""",
    TestCase("[3, 1, 4, 1, 5], 2, 2", "11"),
    ("6", "-1"),
    {
        ("easier", Axis.F): Draft(
            message="""\
Given a list of integers nums and an integer m, not larger than its length, return the largest sum of m neighbouring \
numbers.""",
            program="""\
def f(nums, m):
    return max(sum(nums[i:i + m]) for i in range(len(nums) - m + 1))""",
            inputs=("[3, 1, 4, 1, 5], 2", "[-2, -3, -1], 1", "[7, 2], 2", "[5, -9, 6, 2], 3", "[0, 8, 0, 8], 2"),
        ),
        ("easier", Axis.IO): Draft(
            message="""\
Given a string s of the characters 'o' and '.' and an integer m, return the largest number of 'o' among m neighbouring \
characters.""",
            program="""\
def f(s, m):
    best = 0
    for i in range(len(s)):
        best = max(best, s[i:i + m].count("o"))
    return best""",
            inputs=("'o.oo.', 2", "'....', 3", "'oo.o', 1", "'o.o.o.o', 5", "'', 2"),
        ),
        ("harder", Axis.F): Draft(
            message="""\
Given a list of integers nums and an integer m, return the largest sum of two stretches of m neighbouring numbers that \
do not overlap, or 0 if there is no room for two.""",
            program="""\
def f(nums, m):
    sums = [sum(nums[i:i + m]) for i in range(len(nums) - m + 1)]
    totals = [a + b for i, a in enumerate(sums) for b in sums[i + m:]]
    return max(totals, default=0)""",
            inputs=("[3, 1, 4, 1, 5], 2", "[2, 9, 2], 1", "[1, 2, 3], 2", "[-4, -1, -2, -8], 2", "[6, 0, 7, 1], 1"),
        ),
        ("harder", Axis.IO): Draft(
            message="""\
Given a list of lists of integers rows and an integer m, return for each row the largest sum of m neighbouring \
numbers, or the sum of the row if it is shorter.""",
            program="""\
def f(rows, m):
    result = []
    for row in rows:
        starts = range(max(len(row) - m, 0) + 1)
        result.append(max(sum(row[i:i + m]) for i in starts))
    return result""",
            inputs=("[[3, 1, 4], [1, 5]], 2", "[[7], [], [2, 2]], 3", "[[-1, -2]], 1", "[[0, 8, 0, 8]], 2", "[], 4"),
        ),
    },
)

SWAPS = _shot(
    """\
A printer writes a word; its i-th letter has cost[i]. In one move two letters that stand k places apart may be swapped; a \
move costs the sum of both letters' costs. Return the least total cost of making the word the first in the alphabet \
among all that can be reached.""",
    TestCase("'dcba', 2, [1, 2, 3, 4]", "10"),
    ("'adm'", "'aab'"),
    {
        ("easier", Axis.F): Draft(
            message="""\
Given a string s and a positive integer k, return the letters at positions 0, k, 2k and so on, in alphabetical order.""",
            program="""\
def f(s, k):
    return "".join(sorted(s[::k]))""",
            inputs=("'modxa', 2", "'baa', 1", "'zyxw', 5", "'queue', 3", "'', 2"),
        ),
        ("easier", Axis.IO): Draft(
            message="""\
Given a list of digits, return the smallest list that swapping any two digits at even positions can make.""",
            program="""\
def f(digits):
    result = digits[:]
    result[::2] = sorted(digits[::2])
    return result""",
            inputs=("[9, 1, 3, 4, 2]", "[2, 1]", "[5, 5, 0]", "[8, 0, 7, 0, 6, 0]", "[]"),
        ),
        ("harder", Axis.F): Draft(
            message="""\
Given a string s and a positive integer k, return s with the letters at positions 0, k, 2k and so on put in \
alphabetical order, all others left where they are.""",
            program="""\
def f(s, k):
    letters = list(s)
    letters[::k] = sorted(letters[::k])
    return "".join(letters)""",
            inputs=("'modxa', 2", "'baa', 1", "'zyxw', 5", "'queue', 3", "'', 2"),
        ),
        ("harder", Axis.IO): Draft(
            message="""\
Given a list of words and a positive integer k, return for each word its letters at positions 0, k, 2k and so on, in \
alphabetical order; words shorter than k are left out.""",
            program="""\
def f(words, k):
    return ["".join(sorted(word[::k])) for word in words if len(word) >= k]""",
            inputs=("['modxa', 'ba'], 2", "['baa'], 1", "['zyxw', 'v'], 3", "['queue', 'up'], 4", "[], 2"),
        ),
    },
)

SHOTS = (SWAPS, LAMPS)
"""Worked replies to each request: small models follow a form they have seen, not one they were told, and with a single
one they copy its content too.
"""


FREE_SHOT = LAMPS.replies["easier", Axis.IO]


@dataclass(frozen=True)
class ChatPrompts:
    """The prompt set for instruct models."""

    name: str = "chat"
    stop: tuple[str, ...] = ()
    """A chat model ends its turn itself."""

    @cached_property
    def digest(self) -> str:
        sources = (Path(__file__), Path(replies.__file__))
        return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()

    def teach(self, rung: RungConfig, axis: Axis, goalpost: Problem | None, previous: Proposal | None,
              pairs: int) -> Conversation:  # fmt: skip
        return (*request_exercise(rung, axis, goalpost, previous, pairs), Message("assistant", OPENING))

    def propose_freely(self, kind: Kind, references: Sequence[Proposal], pairs: int) -> Conversation:
        return (*request_freely(kind, references, pairs), Message("assistant", FREE_OPENINGS[kind]))

    def ask(self, task: Task) -> Conversation:
        match task.kind:
            case Kind.DEDUCTION:
                text = DEDUCTION.format(program=task.program.strip(), input=task.shown[0].input)
            case Kind.ABDUCTION:
                text = ABDUCTION.format(program=task.program.strip(), output=task.shown[0].output)
            case _:
                examples = "\n".join(_example(pair.input, pair.output) for pair in task.shown)
                text = INDUCTION.format(message=task.message, examples=examples)
        return _chat(STUDENT, text)

    def ask_problem(self, problem: Problem) -> Conversation:
        return _chat(STUDENT, request_program(problem))

    def read_proposal(self, text: str, pairs: int) -> Draft | Unreadable:
        return replies.read_proposal(OPENING + text, pairs)

    def read_free_proposal(self, kind: Kind, references: Sequence[Proposal], text: str,
                           pairs: int) -> Draft | Unreadable:  # fmt: skip
        return replies.read_free_proposal(kind, references, FREE_OPENINGS[kind] + text, pairs)

    def read_program(self, text: str) -> str | Unreadable:
        return replies.read_answer_program(text)

    def read_literal(self, text: str) -> str | Unreadable:
        return replies.read_answer_literal(text)


CHAT = ChatPrompts()


# Writing


def request_exercise(
    rung: RungConfig, axis: Axis, goalpost: Problem | None, previous: Proposal | None, pairs: int
) -> Conversation:
    """What the teacher is asked for, after two requests like it that were answered."""
    motif = EASIER if rung.direction == "easier" else HARDER
    turns = []
    for shot in SHOTS:
        problem, exercise = goalpost and shot.goalpost, previous and shot.previous
        turns += [_request(rung, problem, exercise), _exercise(shot.replies[rung.direction, axis], pairs)]
    system = TEACHER.format(motif=motif, axis=AXES[rung.direction, axis], pairs=pairs)
    return _chat(system, *turns, _request(rung, goalpost, previous))


def request_freely(kind: Kind, references: Sequence[Proposal], pairs: int) -> Conversation:
    """What Absolute Zero's proposer is asked for, after a request like it that was answered."""
    if kind is Kind.INDUCTION:
        reply = _message_and_inputs(FREE_SHOT, pairs)
        request = _fenced("python", references[0].program)
        return _chat(MESSAGE_TEACHER.format(pairs=pairs), _fenced("python", FREE_SHOT.program), reply, request)
    tasks = "\n\n".join(_puzzle(task.program, task.pairs[0].input) for task in references)
    request = FREE_REFERENCES.format(tasks=tasks) if references else FREE_FIRST
    reply = _puzzle(FREE_SHOT.program, FREE_SHOT.inputs[0])
    return _chat(FREE_TEACHER.format(aim=FREE_AIMS[kind]), FREE_FIRST, reply, request)


def request_program(problem: Problem) -> str:
    """A real problem in full, and what is to be written."""
    if problem.io_mode is IoMode.STDIN:
        task = PROBLEM_STDIN
    elif problem.starter_code.strip():
        task = PROBLEM_STARTER.format(starter=problem.starter_code.rstrip())
    else:
        task = PROBLEM_FUNCTION.format(entry_point=problem.entry_point)
    return PROBLEM.format(statement=problem.statement.strip(), examples=problem_examples(problem), task=task)


def _chat(system: str, *turns: str) -> Conversation:
    """The user speaks first and last; the assistant's turns in between are worked examples."""
    speakers = ("user", "assistant")
    return (Message("system", system), *(Message(speakers[n % 2], turn) for n, turn in enumerate(turns)))


def _request(rung: RungConfig, goalpost: Problem | None, previous: Proposal | None) -> str:
    shown = []
    if goalpost is not None:
        shown.append(GOALPOST.format(statement=goalpost.statement.strip(), examples=problem_examples(goalpost)))
    if previous is not None:
        examples = "".join(f"{_example(pair.input, pair.output)}\n" for pair in previous.pairs[:2])
        shown.append(PREVIOUS.format(message=previous.message, program=previous.program.strip(), examples=examples))
    return TEACH.format(shown="\n".join(shown), direction=rung.direction.upper())


def _exercise(draft: Draft, pairs: int) -> str:
    """A proposal in the form that is asked for: the calls stand before the code, since a small model ends with its code."""
    calls = "\n".join(f"# f({text})" for text in draft.inputs[:pairs])
    return _fenced("python", f"# {draft.message}\n{calls}\n{draft.program}")


def _message_and_inputs(draft: Draft, pairs: int) -> str:
    return f"{_fenced('message', draft.message)}\n{_fenced('inputs', chr(10).join(draft.inputs[:pairs]))}"


def _puzzle(program: str, arguments: str) -> str:
    return f"{_fenced('python', program)}\n{_fenced('input', arguments)}"


def _fenced(tag: str, text: str) -> str:
    return f"```{tag}\n{text.strip()}\n```"


def _example(arguments: str, output: str) -> str:
    return f"f({arguments}) == {output}"


def problem_examples(problem: Problem) -> str:
    """The public tests that the statement does not show itself, in words of their io mode."""
    missing = [test for test in problem.public_tests if not _mentioned(test, problem.statement)]
    short = [test for test in missing if len(test.input) + len(test.output) <= EXAMPLE_CHARACTERS]
    lines = [_problem_example(problem, test) for test in short]
    if len(short) < len(missing):
        lines.append(f"({len(missing) - len(short)} more, too long to show here)")
    return "\n" + "\n".join(["Examples:", *lines]) + "\n" if lines else ""


def _problem_example(problem: Problem, test: TestCase) -> str:
    if problem.io_mode is IoMode.STDIN:
        return f"Input:\n{test.input.rstrip()}\nOutput:\n{test.output.rstrip()}\n"
    arguments = [_as_python(line, problem.encoding) for line in test.input.split("\n") if line]
    return f"{problem.entry_point}({', '.join(arguments)}) == {_as_python(test.output, problem.encoding)}"


def _as_python(literal: str, encoding: Encoding) -> str:
    return repr(json.loads(literal)) if encoding is Encoding.JSON else literal


def _mentioned(test: TestCase, statement: str) -> bool:
    """Every line of the test stands in the statement, up to spaces: it shows this example already."""
    seen = _squeezed(statement)
    return all(_squeezed(line) in seen for line in [*test.input.split("\n"), *test.output.split("\n")])


def _squeezed(text: str) -> str:
    return "".join(text.split())
