"""What the embedded model is taught: in the forms that it is asked in, and nothing of what it is tested on."""

import functools
import itertools
from collections import Counter

import pytest

from gasp_rl.problems.microcode.operations import (
    COMMON,
    OPERATIONS,
    RARE,
    Composition,
    Step,
    behaviour,
    honest,
    read_program,
    read_statement,
)
from gasp_rl.problems.microcode.splits import Holdout, holdout
from gasp_rl.rollout import Kind
from gasp_rl.selfplay.prompts.base import Unreadable
from gasp_rl.selfplay.prompts.micro import MICRO
from gasp_rl.world import vocabulary
from gasp_rl.world.corpus import CorpusConfig, Example, Lesson, Teacher, mistake_rate, mistaken_for
from gasp_rl.world.pretrain import PretrainConfig, encode_lesson

CONFIG = CorpusConfig()


@pytest.fixture(scope="module")
def held() -> Holdout:
    return holdout()


def lesson(kind: Lesson, count: int, held: Holdout, seed: int = 1) -> list[Example]:
    return list(itertools.islice(Teacher(CONFIG, held).examples(kind, seed), count))


def texts_of(example: Example) -> list[Composition]:
    """Every program and statement that can be read out of the prompt and the completion."""
    whole = (example.prompt + example.completion).split("\n")
    found = [composition for line in whole if (composition := read_statement(line)) is not None]
    for start, line in enumerate(whole):
        if line in {"def f(x):", "def g(x):"}:
            ends = [i for i in range(start, len(whole)) if whole[i].startswith("    return")]
            composition = next(
                (c for end in ends[:2] if (c := read_program("\n".join(whole[start : end + 1]))) is not None), None
            )
            if composition is not None:
                found.append(composition)
    return found


def offences(held: Holdout, kind: Lesson, count: int, seed: int) -> list[str]:
    allows = functools.cache(held.allows)  # short compositions recur
    return [
        f"{c.names} in {example.prompt}{example.completion}"
        for example in lesson(kind, count, held, seed)
        for c in texts_of(example)
        if not allows(Composition(c.steps))
    ]


@pytest.mark.parametrize("kind", list(Lesson))
def test_nothing_held_out_occurs_in_a_prompt_or_a_target(kind: Lesson, held: Holdout) -> None:
    assert offences(held, kind, 300, seed=PretrainConfig().seed) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(Lesson))
def test_nothing_held_out_occurs_in_all_that_the_shipped_model_was_taught(kind: Lesson, held: Holdout) -> None:
    made = PretrainConfig()
    share = made.tokens // len(Lesson)
    examples = len(encode_lesson(Teacher(made.corpus, held), kind, vocabulary.build(), share, made.seed))

    assert examples > 10_000
    assert offences(held, kind, examples, made.seed) == []


def test_the_holdout_refuses_a_sequence_whatever_its_constants_and_a_behaviour_whatever_its_program() -> None:
    add, reverse, sort, down = (
        next(o for o in OPERATIONS if o.name == name) for name in ("add", "reverse", "sort", "sort-down")
    )
    protected = Composition((Step(sort), Step(add, 3)))
    held = Holdout(frozenset({protected.names}), frozenset({behaviour(Composition((Step(down),)))}))

    assert not held.allows(Composition((Step(sort), Step(add, 7))))
    assert not held.allows(Composition((Step(sort), Step(reverse))))
    assert held.allows(Composition((Step(add, 3), Step(sort))))


