"""What the sampler needs of a model: prompts prefilled once, rows that share them, one token per row and step.

A *group* is a prompt held in the cache; a *row* is one completion of a group. Groups and rows are numbered densely from
0, so every tensor of a step is a plain slice; whoever drops some says which old row each new row was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Room:
    """What a session may hold at a time."""

    groups: int
    prompt: int
    """Tokens of the longest prompt."""
    rows: int
    new: int
    """Tokens of the longest completion."""


class Session(Protocol):
    """The cache of one call to `sample`. Decodes with the weights it was opened with, whatever is published meanwhile."""

    @property
    def continuous(self) -> bool:
        """Whether rows may join while others are half way."""
        ...

    def prefill(self, prompts: Sequence[tuple[int, ...]]) -> Tensor:
        """Add a group per prompt, after those there are; logits_GV of the first token of each."""
        ...

    def join(self, groups: Sequence[int]) -> None:
        """Add a row to each of these groups, after the rows there are."""
        ...

    def step(self, tokens_N: Tensor) -> Tensor:
        """Append one token to every row; logits_NV of the next."""
        ...

    def keep(self, rows: Sequence[int], groups: Sequence[int]) -> None:
        """Row i becomes what row `rows[i]` was, group i what `groups[i]` was; the rest are dropped."""
        ...


class Decoder(Protocol):
    """A published copy of the weights."""

    def open(self, room: Room) -> Session: ...


def survivors(alive: Sequence[bool]) -> list[int]:
    """The old places of those alive, moving as few as possible: the last ones fill the holes.

    >>> survivors([True, False, True, False, True])
    [0, 4, 2]
    """
    count = sum(alive)
    movers = [place for place in range(count, len(alive)) if alive[place]]
    return [place if alive[place] else movers.pop() for place in range(count)]
