from gasp_rl.rollout import Evaluation, Iteration, Phase, ProblemScore, Proposal, Rejection
from gasp_rl.runs.journal import EvaluationRecord, IterationRecord, Journal
from gasp_rl.runs.ledger import Bought, Cost, ledger
from gasp_rl.runs.metrics import Measurement

LEMMAS = tuple(Proposal(f"p{i}", "lemma", "", rejection=Rejection.TOO_EASY if i > 1 else None) for i in range(5))

JOURNAL = Journal(
    (
        IterationRecord(Iteration(1, (Phase("lemma", LEMMAS, sampled_tokens=800), Phase("practice", sampled_tokens=40)))),
        EvaluationRecord(Evaluation(1, "goalposts", 1.0, (ProblemScore("g", 4, 2, 2), ProblemScore("h", 4, 0, 0)), 60)),
        EvaluationRecord(Evaluation(0, "matched_base", 1.0, (ProblemScore("h", 4, 1, 1),), 100)),
    )
)  # fmt: skip

MEASURED = [
    Measurement(1, "lemma", 10.0, 800, sampling_seconds=6.0, update_seconds=2.0, sandbox_cpu_seconds=3.0),
    Measurement(1, "practice", 2.0, 40, sampling_seconds=1.0, update_seconds=0.5),
    Measurement(1, "evaluate", 1.0, 60, sampling_seconds=0.5, sandbox_cpu_seconds=1.0),
    Measurement(1, "base model, matched draws", 1.0, 100, sampling_seconds=1.0),
]


def test_phases_are_added_up_and_what_they_bought_is_counted() -> None:
    found = ledger(JOURNAL, MEASURED)

    assert found.total == Cost(1000, 14.0, 8.5, 2.5, 4.0)
    assert dict(found.phases)["lemma"] == Cost(800, 10.0, 6.0, 2.0, 3.0)
    assert found.bought == (
        Bought("accepted lemma", 2, Cost(400, 5.0, 3.0, 1.0, 1.5)),
        Bought("goalpost solved", 1, Cost(900, 13.0, 7.5, 2.5, 4.0)),
    )
    assert found.done_again == 0


def test_an_iteration_that_was_done_again_cost_twice_and_is_told() -> None:
    found = ledger(JOURNAL, [*MEASURED[:1], *MEASURED])

    assert found.total.tokens == 1800
    assert found.done_again == 800


def test_where_nothing_was_measured_the_tokens_of_the_journal_remain() -> None:
    found = ledger(JOURNAL, [])

    assert found.total == Cost(1000)
    assert [phase for phase, _ in found.phases] == ["lemma", "practice", "evaluate", "base model, matched draws"]
    assert found.bought[-1] == Bought("goalpost solved", 1, Cost(900))


def test_a_run_that_has_not_begun_cost_nothing() -> None:
    assert ledger(Journal(), []).total == Cost()
