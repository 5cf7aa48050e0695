"""The firewall: what gives an evaluation problem away is found however it was reworded, and nothing else is."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from gasp_rl.config import FirewallConfig
from gasp_rl.problem import CompareKind, Comparison, Encoding, IoMode, Problem, TestCase
from gasp_rl.rollout import LikenessKind, Pair, Proposal
from gasp_rl.sandbox.local import LocalSandbox
from gasp_rl.selfplay.firewall import Firewall
from gasp_rl.selfplay.novelty import HashedEmbedder

REPORT = FirewallConfig(action="report")

STATEMENT = """\
You are given the heights of fence posts along a road. A painter may repaint at most k neighbouring posts, and wants the \
repainted stretch to have the largest possible total height. Return that total, or zero if every stretch is negative."""

REFERENCE = """\
def paint(heights, k):
    best = 0
    for start in range(len(heights)):
        total = 0
        for height in heights[start:start + k]:
            total += height
            best = max(best, total)
    return best"""

PAINT = Problem(
    id="eval/paint",
    statement=STATEMENT,
    public_tests=(TestCase("[1, 2, 3]\n2", "5"),),
    hidden_tests=tuple(
        TestCase(f"{heights}\n{k}", str(best))
        for heights, k, best in (([4, -9, 4], 3, 4), ([-1], 1, 0), ([5, 5, 5, -20, 40], 3, 40), ([], 2, 0))
    ),
    encoding=Encoding.JSON,
    entry_point="paint",
    reference=REFERENCE,
)

ECHO = Problem(
    id="eval/echo", statement="Read one line and write the same line to standard output, with nothing before or after it.",
    public_tests=(), hidden_tests=(TestCase("a", "a"),) * 3, io_mode=IoMode.STDIN, encoding=Encoding.TEXT, entry_point="",
)  # fmt: skip

OTHER_WAY = """\
def f(xs, m):
    sums = [0]
    for x in xs:
        sums.append(sums[-1] + x)
    return max([b - a for i, a in enumerate(sums) for b in sums[i + 1:i + 1 + m]] + [0])"""

INNOCENT = """\
def f(words, n):
    return [w for w in words if len(w) == n]"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LocalSandbox]:
    with LocalSandbox() as one:
        yield one


def proposal(message: str, program: str, arguments: str = "[1, 2], 1") -> Proposal:
    return Proposal(id="p", rung="lemma", text="", message=message, program=program, pairs=(Pair(arguments, "0"),))


def kinds(sandbox: LocalSandbox, *proposals: Proposal, cfg: FirewallConfig = REPORT) -> list[set[LikenessKind]]:
    wall = Firewall((ECHO, PAINT), sandbox, HashedEmbedder(), cfg)
    screened = wall.screen(proposals)
    assert all(like.problem in {"eval/paint", "eval/echo"} for one in screened for like in one.likenesses)
    return [{like.kind for like in one.likenesses} for one in screened]


def test_a_renamed_copy_of_a_reference_is_like_it_in_code_and_in_what_it_does(sandbox: LocalSandbox) -> None:
    copied = REFERENCE.replace("paint", "f").replace("heights", "a").replace("height", "b").replace("best", "c")

    (found,) = kinds(sandbox, proposal("Something quite different.", f"# no comment\n{copied}"))

    assert found == {LikenessKind.CODE, LikenessKind.EMBEDDING, LikenessKind.BEHAVIOUR}


def test_a_solution_found_another_way_is_known_by_what_it_does(sandbox: LocalSandbox) -> None:
    assert kinds(sandbox, proposal("Largest sum of m neighbours.", OTHER_WAY)) == [{LikenessKind.BEHAVIOUR}]


def test_a_sentence_of_a_statement_is_known_by_its_words_whatever_its_layout(sandbox: LocalSandbox) -> None:
    copied = STATEMENT.split(".")[1].upper().replace(",", " -")

    assert kinds(sandbox, proposal(copied, INNOCENT)) == [{LikenessKind.WORDS}]


