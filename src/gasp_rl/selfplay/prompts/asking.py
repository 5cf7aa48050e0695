"""Prompt sets that only ask real problems, to measure models that nobody trains here, each in the form it expects.

base        a text that a model without instruction tuning completes
lcb         the form of LiveCodeBench's generic chat prompt; the program is read by its rule
lcb-qwen    the form of LiveCodeBench's prompt for Qwen2.5-Coder instruct models

The forms of the last two are the originals', part by part; the wording is ours.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gasp_rl.problem import IoMode, Problem
from gasp_rl.rollout import Message, Prompt
from gasp_rl.selfplay.prompts import chat, replies
from gasp_rl.selfplay.prompts.base import Unreadable

BASE_TEXT = """\
## Problem

{request}

## Answer

```python
"""

LCB_ROLE = "You are an expert Python programmer."
LCB_TASK = "You are given a problem and write a correct Python program that meets it and passes all tests."
LCB_STARTER = "Use this starter code, and put your code inside the delimiters."
LCB_FUNCTION = (
    "Write a function named `{entry_point}` that returns the answer, and put your code inside the delimiters."
)
LCB_STDIN = """\
Read the input from stdin and write the answer to stdout; do not test directly on the sample inputs. Put your code inside \
the delimiters: when it is run, it must read the input, solve the problem and print the answer to STDOUT."""
LCB_PLACE = "# YOUR CODE HERE"


@dataclass(frozen=True)
class AskingPrompts:
    """Implements `ProblemPrompts`."""

    name: str
    stop: tuple[str, ...]
    _ask: Callable[[Problem], Prompt]
    _read: Callable[[str], str | Unreadable]

    @cached_property
    def digest(self) -> str:
        sources = (Path(__file__), Path(chat.__file__), Path(replies.__file__))
        return hashlib.sha256(self.name.encode() + b"".join(path.read_bytes() for path in sources)).hexdigest()

    def ask_problem(self, problem: Problem) -> Prompt:
        return self._ask(problem)

    def read_program(self, text: str) -> str | Unreadable:
        return self._read(text)


def ask_base(problem: Problem) -> Prompt:
    return BASE_TEXT.format(request=chat.request_program(problem))


def read_base(text: str) -> str | Unreadable:
    """What was written into the block that the prompt opens."""
    block, _, _ = text.partition("\n```")
    return replies.read_answer_program(f"```python\n{block}\n```")


def ask_lcb(problem: Problem) -> Prompt:
    sentence, code = _lcb_format(problem)
    return (
        Message("system", f"{LCB_ROLE} {LCB_TASK}"),
        Message(
            "user",
            f"### Question:\n{problem.statement}\n\n### Format: {sentence}\n```python\n{code}\n```\n\n"
            "### Answer: (use the provided format with backticks)\n\n",
        ),
    )


def ask_lcb_qwen(problem: Problem) -> Prompt:
    sentence, code = _lcb_format(problem)
    return (
        Message("system", "You are a helpful assistant."),
        Message(
            "user",
            f"{LCB_TASK} Return nothing but the program.\n\nQuestion: {problem.statement}\n\n"
            f"{sentence}\n```python\n{code}\n```\n\n",
        ),
    )


def read_lcb(text: str) -> str | Unreadable:
    """The lines between the last two that hold three backticks, whatever they are."""
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line]
    if len(fences) < 2:
        return Unreadable("no program: fewer than two lines of backticks")
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]) or Unreadable(
        "nothing between the last two lines of backticks"
    )


def _lcb_format(problem: Problem) -> tuple[str, str]:
    """The sentence about the form, and the code that the block shows."""
    if problem.io_mode is IoMode.STDIN:
        return LCB_STDIN, LCB_PLACE
    if problem.starter_code:
        return LCB_STARTER, problem.starter_code
    return LCB_FUNCTION.format(entry_point=problem.entry_point), LCB_PLACE


BASE = AskingPrompts("base", ("\n```",), ask_base, read_base)
LCB = AskingPrompts("lcb", (), ask_lcb, read_lcb)
LCB_QWEN = AskingPrompts("lcb-qwen", (), ask_lcb_qwen, read_lcb)
