"""Chat prompts: what instruct models are asked, and that what they really write is read or refused with a reason."""

import ast
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gasp_rl.config import LEMMA, LIFT, RungConfig
from gasp_rl.problem import Encoding, IoMode, Problem, TestCase
from gasp_rl.rollout import Axis, Kind, Pair, Prompt, Proposal, Task
from gasp_rl.selfplay.prompts import replies
from gasp_rl.selfplay.prompts.base import Draft, PromptSet, Unreadable
from gasp_rl.selfplay.prompts.chat import CHAT, FREE_OPENINGS, OPENING, SHOTS, Shot

PROGRAM = "def f(nums, k):\n    return [n for n in nums if n > k]"
MESSAGE = "Return the numbers of nums that are larger than k."
INPUTS = ("[1, 5, 9], 4", "[], 0", "[3], 3", "[-1, 2], -5", "[7, 7], 6")
DRAFT = Draft(MESSAGE, PROGRAM, INPUTS)

TOWERS = Problem(
    id="towers",
    statement="Towers stand in a row. How many do you see from the left?\n\nInput: heights = [1, 3, 2]\nOutput: 2\n",
    public_tests=(TestCase("[1, 3, 2]", "2"), TestCase("[4, 5, null]", "true")),
    hidden_tests=(TestCase("[]", "0"),),
    encoding=Encoding.JSON,
    entry_point="seen",
)
LEMMA_MADE = Proposal(
    "id", "lemma", "", message=MESSAGE, program=PROGRAM, pairs=(Pair("[1, 5], 4", "[5]"), Pair("[], 0", "[]"))
)


def fenced(tag: str, text: str) -> str:
    return f"```{tag}\n{text}\n```\n"


def inputs_block(inputs: Iterable[str] = INPUTS, tag: str = "input") -> str:
    return "".join(fenced(tag, one) for one in inputs)


def text_of(prompt: Prompt) -> str:
    assert not isinstance(prompt, str)
    return "\n".join(message.content for message in prompt)


def last(prompt: Prompt) -> str:
    """The last request."""
    assert not isinstance(prompt, str)
    return next(message.content for message in reversed(prompt) if message.role == "user")


def reason(found: object) -> str:
    assert isinstance(found, Unreadable)
    return found.reason


ASKED = fenced("message", MESSAGE) + fenced("python", PROGRAM) + inputs_block()

WITH_DOCSTRING = PROGRAM.replace("\n", f'\n    """{MESSAGE}"""\n', 1)
CALLS = "\n".join(f"f({one})" for one in INPUTS)
ONE_BLOCK = fenced("python", f"{WITH_DOCSTRING}\n\n{CALLS}")


def session(after: str = "") -> str:
    """The program with its message and calls in a docstring."""
    head, _, body = PROGRAM.partition("\n")
    calls = "\n".join(f"    >>> f({one}){after}" for one in INPUTS)
    return f'{head}\n    """{MESSAGE}\n\n{calls}\n    """\n{body}'


