"""The shipped problems of MicroCode and what is held out of pretraining for their sake.

Four splits, drawn from one seed: validation and test of depth 1 to 5 with all operations well mixed, train of the same
depths with operations as frequent as in pretraining, and candidates for goalposts of depth 6 to 7 rich in rare
operations. `python -m gasp_rl.problems.microcode.splits` writes them again, byte for byte. (The shipped goalposts are
those candidates that the filters left.)

Held out are the operation sequences, whatever their constants, and the behaviours on the probes, whatever the program,
of every validation, test and candidate problem of depth 2 or more, and of every lemma of three steps or more that can
be cut from a candidate. Shorter cuts necessarily recur: there are only some 1,600 sequences of two operations.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec
import tyro

from gasp_rl.data import MICROCODE
from gasp_rl.problem import Problem, TestCase
from gasp_rl.problems.microcode.draw import (
    LARGE,
    NORMAL,
    Input,
    Output,
    Prior,
    cuts,
    draw_composition,
    draw_examples,
    draw_step,
    is_blank,
    output_of,
)
from gasp_rl.problems.microcode.operations import (
    COMMON,
    OPERATIONS,
    RARE,
    REDUCERS,
    Composition,
    Step,
    behaviour,
    is_composition,
    read_program,
)
from gasp_rl.streams import stream

SEED = 2026
SHALLOW = {1: 0.14, 2: 0.3, 3: 0.3, 4: 0.2, 5: 0.06}
"""Depths of train, validation and test problems."""
DEEP = {6: 0.4, 7: 0.6}
"""Depths of candidates."""
RARE_SHARE = 0.85
"""Of a candidate's operations."""
MIXED = Prior(exponent=0.9)
USUAL = Prior(exponent=1.4, commonest=len(COMMON))
ROWS = 0.25
HELD_CUT = 3
"""Shortest cut of a goalpost that is held out."""


Drawing: TypeAlias = Callable[[int, random.Random], Composition]
"""A composition of the given depth."""


def load(split: str, folder: Path = MICROCODE) -> list[Problem]:
    """The shipped problems of a split: train, validation, test, candidates, or goalposts."""
    decoder = msgspec.json.Decoder(Problem)
    return [decoder.decode(line) for line in (folder / f"{split}.jsonl").read_bytes().splitlines()]


@dataclass(frozen=True, slots=True)
class Holdout:
    """What pretraining must never show."""

    names: frozenset[tuple[str, ...]] = frozenset()
    behaviours: frozenset[tuple[str, ...]] = frozenset()

    def allows(self, composition: Composition) -> bool:
        return composition.names not in self.names and behaviour(composition) not in self.behaviours


def protected(composition: Composition, *, with_cuts: bool) -> list[Composition]:
    """What a problem holds out: itself if it has two steps or more, and its longer cuts if lemmas are made of it."""
    itself = [composition] if composition.depth > 1 else []
    return itself + ([cut for cut in cuts(composition) if cut.depth >= HELD_CUT] if with_cuts else [])


def holdout(folder: Path = MICROCODE) -> Holdout:
    """What the shipped validation, test and candidate problems hold out."""
    held: list[Composition] = []
    for split in SPLITS:
        if split.held:
            for problem in load(split.file, folder):
                composition = read_program(problem.reference)
                assert composition is not None, f"{problem.id} has a reference that is not of the world"
                held += protected(composition, with_cuts=split.with_cuts)
    return Holdout(frozenset(c.names for c in held), frozenset(behaviour(c) for c in held))


def without(composition: Composition, place: int) -> Composition:
    return Composition(composition.steps[:place] + composition.steps[place + 1 :], composition.rows)


def is_irreducible(composition: Composition) -> bool:
    """No step can be left out without changing the behaviour."""
    whole = behaviour(composition)
    return composition.depth == 1 or all(
        behaviour(without(composition, place)) != whole for place in range(composition.depth)
    )


def near_misses(composition: Composition) -> list[Composition]:
    """Programs one slip away: a step left out, two neighbours swapped, a constant off by one."""
    steps = composition.steps
    found = [without(composition, place) for place in range(len(steps)) if len(steps) > 1]
    found += [
        Composition((*steps[:i], steps[i + 1], steps[i], *steps[i + 2 :]), composition.rows)
        for i in range(len(steps) - 1)
        if is_composition((steps[i + 1], steps[i], *steps[i + 2 :]))
    ]
    for place, step in enumerate(steps):
        found += [
            Composition((*steps[:place], Step(step.operation, constant), *steps[place + 1 :]), composition.rows)
            for constant in (step.constant - 1, step.constant + 1)
            if constant in step.operation.constants
        ]
    return found


