"""Golden values of Eq. 5 and 6 of arXiv:2603.15957, and laws of the reward family."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.config import LEMMA, LIFT, Band, RunConfig, RungConfig, TeacherRewards
from gasp_rl.errors import ConfigError
from gasp_rl.recipes import one_step_hard, one_step_medium
from gasp_rl.rollout import Rejection
from gasp_rl.selfplay.rewards import free_reward, learnability, rejection_reward, rung_reward

OUT = -0.5


def only_rung(recipe: RunConfig) -> RungConfig:
    assert recipe.gasp
    [rung] = recipe.gasp.ladder
    return rung


GOLDEN = {
    "lemma": (LEMMA, [OUT, OUT, OUT, 0.4182, 0.8154, 1.0, 0.8154, 0.4182, OUT, OUT, OUT]),
    "lift": (LIFT, [OUT, 1.0, 0.6929, 0.3125, 0.1040, 0.0252, OUT, OUT, OUT, OUT, OUT]),
    "one-step medium": (
        only_rung(one_step_medium()),
        [OUT, 0.0772, 0.6253, 1.0, 0.6977, 0.2538, OUT, OUT, OUT, OUT, OUT],
    ),
    "one-step hard": (only_rung(one_step_hard()), [OUT, 1.0, 0.6929, 0.3125, 0.1040, 0.0252, OUT, OUT, OUT, OUT, OUT]),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_rung_rewards_have_the_published_values(name: str) -> None:
    rung, expected = GOLDEN[name]

    rewards = [rung_reward(rung, k, 10, TeacherRewards()) for k in range(11)]

    assert rewards == pytest.approx(expected, abs=5e-5)


@given(st.floats(0.001, 0.999))
def test_lemma_and_lift_rewards_are_members_of_the_family(p: float) -> None:
    assert learnability(p, 0.5, 5.0) == pytest.approx((4 * p * (1 - p)) ** 5, rel=1e-12)
    assert learnability(p, 0.1, 1.0) == pytest.approx(10 * p * ((1 - p) / 0.9) ** 9, rel=1e-12)


@given(st.floats(0.01, 0.99), st.floats(0.1, 10.0), st.floats(0.0, 1.0))
def test_learnability_peaks_at_one_where_it_says(peak: float, sharpness: float, p: float) -> None:
    assert learnability(peak, peak, sharpness) == pytest.approx(1.0)
    assert 0.0 <= learnability(p, peak, sharpness) <= 1.0 + 1e-9


def test_expected_lift_reward_peaks_near_a_true_rate_of_one_fifth() -> None:
    """The effect of a finite N: E over k ~ Binomial(10, p)."""

    def expected(p: float, rung: RungConfig) -> float:
        chances = [math.comb(10, k) * p**k * (1 - p) ** (10 - k) for k in range(11)]
        return sum(c * rung_reward(rung, k, 10, TeacherRewards()) for k, c in enumerate(chances))

    rates = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    lift = [expected(p, LIFT) for p in rates]
    lemma = [expected(p, LEMMA) for p in rates]

    assert lift == pytest.approx([-0.23, 0.07, 0.37, 0.49, 0.35, 0.14, -0.08, -0.28, -0.41], abs=0.006)
    assert lemma == pytest.approx([-0.50, -0.49, -0.43, -0.15, 0.22, 0.51, 0.62, 0.51, 0.22], abs=0.006)


def test_the_band_counts_in_integers_so_three_of_ten_is_inside() -> None:
    assert [k for k in range(11) if LEMMA.band.holds(k, 10)] == [3, 4, 5, 6, 7]
    assert [k for k in range(11) if LIFT.band.holds(k, 10)] == [1, 2, 3, 4, 5]
    assert LEMMA.band.holds(3, 10)
    assert 3 / 10 != 0.1 * 3  # what a float comparison would trip over


@given(st.integers(0, 30), st.integers(1, 30))
def test_every_rate_is_below_inside_or_above_a_band(passes: int, tries: int) -> None:
    passes = min(passes, tries)
    band = LEMMA.band

    assert band.below(passes, tries) + band.holds(passes, tries) + band.above(passes, tries) == 1


@given(st.integers(0, 10), st.integers(1, 7))
def test_a_band_decision_depends_on_the_rate_only(passes: int, times: int) -> None:
    assert LEMMA.band.holds(passes, 10) == LEMMA.band.holds(passes * times, 10 * times)


def test_absolute_zero_rewards_follow_its_code_or_its_paper() -> None:
    code = [free_reward(k, 10, -0.5) for k in range(11)]
    paper = [free_reward(k, 10, 0.0) for k in range(11)]

    assert code == pytest.approx([-0.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, -0.5])
    assert paper == pytest.approx([0.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])


def test_every_rejection_has_its_reward() -> None:
    rewards = {rejection: rejection_reward(rejection, TeacherRewards()) for rejection in Rejection}

    assert rewards == {
        Rejection.MALFORMED: -1.0,
        Rejection.UNSAFE: -1.0,
        Rejection.INVALID: -1.0,
        Rejection.NONDETERMINISTIC: -1.0,
        Rejection.CONTAMINATED: -0.5,
        Rejection.QUARANTINED: 0.0,
        Rejection.DUPLICATE: -0.5,
        Rejection.TOO_HARD: -0.5,
        Rejection.TOO_EASY: -0.5,
        Rejection.SANDBOX_FAULT: 0.0,
    }


def test_a_band_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(ConfigError, match="low <= high"):
        Band(7, 3)
