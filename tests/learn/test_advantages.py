"""Laws of credit assignment."""

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.learn.advantages import Estimator, grpo, reinforce, rloo, trr_sequence, trr_token
from gasp_rl.rollout import Completion, Role, Rollout, RolloutGroup

ROLES = ((Role.TEACHER, "lemma"), (Role.TEACHER, "lift"), (Role.STUDENT, "induction"))


def rollout(reward: float, tokens: int = 3, *, masked: bool = False) -> Rollout:
    return Rollout(Completion((1,) * tokens, (-0.5,) * tokens, "", finished=True, version=0), reward, masked)


def group(who: tuple[Role, str], made: Sequence[Rollout]) -> RolloutGroup:
    return RolloutGroup(who[0], who[1], (1, 2), tuple(made))


rewards = st.floats(-1.0, 1.0).map(lambda r: round(r, 3))
rollouts = st.builds(lambda r, n, m: rollout(r, n, masked=m), rewards, st.integers(1, 9), st.booleans())
groups = st.lists(
    st.builds(group, st.sampled_from(ROLES), st.lists(rollouts, min_size=1, max_size=6)),
    max_size=8,
)


def pools(made: Sequence[RolloutGroup], credit: Sequence[Sequence[float]]) -> dict[object, list[tuple[Rollout, float]]]:
    found: dict[object, list[tuple[Rollout, float]]] = {}
    for one, advantages in zip(made, credit, strict=True):
        pairs = zip(one.rollouts, advantages, strict=True)
        found.setdefault((one.role, one.kind), []).extend((r, a) for r, a in pairs if not r.masked)
    return found


def test_token_whitening_has_the_values_worked_out_by_hand() -> None:
    # Tokens 1 and 3, rewards 1 and -1: mu = (1 - 3)/4 = -0.5, var = (1 * 1.5^2 + 3 * 0.5^2)/3 = 1, so A = 1.5, -0.5.
    one = group(ROLES[0], [rollout(1.0, 1), rollout(-1.0, 3)])

    assert trr_token([one])[0] == pytest.approx([1.5, -0.5], abs=1e-7)


def test_sequence_whitening_ignores_length() -> None:
    one = group(ROLES[0], [rollout(1.0, 1), rollout(-1.0, 30)])

    assert trr_sequence([one])[0] == pytest.approx([1 / math.sqrt(2), -1 / math.sqrt(2)])


@given(groups)
def test_token_whitened_advantages_have_mean_zero_and_unit_variance_over_tokens(made: list[RolloutGroup]) -> None:
    for pool in pools(made, trr_token(made)).values():
        tokens = sum(len(r.completion.tokens) for r, _ in pool)
        total = sum(len(r.completion.tokens) * a for r, a in pool)
        assert total == pytest.approx(0.0, abs=1e-6 * max(1, tokens))
        if any(a != 0 for _, a in pool):
            mean = sum(len(r.completion.tokens) * r.reward for r, _ in pool) / tokens
            variance = sum(len(r.completion.tokens) * (r.reward - mean) ** 2 for r, _ in pool) / (tokens - 1)
            spread = sum(len(r.completion.tokens) * a * a for r, a in pool) / (tokens - 1)
            assert spread == pytest.approx(variance / (variance + 1e-8))  # 1, but where rewards hardly differ


@given(groups)
def test_sequence_whitened_advantages_have_mean_zero_over_rollouts(made: list[RolloutGroup]) -> None:
    for pool in pools(made, trr_sequence(made)).values():
        assert sum(a for _, a in pool) == pytest.approx(0.0, abs=1e-6 * len(pool))


@given(groups, st.randoms(use_true_random=False))
def test_advantages_do_not_depend_on_the_order_of_groups(made: list[RolloutGroup], rng: random.Random) -> None:
    order = list(range(len(made)))
    rng.shuffle(order)
    for estimator in (trr_token, trr_sequence, grpo, rloo):
        straight = estimator(made)
        shuffled = estimator([made[i] for i in order])
        for place, i in enumerate(order):
            assert shuffled[place] == pytest.approx(straight[i])


@given(groups)
def test_one_role_does_not_move_the_baseline_of_another(made: list[RolloutGroup]) -> None:
    lemmas = [one for one in made if one.kind == "lemma"]
    together = [a for one, a in zip(made, trr_token(made), strict=True) if one.kind == "lemma"]

    assert together == trr_token(lemmas)


@given(groups)
def test_masked_rollouts_have_no_advantage_and_change_no_other(made: list[RolloutGroup]) -> None:
    for estimator in (trr_token, trr_sequence, grpo, rloo, reinforce):
        credit = estimator(made)
        without = [
            RolloutGroup(one.role, one.kind, one.prompt, tuple(r for r in one.rollouts if not r.masked)) for one in made
        ]
        kept = [
            [a for r, a in zip(one.rollouts, advantages, strict=True) if not r.masked]
            for one, advantages in zip(made, credit, strict=True)
        ]
        assert kept == estimator(without)
        assert all(
            a == 0.0
            for one, advantages in zip(made, credit, strict=True)
            for r, a in zip(one.rollouts, advantages, strict=True)
            if r.masked
        )


@given(groups)
def test_grpo_and_rloo_credits_of_a_prompt_sum_to_zero(made: list[RolloutGroup]) -> None:
    for estimator in (grpo, rloo):
        for advantages in estimator(made):
            assert sum(advantages) == pytest.approx(0.0, abs=1e-6)


def test_rloo_compares_with_the_others() -> None:
    one = group(ROLES[2], [rollout(1.0), rollout(0.0), rollout(0.0)])

    assert rloo([one])[0] == pytest.approx([1.0, -0.5, -0.5])


@pytest.mark.parametrize("estimator", [trr_token, trr_sequence, grpo, rloo])
def test_nothing_to_compare_gives_no_advantage(estimator: Estimator) -> None:
    alone = group(ROLES[0], [rollout(1.0)])
    equal = group(ROLES[1], [rollout(0.3), rollout(0.3)])

    assert estimator([alone, equal]) == [[0.0], [0.0, 0.0]]
