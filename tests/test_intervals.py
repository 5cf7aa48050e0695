"""Intervals over problems, and over seeds: what they must be, and how often they hold the truth."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta

from gasp_rl.intervals import Over, bootstrap_interval, difference_estimate, mean_estimate
from gasp_rl.stats import pass_at_k

shares = st.lists(st.floats(0, 1).map(lambda x: round(x, 3)), min_size=2, max_size=30)


@given(shares)
def test_the_interval_holds_the_mean_and_lies_among_the_values_possible(values: list[float]) -> None:
    found = bootstrap_interval(values)

    assert 0 <= found.low <= sum(values) / len(values) + 1e-9
    assert sum(values) / len(values) - 1e-9 <= found.high <= 1


@given(shares)
def test_right_and_wrong_are_treated_alike(values: list[float]) -> None:
    found, mirrored = bootstrap_interval(values), bootstrap_interval([1 - value for value in values])

    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-6)


def test_the_same_values_give_the_same_interval() -> None:
    values = [0.1, 0.9, 0.4, 0.0, 1.0]

    assert bootstrap_interval(values) == bootstrap_interval(values)


def test_four_times_the_problems_halve_the_interval() -> None:
    one, four = (bootstrap_interval([0.0, 0.3, 0.5, 1.0] * n) for n in (10, 40))

    assert (one.high - one.low) / (four.high - four.low) == pytest.approx(2, rel=0.06)


@pytest.mark.parametrize("problems", [1, 3, 40])
def test_when_nothing_or_everything_was_solved_the_interval_is_the_binomial_one(problems: int) -> None:
    none, everything = bootstrap_interval([0.0] * problems), bootstrap_interval([1.0] * problems)

    assert none.low == 0
    assert none.high == pytest.approx(beta.ppf(0.975, 1, problems))
    assert (everything.low, everything.high) == pytest.approx((1 - none.high, 1))


def test_one_problem_says_next_to_nothing() -> None:
    found = bootstrap_interval([0.5])

    assert found.high - found.low > 0.95


def test_an_interval_needs_a_value() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_interval([])


SEEDS = [[0.9, 0.5, 0.1, 0.0, 1.0], [1.0, 0.4, 0.2, 0.1, 0.9], [0.8, 0.6, 0.0, 0.0, 1.0]]


def test_an_estimate_is_the_mean_over_all_and_its_interval_lies_around_it() -> None:
    found = mean_estimate(SEEDS)

    assert found.value == pytest.approx(0.5)
    assert (found.interval.low + found.interval.high) / 2 == pytest.approx(0.5)
    assert found.over is Over.PROBLEMS_AND_SEEDS
    assert found.p_value is None


def test_a_difference_is_paired_by_problem() -> None:
    better = [[min(1.0, value + 0.05) for value in row] for row in SEEDS]

    found = difference_estimate(better, SEEDS)

    assert found.value == pytest.approx(0.04)
    assert (
        found.interval.high - found.interval.low
        < mean_estimate(SEEDS).interval.high - mean_estimate(SEEDS).interval.low
    )


matrices = st.tuples(st.integers(3, 5), st.integers(3, 5), st.integers(2, 6), st.integers(0, 999))


def pair(shape: tuple[int, int, int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    seeds, others, problems, seed = shape
    rng = np.random.default_rng(seed)
    return rng.integers(0, 5, (seeds, problems)) / 4, rng.integers(0, 5, (others, problems)) / 4


@given(matrices)
def test_arms_changed_about_change_the_sign(shape: tuple[int, int, int, int]) -> None:
    first, second = pair(shape)

    one, other = difference_estimate(first, second), difference_estimate(second, first)

    assert (one.value, one.interval.low, one.interval.high) == pytest.approx(
        (-other.value, -other.interval.high, -other.interval.low), abs=1e-6
    )
    assert one.over is other.over
    assert one.p_value == pytest.approx(other.p_value)


@given(matrices)
def test_the_order_of_seeds_and_problems_does_not_matter(shape: tuple[int, int, int, int]) -> None:
    first, second = pair(shape)

    one, other = difference_estimate(first, second), difference_estimate(first[::-1, ::-1], second[:, ::-1])

    assert (one.value, one.interval.low, one.p_value) == pytest.approx((other.value, other.interval.low, other.p_value))


@given(matrices)
def test_a_difference_is_significant_exactly_where_its_interval_leaves_out_zero(
    shape: tuple[int, int, int, int],
) -> None:
    found = difference_estimate(*pair(shape))

    assert found.p_value is None or (found.p_value < 0.05) == (not found.interval.low <= 0 <= found.interval.high)


@given(matrices)
def test_each_arm_is_found_to_differ_from_itself_by_nothing(shape: tuple[int, int, int, int]) -> None:
    first, _ = pair(shape)

    found = difference_estimate(first, first)

    assert found.value == 0
    assert found.interval.low <= 0 <= found.interval.high
    assert found.p_value in {None, 1.0}


def test_seeds_that_all_do_the_same_are_no_evidence_against_other_seeds() -> None:
    """With all values at the ceiling nothing varies, and nothing is said about seeds."""
    everything = [[1.0] * 40] * 5

    mean, difference = mean_estimate(everything), difference_estimate(everything, everything[:3])

    assert (mean.over, difference.over) == (Over.PROBLEMS, Over.PROBLEMS)
    assert mean.interval == bootstrap_interval([1.0] * 40)
    assert difference.interval.high == pytest.approx(beta.ppf(0.975, 1, 40))
    assert difference.p_value is None


def test_one_problem_that_is_not_at_the_ceiling_tells_little_more_than_none() -> None:
    nearly = [[1.0] * 39 + [last] for last in (0.95, 1.0, 0.9)]

    mean, difference = mean_estimate(nearly), difference_estimate(nearly, [[1.0] * 40] * 3)

    assert (mean.over, difference.over) == (Over.PROBLEMS, Over.PROBLEMS)
    assert mean.interval.low == pytest.approx(mean_estimate([[1.0] * 40] * 3).interval.low, abs=0.01)
    assert difference.interval.low < -0.08
    assert difference.interval.high > 0.08


@pytest.mark.parametrize(("seeds", "others"), [(1, 1), (2, 8), (8, 2)])
def test_with_one_seed_or_two_the_interval_is_over_problems_and_says_so(seeds: int, others: int) -> None:
    values = [[0.1, 0.5, 0.9, 0.4]] * 8

    found = difference_estimate(values[:seeds], values[:others])

    assert found.over is Over.PROBLEMS
    assert found.p_value is None


def test_one_seed_gives_the_interval_of_an_evaluation() -> None:
    assert mean_estimate([SEEDS[0]]).interval == bootstrap_interval(SEEDS[0])


def test_arms_need_the_same_problems() -> None:
    with pytest.raises(ValueError, match="same problems, got 2 and 3"):
        difference_estimate([[0.5, 0.5]], [[0.5, 0.5, 0.5]])


def test_an_estimate_needs_a_row_per_seed() -> None:
    with pytest.raises(ValueError, match="row per seed"):
        mean_estimate([0.5, 0.5])


@pytest.mark.slow
@pytest.mark.parametrize("problems", [10, 40, 100])
@pytest.mark.parametrize(("samples", "k"), [(1, 1), (20, 1), (20, 10)])
def test_nineteen_of_twenty_intervals_hold_the_truth(problems: int, samples: int, k: int) -> None:
    """Problems as they are: most nearly always or nearly never solved. 400 experiments: 95 % are 380, give or take 9."""
    rng = random.Random(5)
    shape = (0.3, 0.6)
    truth = 1.0
    for i in range(k):  # E[1 - (1-p)^k] of a beta distribution
        truth *= (shape[1] + i) / (sum(shape) + i)
    truth = 1 - truth

    held = 0
    for experiment in range(400):
        chances = [rng.betavariate(*shape) for _ in range(problems)]
        passes = [sum(rng.random() < chance for _ in range(samples)) for chance in chances]
        found = bootstrap_interval(
            [pass_at_k(samples, passed, k) for passed in passes], seed=experiment, resamples=1000
        )
        held += found.low <= truth <= found.high

    assert held / 400 >= 0.92
    assert held / 400 <= 0.98 or problems == 10  # ten yes or no: an interval has to be too wide or too narrow
