from collections.abc import Sequence
from dataclasses import replace

import pytest

from gasp_rl.config import GaspConfig, RunConfig
from gasp_rl.report.words import brief, duration, ending, headline, summary
from gasp_rl.rollout import Evaluation, Iteration, Phase, ProblemScore, Proposal, Rejection
from gasp_rl.runs.journal import (
    Course,
    Decided,
    EvaluationRecord,
    Finished,
    IterationRecord,
    Journal,
    Record,
    Started,
    Stopped,
)
from gasp_rl.runs.metrics import Measurement

STARTED = Started(RunConfig(recipe="gasp", steps=2, gasp=GaspConfig()), "0.1")


def evaluation(step: int, split: str, confirmed: Sequence[int], samples: int = 10) -> EvaluationRecord:
    scores = tuple(ProblemScore(f"g{i}", samples, n, n) for i, n in enumerate(confirmed))
    return EvaluationRecord(Evaluation(step, split, 1.0, scores))


def run(*records: Record) -> Journal:
    return Journal((STARTED, IterationRecord(Iteration(1, ())), *records))


def test_a_clear_difference_is_told_with_its_p_value() -> None:
    journal = run(evaluation(1, "goalposts", [3] * 8), evaluation(0, "matched_base", [0] * 8))

    assert headline(journal) == (
        "After 1 iteration of gasp the student has solved 8 of 8 goalposts. "
        "The base model, given the same 10 draws each, solved 0 (paired exact test: p = 0.0078)."
    )


def test_a_difference_that_may_be_chance_is_called_so() -> None:
    journal = run(evaluation(1, "goalposts", [3, 3, 0]), evaluation(0, "matched_base", [0, 0, 0]))

    assert headline(journal).endswith("solved 0 (paired exact test: p = 0.5; the difference may be chance).")


def test_no_gain_over_the_base_model_is_said_plainly() -> None:
    journal = run(evaluation(1, "goalposts", [1, 0]), evaluation(0, "matched_base", [0, 1]))

    assert headline(journal).endswith("solved 1: training shows no gain here.")


def test_nothing_fallen_is_said_plainly() -> None:
    assert (
        headline(run(evaluation(1, "goalposts", [0, 0]))) == "After 1 iteration of gasp none of 2 goalposts has fallen."
    )


def test_draws_that_do_not_match_are_not_compared() -> None:
    journal = run(evaluation(1, "goalposts", [1, 1]), evaluation(0, "matched_base", [0, 0], samples=5))

    assert headline(journal).endswith("with 5 draws each against 10: the two cannot be compared.")


def test_draws_of_several_evaluations_count_together() -> None:
    journal = run(
        evaluation(0, "goalposts", [0, 1]),
        evaluation(1, "goalposts", [2, 0]),
        evaluation(2, "goalposts", [0, 0]),
        evaluation(0, "matched_base", [0, 0], samples=20),
    )

    assert "solved 1 of 2 goalposts. The base model, given the same 20 draws each, solved 0" in headline(journal)
    assert "Fallen: g0 (2 of 20 draws). Solved at least twice: 1." in summary(journal)


def test_the_summary_counts_what_was_accepted_and_what_stopped_the_rest() -> None:
    lemmas = (
        Proposal("a", "lemma", ""),
        Proposal("b", "lemma", "", rejection=Rejection.TOO_EASY),
        Proposal("c", "lemma", "", rejection=Rejection.TOO_EASY),
        Proposal("d", "lemma", "", rejection=Rejection.DUPLICATE),
    )
    journal = Journal(
        (
            STARTED,
            evaluation(0, "validation", [2, 2]),
            IterationRecord(Iteration(1, (Phase("lemma", lemmas, sampled_tokens=1200),))),
            evaluation(1, "validation", [4, 2]),
            Finished(),
        )
    )

    lines = summary(journal).splitlines()

    assert "Lemmas accepted: 1 of 4; most others too easy (2)." in lines
    assert "Lifts accepted: 0 of 0." in lines
    assert "Validation pass@1: 20.0% before, 30.0% after, best 30.0% at iteration 1." in lines
    assert "Cost: 1,200 tokens sampled." in lines


@pytest.mark.parametrize(
    ("journal", "said"),
    [
        (Journal(), "has not begun"),
        (Journal((STARTED,)), "0 of 2 iterations of gasp are done"),
        (Journal((Started(replace(STARTED.config, steps=0), "0.1"),)), "gasp makes no iterations"),
        (run(Stopped("interrupted")), "The run stopped: interrupted."),
        (run(), "not finished: still running, or ended without a word"),
        (Journal((STARTED,), ("the last record was incomplete",)), "the last record was incomplete"),
    ],
)
def test_what_is_missing_is_said(journal: Journal, said: str) -> None:
    assert said in summary(journal)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (272, "4 min 32 s"), (7380, "2 h 03 min")]
)
def test_durations_are_given_in_what_people_say(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_summary_says_what_was_spent_and_on_what() -> None:
    journal = Journal(
        (
            STARTED,
            IterationRecord(Iteration(1, (Phase("lemma", (Proposal("a", "lemma", ""),), sampled_tokens=1200),))),
            evaluation(1, "goalposts", [1, 0]),
        )
    )
    measured = [
        Measurement(1, "lemma", 90.0, 1200, sampling_seconds=61.0, update_seconds=9.0, sandbox_cpu_seconds=12.0),
        Measurement(1, "evaluate", 10.0, 300, sampling_seconds=9.0),
        Measurement(2, "lemma", 5.0, 55, sampling_seconds=4.0),
    ]

    lines = summary(journal, measured).splitlines()

    assert (
        "Cost: 1,555 tokens sampled in 1 min 45 s (1 min 14 s sampling, 9 s updating), with 12 s of CPU in the sandbox."
        in lines
    )
    assert (
        "That is 1,255 tokens and 1 min 35 s per accepted lemma; 1,555 tokens and 1 min 45 s per goalpost solved."
        in lines
    )
    assert "Of these tokens 355 were of iterations that were interrupted and done again." in lines


@pytest.mark.parametrize(("seconds", "words"), [(0.034, "0.03 s"), (2.449, "2.4 s"), (80.0, "1 min 20 s")])
def test_small_durations_keep_two_digits(seconds: float, words: str) -> None:
    assert brief(seconds) == words


def test_what_the_monitor_noticed_and_what_changed_the_course_is_told_by_iteration() -> None:
    broken = tuple(Proposal(str(i), "lemma", "", rejection=Rejection.MALFORMED) for i in range(8))
    reason = "the budget of 90 tokens is spent"
    journal = Journal(
        (
            STARTED,
            *(IterationRecord(Iteration(step, (Phase("lemma", broken),))) for step in (1, 2, 3)),
            Decided(3, Course.STOP, reason),
            Finished(reason),
        )
    )

    lines = summary(journal).splitlines()

    assert "Iteration 3: 0% of the proposals can be read and run (below 0.5 for 3 iterations)." in lines
    assert "Iteration 3: the run ends here: the budget of 90 tokens is spent." in lines
    assert ending(journal) == "finished: the budget of 90 tokens is spent"