PROPOSALS = {
    "as asked": fenced("python", f"# {MESSAGE}\n" + "\n".join(f"# f({one})" for one in INPUTS) + f"\n{PROGRAM}"),
    "the message and calls in the docstring": fenced("python", session()),
    "comments above with outputs and an empty line": fenced(
        "python", f"# {MESSAGE}\n#\n" + "\n".join(f"# >>> f({one})\n# [5]" for one in INPUTS) + f"\n\n{PROGRAM}"
    ),
    "a docstring, with outputs": fenced("python", session("\n    [5]")),
    "a docstring, with outputs in comments": fenced("python", session("  # [5]")),
    "a docstring, under headings": fenced("python", session().replace("    >>>", "    Examples:\n    >>>", 1)),
    "a docstring, with arguments explained": fenced(
        "python", session().replace("    >>>", "    Args:\n        nums: numbers\n\n    Examples:\n    >>>", 1)
    ),
    "a docstring, and used below": fenced("python", f"{session()}\n\nprint(f([1], 0))"),
    "a message, and calls after the program": fenced("message", MESSAGE) + fenced("python", f"{PROGRAM}\n\n{CALLS}"),
    "one block": ONE_BLOCK,
    "one block cut off after the last call": ONE_BLOCK.removesuffix("\n```\n"),
    "calls in prints, with comments": fenced(
        "python", WITH_DOCSTRING + "\n\n# Examples\n" + "\n".join(f"print(f({one}))  # [5]" for one in INPUTS)
    ),
    "calls with what they give": fenced("message", MESSAGE)
    + fenced("python", PROGRAM + "\n\n" + "\n".join(f"f({one}) -> [5]" for one in INPUTS)),
    "calls as in a session": fenced("message", MESSAGE)
    + fenced("python", PROGRAM + "\n\n" + "\n".join(f">>> f({one})\n[5]" for one in INPUTS)),
    "a session in the docstring": fenced("message", MESSAGE)
    + fenced("python", PROGRAM.replace("\n", '\n    """' + CALLS.replace("f(", ">>> f(") + '\n    """\n', 1)),
    "calls of which the last is cut off": fenced("message", MESSAGE)
    + fenced("python", f"{PROGRAM}\n\n{CALLS}\nf([8, 9").removesuffix("\n```\n"),
    "a broken call among others": fenced("message", MESSAGE)
    + fenced("python", f"{PROGRAM}\n\n{CALLS}\n".replace("f([3], 3)", "f([3], 3\nf([3], 3)")),
    "calls in a block of their own": fenced("message", MESSAGE) + fenced("python", PROGRAM) + fenced("calls", CALLS),
    "calls in a second program": fenced("message", MESSAGE) + fenced("python", PROGRAM) + fenced("python", CALLS),
    "calls in a list": fenced("message", MESSAGE)
    + fenced("python", PROGRAM)
    + "".join(f"- `f({one})` returns [5]\n" for one in INPUTS),
    "calls in assertions": fenced(
        "python", WITH_DOCSTRING + "\n\n" + "\n".join(f"assert f({one}) == []" for one in INPUTS)
    ),
    "calls under a main guard": fenced(
        "python",
        WITH_DOCSTRING + "\n\nif __name__ == '__main__':\n" + "\n".join(f"    print(f({one}))" for one in INPUTS),
    ),
    "three kinds of blocks": ASKED,
    "in another order": inputs_block() + fenced("python", PROGRAM) + fenced("message", MESSAGE),
    "with talk around it": f"Sure! Here is an easier exercise:\n\n{ASKED}\nI hope that this helps!",
    "with other tags": fenced("Message", MESSAGE) + fenced("py", PROGRAM) + inputs_block(tag="Input"),
    "with numbered tags": fenced("message", MESSAGE)
    + fenced("python3", PROGRAM)
    + "".join(fenced(f"input {n}", one) for n, one in enumerate(INPUTS, 1)),
    "without line ends in the fences": fenced("message", MESSAGE)
    + fenced("python", PROGRAM)
    + "".join(f"```input {one}```\n" for one in INPUTS),
    "one block of input lines": fenced("message", MESSAGE)
    + fenced("python", PROGRAM)
    + fenced("inputs", "\n".join(INPUTS)),
    "numbered lines in one block": fenced("message", MESSAGE)
    + fenced("python", PROGRAM)
    + fenced("inputs", "\n".join(f"{n}. {one}" for n, one in enumerate(INPUTS, 1))),
    "inputs as calls": fenced("message", MESSAGE)
    + fenced("python", PROGRAM)
    + inputs_block(f"f({one})" for one in INPUTS),
    "inputs as printed calls": fenced("message", MESSAGE)
    + fenced("python", PROGRAM)
    + inputs_block(f"print(f({one}))" for one in INPUTS),
    "inputs in parentheses": fenced("message", MESSAGE)
    + fenced("python", PROGRAM)
    + inputs_block(f"({one})" for one in INPUTS),
    "inputs by name": fenced("message", MESSAGE)
    + fenced("python", PROGRAM)
    + inputs_block(f"k = {one.rpartition(', ')[2]}, nums = {one.rpartition(', ')[0]}" for one in INPUTS),
    "one argument on each line": fenced("message", MESSAGE)
    + fenced("python", PROGRAM)
    + inputs_block(one.rpartition(", ")[0] + "\n" + one.rpartition(", ")[2] for one in INPUTS),
    "assignments on lines": fenced("message", MESSAGE)
    + fenced("python", PROGRAM)
    + inputs_block(f"nums = {one.rpartition(', ')[0]}\nk = {one.rpartition(', ')[2]}" for one in INPUTS),
    "input headings without fences": fenced("message", MESSAGE)
    + fenced("python", PROGRAM)
    + "".join(f"# Input: {one}\n" for one in INPUTS),
    "bold input headings": fenced("message", MESSAGE)
    + fenced("python", PROGRAM)
    + "".join(f"- **Input {n}**: `{one}`\n" for n, one in enumerate(INPUTS, 1)),
    "untagged blocks under headings": f"### Message\n{fenced('', MESSAGE)}### Program\n{fenced('', PROGRAM)}"
    + "".join(f"### Input {n}:\n{fenced('', one)}" for n, one in enumerate(INPUTS, 1)),
    "inputs in python blocks under headings": fenced("message", MESSAGE)
    + fenced("python", PROGRAM)
    + "".join(f"Input {n}:\n{fenced('python', one)}" for n, one in enumerate(INPUTS, 1)),
    "the tag as first line": "".join(
        fenced("", f"{tag}\n{text}")
        for tag, text in [("message", MESSAGE), ("python", PROGRAM), *(("input", i) for i in INPUTS)]
    ),
    "a message in tags": f"<message>\n{MESSAGE}\n</message>\n" + fenced("python", PROGRAM) + inputs_block(),
    "a labelled message": f"**Message:** {MESSAGE}\n" + fenced("python", PROGRAM) + inputs_block(),
    "prose for a message": f"{MESSAGE}\n\n" + fenced("python", PROGRAM) + inputs_block(),
    "cut off in the last block": ASKED.rstrip().removesuffix("```"),
    "a block that is not closed": ASKED.replace(f"{INPUTS[1]}\n```\n", f"{INPUTS[1]}\n"),
    "more inputs than needed": ASKED + inputs_block(["[8], 8", "[9], 9"]),
    "repeated inputs between": fenced("message", MESSAGE)
    + fenced("python", PROGRAM)
    + inputs_block([INPUTS[0], *INPUTS]),
    "an input that is no literal, and enough others": ASKED + inputs_block(["[0] * 5, 1"]),
    "tildes": ASKED.replace("```", "~~~"),
    "windows line ends": ASKED.replace("\n", "\r\n"),
    "examples of use in the program": ASKED.replace(PROGRAM, f"{PROGRAM}\n\nprint(f([1], 0))\nassert f([1], 0) == [1]"),
    "a main guard": ASKED.replace(PROGRAM, f"{PROGRAM}\n\nif __name__ == '__main__':\n    print(f([1], 0))"),
    "a second program with examples": ASKED + fenced("python", "print(f([1, 2], 1))"),
}


