"""What reaches the engine: one update per phase, normalised in one place."""

from dataclasses import replace
from typing import Literal

import pytest

from gasp_rl.config import LearnConfig
from gasp_rl.learn.advantages import grpo
from gasp_rl.learn.learner import Learner, denominator
from gasp_rl.policy.scripted import ScriptedEngine
from gasp_rl.rollout import Completion, Role, Rollout, RolloutGroup


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
