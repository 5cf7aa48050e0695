"""R1 prompts: one text for a model that goes on with it, and only its answer is read."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.config import LEMMA, LIFT, RungConfig
from gasp_rl.problem import Encoding, IoMode, Problem, TestCase
from gasp_rl.rollout import Axis, Kind, Message, Pair, Prompt, Proposal, Task
from gasp_rl.selfplay.prompts import replies
from gasp_rl.selfplay.prompts.base import Draft, PromptSet, Unreadable
from gasp_rl.selfplay.prompts.chat import CHAT, SHOTS
from gasp_rl.selfplay.prompts.r1 import ANSWER, NO_ANSWER, OPENING, R1, framed

PROGRAM = "def f(nums, k):\n    return [n for n in nums if n > k]"
MESSAGE = "Return the numbers of nums that are larger than k."
INPUTS = ("[1, 5, 9], 4", "[], 0", "[3], 3")
WRITTEN = f"```message\n{MESSAGE}\n```\n```python\n{PROGRAM}\n```\n" + "".join(f"```input\n{i}\n```\n" for i in INPUTS)
DRAFT = Draft(MESSAGE, PROGRAM, INPUTS)
TOWERS = Problem(
    "towers", "Towers stand in a row. How many do you see?", (TestCase("[1, 3, 2]", "2"),), (TestCase("[9]", "77"),),
    encoding=Encoding.JSON, entry_point="seen",
)  # fmt: skip
ADDING = Problem(
    "sum", "Add two numbers.", (TestCase("1 2\n", "3\n"),), (TestCase("4 4\n", "8\n"),), io_mode=IoMode.STDIN,
    encoding=Encoding.TEXT, entry_point="",
)  # fmt: skip
LEMMA_MADE = Proposal(
    "id", "lemma", "", message=MESSAGE, program=PROGRAM, pairs=(Pair("[1, 5], 4", "[5]"), Pair("[], 0", "[]"))
)
ASKED = {
    **{f"lemma {axis}": R1.teach(LEMMA, axis, TOWERS, None, 3) for axis in Axis},
    **{f"lift {axis}": R1.teach(LIFT, axis, None, LEMMA_MADE, 3) for axis in Axis},
    **{f"free {kind}": R1.propose_freely(kind, [LEMMA_MADE], 3) for kind in Kind if kind is not Kind.PROBLEM},
    **{str(kind): R1.ask(Task(kind, "id", MESSAGE, PROGRAM, LEMMA_MADE.pairs[:1])) for kind in Kind
       if kind is not Kind.PROBLEM},
    "function": R1.ask_problem(TOWERS),
    "script": R1.ask_problem(ADDING),
}  # fmt: skip


def answered(text: str) -> str:
    return f" hm </think>\n<answer>\n{text}</answer>"


def test_r1_is_a_prompt_set() -> None:
    prompts: PromptSet = R1

    assert (prompts.name, prompts.stop, len(prompts.digest)) == ("r1", ("</answer>",), 64)
    assert prompts.digest != CHAT.digest


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED.keys())
def test_every_request_is_one_text_that_ends_where_thinking_begins(asked: Prompt) -> None:
    assert isinstance(asked, str)
    assert asked.endswith(f"\n{OPENING}")
    assert asked.count("\nUser: ") == asked.count(f"\n{OPENING}")
    assert "{" not in asked
    assert "}" not in asked


@pytest.mark.parametrize("rung", [LEMMA, LIFT], ids=lambda rung: rung.name)
@pytest.mark.parametrize("axis", Axis)
def test_the_worked_reply_of_every_request_is_thought_out_and_can_be_read(rung: RungConfig, axis: Axis) -> None:
    asked = ASKED[f"{rung.name} {axis}"]
    assert isinstance(asked, str)
    _, *replies, last = asked.split(OPENING)

    assert len(replies) == len(SHOTS)
    for worked, shot in zip(replies, SHOTS, strict=True):
        thought, _, reply = worked.partition("</think>")
        draft = shot.replies[rung.direction, axis]
        assert len(thought.split()) > 20
        assert "```" not in thought
        assert R1.read_proposal(worked.partition("\nUser: ")[0], 3) == replace(draft, inputs=draft.inputs[:3])
        assert ANSWER.search(reply)
    assert last == ""


def test_a_lift_sees_the_lemma_and_not_the_goalpost() -> None:
    for axis in Axis:
        assert MESSAGE in ASKED[f"lift {axis}"]
        assert "Towers" not in ASKED[f"lift {axis}"]
        assert "Towers" in ASKED[f"lemma {axis}"]


def test_no_hidden_test_is_shown() -> None:
    assert "77" not in ASKED["function"]
    assert "8" not in ASKED["script"]
    assert "stdin" in str(ASKED["script"]).replace("standard input", "stdin")


def test_all_requests_differ() -> None:
    assert len(set(ASKED.values())) == len(ASKED)


def test_proposals_and_answers_are_read_from_the_answer() -> None:
    code = f"```python\n{PROGRAM}\n```"

    assert R1.read_proposal(answered(WRITTEN), 3) == DRAFT
    assert R1.read_program(answered(code)) == PROGRAM
    assert R1.read_literal(answered("```output\n[1]\n```")) == "[1]"
    assert R1.read_literal(answered("[1]\n")) == "[1]"
    assert R1.read_free_proposal(Kind.DEDUCTION, [], answered(f"{code}\n```input\n[1], 2\n```"), 3) == Draft(
        "", PROGRAM, ("[1], 2",)
    )
    assert R1.read_free_proposal(Kind.INDUCTION, [LEMMA_MADE], answered(WRITTEN), 3) == DRAFT


@pytest.mark.parametrize("text", [
    answered(WRITTEN).removesuffix("</answer>"),
    f"perhaps <answer>\n```python\ndef f(x):\n    return x\n```</answer> no, {answered(WRITTEN)}",
    f"the tag <answer> comes later {answered(WRITTEN)}",
    f"{answered(WRITTEN)}\nUser: Another one.\nAssistant: <think> no </think>",
])  # fmt: skip
def test_the_last_answer_counts(text: str) -> None:
    assert R1.read_proposal(text, 3) == DRAFT


@pytest.mark.parametrize("text", ["", WRITTEN, f"{WRITTEN}</think>", f"{WRITTEN}</answer>", f"{WRITTEN}<Answer>"])
def test_what_was_only_thought_is_not_read(text: str) -> None:
    for found in (R1.read_proposal(text, 3), R1.read_free_proposal(Kind.INDUCTION, [LEMMA_MADE], text, 3),
                  R1.read_program(text), R1.read_literal(text)):  # fmt: skip
        assert found == NO_ANSWER


def test_an_answer_that_cannot_be_read_says_why_as_chat_does() -> None:
    assert R1.read_program(answered("I do not know.\n")) == CHAT.read_program("I do not know.\n")
    assert R1.read_proposal(answered("I do not know.\n"), 3) == replies.read_proposal("I do not know.\n", 3)


PIECES = st.lists(
    st.sampled_from(
        ["<answer>", "</answer>", "</think>", "<think>", "```python\n", "```", "\n", "<", "def f(x):", "[1]"]
    )
    | st.text(max_size=5),
    max_size=12,
).map("".join)


@given(PIECES, st.text(max_size=20).filter(lambda text: "<answer>" not in text and "</answer>" not in text))
def test_whatever_was_thought_before_the_last_answer_decides(thought: str, reply: str) -> None:
    text = f"{thought}<answer>{reply}</answer>"

    assert R1.read_program(text) == CHAT.read_program(reply)
    assert R1.read_literal(text) == CHAT.read_literal(reply)


@given(PIECES)
def test_no_text_makes_a_reader_raise(text: str) -> None:
    for found in (R1.read_proposal(text, 2), R1.read_free_proposal(Kind.DEDUCTION, [], text, 2)):
        assert isinstance(found, Draft | Unreadable)
    for answer in (R1.read_program(text), R1.read_literal(text)):
        assert isinstance(answer, str | Unreadable)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=3))
def test_a_frame_keeps_what_it_frames(turns: list[str]) -> None:
    speakers = ("user", "assistant")
    messages = tuple(Message(speakers[n % 2], turn) for n, turn in enumerate(turns))

    text = framed(messages, ("a thought",))

    assert all(turn in text for turn in turns)