def test_a_program_of_standard_input_is_known_by_its_statement(sandbox: LocalSandbox) -> None:
    found = kinds(sandbox, proposal(ECHO.statement, INNOCENT))

    assert found == [{LikenessKind.WORDS, LikenessKind.EMBEDDING}]


@pytest.mark.parametrize("program", [
    INNOCENT,
    OTHER_WAY.replace("+ [0]", "+ [1]"),
    "def f(xs, m):\n    return 0",
    "def f(xs, m):\n    return f(xs, m)",
    "def f(xs, m):\n    raise SystemExit",
])  # fmt: skip
def test_an_exercise_of_its_own_is_like_nothing(sandbox: LocalSandbox, program: str) -> None:
    assert kinds(sandbox, proposal("Keep the words of n letters.", program)) == [set()]


def test_an_input_that_never_ends_does_not_hide_the_others(sandbox: LocalSandbox) -> None:
    trap = replace(PAINT, id="eval/trap", public_tests=(TestCase("[]\n9", '"a long output that comes first"'),))
    program = OTHER_WAY.replace("    sums = [0]", "    while m == 9: pass\n    sums = [0]")
    wall = Firewall((trap, PAINT), sandbox, HashedEmbedder(), REPORT)

    (screened,) = wall.screen([proposal("?", program)])

    assert [like.problem for like in screened.likenesses] == ["eval/paint"]


def test_the_comparison_of_the_problem_decides_what_solves_it(sandbox: LocalSandbox) -> None:
    close = replace(PAINT, id="eval/close", compare=Comparison(CompareKind.FLOAT, atol=0.5))
    wall = Firewall((PAINT, close), sandbox, HashedEmbedder(), REPORT)

    (screened,) = wall.screen([proposal("?", OTHER_WAY.replace("return max(", "return 0.25 + max("))])

    assert [like.problem for like in screened.likenesses] == ["eval/close"]


def test_what_is_found_of_a_proposal_does_not_depend_on_the_others(sandbox: LocalSandbox) -> None:
    batch = [
        proposal(STATEMENT, INNOCENT), proposal("?", OTHER_WAY), proposal("?", "def f(xs, m):\n    while True: pass"),
        proposal("?", "def f(x):\n    return x", "1"), proposal("Largest sum.", REFERENCE.replace("paint", "f")),
    ]  # fmt: skip
    wall = Firewall((ECHO, PAINT), sandbox, HashedEmbedder(), REPORT)

    together = wall.screen(batch)

    assert together == [wall.screen([one])[0] for one in batch]
    assert together[::-1] == wall.screen(batch[::-1])


def test_each_way_can_be_turned_off_or_down(sandbox: LocalSandbox) -> None:
    copy = proposal(STATEMENT, REFERENCE.replace("paint", "f"))

    assert kinds(sandbox, copy) == [set(LikenessKind)]
    assert kinds(sandbox, copy, cfg=replace(REPORT, behaviour=False, ngram=1000, code_ngram=1000)) == [
        {LikenessKind.EMBEDDING}
    ]


@pytest.mark.parametrize(("outputs", "found"), [
    (["1", "2", "3"], False), (["1", "2", "3", "4"], True), (["0"] * 20, False), (["0"] * 19 + ["1"], False),
    (["true", "false"] * 3, False), (["true", "false"] * 4, True),
])  # fmt: skip
def test_a_problem_is_known_by_what_it_does_only_if_its_tests_say_enough(
    sandbox: LocalSandbox, outputs: list[str], found: bool
) -> None:
    tests = tuple(TestCase(str(place), output) for place, output in enumerate(outputs))
    problem = replace(PAINT, public_tests=(), hidden_tests=tests)
    wall = Firewall((problem,), sandbox, HashedEmbedder(), REPORT)
    program = f"def f(x):\n    true, false = True, False\n    return [{', '.join(outputs)}][x]"

    (screened,) = wall.screen([proposal("?", program, "1")])

    assert bool(screened.likenesses) is found
