"""The prompt set for base models: every request as one conversation in plain text, with think and answer tags, as Absolute
Zero frames its prompts (arXiv:2505.03335).

What is asked is what `chat` asks; the frame is what a model that was never taught to converse can go on with. Each worked
reply shows both parts, a thought and an answer. Only what stands inside the last <answer> is read.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gasp_rl.config import RungConfig
from gasp_rl.problem import Problem
from gasp_rl.rollout import Axis, Kind, Message, Prompt, Proposal, Task
from gasp_rl.selfplay.prompts import chat, replies
from gasp_rl.selfplay.prompts.base import Draft, Unreadable
from gasp_rl.selfplay.prompts.chat import CHAT, request_exercise, request_freely

FRAME = """\
A user asks and an assistant answers. The assistant reasons first, inside <think> and </think>, and then gives its \
answer, inside <answer> and </answer>.
"""
USER = "User: {request}\n"
OPENING = "Assistant: <think>"
WORKED = OPENING + " {thought} </think>\n<answer>\n{answer}\n</answer>\n"

ANSWER = re.compile(r"<answer>((?:(?!<answer>).)*?)(?:</answer>|\Z)", re.DOTALL)
NO_ANSWER = Unreadable("no answer: there is no <answer>")

THOUGHTS = {
    ("easier", Axis.F): (
        """\
Letters that stand k apart can be put into any order, so each such group gets sorted. Taking one group and sorting it \
is a step of that, with a word and k as before. The empty word and k = 1 are worth a try.""",
        """\
Choosing several flights is what makes it hard. One stretch of m neighbours is a step of it: all sums of m numbers, \
then the largest. Negative numbers and m as long as the list are worth a try.""",
    ),
    ("easier", Axis.IO): (
        """\
Sorting letters k apart is the computation. A flat list of digits and k = 2 keep it and need neither costs nor a \
second argument. An empty list and a single group are worth a try.""",
        """\
The best stretch of m neighbours is the computation. With a string of 'o' and '.' there is only something to count. \
A slice may run over the end, which does no harm.""",
    ),
    ("harder", Axis.F): (
        """\
The letters at positions 0, k, 2k are sorted already. Putting them back where they came from is one more step: a list \
of letters and a slice on both sides.""",
        """\
Two stretches instead of one, and they must not overlap: the second begins m later at the earliest. All sums first, \
then the best pair. If there is no room for two, 0.""",
    ),
    ("harder", Axis.IO): (
        """\
Several words instead of one, the same computation for each, so the result is a list. What happens to a word that is \
shorter than k has to be said.""",
        """\
Several lists instead of one, the same computation for each, so the result is a list. A row shorter than m still has \
one slice.""",
    ),
}
"""Before the worked replies to each request of the teacher."""

INPUTS_THOUGHT = "The function slides a window of m numbers. Short lists, negative numbers and m = 1 are worth a try."
PUZZLE_THOUGHT = "A sliding window has to be followed step by step, and its code is short."


@dataclass(frozen=True)
class R1Prompts:
    """Implements `PromptSet`."""

    name: str = "r1"
    stop: tuple[str, ...] = ("</answer>",)

    @cached_property
    def digest(self) -> str:
        sources = (Path(__file__), Path(chat.__file__), Path(replies.__file__))
        return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()

    def teach(self, rung: RungConfig, axis: Axis, goalpost: Problem | None, previous: Proposal | None,
              pairs: int) -> Prompt:  # fmt: skip
        return framed(request_exercise(rung, axis, goalpost, previous, pairs), THOUGHTS[rung.direction, axis])

    def propose_freely(self, kind: Kind, references: Sequence[Proposal], pairs: int) -> Prompt:
        thought = INPUTS_THOUGHT if kind is Kind.INDUCTION else PUZZLE_THOUGHT
        return framed(request_freely(kind, references, pairs), (thought,))

    def ask(self, task: Task) -> Prompt:
        return framed(CHAT.ask(task))

    def ask_problem(self, problem: Problem) -> Prompt:
        return framed(CHAT.ask_problem(problem))

    def read_proposal(self, text: str, pairs: int) -> Draft | Unreadable:
        found = answer(text)
        return found if isinstance(found, Unreadable) else replies.read_proposal(found, pairs)

    def read_free_proposal(self, kind: Kind, references: Sequence[Proposal], text: str,
                           pairs: int) -> Draft | Unreadable:  # fmt: skip
        found = answer(text)
        return found if isinstance(found, Unreadable) else replies.read_free_proposal(kind, references, found, pairs)

    def read_program(self, text: str) -> str | Unreadable:
        found = answer(text)
        return found if isinstance(found, Unreadable) else CHAT.read_program(found)

    def read_literal(self, text: str) -> str | Unreadable:
        found = answer(text)
        return found if isinstance(found, Unreadable) else CHAT.read_literal(found)


R1 = R1Prompts()


def framed(messages: tuple[Message, ...], thoughts: tuple[str, ...] = ()) -> str:
    """A conversation as one text that ends where thinking begins, with a thought before each of its worked replies."""
    parts = [FRAME]
    left = iter(thoughts)
    for message in messages:
        match message.role:
            case "system":
                parts.append(f"{message.content}\n")
            case "user":
                parts.append(USER.format(request=message.content))
            case _:
                parts.append(WORKED.format(thought=next(left), answer=message.content))
    return "".join([*parts, OPENING])


def answer(text: str) -> str | Unreadable:
    """What stands inside the last <answer>; what was only thought does not count."""
    found = ANSWER.findall(text)
    return found[-1] if found else NO_ANSWER