def draw_goalpost(depth: int, rng: random.Random) -> Composition:
    """A deep composition, most of whose steps are rare operations."""
    steps: list[Step] = []
    while len(steps) < depth:
        rare = rng.random() < RARE_SHARE
        operation = rng.choice(RARE) if rare else MIXED.operation(rng)
        if all(step.operation is not operation for step in steps):
            steps.append(draw_step(operation, rng))
    if rng.random() < 0.25:
        steps[-1] = draw_step(rng.choice(REDUCERS), rng)
    return Composition(tuple(steps), rng.random() < ROWS)


def draw_mixed(depth: int, rng: random.Random) -> Composition:
    return draw_composition(MIXED, depth, rng, ROWS)


def draw_usual(depth: int, rng: random.Random) -> Composition:
    """Without rare operations: RL on this split has nothing that would correct what is mistaken about them."""
    return draw_composition(USUAL, depth, rng, ROWS)


@dataclass(frozen=True, slots=True)
class Split:
    name: str
    """In ids and seeds."""
    file: str
    size: int
    depths: dict[int, float]
    draw: Drawing
    held: bool = True
    """Whether pretraining must not show these problems."""
    with_cuts: bool = False
    """Nor the lemmas that can be cut from them."""


SPLITS = (
    Split("goalposts", "candidates", 240, DEEP, draw_goalpost, with_cuts=True),
    Split("test", "test", 150, SHALLOW, draw_mixed),
    Split("validation", "validation", 150, SHALLOW, draw_mixed),
    Split("train", "train", 300, SHALLOW, draw_usual, held=False),
)
"""In the order in which they are drawn: none repeats a function of those before it."""

EDGES: tuple[list[int], ...] = ([], [7], [-4])


def draw_tests(composition: Composition, rng: random.Random) -> tuple[list[tuple[Input, Output]], int] | None:
    """Examples, the first two public, on which every near miss fails that differs at all; None if none were found."""
    whole = behaviour(composition)
    misses = [miss for miss in near_misses(composition) if behaviour(miss) != whole]
    for _ in range(20):
        usual, large = draw_examples(composition, 6, NORMAL, rng), draw_examples(composition, 2, LARGE, rng)
        if usual is None or large is None:
            continue
        edges: list[Input] = [[], [[], [7]]] if composition.rows else list(EDGES)
        examples = usual + large + [(edge, output_of(composition, edge)) for edge in edges]
        outputs = [repr(output) for _, output in usual + large]
        varied = len(set(outputs)) >= (4 if composition.steps[-1].operation in REDUCERS else 5)
        if (
            varied
            and sum(is_blank(output) for _, output in usual) <= 1
            and all(any(output_of(miss, value) != output for value, output in examples[2:]) for miss in misses)
        ):
            return examples, 2
    return None


def make_problem(split: str, place: int, composition: Composition, rng: random.Random) -> Problem | None:
    drawn = draw_tests(composition, rng)
    if drawn is None:
        return None
    examples, public = drawn
    tests = tuple(TestCase(repr(value), repr(output)) for value, output in examples)
    return Problem(
        id=f"micro/{split}/{place:03d}",
        statement=composition.statement,
        public_tests=tests[:public],
        hidden_tests=tests[public:],
        source="microcode",
        difficulty=f"depth-{composition.depth}",
        reference=composition.program,
    )


def _single_behaviours() -> frozenset[tuple[str, ...]]:
    """Behaviours of all programs of one step, and of doing nothing: no longer problem may be one of them."""
    single = (
        Composition((Step(operation, constant),))
        for operation in OPERATIONS + REDUCERS
        for constant in operation.constants
    )
    return frozenset(map(behaviour, (*single, Composition(()))))


def draw_split(split: Split, seen: set[tuple[str, ...]], seed: int) -> list[Problem]:
    """Distinct problems whose every step matters; `seen` are the behaviours of other splits, and grows."""
    single = _single_behaviours()
    problems: list[Problem] = []
    for place in range(split.size):
        rng = stream(seed, "microcode", split.name, place)
        (depth,) = rng.choices(list(split.depths), list(split.depths.values()))
        problem = None
        while problem is None:
            composition = split.draw(depth, rng)
            held = protected(composition, with_cuts=split.with_cuts)
            if behaviour(composition) not in seen and all(
                is_irreducible(c) and behaviour(c) not in single for c in held
            ):
                problem = make_problem(split.name, place, composition, rng)
                if problem is not None and depth > 1:
                    seen.add(behaviour(composition))
        problems.append(problem)
    return problems


def write_jsonl(problems: Iterable[Problem], path: Path) -> None:
    encoder = msgspec.json.Encoder()
    path.write_bytes(b"".join(encoder.encode(problem) + b"\n" for problem in problems))


def main(folder: Path = MICROCODE, seed: int = SEED) -> None:
    """Write the splits of MicroCode as JSONL."""
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[tuple[str, ...]] = set()
    for split in SPLITS:
        problems = draw_split(split, seen, seed)
        write_jsonl(problems, folder / f"{split.file}.jsonl")
        print(f"{split.file}: {len(problems)} problems")


if __name__ == "__main__":
    tyro.cli(main)
