from collections.abc import Callable
from dataclasses import replace

import pytest

from gasp_rl.config import Action, Alarm, AzrConfig, BudgetConfig, CheckpointConfig, GaspConfig, HealthConfig, RunConfig
from gasp_rl.progress import Silent
from gasp_rl.rollout import Evaluation, Iteration, Phase, ProblemScore, Proposal, Rejection
from gasp_rl.runs.course import Pilot, switched
from gasp_rl.runs.journal import Course, Decided, EvaluationRecord, IterationRecord, Record
from gasp_rl.runs.metrics import EVALUATE, Measurement, Spent

CONFIG = RunConfig("mine", steps=9, gasp=GaspConfig())


class Watcher(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.alarms: list[str] = []

    def signal(self, name: str, value: float, alarm: str) -> None:
        self.alarms += [alarm] if alarm else []

    def note(self, text: str) -> None:
        self.notes.append(text)


def iteration(step: int, tokens: int = 100, rejection: Rejection | None = None) -> Iteration:
    written = tuple(Proposal(str(i), "lemma", "", rejection=rejection) for i in range(8))
    return Iteration(step, (Phase("lemma", written, sampled_tokens=tokens),))


def pilot(config: RunConfig, watcher: Watcher | None = None, spent: Callable[[], Spent] = Spent) -> Pilot:
    return Pilot(config, watcher or Watcher(), spent)


def test_most_runs_are_left_alone() -> None:
    one = pilot(CONFIG)

    assert [one.decide(iteration(step)) for step in range(1, 10)] == [[]] * 9
    assert one.stopped == ""


def test_a_budget_of_training_tokens_does_not_count_evaluations_and_one_of_tokens_does() -> None:
    evaluation = EvaluationRecord(Evaluation(0, "validation", 1.0, (), sampled_tokens=50))
    training = pilot(replace(CONFIG, budget=BudgetConfig(training_tokens=200)))
    every = pilot(replace(CONFIG, budget=BudgetConfig(tokens=150)))
    for one in (training, every):
        one.follow(evaluation)

    assert every.decide(iteration(1)) == [Decided(1, Course.STOP, "the budget of 150 tokens is spent")]
    assert training.decide(iteration(1)) == []
    assert training.decide(iteration(2)) == [Decided(2, Course.STOP, "the budget of 200 training tokens is spent")]
    assert training.stopped == "the budget of 200 training tokens is spent"


def test_a_budget_of_seconds_asks_the_clock() -> None:
    spent = Spent()
    watcher = Watcher()
    one = pilot(replace(CONFIG, budget=BudgetConfig(seconds=60)), watcher, lambda: spent)

    spent.add(Measurement(1, "lemma", 59.0))
    assert one.decide(iteration(1)) == []
    spent.add(Measurement(1, EVALUATE, 1.0))
    assert one.decide(iteration(2)) == [Decided(2, Course.STOP, "the budget of 60 s is spent")]
    assert watcher.notes == ["the run ends here: the budget of 60 s is spent"]


def test_a_budget_of_training_seconds_does_not_count_what_nothing_is_learned_in() -> None:
    spent = Spent()
    one = pilot(replace(CONFIG, budget=BudgetConfig(training_seconds=60)), spent=lambda: spent)

    for measurement in (Measurement(0, EVALUATE, 60.0), Measurement(1, EVALUATE, 60.0), Measurement(1, "lemma", 59.0)):
        spent.add(measurement)
    assert one.decide(iteration(1)) == []
    spent.add(Measurement(2, "lift", 1.0))
    assert one.decide(iteration(2)) == [Decided(2, Course.STOP, "the budget of 60 s of training is spent")]


def test_evaluations_come_after_equal_shares_of_the_budget_and_so_again_when_a_run_goes_on() -> None:
    budget = BudgetConfig(training_tokens=1000)
    config = replace(CONFIG, steps=99, budget=budget, evaluate=replace(CONFIG.evaluate, times=4))
    one, records, evaluated = pilot(config), list[Record](), list[int]()
    for step in range(1, 13):  # 90 tokens each
        assert one.evaluation_due(step) is False
        one.decide(iteration(step, 90))
        records.append(IterationRecord(iteration(step, 90)))
        if one.evaluation_due(step) or one.stopped:
            evaluated.append(step)
            for split in ("validation", "goalposts"):
                records.append(EvaluationRecord(Evaluation(step, split, 1.0, ())))
                one.follow(records[-1])
        again = pilot(config)
        for record in records:
            again.follow(record)
        assert again.evaluation_due(step) is False

    assert evaluated == [3, 6, 9, 12]
    assert one.stopped


def test_a_version_is_saved_when_validation_is_better_than_ever_and_every_so_often() -> None:
    config = replace(CONFIG, checkpoint=CheckpointConfig(every=4, best=(1, 2)))
    one, saved = pilot(config), list[int]()
    for step, passes in enumerate([(1, 0), (1, 0), (1, 1), (0, 2), (1, 1), (2, 1)], start=1):
        scores = tuple(ProblemScore(str(place), 2, n, n) for place, n in enumerate(passes))
        one.follow(EvaluationRecord(Evaluation(step, "validation", 1.0, scores)))
        saved += [step] if one.checkpoint_due(step) else []

    assert saved == [1, 3, 4, 6]
    assert not pilot(replace(config, checkpoint=CheckpointConfig(every=0))).checkpoint_due(4)


def test_how_many_iterations_a_budget_pays_for_is_guessed_from_those_that_are_done() -> None:
    one = pilot(replace(CONFIG, steps=99, budget=BudgetConfig(training_tokens=1000)))

    assert one.steps(0) == 0
    one.decide(iteration(1, 90))
    assert one.steps(1) == 12
    assert pilot(CONFIG).steps(0) == 9


def test_what_ends_at_its_last_iteration_anyway_is_not_stopped() -> None:
    one = pilot(replace(CONFIG, steps=1, budget=BudgetConfig(tokens=1)))

    assert one.decide(iteration(1)) == []


def health(**alarms: Alarm) -> RunConfig:
    return replace(CONFIG, health=HealthConfig(patience=2, **alarms))


def test_an_alarm_warns_stops_or_switches_as_it_is_told() -> None:
    bad = [iteration(1, rejection=Rejection.INVALID), iteration(2, rejection=Rejection.INVALID)]
    reason = "0% of the proposals can be read and run (below 0.5 for 2 iterations)"

    expected: dict[Action, list[Decided]] = {
        "warn": [],
        "stop": [Decided(2, Course.STOP, reason)],
        "switch": [Decided(2, Course.LENIENT, reason)],
    }
    for action, decided in expected.items():
        watcher = Watcher()
        one = pilot(health(valid=Alarm(0.5, action)), watcher)
        assert [*one.decide(bad[0]), *one.decide(bad[1])] == decided
        assert watcher.alarms == [reason]


def test_nothing_is_switched_twice() -> None:
    twice = health(duplicates=Alarm(0.5, "switch"), dissimilarity=Alarm(2.0, "switch"))
    one = pilot(twice)
    some = [iteration(step, rejection=Rejection.DUPLICATE) for step in (1, 2)]
    mixed = [replace(i, phases=(*i.phases, *iteration(1).phases)) for i in some]

    found = [decided for i in mixed for decided in one.decide(i)]

    assert [decided.course for decided in found] == [Course.MAPPING]


def test_a_resumed_run_decides_what_a_straight_one_does() -> None:
    config = replace(
        health(valid=Alarm(0.5, "switch")), steps=9, budget=BudgetConfig(training_tokens=450, tokens=10_000)
    )
    straight = pilot(config)
    records: list[Record] = []
    for step in range(1, 6):
        done = iteration(step, rejection=Rejection.INVALID if step > 1 else None)
        records += [IterationRecord(done), *straight.decide(done)]

    for cut in range(len(records)):
        if not isinstance(records[cut], IterationRecord):
            continue  # a checkpoint is never between an iteration and what was decided after it
        resumed = pilot(config)
        for record in records[:cut]:
            resumed.follow(record)
        again = list(records[:cut])
        for record in records[cut:]:
            if isinstance(record, IterationRecord):
                again += [record, *resumed.decide(record.iteration)]
        assert again == records
        assert resumed.decided == straight.decided
    assert [one.course for one in straight.decided] == [Course.LENIENT, Course.STOP]


def test_lenient_settings_punish_every_miss_alike() -> None:
    lenient = switched(CONFIG, [Decided(1, Course.LENIENT, "")])

    assert lenient.gasp is not None
    rewards = lenient.gasp.rewards
    assert {rewards.malformed, rewards.unsafe, rewards.invalid, rewards.nondeterministic} == {rewards.outside_band}
    unguided = switched(RunConfig("azr", azr=AzrConfig()), [Decided(1, Course.LENIENT, "")])
    assert unguided.azr is not None
    assert unguided.azr.invalid_reward == -0.5


def test_mapping_leaves_one_axis() -> None:
    changed = switched(CONFIG, [Decided(1, Course.STOP, ""), Decided(2, Course.MAPPING, "")])

    assert changed.gasp is not None
    assert changed.gasp.axes == ("f",)
    assert switched(CONFIG, []) == CONFIG


@pytest.mark.parametrize("setting", ["tokens", "training_tokens", "seconds"])
def test_a_budget_below_zero_is_refused(setting: str) -> None:
    with pytest.raises(Exception, match=f"budget.{setting} must be at least 0, got -1"):
        BudgetConfig(**{setting: -1})
