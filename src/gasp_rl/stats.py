"""Honest numbers from counts. Knows nothing of models or problems."""

import math
from collections.abc import Collection, Iterable
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
