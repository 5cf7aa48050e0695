"""pass@k and exact tests against independent ways to compute them."""

from collections.abc import Collection
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.rollout import ProblemScore
from gasp_rl.stats import holm, least_p_value, mean_pass_at_k, paired_exact_test, pass_at_k, permutation_test


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


def test_each_of_several_p_values_pays_for_those_that_are_not_yet_shown() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


p_values = st.lists(st.floats(0, 1), max_size=8)


@given(p_values)
def test_adjusting_for_several_lies_between_nothing_and_bonferroni_and_keeps_the_order(values: list[float]) -> None:
    adjusted = holm(values)

    assert all(p <= q <= min(1.0, p * len(values)) for p, q in zip(values, adjusted, strict=True))
    pairs = sorted(zip(values, adjusted, strict=True))
    assert [q for _, q in pairs] == sorted(adjusted)


counts = st.lists(st.integers(0, 6), min_size=1, max_size=4)


@given(counts, counts)
def test_the_permutation_test_counts_the_splits_that_differ_as_much(first: list[int], second: list[int]) -> None:
    def difference(chosen: Collection[int]) -> Fraction:
        rest = [value for i, value in enumerate(runs) if i not in chosen]
        return abs(Fraction(sum(runs[i] for i in chosen), len(first)) - Fraction(sum(rest), len(second)))

    runs = first + second
    splits = list(combinations(range(len(runs)), len(first)))

    unlike = [split for split in splits if difference(split) >= difference(range(len(first)))]

    assert permutation_test(first, second) == len(unlike) / len(splits)


@given(counts, counts)
def test_two_arms_are_treated_alike(first: list[int], second: list[int]) -> None:
    assert permutation_test(first, second) == permutation_test(second, first)


@given(counts, counts, st.sampled_from([0.01, 0.05, 0.1, 0.3]))
def test_of_all_splits_of_the_same_runs_at_most_a_share_of_alpha_gives_a_p_value_of_alpha(
    first: list[int], second: list[int], alpha: float
) -> None:
    runs = first + second
    splits = list(combinations(range(len(runs)), len(first)))

    rejected = sum(
        permutation_test([runs[i] for i in split], [runs[i] for i in range(len(runs)) if i not in split]) <= alpha
        for split in splits
    )

    assert rejected <= alpha * len(splits)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (3, 3), (8, 3), (3, 8), (8, 8), (12, 12)])
def test_no_counts_give_a_lower_p_value_than_the_least(first: int, second: int) -> None:
    assert permutation_test([9] * first, [0] * second) == least_p_value(first, second)


def test_three_runs_against_three_can_show_nothing() -> None:
    assert least_p_value(3, 3) == 0.1
    assert least_p_value(8, 8) < 0.001


def test_arms_that_count_the_same_are_not_told_apart() -> None:
    assert permutation_test([4, 4, 4], [4, 4]) == 1.0
