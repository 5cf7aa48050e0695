"""Honest numbers from counts. Knows nothing of models or problems."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol


class Counted(Protocol):
    """Draws for one problem."""

    @property
    def samples(self) -> int: ...
    @property
    def passes(self) -> int: ...


def pass_at_k(samples: int, passes: int, k: int) -> float:
    """Probability that k of the samples, drawn without replacement, hold a pass: 1 - C(n-c, k) / C(n, k).

    Unbiased for pass@k (HumanEval, arXiv:2107.03374); needs k <= n.
    """
    if not 0 <= passes <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@k needs 0 <= passes <= samples and 1 <= k <= samples, got {passes=} {samples=} {k=}")
    return 1.0 - math.comb(samples - passes, k) / math.comb(samples, k)


def mean_pass_at_k(scores: Iterable[Counted], k: int) -> float | None:
    """Mean over problems; None where a problem has fewer than k samples, or there is none."""
    counted = list(scores)
    if not counted or any(score.samples < k for score in counted):
        return None
    return fmean(pass_at_k(score.samples, score.passes, k) for score in counted)


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Which of two arms solved what, and how likely a split so uneven is by chance."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float
    """Two-sided exact McNemar test."""


def paired_exact_test(problems: Collection[str], first: Collection[str], second: Collection[str]) -> PairedTest:
    """McNemar's exact test: of the problems that just one arm solved, is each arm's share a fair coin's?"""
    both = sum(p in first and p in second for p in problems)
    only_first = sum(p in first and p not in second for p in problems)
    only_second = sum(p in second and p not in first for p in problems)
    discordant = only_first + only_second
    tail = sum(math.comb(discordant, i) for i in range(min(only_first, only_second) + 1))
    p_value = min(1.0, math.ldexp(tail, 1 - discordant))  # both tails of a fair coin
    return PairedTest(both, only_first, only_second, len(problems) - both - discordant, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for being several, in the order given: those at most .05 may be called so together, with all else left open.

    Of m, the i-th least times m - i + 1, never less than one before it (Holm 1979, Scandinavian Journal of Statistics 6).
    """
    adjusted = [0.0] * len(p_values)
    least = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = least
    return adjusted


def permutation_test(first: Sequence[int], second: Sequence[int]) -> float:
    """Were the same runs split otherwise between the two arms, how often would their means differ at least as much?

    A count per run; two-sided p-value over all splits, ties included. Exact whatever is shared within a run, where
    runs of either arm would be alike (Fisher 1935, The Design of Experiments).
    """
    runs, chosen, total = len(first) + len(second), len(first), sum(first) + sum(second)

    splits = [Counter({0: 1}), *(Counter[int]() for _ in first)]  # by number of runs chosen: how many have which sum
    for value in (*first, *second):
        for size in range(chosen, 0, -1):
            for subtotal, ways in splits[size - 1].items():
                splits[size][subtotal + value] += ways

    def unlike(subtotal: int) -> int:  # difference of means, times len(first) * len(second)
        return abs(subtotal * runs - total * chosen)

    observed = unlike(sum(first))
    return sum(n for subtotal, n in splits[chosen].items() if unlike(subtotal) >= observed) / math.comb(runs, chosen)


def least_p_value(first: int, second: int) -> float:
    """What permutation_test gives at best with so many runs: .1 with 3 against 3, so that nothing can be shown.

    With as many runs in both arms each split has a mirror image that differs as much.
    """
    return (2 if first == second > 0 else 1) / math.comb(first + second, first)
