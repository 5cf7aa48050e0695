"""Accepted proposals kept for practice: first in, first out, capped."""

import random
from collections import deque
from collections.abc import Iterable

from gasp_rl.rollout import Proposal


class PracticeBuffer:
    """Holds the newest `capacity` accepted proposals. (AZR's code keeps the oldest and drops what is new: a bug.)"""

    def __init__(self, capacity: int) -> None:
        self._items: deque[Proposal] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, accepted: Iterable[Proposal]) -> None:
        self._items.extend(accepted)

    def draw(self, n: int, rng: random.Random, exclude: Iterable[Proposal] = ()) -> list[Proposal]:
        """Up to `n` different items, uniformly, none of them in `exclude`."""
        excluded = {p.id for p in exclude}
        pool = [p for p in self._items if p.id not in excluded]
        return rng.sample(pool, min(n, len(pool)))
