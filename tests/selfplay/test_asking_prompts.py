"""Prompt sets that only ask real problems: what is shown, and which program is read."""

import pytest

from gasp_rl.problem import Encoding, IoMode, Problem, TestCase
from gasp_rl.rollout import Message, Prompt
from gasp_rl.selfplay.prompts.asking import BASE, LCB, LCB_QWEN, AskingPrompts
from gasp_rl.selfplay.prompts.base import Unreadable

PROGRAM = "def add(a, b):\n    return a + b"
FUNCTION = Problem(
    "sum", "Add two numbers.", (TestCase("1\n2", "3"),), (TestCase("4\n4", "8"),), encoding=Encoding.JSON,
    entry_point="add", starter_code="def add(a: int, b: int) -> int:",
)  # fmt: skip
SCRIPT = Problem(
    "sum", "Add two numbers.", (TestCase("1 2\n", "3\n"),), (TestCase("4 4\n", "8\n"),), io_mode=IoMode.STDIN,
    encoding=Encoding.TEXT, entry_point="",
)  # fmt: skip
BARE = Problem("sum", "Add two numbers.", (TestCase("1, 2", "3"),), (TestCase("4, 4", "8"),), entry_point="add")
ALL = [BASE, LCB, LCB_QWEN]


def whole(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(message.content for message in prompt)


@pytest.mark.parametrize("prompts", ALL, ids=lambda prompts: prompts.name)
@pytest.mark.parametrize("problem", [FUNCTION, SCRIPT, BARE])
def test_every_set_shows_the_statement_and_what_is_to_be_written_but_no_hidden_test(
    prompts: AskingPrompts, problem: Problem
) -> None:
    text = whole(prompts.ask_problem(problem))

    assert "Add two numbers." in text
    assert ("add" in text) or problem.io_mode is IoMode.STDIN
    assert "8" not in text
    if problem.io_mode is IoMode.STDIN:
        assert "stdin" in text.lower().replace("standard input", "stdin")


def test_digests_differ_by_set() -> None:
    assert len({prompts.digest for prompts in ALL}) == len(ALL)


def test_a_base_model_goes_on_inside_the_block_that_the_prompt_opens() -> None:
    asked = BASE.ask_problem(FUNCTION)

    assert isinstance(asked, str)
    assert asked.endswith("```python\n")
    assert BASE.read_program(f"{PROGRAM}\n```") == f"{PROGRAM}\n\nf = add"
    assert BASE.read_program(PROGRAM) == f"{PROGRAM}\n\nf = add"
    assert BASE.read_program(f"{PROGRAM}\n```\n## Problem\n```python\ndef other(): pass") == f"{PROGRAM}\n\nf = add"
    assert isinstance(BASE.read_program(""), Unreadable)


def test_livecodebenchs_form_is_kept_part_by_part() -> None:
    system, user = list(LCB.ask_problem(FUNCTION))

    assert isinstance(system, Message)
    assert isinstance(user, Message)
    assert (system.role, user.role) == ("system", "user")
    assert user.content.startswith("### Question:\nAdd two numbers.\n\n### Format: ")
    assert "\n```python\ndef add(a: int, b: int) -> int:\n```\n\n" in user.content
    assert user.content.endswith("### Answer: (use the provided format with backticks)\n\n")
    assert "\n```python\n# YOUR CODE HERE\n```\n\n" in whole(LCB.ask_problem(SCRIPT))


def test_the_form_for_qwen_has_no_headings() -> None:
    system, user = list(LCB_QWEN.ask_problem(SCRIPT))

    assert system == Message("system", "You are a helpful assistant.")
    assert isinstance(user, Message)
    assert "\n\nQuestion: Add two numbers.\n\n" in user.content
    assert "###" not in user.content


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (f"Sure:\n```python\n{PROGRAM}\n```\nDone.", PROGRAM),
        (f"```\nfirst\n```\nand\n```python\n{PROGRAM}\n```", PROGRAM),
        (f"```python\n{PROGRAM}\n```\nused as\n```\nadd(1, 2)\n```", "add(1, 2)"),
        (f"```python\n{PROGRAM}\n```\nin short ``` yes", "in short ``` yes"),
    ],
)
def test_livecodebenchs_rule_takes_what_lies_between_the_last_two_lines_of_backticks(text: str, program: str) -> None:
    assert LCB.read_program(text) == (program if program != "in short ``` yes" else Unreadable(
        "nothing between the last two lines of backticks"))  # fmt: skip


def test_livecodebenchs_rule_needs_two_lines_of_backticks() -> None:
    assert LCB.read_program(f"```python\n{PROGRAM}") == Unreadable("no program: fewer than two lines of backticks")
