"""What reaches the engine: one update per phase, normalised in one place."""

import math
from concurrent.futures import Future
from dataclasses import replace
from typing import Literal, TypeVar

import pytest

from gasp_rl.config import LearnConfig
from gasp_rl.learn.advantages import grpo
from gasp_rl.learn.learner import Learner, denominator
from gasp_rl.policy.engine import Later, OptimParams, OptimStats
from gasp_rl.policy.scripted import ScriptedEngine
from gasp_rl.rollout import Completion, Iteration, Phase, Role, Rollout, RolloutGroup, UpdateStats

T = TypeVar("T")


def rollout(reward: float, tokens: int, *, masked: bool = False) -> Rollout:
    return Rollout(Completion((5,) * tokens, (-1.0,) * tokens, "", finished=True, version=0), reward, masked)


LEMMAS = RolloutGroup(Role.TEACHER, "lemma", (1, 2), (rollout(1.0, 2), rollout(-1.0, 6), rollout(0.5, 9, masked=True)))
ANSWERS = RolloutGroup(Role.STUDENT, "induction", (3,), (rollout(1.0, 4), rollout(-0.5, 4)))


def learner(cfg: LearnConfig) -> tuple[Learner, ScriptedEngine]:
    engine = ScriptedEngine(lambda *_: "")
    return Learner(engine, cfg, temperature=0.8), engine


def test_an_update_is_one_optimizer_step_that_reaches_the_sampler() -> None:
    teacher, engine = learner(LearnConfig(lr=0.5, truncate=2.0))

    stats = teacher.update("lemma", [LEMMAS, ANSWERS])

    assert (len(engine.learned), engine.version) == (1, 1)
    assert engine.steps[0].lr == 0.5
    assert (engine.losses[0].temperature, engine.losses[0].truncate) == (0.8, 2.0)
    assert (stats.rollouts, stats.tokens) == (4, 2 + 6 + 4 + 4)
    assert stats.mean_reward == pytest.approx((1.0 - 1.0 + 1.0 - 0.5) / 4)


def made(step: int, *updates: UpdateStats) -> Iteration:
    return Iteration(step, tuple(Phase(update.phase, update=update) for update in updates))


def sampled_at(version: int) -> RolloutGroup:
    rollouts = tuple(replace(one, completion=replace(one.completion, version=version)) for one in LEMMAS.rollouts)
    return replace(LEMMAS, rollouts=rollouts)


def test_what_the_engine_says_of_an_update_is_known_once_it_is_settled() -> None:
    teacher, _ = learner(LearnConfig(lr=0.5))

    update = teacher.update("lemma", [LEMMAS])
    (phase,) = teacher.settled(made(1, update)).phases

    assert math.isnan(update.loss)
    assert phase.update
    assert (phase.update.grad_norm, phase.update.entropy, phase.update.ratio_max) == (1.0, 1.0, 0.0)
    assert math.isfinite(phase.update.loss)


def test_with_overlap_an_update_is_published_when_the_next_begins() -> None:
    teacher, engine = learner(LearnConfig(truncate=2.0, overlap=True))
    lags, versions, nothing = [], [], replace(LEMMAS, rollouts=LEMMAS.rollouts[:1])

    for _ in range(4):
        versions.append(engine.version)  # what is sampled now is of this one
        lags.append(teacher.update("lemma", [sampled_at(engine.version)]).lag)
    assert versions == [0, 0, 1, 2]
    assert lags == [0, 1, 1, 1]

    teacher.update("lift", [replace(nothing, rollouts=nothing.rollouts * 2)])
    assert engine.version == 4
    assert teacher.update("lemma", [sampled_at(engine.version)]).lag == 0
    teacher.catch_up()
    teacher.catch_up()
    assert engine.version == 5


def test_with_overlap_nobody_waits_for_an_update_before_the_next_begins() -> None:
    done: list[str] = []

    def told(name: str, answer: T) -> T:
        done.append(name)
        return answer

    class Slow(ScriptedEngine):
        """Says what is waited for."""

        def optim_step(self, params: OptimParams) -> Future[OptimStats]:
            answer = super().optim_step(params).result()
            return Later(lambda: told("step", answer))

        def publish(self) -> Future[int]:
            answer = super().publish().result()
            return Later(lambda: told(f"publish {answer}", answer))

    teacher = Learner(Slow(lambda *_: ""), LearnConfig(truncate=2.0, overlap=True), temperature=1.0)
    first = teacher.update("lemma", [LEMMAS])
    assert done == []
    teacher.update("lemma", [LEMMAS])
    assert done == ["publish 1"]

    assert teacher.settled(made(1, first)).phases[0].update
    assert done == ["publish 1", "step"]


def test_masked_rollouts_never_reach_the_engine() -> None:
    teacher, engine = learner(LearnConfig())

    teacher.update("lemma", [LEMMAS])

    assert sorted(len(item.completion) for item in engine.learned[0]) == [2, 6]


def test_where_nothing_can_be_learned_no_step_is_made() -> None:
    teacher, engine = learner(LearnConfig())
    alike = RolloutGroup(Role.TEACHER, "lift", (1,), (rollout(-1.0, 3), rollout(-1.0, 3)))

    stats = teacher.update("lift", [alike])

    assert stats.skipped
    assert stats.mean_reward == -1.0
    assert (engine.learned, engine.version) == ([], 0)


@pytest.mark.parametrize(
    ("normalise", "expected"), [("token", 16.0), ("sequence", 4.0), ("group", 2.0), ("constant", 7.0)]
)
def test_the_denominator_counts_what_its_name_says(
    normalise: Literal["token", "sequence", "group", "constant"], expected: float
) -> None:
    assert denominator([LEMMAS, ANSWERS], LearnConfig(normalise=normalise, constant=7.0)) == expected


def test_normalised_by_group_each_role_and_kind_weighs_the_same() -> None:
    teacher, engine = learner(LearnConfig(normalise="group", advantages="reinforce"))

    teacher.update("joint", [LEMMAS, ANSWERS])

    weight = {"lemma": 0.0, "induction": 0.0}
    for item in engine.learned[0]:
        kind = "lemma" if item.prompt == LEMMAS.prompt else "induction"
        weight[kind] += item.weight * len(item.completion)
    assert weight == pytest.approx({"lemma": 1.0, "induction": 1.0})


def test_normalised_by_sequence_a_rollout_weighs_the_same_however_long() -> None:
    teacher, engine = learner(LearnConfig(normalise="sequence", advantages="reinforce"))

    teacher.update("lemma", [LEMMAS])

    assert [item.weight * len(item.completion) for item in engine.learned[0]] == pytest.approx([1.0, 1.0])


def test_rollouts_without_advantage_count_in_the_denominator_and_are_not_run() -> None:
    flat = RolloutGroup(Role.STUDENT, "problem", (1,), (rollout(1.0, 5), rollout(1.0, 5)))
    mixed = replace(flat, rollouts=(rollout(1.0, 5), rollout(0.0, 5)))
    teacher, engine = learner(LearnConfig())

    teacher.update("real problems", [flat, mixed], credit=grpo)

    assert len(engine.learned[0]) == 2
    assert engine.losses[0].denominator == 20.0