@pytest.mark.parametrize("reply", PROPOSALS.values(), ids=PROPOSALS.keys())
def test_a_proposal_is_read_however_it_is_laid_out(reply: str) -> None:
    assert replies.read_proposal(reply, 5) == DRAFT


REFUSED = {
    "": "no program: there is no ```python block",
    "I cannot do that.": "no program: there is no ```python block",
    fenced("python", "def f(x) return x"): "the program does not parse: line 1: expected ':'",
    fenced("python", "x = 1"): "the program defines no function f",
    fenced("python", "def f():\n    return 1"): "f takes no argument",
    fenced("python", "def f(*, x):\n    return 1"): "f needs keyword arguments",
    fenced("python", "def a(x):\n    return x\ndef b(x):\n    return x"):
        "no function is named f, and 2 could be meant",
    fenced("python", f"class Solution:\n    pass\n{PROGRAM}"):
        "the program defines class Solution: a function f was asked for",
    fenced("message", MESSAGE) + fenced("python", PROGRAM): "no inputs: f is not called with literals",
    fenced("message", MESSAGE) + fenced("python", PROGRAM) + inputs_block(INPUTS[:2]): "2 different inputs, 5 needed",
    fenced("message", MESSAGE) + fenced("python", PROGRAM) + inputs_block(["hello, 2"] * 5):
        "0 different inputs, 5 needed; not Python literals: 'hello, 2'",
    fenced("message", MESSAGE) + fenced("python", PROGRAM) + inputs_block(["[1], 2, 3"] * 5):
        "0 different inputs, 5 needed; not arguments for (nums, k): '[1], 2, 3'",
    fenced("message", MESSAGE) + fenced("python", PROGRAM) + inputs_block(["..., ..."]):
        "0 different inputs, 5 needed; not Python literals: '..., ...'",
    fenced("python", PROGRAM) + inputs_block(): "no message: neither comments above the function nor a docstring",
    fenced("message", "Given ..., return ...") + fenced("python", PROGRAM) + inputs_block():
        "the message is only its form: 'Given ..., return ...'",
    fenced("message", "Write this:\ndef f(nums, k): ...") + fenced("python", PROGRAM) + inputs_block():
        "the message contains code: 'Write this: def f(nums, k): ...'",
}  # fmt: skip


