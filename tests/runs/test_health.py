from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from gasp_rl.config import Alarm, GaspConfig, HealthConfig, ModelConfig, RunConfig
from gasp_rl.errors import ConfigError
from gasp_rl.rollout import (
    Answer,
    Evaluation,
    Iteration,
    Judgement,
    Kind,
    Phase,
    ProblemScore,
    Proposal,
    Rejection,
    UpdateStats,
)
from gasp_rl.runs.health import Monitor, Reading, Signal, alarms
from gasp_rl.runs.journal import EvaluationRecord, IterationRecord, Journal, Started

CONFIG = RunConfig("mine", steps=20, gasp=GaspConfig(), health=HealthConfig(patience=2))

NEGATE = "def f(x):\n    # (1) negate each\n    x = [-v for v in x]\n    return x"
REVERSE = "def f(x):\n    # (1) reverse\n    x = x[::-1]\n    return x"


def lemmas(*rejections: Rejection | None, passes: int = 5, message: str = "", program: str = "") -> Phase:
    written = [
        Proposal(str(i), "lemma", "", message=message, program=program, rejection=why, passes=passes, tries=10)
        for i, why in enumerate(rejections)
    ]
    return Phase("lemma", tuple(written), dissimilarity=0.5)


def learned(entropy: float, tokens: int = 10, ratio: float = 0.0) -> Phase:
    return Phase("x", update=UpdateStats("x", 4, tokens, 0.0, 0.0, 0.1, entropy, ratio, skipped=False))


def answered(reward: float) -> Phase:
    return Phase("practice", answers=(Answer(Kind.INDUCTION, "", "", Judgement.WRONG, "", reward),) * 8)


def read(config: RunConfig, *iterations: Sequence[Phase]) -> Iterator[list[Reading]]:
    monitor = Monitor(config)
    for step, phases in enumerate(iterations, start=1):
        yield monitor.read(Iteration(step, tuple(phases)))


def values(*phases: Phase, config: RunConfig = CONFIG) -> dict[Signal, float]:
    (readings,) = read(config, phases)
    return {reading.signal: reading.value for reading in readings}


def history(signal: Signal, *iterations: Phase) -> list[float]:
    found = read(CONFIG, *([phase] for phase in iterations))
    return [reading.value for readings in found for reading in readings if reading.signal is signal]


def test_shares_are_of_those_that_came_so_far() -> None:
    malformed, again, fault = Rejection.MALFORMED, Rejection.DUPLICATE, Rejection.SANDBOX_FAULT

    found = values(lemmas(*[malformed] * 5, *[again] * 6, *[Rejection.TOO_EASY] * 4, fault, fault))

    assert found[Signal.VALID] == 10 / 15
    assert found[Signal.DUPLICATES] == 6 / 10


@pytest.mark.parametrize(("passes", "share"), [(0, 1.0), (10, 1.0), (9, 0.0)])
def test_a_pass_rate_of_zero_or_one_teaches_nothing(passes: int, share: float) -> None:
    assert values(lemmas(*[None] * 8, passes=passes))[Signal.FLAT] == share


def test_a_message_is_held_against_its_program() -> None:
    told = lemmas(*[None] * 6, message="on the list: (1) negate each", program=NEGATE)
    lied = lemmas(*[None] * 2, message="on the list: (1) negate each", program=REVERSE)

    assert values(told, lied)[Signal.DISHONEST] == 0.25


def test_outside_the_embedded_world_nobody_can_tell_whether_a_message_is_honest() -> None:
    real = replace(CONFIG, model=ModelConfig(prompts="chat"))

    assert Signal.DISHONEST not in values(lemmas(*[None] * 9, message="any", program="def f(x): ..."), config=real)


def test_a_few_proposals_say_nothing() -> None:
    assert values(lemmas(*[Rejection.MALFORMED] * 7)) == {}


