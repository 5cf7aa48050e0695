"""What the embedded model is pretrained on: examples of every role, drawn so that ability is graded.

The role that solves is taught to fail in two ways, so that it is right with a known probability and pass rates spread.
It is *careless* with every operation: constants are misread, and the later a step the likelier it is left out. And it
*mistakes* rare operations: each has one other operation that it is mostly taken for. Practice on common operations cures
carelessness but holds nothing about the mistakes. The role that proposes freely thinks of common operations alone. The
roles that write lemmas and lifts see all operations nearly evenly and no errors, so that references are right and
messages honest. Nothing that `Holdout` protects occurs in any prompt or target.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from gasp_rl.config import LEMMA, LIFT
from gasp_rl.problem import Problem
from gasp_rl.problems.microcode.draw import (
    LARGE,
    MAX_WRITTEN,
    NORMAL,
    SMALL,
    Prior,
    Size,
    cuts,
    draw_composition,
    draw_examples,
    extend,
)
from gasp_rl.problems.microcode.operations import (
    COMMON,
    MAX_NUMBER,
    RARE,
    Composition,
    Operation,
    Step,
)
from gasp_rl.problems.microcode.splits import Holdout
from gasp_rl.rollout import Axis, Kind, Pair, Prompt, Proposal, Task
from gasp_rl.selfplay.prompts.base import Draft
from gasp_rl.selfplay.prompts.micro import MICRO, free_reply, reply
from gasp_rl.streams import stream


class Lesson(StrEnum):
    """What an example teaches; every lesson gets the same number of tokens."""

    SOLVE = "solve"
    RUN = "run"
    INVERT = "invert"
    LEMMA = "lemma"
    LIFT = "lift"
    PROPOSE = "propose"


@dataclass(frozen=True, slots=True)
class CorpusConfig:
    solving_exponent: float = 1.1
    """Zipf exponent of operations in the roles that solve and, common ones only, propose freely."""
    writing_exponent: float = 0.2
    """The same in the roles that write lemmas and lifts."""
    solving_depths: tuple[float, ...] = (0.25, 0.3, 0.25, 0.15, 0.05)
    """Relative frequency of depth 1, 2, ... in the roles that solve and propose."""
    goalpost_depths: tuple[float, ...] = (0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 1.0)
    """Of the statements that lemmas are written for."""
    lemma_depths: tuple[float, ...] = (5.0, 2.0, 1.5, 1.0, 1.0, 1.0)
    """Of the lemmas, as far as the statement has more steps."""
    lifted_depths: tuple[float, ...] = (1.0, 2.0, 2.0, 1.5, 1.0)
    """Of the lemmas that lifts are written for."""
    running_depths: tuple[float, ...] = (0.7, 0.3)
    """The same in the roles that run and invert programs."""
    running_exponent: float = 1.4
    mistaken: tuple[float, float] = (0.6, 0.85)
    """Probability that the solving role is taught the first, and the last, of the rare operations as another one."""
    misread: float = 0.03
    """Probability that it is taught another constant than the one asked for."""
    forgotten: float = 0.05
    """Probability that it is taught to leave a step out: 1 - (1 - forgotten) ** (number - 1)."""
    rows: float = 0.25
    """Share of programs over lists of lists."""
    pairs: int = 5
    public_pairs: int = 2
    references: int = 2
    """Programs shown to free proposals at most."""
    tiny: float = 0.12
    """Share of empty and one-element lists among later inputs."""


@dataclass(frozen=True, slots=True)
class Example:
    lesson: Lesson
    prompt: str
    completion: str
    sources: tuple[Composition, ...]
    """The compositions that the prompt and the completion hold or were made from, for the holdout test."""


def mistaken_for(operation: Operation) -> Operation:
    """What a rare operation is taken for: always the same common one of its family, or the next rare one if none is."""
    relatives = [other for other in COMMON if other.family is operation.family]
    rare = [other for other in RARE if other.family is operation.family]
    place = rare.index(operation)
    return relatives[place % len(relatives)] if relatives else rare[(place + 1) % len(rare)]


def mistake_rate(cfg: CorpusConfig, operation: Operation) -> float:
    """Probability of taking it for another: 0 for common operations, growing with the rank of the rare ones."""
    if operation not in RARE:
        return 0.0
    first, last = cfg.mistaken
    return first + (last - first) * RARE.index(operation) / (len(RARE) - 1)


def faulty(composition: Composition, cfg: CorpusConfig, rng: random.Random) -> tuple[Step | None, ...]:
    """The steps as the student writes them: some taken for others, misread, or (None) forgotten."""
    return tuple(
        None if rng.random() > (1.0 - cfg.forgotten) ** (number - 1) else _attempt(step, cfg, rng)
        for number, step in enumerate(composition.steps, start=composition.first)
    )


def _attempt(step: Step, cfg: CorpusConfig, rng: random.Random) -> Step:
    mistaken = rng.random() < mistake_rate(cfg, step.operation)
    operation = mistaken_for(step.operation) if mistaken else step.operation
    misread = rng.random() < cfg.misread or step.constant not in operation.constants
    return Step(operation, rng.choice(operation.constants) if misread else step.constant)


class Teacher:
    """Draws examples of every lesson; a composition that is held out is drawn again."""

    def __init__(self, cfg: CorpusConfig, held: Holdout) -> None:
        self._cfg = cfg
        self._held = held
        self._solving = Prior(cfg.solving_exponent)
        self._writing = Prior(cfg.writing_exponent)
        self._running = Prior(cfg.running_exponent)
        self._proposing = Prior(cfg.solving_exponent, commonest=len(COMMON))

    def examples(self, lesson: Lesson, seed: int) -> Iterator[Example]:
        """Without end; the same for the same seed."""
        rng = stream(seed, "corpus", lesson.value)
        draw = {
            Lesson.SOLVE: self._solve,
            Lesson.RUN: self._run,
            Lesson.INVERT: self._invert,
            Lesson.LEMMA: self._lemma,
            Lesson.LIFT: self._lift,
            Lesson.PROPOSE: self._propose,
        }[lesson]
        while True:
            example = draw(rng)
            if example is not None:
                yield example

    def _composition(
        self, prior: Prior, depths: tuple[float, ...], rng: random.Random, last_number: int = MAX_NUMBER
    ) -> Composition:
        while True:
            (depth,) = rng.choices(range(1, len(depths) + 1), depths)
            composition = draw_composition(prior, depth, rng, self._cfg.rows, last_number)
            if self._held.allows(composition):
                return composition

    def _pairs(
        self, composition: Composition, n: int, size: Size, rng: random.Random, tiny: float = 0.0
    ) -> tuple[Pair, ...] | None:
        examples = draw_examples(composition, n, size, rng, tiny)
        return None if examples is None else tuple(Pair(repr(value), repr(output)) for value, output in examples)

    def _size(self, rng: random.Random) -> Size:
        (size,) = rng.choices((SMALL, NORMAL, LARGE), (2, 6, 1))
        return size

    def _solve(self, rng: random.Random) -> Example | None:
        asked = self._composition(self._solving, self._cfg.solving_depths, rng)
        shown = self._pairs(asked, self._cfg.public_pairs, self._size(rng), rng)
        done = faulty(asked, self._cfg, rng)
        taught = Composition(tuple(step for step in done if step is not None), asked.rows)
        if shown is None or not self._held.allows(taught):
            return None
        prompt = MICRO.ask(Task(Kind.INDUCTION, "", message=asked.statement, shown=shown))
        return _example(Lesson.SOLVE, prompt, asked.program_with(done), asked, taught)

    def _run(self, rng: random.Random) -> Example | None:
        composition = self._composition(self._running, self._cfg.running_depths, rng)
        shown = self._pairs(composition, 1, rng.choice((SMALL, NORMAL)), rng)
        if shown is None:
            return None
        prompt = MICRO.ask(Task(Kind.DEDUCTION, "", program=composition.program, shown=shown))
        return _example(Lesson.RUN, prompt, shown[0].output, composition)

    def _invert(self, rng: random.Random) -> Example | None:
        composition = self._composition(self._running, self._cfg.running_depths, rng)
        shown = self._pairs(composition, 1, rng.choice((SMALL, NORMAL)), rng)
        if shown is None:
            return None
        prompt = MICRO.ask(Task(Kind.ABDUCTION, "", program=composition.program, shown=shown))
        return _example(Lesson.INVERT, prompt, shown[0].input, composition)

    def _draft(self, composition: Composition, size: Size, rng: random.Random) -> Draft | None:
        pairs = self._pairs(composition, self._cfg.pairs, size, rng, self._cfg.tiny)
        return (
            None
            if pairs is None
            else Draft(composition.statement, composition.program, tuple(pair.input for pair in pairs))
        )

    def _lemma(self, rng: random.Random) -> Example | None:
        """f: fewer steps. io: fewer steps on simpler data, flat where the goalpost has rows, else smaller inputs."""
        goalpost = self._composition(self._writing, self._cfg.goalpost_depths, rng, last_number=0)
        axis = rng.choice(list(Axis))
        (depth,) = rng.choices(range(1, goalpost.depth), self._cfg.lemma_depths[: goalpost.depth - 1])
        lemma = rng.choice([cut for cut in cuts(goalpost) if cut.depth == depth])
        flattened = axis is Axis.IO and goalpost.rows
        lemma = replace(lemma, rows=goalpost.rows and not flattened)
        draft = self._draft(lemma, SMALL if axis is Axis.IO and not flattened else NORMAL, rng)
        if draft is None or not self._held.allows(lemma):
            return None
        prompt = MICRO.teach(LEMMA, axis, Problem("", goalpost.statement, (), ()), None, self._cfg.pairs)
        return _example(Lesson.LEMMA, prompt, reply(draft), goalpost, lemma)

    def _lift(self, rng: random.Random) -> Example | None:
        """f: one or two steps more. io: the same steps on harder data, rows where there was a list, else larger."""
        lemma = self._composition(self._writing, self._cfg.lifted_depths, rng)
        axis = rng.choice(list(Axis))
        if axis is Axis.F:
            added = rng.choice((1, 1, 2))
            lift = extend(lemma, min(added, MAX_WRITTEN - lemma.depth) or 1, self._writing, rng)
            size = NORMAL
        else:
            lift = replace(lemma, rows=lemma.rows or rng.random() < 0.7)
            size = LARGE if lift.rows == lemma.rows else NORMAL
        draft = self._draft(lift, size, rng)
        if draft is None or not self._held.allows(lift):
            return None
        previous = Proposal("", "lemma", "", message=lemma.statement, program=lemma.program)
        prompt = MICRO.teach(LIFT, axis, None, previous, self._cfg.pairs)
        return _example(Lesson.LIFT, prompt, reply(draft), lemma, lift)

    def _common(self, rng: random.Random) -> Composition:
        return self._composition(self._proposing, self._cfg.solving_depths, rng)

    def _propose(self, rng: random.Random) -> Example | None:
        kind = rng.choice(list(MICRO_KINDS))
        written = self._common(rng)
        references = 0 if kind is Kind.INDUCTION else rng.randint(0, self._cfg.references)
        shown = [written] if kind is Kind.INDUCTION else [self._common(rng) for _ in range(references)]
        draft = self._draft(written, NORMAL, rng)
        if draft is None:
            return None
        proposals = [Proposal("", kind.value, "", program=composition.program) for composition in shown]
        prompt = MICRO.propose_freely(kind, proposals, self._cfg.pairs)
        return _example(Lesson.PROPOSE, prompt, free_reply(kind, draft), *shown, written)


MICRO_KINDS = (Kind.INDUCTION, Kind.DEDUCTION, Kind.ABDUCTION)


def _example(lesson: Lesson, prompt: Prompt, completion: str, *sources: Composition) -> Example:
    assert isinstance(prompt, str), "the prompt set of this world asks in plain text"
    return Example(lesson, prompt, completion, sources)
