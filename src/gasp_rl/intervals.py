"""Intervals for means over problems. (Apart from `stats`, which is read without waiting for numpy.)"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
LEVEL = 0.95
AT_ONCE = 4_000_000
"""Numbers drawn at a time: bounds memory."""


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float], seed: int = 0, level: float = LEVEL, resamples: int = RESAMPLES
) -> Interval:
    """For values in [0, 1], one per problem: where the mean over all problems like these may lie.

    Expanded percentile bootstrap (Hesterberg 2015, arXiv:1411.5279): the percentile interval is too narrow, by
    sqrt((n - 1) / n) and by the normal's quantile in place of Student's, so wider percentiles are taken. Problems are what
    varies; that few samples were drawn of each shows in their values.

    Where all values are equal nothing can be resampled: with probability `level`, less than q = 1 - ((1 - level) / 2)^(1/n)
    of all problems are unlike those seen, and the interval is what these could be at worst (for values 0 or 1,
    Clopper and Pearson's).
    """
    values_P = np.asarray(values, dtype=np.float64)
    count = len(values_P)
    if count == 0:
        raise ValueError("an interval needs at least one value")
    if np.ptp(values_P) == 0:
        mean = float(values_P[0])
        unseen = 1 - ((1 - level) / 2) ** (1 / count)
        return Interval(mean * (1 - unseen), mean + (1 - mean) * unseen)
    from scipy.special import stdtrit

    tail = NormalDist().cdf(-math.sqrt(count / (count - 1)) * float(stdtrit(count - 1, (1 + level) / 2)))
    low, high = np.quantile(_resampled_means(values_P, seed, resamples), [tail, 1 - tail])
    return Interval(float(low), float(high))


def _resampled_means(values_P: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    rng = np.random.Generator(np.random.PCG64(seed))
    count = len(values_P)
    rows = max(1, AT_ONCE // count)
    return np.concatenate([
        values_P[rng.integers(count, size=(min(rows, resamples - done), count))].mean(axis=1)
        for done in range(0, resamples, rows)
    ])  # fmt: skip