def test_dissimilarity_is_read_where_something_was_accepted() -> None:
    none = replace(lemmas(Rejection.TOO_EASY), dissimilarity=1.0)
    lift = replace(lemmas(None), name="lift", dissimilarity=0.3)

    assert values(none, lift) == {Signal.DISSIMILARITY: 0.3}


def test_entropy_is_told_as_a_share_of_the_beginning() -> None:
    assert history(Signal.ENTROPY, learned(1.5), learned(0.5), learned(0.5), learned(2.0)) == [0.5, 2.0]


def test_entropies_of_phases_are_weighed_by_their_tokens() -> None:
    found = list(read(CONFIG, [learned(1.0)], [learned(1.0)], [learned(1.0, 30), learned(0.0, 10)]))

    assert [r.value for r in found[2] if r.signal is Signal.ENTROPY] == [0.75]


def test_a_fall_of_the_reward_is_measured_from_its_best_mean() -> None:
    rewards = [answered(reward) for reward in (0.0, 0.5, 1.0, 0.0, -1.0)]

    assert history(Signal.REWARD, *rewards) == [0.0, 0.0, 0.25, 1.25]


def test_a_fall_of_pass_at_1_is_read_after_each_iteration_until_it_is_made_good() -> None:
    monitor = Monitor(CONFIG)
    falls = []
    for step, (split, passes) in enumerate(
        [
            ("validation", 8),
            ("goalposts", 5),
            ("validation", 6),
            ("goalposts", 1),
            ("matched_base", 0),
            ("goalposts", 7),
        ]
    ):
        monitor.evaluated(Evaluation(step, split, 1.0, (ProblemScore("g", 10, passes, passes),)))
        falls += [r.value for r in monitor.read(Iteration(step, ())) if r.signal is Signal.HELD_OUT]

    assert falls == pytest.approx([0.0, 0.0, 0.2, 0.4, 0.4, 0.2])


def test_the_largest_log_ratio_of_all_phases_counts() -> None:
    assert values(learned(1.0, ratio=0.5), learned(1.0, ratio=2.0))[Signal.LOG_RATIO] == 2.0


def test_an_alarm_sounds_once_when_a_signal_has_been_beyond_its_threshold_for_long_enough() -> None:
    bad, good = [lemmas(*[Rejection.MALFORMED] * 8)], [lemmas(*[None] * 8)]

    found = [[r for r in readings if r.alarming] for readings in read(CONFIG, bad, bad, bad, good, bad, bad)]

    assert [[r.signal for r in one] for one in found] == [[], [Signal.VALID], [], [], [], [Signal.VALID]]
    assert str(found[1][0]) == "0% of the proposals can be read and run (below 0.5 for 2 iterations)"


def test_an_alarm_that_is_off_is_silent() -> None:
    off = replace(CONFIG, health=HealthConfig(patience=1, valid=Alarm(0.5, "off")))

    assert not any(r.alarming for readings in read(off, [lemmas(*[Rejection.MALFORMED] * 8)]) for r in readings)


def test_the_alarms_of_a_journal_are_those_of_its_iterations() -> None:
    bad = [IterationRecord(Iteration(step, (lemmas(*[Rejection.INVALID] * 8),))) for step in (1, 2, 3)]

    assert [(one.step, one.signal) for one in alarms(Journal((Started(CONFIG, "0.1"), *bad)))] == [(2, Signal.VALID)]
    fell = [EvaluationRecord(Evaluation(0, "validation", 1.0, (ProblemScore("g", 10, n, n),))) for n in (9, 2)]
    found = alarms(Journal((Started(CONFIG, "0.1"), *fell, *bad)))
    assert [(one.step, one.signal) for one in found] == [(2, Signal.VALID), (2, Signal.HELD_OUT)]
    assert alarms(Journal()) == []


def test_a_switch_where_there_is_nothing_to_switch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"health\.entropy\.action must be off, warn or stop"):
        HealthConfig(entropy=Alarm(0.2, "switch"))