@pytest.mark.parametrize(("reply", "why"), REFUSED.items())
def test_what_cannot_be_a_proposal_is_refused_with_the_reason(reply: str, why: str) -> None:
    assert reason(replies.read_proposal(reply, 5)) == why


@pytest.mark.parametrize("name", ["larger", "main_function"])
def test_a_program_whose_function_has_another_name_answers_to_f_as_well(name: str) -> None:
    program = PROGRAM.replace("def f", f"def {name}")

    draft = replies.read_proposal(ASKED.replace(PROGRAM, program), 5)

    assert draft == replace(DRAFT, program=f"{program}\n\nf = {name}")


def test_the_function_meant_is_the_one_that_uses_the_others() -> None:
    program = "def larger(n, k):\n    return n > k\n\ndef keep(nums, k):\n    return [n for n in nums if larger(n, k)]"

    draft = replies.read_proposal(ASKED.replace(PROGRAM, program), 5)

    assert isinstance(draft, Draft)
    assert draft.program.endswith("\n\nf = keep")


def test_a_program_keeps_its_imports_helpers_and_constants() -> None:
    program = f"import math\n\nLIMIT = 10\n\ndef g(x):\n    return math.floor(x)\n\n{PROGRAM}"

    draft = replies.read_proposal(ASKED.replace(PROGRAM, f"{program}\n\nprint(f([1], 2), LIMIT)"), 5)

    assert isinstance(draft, Draft)
    assert draft.program == program


@pytest.mark.parametrize(("signature", "block", "inputs"), [
    ("s", "'a, b'", ("'a, b'",)),
    ("s", "'a'\n'b'", ("'a'", "'b'")),
    ("p", "(1, 2)", ("(1, 2)",)),
    ("p, q", "(1, 2)", ("1, 2",)),
    ("p, q", "1\n2", ("1, 2",)),
    ("p, q", "1, 2\n3, 4", ("1, 2", "3, 4")),
    ("p, q=3", "1", ("1",)),
    ("*p", "1, 2, 3", ("1, 2, 3",)),
    ("x", "[true, null, false]", ("[True, None, False]",)),
    ("x", "{'a': [1, (2,)], 'b': {3}}", ("{'a': [1, (2,)], 'b': {3}}",)),
    ("x", "-1.5e3", ("-1500.0",)),
    ("x", "[[1, 2],\n [3, 4]]", ("[[1, 2], [3, 4]]",)),
    ("x, y", "x = [1]; y = 2", ("[1], 2",)),
    ("x, y", "a = [1], b = 2", ("[1], 2",)),
    ("x", "[1, 2]  # a list", ("[1, 2]",)),
])  # fmt: skip
def test_inputs_are_read_in_the_light_of_the_signature(signature: str, block: str, inputs: tuple[str, ...]) -> None:
    reply = fenced("message", MESSAGE) + fenced("python", f"def f({signature}):\n    return 0") + fenced("input", block)

    draft = replies.read_proposal(reply, len(inputs))

    assert isinstance(draft, Draft), draft
    assert draft.inputs == inputs


@pytest.mark.parametrize(
    "value",
    ["__import__('os').getcwd()", "[0] * 3", "x", "1) or (2", "1, **{}", "*[1, 2]", "lambda: 0", "f(1)(2)", "{[]: 1}"],
)
def test_an_input_is_literals_and_nothing_else(value: str) -> None:
    reply = fenced("message", MESSAGE) + fenced("python", "def f(*x):\n    return 0") + fenced("input", value)

    assert reason(replies.read_proposal(reply, 1)).startswith("0 different inputs, 1 needed; not Python literals")


# Answers


