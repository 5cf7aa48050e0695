"""The prompt set of the embedded world: what is written reads back, what is not of the form is refused in words."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.config import LEMMA, LIFT, RungConfig
from gasp_rl.problem import Problem, TestCase
from gasp_rl.rollout import Axis, Kind, Pair, Proposal, Task
from gasp_rl.selfplay.prompts.base import Draft, PromptSet, Unreadable
from gasp_rl.selfplay.prompts.micro import MICRO, free_reply, reply

PROGRAM = "def f(x):\n    # sort ascending\n    x = sorted(x)\n    return x"
ROWS = "def g(x):\n    # reverse\n    x = x[::-1]\n    return x\ndef f(x):\n    return [g(r) for r in x]"
DRAFT = Draft("sort ascending", PROGRAM, ("[1, 2]", "[3]", "[]", "[-4, 5]", "[0, 12]"))

literals = st.recursive(st.integers(-999, 999), lambda inner: st.lists(inner, max_size=3), max_leaves=6).map(repr)
inputs = st.lists(literals, min_size=5, max_size=5, unique=True)
messages = st.sampled_from(("sort ascending", "for each row: reverse", "add 3 to each, then sort"))
programs = st.sampled_from((PROGRAM, ROWS))


def proposal(program: str = PROGRAM) -> Proposal:
    return Proposal("p", "lemma", "", message="sort ascending", program=program)


def test_it_is_a_prompt_set() -> None:
    prompts: PromptSet = MICRO

    assert prompts.name == "micro"
    assert len(prompts.digest) == 64
    assert prompts.stop == ()


@given(messages, programs, inputs)
def test_a_written_proposal_reads_back(message: str, program: str, given_inputs: list[str]) -> None:
    draft = Draft(message, program, tuple(given_inputs))

    assert MICRO.read_proposal(reply(draft), 5) == draft


@given(messages, programs, inputs)
def test_a_written_free_proposal_reads_back(message: str, program: str, given_inputs: list[str]) -> None:
    for kind in (Kind.DEDUCTION, Kind.ABDUCTION):
        lone = Draft("", program, (given_inputs[0],))
        assert MICRO.read_free_proposal(kind, [], free_reply(kind, lone), 5) == lone
    described = Draft(message, program, tuple(given_inputs))
    text = free_reply(Kind.INDUCTION, described)
    assert MICRO.read_free_proposal(Kind.INDUCTION, [proposal(program)], text, 5) == described


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no block of inputs"),
        (reply(DRAFT).replace("5: ", ""), "input 5 does not begin with its number"),
        (reply(DRAFT).replace("\n5: [0, 12]", ""), "4 inputs instead of 5"),
        (reply(DRAFT) + "\n6: [7]", "6 inputs instead of 5"),
        (reply(DRAFT).replace("[3]", "[1, 2]"), "input 2 repeats input 1"),
        (reply(DRAFT).replace("[3]", "[3"), "input 2 is not a literal (SyntaxError)"),
        (reply(DRAFT).replace("[3]", "print(3)"), "input 2 is not only numbers and lists"),
        (reply(DRAFT).replace("[3]", "1 - 2 - 3"), "input 2 is not a literal (ValueError)"),
        (reply(DRAFT).replace("[3]", "[" * 290), "input 2 is not a literal (SyntaxError)"),
        (reply(DRAFT).replace("[3]", "[" + "1, " * 200 + "]"), "input 2 is longer than 300 characters"),
        (reply(DRAFT).replace("[3]", ""), "input 2 is empty"),
        (reply(DRAFT).replace("sort ascending\ndef", "\ndef"), "the message is empty or padded"),
        (PROGRAM + "\n# inputs\n1: [1]", "a message is missing before the program"),
        (reply(DRAFT).replace("def f", "def h"), "the program has no function f"),
        (reply(DRAFT).replace("def f", "f"), "the program does not begin with def"),
        ("a" * 500 + reply(DRAFT), "the message is longer than 400 characters"),
    ],
)
def test_a_proposal_that_cannot_be_read_says_why(text: str, reason: str) -> None:
    assert MICRO.read_proposal(text, 5) == Unreadable(reason)


@given(st.text(max_size=200))
def test_readers_never_raise_whatever_the_model_wrote(text: str) -> None:
    for made in (text, reply(DRAFT) + text, text + reply(DRAFT), reply(DRAFT).replace("[3]", text)):
        MICRO.read_proposal(made, 5)
        MICRO.read_program(made)
        MICRO.read_literal(made)
        for kind in (Kind.INDUCTION, Kind.DEDUCTION, Kind.ABDUCTION):
            MICRO.read_free_proposal(kind, [proposal()], made, 5)


def test_the_teacher_sees_exactly_what_the_rung_names() -> None:
    goalpost = Problem("g", "reverse, then drop the first 2", (TestCase("[1]", "[]"),), ())
    both = RungConfig("bridge", sees="both", direction="harder", band=LIFT.band, peak=0.1, sharpness=1.0)

    lemma = MICRO.teach(LEMMA, Axis.F, goalpost, None, 5)
    lift = MICRO.teach(LIFT, Axis.IO, None, proposal(), 5)
    bridge = MICRO.teach(both, Axis.IO, goalpost, proposal(), 5)

    assert lemma == "# goalpost\nreverse, then drop the first 2\n# write easier, axis f, 5 inputs\n"
    assert lift == f"# previous\nsort ascending\n{PROGRAM}\n# write harder, axis io, 5 inputs\n"
    assert isinstance(bridge, str)
    assert goalpost.statement in bridge
    assert PROGRAM in bridge


def test_induction_and_a_real_problem_are_asked_in_the_same_words() -> None:
    problem = Problem("g", "sort ascending", (TestCase("[2, 1]", "[1, 2]"),), (TestCase("[9]", "[9]"),))
    task = Task(
        Kind.INDUCTION, "t", message="sort ascending", shown=(Pair("[2, 1]", "[1, 2]"),), hidden=(Pair("[9]", "[9]"),)
    )

    assert MICRO.ask(task) == MICRO.ask_problem(problem)
    assert MICRO.ask(task) == "# solve\nsort ascending\n>>> f([2, 1])\n[1, 2]\n# program\n"


def test_deduction_does_not_show_the_output_nor_abduction_the_input() -> None:
    pair = Pair("[77]", "[88]")

    deduction = MICRO.ask(Task(Kind.DEDUCTION, "t", program=PROGRAM, shown=(pair,), hidden=(pair,)))
    abduction = MICRO.ask(Task(Kind.ABDUCTION, "t", program=PROGRAM, shown=(pair,), hidden=(pair,)))

    assert "[77]" in deduction
    assert "[88]" not in deduction
    assert "[88]" in abduction
    assert "[77]" not in abduction


def test_a_program_keeps_its_own_comments_and_loses_only_blank_ends() -> None:
    assert MICRO.read_program("\n" + PROGRAM + "\n") == PROGRAM
    assert MICRO.read_program(PROGRAM + "\n# input\n[1]") == Unreadable("something follows the program")


def test_literals_are_numbers_and_lists_on_one_line() -> None:
    assert MICRO.read_literal("[1, -2], 3\n") == "[1, -2], 3"
    assert MICRO.read_literal("[1]\n[2]") == Unreadable("the answer is not only numbers and lists")
    assert MICRO.read_literal("True") == Unreadable("the answer is not only numbers and lists")


def test_prompts_are_the_same_every_time() -> None:
    references = [proposal(), proposal(ROWS)]
    random.Random(0).shuffle(references)

    assert MICRO.propose_freely(Kind.ABDUCTION, references, 5) == MICRO.propose_freely(Kind.ABDUCTION, references, 5)
    assert MICRO.propose_freely(Kind.INDUCTION, [proposal()], 5) == f"# program\n{PROGRAM}\n# propose solve, 5 inputs\n"