def test_every_example_reads_back_in_its_role(held: Holdout) -> None:
    for kind in (Lesson.LEMMA, Lesson.LIFT):
        for example in lesson(kind, 100, held):
            draft = MICRO.read_proposal(example.completion, CONFIG.pairs)
            assert not isinstance(draft, Unreadable)
            assert honest(draft.message, draft.program)
    for kind in (Lesson.RUN, Lesson.INVERT):
        assert all(isinstance(MICRO.read_literal(example.completion), str) for example in lesson(kind, 50, held))
    for example in lesson(Lesson.SOLVE, 50, held):
        assert isinstance(MICRO.read_program(example.completion), str)
    kinds = Counter(
        kind
        for example in lesson(Lesson.PROPOSE, 90, held)
        for kind in (Kind.DEDUCTION, Kind.ABDUCTION)
        if not isinstance(MICRO.read_free_proposal(kind, [], example.completion, CONFIG.pairs), Unreadable)
    )
    assert kinds[Kind.DEDUCTION] > 30


def share(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def test_the_solver_is_taught_common_operations_truly_and_rare_ones_mostly_as_one_other(held: Holdout) -> None:
    written: dict[str, list[str]] = {operation.name: [] for operation in OPERATIONS}
    for example in lesson(Lesson.SOLVE, 3000, held):
        asked, taught = example.sources
        if asked.depth == taught.depth:  # nothing was forgotten
            for said, done in zip(asked.names, taught.names, strict=True):
                written.setdefault(said, []).append(done)

    for operation in COMMON:
        assert set(written[operation.name]) <= {operation.name}
    for operation in RARE:
        assert set(written[operation.name]) <= {operation.name, mistaken_for(operation).name}
    assert 0.6 < share([done != o.name for o in RARE for done in written[o.name]]) < 0.85
    rates = [mistake_rate(CONFIG, operation) for operation in OPERATIONS]
    assert rates == sorted(rates)
    assert (rates[0], rates[len(COMMON)], rates[-1]) == (0.0, *CONFIG.mistaken)


def test_the_solver_is_taught_to_misread_constants_and_to_forget_late_steps(held: Holdout) -> None:
    misread: list[bool] = []
    forgotten: dict[bool, list[bool]] = {True: [], False: []}
    for example in lesson(Lesson.SOLVE, 3000, held):
        asked, taught = example.sources
        late = asked.first > 4
        forgotten[late].append(taught.depth < asked.depth)
        if taught.depth == asked.depth:
            misread += [
                said.constant != done.constant
                for said, done in zip(asked.steps, taught.steps, strict=True)
                if said.operation is done.operation and len(said.operation.constants) > 1
            ]

    assert 0.01 < share(misread) < 2 * CONFIG.misread
    assert share(forgotten[True]) > 1.5 * share(forgotten[False]) > 0


def test_the_writer_sees_rare_operations_and_depths_that_the_solver_does_not(held: Holdout) -> None:
    rare = {operation.name for operation in RARE}

    def rarity(kind: Lesson) -> float:
        return share([name in rare for example in lesson(kind, 400, held) for name in example.sources[0].names])

    assert rarity(Lesson.LEMMA) > 2 * rarity(Lesson.SOLVE)
    assert max(e.sources[1].depth for e in lesson(Lesson.LIFT, 200, held)) > len(CONFIG.solving_depths)


def test_lessons_get_the_same_number_of_tokens(held: Holdout) -> None:
    tokenizer, teacher = vocabulary.build(), Teacher(CONFIG, held)

    totals = [sum(len(s.tokens) for s in encode_lesson(teacher, kind, tokenizer, 4000, 0)) for kind in Lesson]

    assert all(4000 <= total < 4300 for total in totals)


def test_the_corpus_is_the_same_for_the_same_seed_and_another_for_another(held: Holdout) -> None:
    assert lesson(Lesson.LIFT, 30, held, 5) == lesson(Lesson.LIFT, 30, held, 5)
    assert lesson(Lesson.LIFT, 30, held, 5) != lesson(Lesson.LIFT, 30, held, 6)


def test_free_proposals_are_of_common_operations_the_commonest_most_often(held: Holdout) -> None:
    proposed = Counter(n for e in lesson(Lesson.PROPOSE, 1000, held) for source in e.sources for n in source.names)

    assert not any(proposed[operation.name] for operation in RARE)
    assert proposed["add"] > 4 * proposed["drop-last"]
