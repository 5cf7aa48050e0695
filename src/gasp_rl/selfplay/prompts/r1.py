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
from gasp_rl.selfplay.prompts.chat import CHAT

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
    ("easier", Axis.F): """\
The idea is the sum of m neighbours that slides along the row; choosing several of them is what makes it hard. One \
stretch is enough. A window moves by adding the number that enters and taking away the one that leaves. A list shorter \
than m needs a word.""",
    ("easier", Axis.IO): """\
The idea is the best stretch of m neighbours. Brightness can go: with a string of 'o' and '.' there is only something \
to count. A slice may run over the end, which does no harm.""",
    ("harder", Axis.F): """\
Two stretches instead of one, and they must not overlap: the second begins m later at the earliest. All sums first, \
then the best pair. If there is no room for two, 0.""",
    ("harder", Axis.IO): """\
Several lists instead of one, the same computation for each, so the result is a list. A row shorter than m still has \
one slice.""",
}
"""Before the worked reply to each request of the teacher."""

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
        return framed(CHAT.teach(rung, axis, goalpost, previous, pairs), THOUGHTS[rung.direction, axis])

    def propose_freely(self, kind: Kind, references: Sequence[Proposal], pairs: int) -> Prompt:
        thought = INPUTS_THOUGHT if kind is Kind.INDUCTION else PUZZLE_THOUGHT
        return framed(CHAT.propose_freely(kind, references, pairs), thought)

    def ask(self, task: Task) -> Prompt:
        return framed(CHAT.ask(task))

    def ask_problem(self, problem: Problem) -> Prompt:
        return framed(CHAT.ask_problem(problem))

    def read_proposal(self, text: str, pairs: int) -> Draft | Unreadable:
        found = answer(text)
        return found if isinstance(found, Unreadable) else CHAT.read_proposal(found, pairs)

    def read_free_proposal(self, kind: Kind, references: Sequence[Proposal], text: str,
                           pairs: int) -> Draft | Unreadable:  # fmt: skip
        found = answer(text)
        return found if isinstance(found, Unreadable) else CHAT.read_free_proposal(kind, references, found, pairs)

    def read_program(self, text: str) -> str | Unreadable:
        found = answer(text)
        return found if isinstance(found, Unreadable) else CHAT.read_program(found)

    def read_literal(self, text: str) -> str | Unreadable:
        found = answer(text)
        return found if isinstance(found, Unreadable) else CHAT.read_literal(found)


R1 = R1Prompts()


def framed(messages: tuple[Message, ...], thought: str = "") -> str:
    """A conversation as one text that ends where thinking begins. `thought` comes before its worked replies."""
    parts = [FRAME]
    for message in messages:
        match message.role:
            case "system":
                parts.append(f"{message.content}\n")
            case "user":
                parts.append(USER.format(request=message.content))
            case _:
                parts.append(WORKED.format(thought=thought, answer=message.content))
    return "".join([*parts, OPENING])


def answer(text: str) -> str | Unreadable:
    """What stands inside the last <answer>; what was only thought does not count."""
    found = ANSWER.findall(text)
    return found[-1] if found else NO_ANSWER