@pytest.mark.parametrize(("reply", "program"), [
    (fenced("python", PROGRAM), PROGRAM),
    (fenced("", PROGRAM), PROGRAM),
    ("Hm.\n" + fenced("python", "def f(x):\n    return 0") + "Better:\n" + fenced("python", PROGRAM), PROGRAM),
    (fenced("python", PROGRAM) + "For example:\n" + fenced("python", "f([1], 0)"), PROGRAM),
    (fenced("python", PROGRAM) + "It prints\n" + fenced("output", "[1]"), PROGRAM),
    (fenced("python", PROGRAM).removesuffix("```\n"), PROGRAM),
    (f"{PROGRAM}\n\nThis keeps the larger numbers.", PROGRAM),
    (PROGRAM, PROGRAM),
    (fenced("python", "n = int(input())\nprint(n * 2)"), "n = int(input())\nprint(n * 2)"),
    (fenced("python", "def main():\n    print(input())\n\nmain()"), "def main():\n    print(input())\n\nmain()"),
    (fenced("python", "def solve(x):\n    return x"), "def solve(x):\n    return x\n\nf = solve"),
    (fenced("python", "class Solution:\n    def go(self, x):\n        return x"),
     "class Solution:\n    def go(self, x):\n        return x"),
])  # fmt: skip
def test_the_program_of_an_answer_is_found(reply: str, program: str) -> None:
    assert CHAT.read_program(reply) == program


@pytest.mark.parametrize(("reply", "why"), [
    ("", "no program: there is no ```python block"),
    ("The answer is 7.", "no program: there is no ```python block"),
    (fenced("python", "def f(x:\n    return x"), "the program does not parse: line 1: '(' was never closed"),
    (fenced("python", ""), "the program is empty"),
])  # fmt: skip
def test_an_answer_without_a_program_says_why(reply: str, why: str) -> None:
    assert reason(CHAT.read_program(reply)) == why


@pytest.mark.parametrize(("reply", "literal"), [
    (fenced("output", "[1, 2]"), "[1, 2]"),
    (f"Step 1: x = [3].\n{fenced('output', '[3]')}Then\n{fenced('output', '[4]')}", "[4]"),
    (fenced("python", "x = 1") + fenced("output", "'ab'"), "'ab'"),
    (fenced("", "{'a': 1}"), "{'a': 1}"),
    (fenced("python", "[5]"), "[5]"),
    (fenced("input", "f([1], 2)"), "[1], 2"),
    (fenced("input", "nums = [1], k = 2"), "[1], 2"),
    ("```output\n[1, 2]", "[1, 2]"),
    ("```output [1, 2]```", "[1, 2]"),
    ("The output is: [1, 2]", "[1, 2]"),
    ("**Answer:** `[1, 2]`", "[1, 2]"),
    ("I follow the code.\n\n[1, 2]", "[1, 2]"),
    (fenced("output", "true"), "True"),
    (fenced("output", "(1, 2)"), "(1, 2)"),
])  # fmt: skip
def test_the_literal_of_an_answer_is_found(reply: str, literal: str) -> None:
    assert CHAT.read_literal(reply) == literal


@pytest.mark.parametrize(("reply", "why"), [
    ("", "there is no answer"),
    ("I do not know.", "not a Python literal: 'I do not know.'"),
    (fenced("output", "hello"), "not a Python literal: 'hello'"),
    (fenced("output", "..."), "not a Python literal: '...'"),
])  # fmt: skip
def test_an_answer_without_a_literal_says_why(reply: str, why: str) -> None:
    assert reason(CHAT.read_literal(reply)) == why


# Free proposals


def test_a_free_puzzle_is_a_program_and_one_input() -> None:
    reply = (fenced("python", PROGRAM) + fenced("input", INPUTS[0])).removeprefix(FREE_OPENINGS[Kind.DEDUCTION])

    assert CHAT.read_free_proposal(Kind.DEDUCTION, [], reply, 5) == Draft("", PROGRAM, INPUTS[:1])
    assert CHAT.read_free_proposal(Kind.ABDUCTION, [LEMMA_MADE], reply, 5) == Draft("", PROGRAM, INPUTS[:1])


def test_a_free_exercise_is_a_message_and_inputs_for_the_given_program() -> None:
    reply = (fenced("message", "Filter by size.") + inputs_block()).removeprefix(FREE_OPENINGS[Kind.INDUCTION])

    assert CHAT.read_free_proposal(Kind.INDUCTION, [LEMMA_MADE], reply, 5) == Draft("Filter by size.", PROGRAM, INPUTS)


