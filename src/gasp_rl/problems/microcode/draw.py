"""The random side of MicroCode: compositions from a Zipf prior, inputs, and the easier and harder variants of one."""

import ast
import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeAlias

from gasp_rl.problems.microcode.operations import (
    MAX_NUMBER,
    OPERATIONS,
    REDUCERS,
    Composition,
    Family,
    Operation,
    Step,
    Value,
)

Input: TypeAlias = list[int] | list[list[int]]
Output: TypeAlias = Value | list[Value]


@dataclass(frozen=True, slots=True)
class Prior:
    """Operations by rank: probability proportional to (rank + shift) ** -exponent, the rank counted from 1."""

    exponent: float
    commonest: int = len(OPERATIONS)
    """Only so many operations from the top of the table; reducers are drawn from all."""
    shift: float = 1.0
    reducer: float = 0.2
    """Probability that the last of several steps is a reducer (half of it for a single step)."""
    _operations: list[float] = field(init=False, repr=False, compare=False)
    _reducers: list[float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, count in (("_operations", self.commonest), ("_reducers", len(REDUCERS))):
            weights = ((rank + self.shift) ** -self.exponent for rank in range(1, count + 1))
            object.__setattr__(self, name, list(accumulate(weights)))

    def operation(self, rng: random.Random) -> Operation:
        return _pick(OPERATIONS, self._operations, rng)

    def reducing(self, rng: random.Random) -> Operation:
        return _pick(REDUCERS, self._reducers, rng)


def _pick(table: Sequence[Operation], cumulative: Sequence[float], rng: random.Random) -> Operation:
    return table[bisect(cumulative, rng.random() * cumulative[-1])]


USUAL_WORDING = 0.7
"""Share of phrases in the first wording; the others share the rest."""


def draw_step(operation: Operation, rng: random.Random) -> Step:
    others = len(operation.wordings) - 1
    usual = others == 0 or rng.random() < USUAL_WORDING
    return Step(operation, rng.choice(operation.constants), 0 if usual else rng.randrange(1, others + 1))


def draw_composition(
    prior: Prior, depth: int, rng: random.Random, rows: float = 0.0, last_number: int = 0
) -> Composition:
    """A composition of that depth; over rows with probability `rows`. No operation follows itself.

    Numbered from 1, or from anywhere such that the steps end at `last_number` at most.
    """
    steps: list[Step] = []
    ends = rng.random() < prior.reducer * (1.0 if depth > 1 else 0.5)
    while len(steps) < depth - ends:
        operation = prior.operation(rng)
        if not steps or steps[-1].operation is not operation:
            steps.append(draw_step(operation, rng))
    if ends:
        steps.append(draw_step(prior.reducing(rng), rng))
    return Composition(tuple(steps), rng.random() < rows, rng.randint(1, max(1, last_number - depth + 1)))


@dataclass(frozen=True, slots=True)
class Size:
    """How large inputs are."""

    shortest: int
    longest: int
    far: float
    """Share of numbers beyond one digit."""
    negative: float = 0.2

    def number(self, rng: random.Random) -> int:
        magnitude = rng.randint(10, 20) if rng.random() < self.far else rng.randint(0, 9)
        return -magnitude if rng.random() < self.negative else magnitude

    def numbers(self, rng: random.Random) -> list[int]:
        return [self.number(rng) for _ in range(rng.randint(self.shortest, self.longest))]

    def draw(self, rng: random.Random, *, rows: bool) -> Input:
        if not rows:
            return self.numbers(rng)
        narrow = Size(min(self.shortest, 2), max(self.longest - 1, 2), self.far, self.negative)
        return [narrow.numbers(rng) for _ in range(rng.randint(2, 2 if self.longest < 5 else 3))]


SMALL = Size(2, 3, far=0.0, negative=0.1)
NORMAL = Size(2, 5, far=0.06)
LARGE = Size(4, 6, far=0.3)
TINY = Size(0, 1, far=0.05)

LARGEST = 999
"""No example has a number beyond this, either way."""


def output_of(composition: Composition, value: Input) -> Output:
    if composition.rows:
        return composition.on_rows([row for row in value if isinstance(row, list)])
    return composition.on_list([number for number in value if isinstance(number, int)])


def read_input(text: str) -> Input | None:
    """A list of numbers or a list of rows of numbers; None for anything else."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    if not isinstance(value, list):
        return None
    flat = all(type(item) is int for item in value)
    rows = all(type(item) is list and all(type(number) is int for number in item) for item in value)
    return value if flat or rows else None


def fits(value: Input, composition: Composition) -> bool:
    """Whether the composition is defined on it. An empty list is both a list and a list of no rows."""
    return all(isinstance(item, list) is composition.rows for item in value)


def _within_bounds(value: Output) -> bool:
    if isinstance(value, int):
        return -LARGEST <= value <= LARGEST
    return all(_within_bounds(item) for item in value)


def is_blank(value: Output) -> bool:
    """Nothing but empty lists: an output that shows nothing."""
    return isinstance(value, list) and all(isinstance(item, list) and not item for item in value)


def draw_examples(
    composition: Composition, n: int, size: Size, rng: random.Random, tiny: float = 0.0
) -> list[tuple[Input, Output]] | None:
    """Distinct inputs and their outputs; the first two are not tiny and show something. None if that is too rare."""
    found: list[tuple[Input, Output]] = []
    for _ in range(6 * n):
        early = len(found) < 2
        value = (TINY if not early and rng.random() < tiny else size).draw(rng, rows=composition.rows)
        output = output_of(composition, value)
        if _within_bounds(output) and not (early and is_blank(output)) and all(value != seen for seen, _ in found):
            found.append((value, output))
            if len(found) == n:
                return found
    return None


MAX_WRITTEN = 6
"""Steps of a lemma at most: the depth to which the writing roles are taught."""


def cuts(composition: Composition) -> list[Composition]:
    """Every contiguous sub-sequence that a lemma may keep: MAX_WRITTEN steps at most, and not all."""
    depth = composition.depth
    return [
        Composition(composition.steps[start : start + length], composition.rows, composition.first + start)
        for length in range(1, min(MAX_WRITTEN, depth - 1) + 1)
        for start in range(depth - length + 1)
    ]


def extend(composition: Composition, added: int, prior: Prior, rng: random.Random) -> Composition:
    """The same steps with `added` new ones, each anywhere but after a reducer.

    The old steps keep their numbers as far as they can: a step put before the first takes the number below it.
    """
    steps, first = list(composition.steps), composition.first
    for _ in range(added):
        last = len(steps) - (steps[-1].operation.family is Family.REDUCE)
        place = rng.choice((0, last, rng.randint(0, last)))
        reduces = place == len(steps) and rng.random() < prior.reducer
        steps.insert(place, draw_step(prior.reducing(rng) if reduces else prior.operation(rng), rng))
        if first > 1 and (place == 0 or first + len(steps) - 1 > MAX_NUMBER):
            first -= 1
    return Composition(tuple(steps), composition.rows, first)
