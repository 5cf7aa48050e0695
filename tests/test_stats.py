"""pass@k and the paired test against independent ways to compute them."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.rollout import ProblemScore
from gasp_rl.stats import mean_pass_at_k, paired_exact_test, pass_at_k


@given(st.integers(1, 8), st.integers(0, 8), st.integers(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_pass(samples: int, passes: int, k: int) -> None:
    passes, k = min(passes, samples), min(k, samples)
    outcomes = [True] * passes + [False] * (samples - passes)

    subsets = list(combinations(outcomes, k))

    assert pass_at_k(samples, passes, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_needs_as_many_samples_as_k() -> None:
    with pytest.raises(ValueError, match="k <= samples"):
        pass_at_k(5, 1, 10)


def test_a_mean_over_too_few_samples_is_not_given() -> None:
    scores = [ProblemScore("a", 20, 10, 0), ProblemScore("b", 4, 4, 0)]

    assert mean_pass_at_k(scores, 1) == pytest.approx(0.75)
    assert mean_pass_at_k(scores, 5) is None
    assert mean_pass_at_k([], 1) is None


def test_the_paired_test_counts_discordant_problems_only() -> None:
    problems = [f"p{i}" for i in range(10)]

    test = paired_exact_test(problems, first=problems[:7], second=problems[:1])

    assert (test.both, test.only_first, test.only_second, test.neither) == (1, 6, 0, 3)
    assert test.p_value == pytest.approx(2 * 0.5**6)


def test_arms_that_solve_the_same_are_not_different() -> None:
    assert paired_exact_test(["a", "b"], ["a"], ["a"]).p_value == 1.0