# Robustness

ODD = [
    "```",
    "```python\n",
    "```input\n",
    "```message\n",
    "\n",
    "def f(x):",
    "    return x",
    "f(",
    ")",
    "[1",
    "]",
    "'",
    '"""',
    "\\",
    "x = ",
    "# Input: ",
    "<message>",
    "\0",
    "\ud800",
    "{",
    "}",
    ",",
    "...",
    "-" * 3000,
    "(" * 300,
    "é",
    "lambda",
    "*",
    "**",
    "~~~",
]
PIECES = st.lists(st.sampled_from(ODD) | st.text(max_size=5), max_size=12).map("".join)


@given(PIECES)
def test_no_text_makes_a_reader_raise(text: str) -> None:
    for found in (replies.read_proposal(text, 2), CHAT.read_free_proposal(Kind.INDUCTION, [LEMMA_MADE], text, 2),
                  CHAT.read_free_proposal(Kind.DEDUCTION, [], text, 2)):  # fmt: skip
        assert isinstance(found, Draft) or found.reason
    for answer in (CHAT.read_program(text), CHAT.read_literal(text)):
        assert answer if isinstance(answer, str) else answer.reason


@pytest.mark.parametrize(
    "body",
    [
        "(" * 5000,
        "-" * 50_000 + "1",
        "1+" * 20_000 + "1",
        "[" * 90 + "]" * 90,
        "x" + ".a" * 20_000,
        "\\" * 999,
        "f(" * 80,
        "0x" + "f" * 9000,
    ],
)
def test_no_depth_makes_a_reader_raise(body: str) -> None:
    for tag in ("python", "input", "output", "message", ""):
        CHAT.read_literal(fenced(tag, body))
        CHAT.read_program(fenced(tag, body))
        replies.read_proposal(ASKED + fenced(tag, body), 7)
        replies.read_proposal(fenced(tag, body) + ASKED, 7)


