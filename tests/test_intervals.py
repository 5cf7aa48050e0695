"""Intervals over problems: what they must be, and how often they hold the truth."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from gasp_rl.intervals import bootstrap_interval
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
