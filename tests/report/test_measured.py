"""Results in words: every number that a reader needs to judge the others."""

from gasp_rl.config import GradingConfig, SamplingConfig
from gasp_rl.measure import strata
from gasp_rl.report.measured import measured
from gasp_rl.rollout import Evaluation, ProblemScore
from gasp_rl.runs.results import ModelFacts, ProblemFacts, ProblemsFacts, PromptFacts, Results

FACTS = tuple(ProblemFacts(f"p{n}", "easy" if n < 4 else "hard") for n in range(6))


def results(drawn: Evaluation | None, greedy: Evaluation | None = None, samples: int = 5) -> Results:
    return Results(
        1, "0.1", ModelFacts("/home/me/models/tiny", "/home/me/models/tiny", "abc"), PromptFacts("chat", "0123456789abcdef"),
        ProblemsFacts("sets/mine.jsonl", "test", "def", FACTS), SamplingConfig(0.6, 512), samples, 0, GradingConfig(), "L4",
        0.95, strata(FACTS, drawn, greedy, ()), drawn, greedy,
    )  # fmt: skip


DRAWN = Evaluation(0, "test", 0.6, (
    ProblemScore("p0", 5, 5, 5), ProblemScore("p1", 5, 1, 1), ProblemScore("p2", 5, 1, 0), ProblemScore("p3", 3, 0, 0),
    ProblemScore("p4", 5, 0, 0, "", truncated=2, empty=1, unreadable=4), ProblemScore("p5", 5, 0, 0),
), sampled_tokens=9000)  # fmt: skip


def test_the_table_says_what_was_asked_and_every_part() -> None:
    text = measured(results(DRAWN))

    assert text.startswith(
        "tiny on mine.jsonl: 6 problems, 5 draws each at temperature 0.6; prompts chat (01234567), faithful grading\n"
    )
    assert "\npass@1          23.3 % [" in text
    assert "\npass@5          60.0 % [" in text
    assert "]   over 5 of 6 problems\n" in text
    lines = text.splitlines()
    table = lines[lines.index(next(line for line in lines if line.startswith("by difficulty"))) :][:4]
    assert [line[:25].split() for line in table] == [
        ["by", "difficulty", "problems"],
        ["all", "5", "of", "6"],
        ["easy", "3", "of", "4"],
        ["hard", "2"],
    ]
    assert all(len(line) <= 80 for line in table)


def test_what_could_be_mistaken_is_spelled_out() -> None:
    text = measured(results(DRAWN))

    assert "Solved, confirmed in a fresh sandbox: 2 of 6, of these by a single draw: 1.\n" in text
    assert "cut off at 512 tokens: 2 (7.1%); empty: 1 (3.6%); without a program: 4 (14.3%).\n" in text
    assert "Passed once but not again, and not counted as solved: p2.\n" in text
    assert (
        "Answered less often than wanted (the prompt leaves no room, or a fault of the sandbox), and left out" in text
    )
    assert "where draws are missing: p3.\n" in text
    assert text.endswith("Cost: 9,000 tokens sampled.")


def test_the_greedy_answer_alone_needs_no_other_numbers() -> None:
    greedy = Evaluation(0, "test", 0.0, tuple(ProblemScore(one.id, 1, 1, 1) for one in FACTS), 60)

    text = measured(results(None, greedy, 0))

    assert "6 problems, the greedy answer;" in text
    assert "greedy pass@1" in text
    assert "Solved, confirmed in a fresh sandbox: 6 of 6.\n" in text
    assert "pass@5" not in text