literals = st.recursive(
    st.integers()
    | st.booleans()
    | st.none()
    | st.text("ab'\",()`#", max_size=4)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(st.lists(st.tuples(literals, literals), min_size=1, max_size=4, unique_by=repr))
def test_literals_keep_their_values(values: list[tuple[object, object]]) -> None:
    reply = fenced("message", MESSAGE) + fenced("python", PROGRAM) + inputs_block(f"{a!r}, {b!r}" for a, b in values)

    draft = replies.read_proposal(reply, len(values))

    assert isinstance(draft, Draft), draft
    assert [repr(ast.literal_eval(f"({text})")) for text in draft.inputs] == [repr(value) for value in values]


@given(st.lists(st.tuples(literals, literals), min_size=1, max_size=4, unique_by=repr))
def test_literals_in_a_docstring_keep_their_values(values: list[tuple[object, object]]) -> None:
    calls = "\n".join(f"    >>> f({a!r}, {b!r})" for a, b in values)
    assume('"""' not in calls)  # which would end the docstring
    reply = fenced("python", f'def f(nums, k):\n    """{MESSAGE}\n\n{calls}\n    """\n    return nums')

    draft = replies.read_proposal(reply, len(values))

    assert isinstance(draft, Draft), draft
    assert [repr(ast.literal_eval(f"({text})")) for text in draft.inputs] == [repr(value) for value in values]


@given(st.lists(st.tuples(literals, literals), min_size=1, max_size=4, unique_by=repr))
def test_literals_in_comments_keep_their_values(values: list[tuple[object, object]]) -> None:
    calls = "\n".join(f"# f({a!r}, {b!r})" for a, b in values)

    draft = CHAT.read_proposal(
        f" nums and k, return nums.\n{calls}\ndef f(nums, k):\n    return nums\n```", len(values)
    )

    assert isinstance(draft, Draft), draft
    assert [repr(ast.literal_eval(f"({text})")) for text in draft.inputs] == [repr(value) for value in values]


def test_escapes_in_a_docstring_are_those_that_were_written() -> None:
    reply = fenced(
        "python", 'def f(s):\n    """Count lines.\n\n    >>> f("a\\nb")\n    >>> f(\'\\\\\')\n    """\n    return s'
    )

    draft = replies.read_proposal(reply, 2)

    assert isinstance(draft, Draft), draft
    assert [ast.literal_eval(text) for text in draft.inputs] == ["a\nb", "\\"]


@given(st.text("f(1, 2)[]'\"\\\n#>", max_size=40))
def test_no_call_is_found_that_is_not_one(text: str) -> None:
    draft = replies.read_proposal(f"{fenced('message', MESSAGE)}{fenced('python', PROGRAM)}{text}", 1)

    for one in draft.inputs if isinstance(draft, Draft) else ():
        assert isinstance(ast.literal_eval(f"({one},)"), tuple)


# Requests


def test_chat_is_a_prompt_set() -> None:
    prompts: PromptSet = CHAT

    assert (prompts.name, prompts.stop, len(prompts.digest)) == ("chat", (), 64)


@pytest.mark.parametrize("rung", [LEMMA, LIFT], ids=lambda rung: rung.name)
@pytest.mark.parametrize("axis", Axis)
def test_the_worked_reply_of_every_request_is_one_we_can_read(rung: RungConfig, axis: Axis) -> None:
    prompt = CHAT.teach(rung, axis, TOWERS if rung is LEMMA else None, LEMMA_MADE if rung is LIFT else None, 5)

    roles = [message.role for message in prompt]
    worked = [message.content for message in prompt if message.role == "assistant"]
    assert roles == ["system", *["user", "assistant"] * len(SHOTS), "user", "assistant"]
    assert all(text.startswith(OPENING) for text in worked)
    drafts = [CHAT.read_proposal(text.removeprefix(OPENING), 5) for text in worked[:-1]]
    assert drafts == [shot.replies[rung.direction, axis] for shot in SHOTS]


def test_the_teachers_reply_is_begun_for_it_and_read_with_its_beginning() -> None:
    calls = "\n".join(f"# f({one})" for one in INPUTS)

    draft = CHAT.read_proposal(f" nums and k, return the larger ones.\n{calls}\n{PROGRAM}\n```", 5)

    assert draft == Draft("Given nums and k, return the larger ones.", PROGRAM, INPUTS)
    assert CHAT.teach(LEMMA, Axis.F, TOWERS, None, 5)[-1].content == OPENING


@pytest.mark.parametrize("shot", SHOTS)
def test_the_worked_programs_run_on_their_inputs(shot: Shot) -> None:
    for draft in shot.replies.values():
        scope: dict[str, object] = {}
        exec(draft.program, scope)  # our own text

        outputs = [eval(f"f({one})", scope) for one in draft.inputs]

        assert len(set(map(repr, outputs))) > 1
        if draft.message == shot.previous.message:
            assert tuple(map(repr, outputs[:2])) == tuple(pair.output for pair in shot.previous.pairs)


def test_the_goalpost_of_a_worked_reply_shows_its_example_in_a_form_that_runs() -> None:
    for shot in SHOTS:
        asked = text_of(CHAT.ask_problem(shot.goalpost))
        assert f"solve({shot.goalpost.public_tests[0].input}) == {shot.goalpost.public_tests[0].output}" in asked


def test_a_lemma_is_asked_with_the_whole_goalpost_and_the_examples_it_does_not_show() -> None:
    long = replace(TOWERS, statement="Towers. " * 3000 + "Output: 2 for [1, 3, 2]")

    assert long.statement in last(CHAT.teach(LEMMA, Axis.F, long, None, 5))
    asked = last(CHAT.teach(LEMMA, Axis.F, TOWERS, None, 5))
    assert "seen([4, 5, None]) == True" in asked
    assert "seen([1, 3, 2])" not in asked  # the statement has it


def test_a_lift_is_asked_from_the_lemma_alone() -> None:
    asked = last(CHAT.teach(LIFT, Axis.IO, None, LEMMA_MADE, 5))

    assert MESSAGE in asked
    assert PROGRAM in asked
    assert "f([1, 5], 4) == [5]" in asked
    assert "HARDER" in asked
    assert "Towers" not in asked


def test_a_rung_that_sees_both_shows_both() -> None:
    asked = last(CHAT.teach(replace(LIFT, sees="both"), Axis.F, TOWERS, LEMMA_MADE, 5))

    assert "Towers" in asked
    assert PROGRAM in asked


def test_rung_and_axis_change_the_request() -> None:
    asked = {
        text_of(CHAT.teach(rung, axis, TOWERS, None, 5))
        for rung in (LEMMA, replace(LIFT, sees="goalpost"))
        for axis in Axis
    }

    assert len(asked) == 4


def test_the_student_sees_what_its_task_shows_and_nothing_more() -> None:
    shown, hidden = (Pair("[1, 5], 4", "[5]"),), (Pair("[9], 8", "[9]"),)

    induction = last(CHAT.ask(Task(Kind.INDUCTION, "id", MESSAGE, PROGRAM, shown, hidden)))
    deduction = last(CHAT.ask(Task(Kind.DEDUCTION, "id", MESSAGE, PROGRAM, (Pair("[1, 5], 4", "[5, 5, 5]"),))))
    abduction = last(CHAT.ask(Task(Kind.ABDUCTION, "id", MESSAGE, PROGRAM, (Pair("[77, 66]", "[5]"),))))

    assert MESSAGE in induction
    assert "f([1, 5], 4) == [5]" in induction
    assert "return [n" not in induction
    assert "[9]" not in induction
    assert PROGRAM in deduction
    assert "f([1, 5], 4)" in deduction
    assert "[5, 5, 5]" not in deduction
    assert PROGRAM in abduction
    assert "[5]" in abduction
    assert "77" not in abduction


def test_a_problem_with_starter_code_asks_to_complete_it() -> None:
    starter = "class Solution:\n    def seen(self, heights: List[int]) -> int:\n        "

    asked = text_of(CHAT.ask_problem(replace(TOWERS, starter_code=starter)))

    assert "class Solution:\n    def seen(self, heights: List[int]) -> int:\n```" in asked


def test_a_problem_without_starter_code_names_the_function() -> None:
    assert "`seen`" in text_of(CHAT.ask_problem(TOWERS))


def test_a_stdin_problem_asks_for_a_program_and_never_shows_hidden_tests() -> None:
    problem = Problem(
        "sum",
        "Add.",
        (TestCase("1 2\n", "3\n"),),
        (TestCase("40 2\n", "42\n"),),
        IoMode.STDIN,
        Encoding.TEXT,
        entry_point="",
    )

    asked = text_of(CHAT.ask_problem(problem))

    assert "standard input" in asked
    assert "Input:\n1 2\nOutput:\n3" in asked
    assert "42" not in asked


def test_an_example_too_long_to_show_is_counted_not_cut() -> None:
    long = replace(TOWERS, public_tests=(TestCase(str(list(range(500))), "500"),), statement="Towers.")

    asked = text_of(CHAT.ask_problem(long))

    assert "(1 more, too long to show here)" in asked
    assert "498, 499" not in asked


@given(st.text(max_size=30), st.text(max_size=30))
def test_braces_and_fences_in_a_statement_go_in_as_they_are(statement: str, message: str) -> None:
    awkward = "{pairs} {0} " + statement + " ```"

    assert awkward.strip() in last(CHAT.ask_problem(replace(TOWERS, statement=awkward)))
    assert message in last(CHAT.ask(Task(Kind.INDUCTION, "id", message, "", ())))


def test_no_placeholder_is_left_in_a_request() -> None:
    requests = [
        CHAT.teach(LEMMA, Axis.F, TOWERS, None, 5),
        CHAT.teach(LIFT, Axis.IO, None, LEMMA_MADE, 5),
        *(CHAT.propose_freely(kind, [LEMMA_MADE], 5) for kind in (Kind.INDUCTION, Kind.DEDUCTION, Kind.ABDUCTION)),
        *(
            CHAT.ask(Task(kind, "id", MESSAGE, PROGRAM, LEMMA_MADE.pairs[:1]))
            for kind in Kind
            if kind is not Kind.PROBLEM
        ),
        CHAT.ask_problem(TOWERS),
    ]

    assert not any("{" in text_of(prompt) or "}" in text_of(prompt) for prompt in requests)
    assert all(prompt[0].role == "system" for prompt in requests)


def test_free_requests_show_the_references() -> None:
    assert PROGRAM in last(CHAT.propose_freely(Kind.DEDUCTION, [LEMMA_MADE], 5)[:-1])
    assert PROGRAM in last(CHAT.propose_freely(Kind.INDUCTION, [LEMMA_MADE], 5)[:-1])
    assert CHAT.propose_freely(Kind.ABDUCTION, [], 5) != CHAT.propose_freely(Kind.DEDUCTION, [], 5)
