"""What the embedded model is taught: in the forms that it is asked in, and nothing of what it is tested on."""

import itertools
import random
from collections import Counter

import pytest

from gasp_rl.problems.microcode.draw import Prior, draw_composition
from gasp_rl.problems.microcode.operations import (
    OPERATIONS,
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
from gasp_rl.world.corpus import CorpusConfig, Example, Lesson, Teacher, slip_rate
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
    return [
        f"{c.names} in {example.prompt}{example.completion}"
        for example in lesson(kind, count, held, seed)
        for c in texts_of(example)
        if not held.allows(c)
    ]


@pytest.mark.parametrize("kind", list(Lesson))
def test_nothing_held_out_occurs_in_a_prompt_or_a_target(kind: Lesson, held: Holdout) -> None:
    assert offences(held, kind, 300, seed=PretrainConfig().seed) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(Lesson))
def test_nothing_held_out_occurs_in_a_large_share_of_the_shipped_models_corpus(kind: Lesson, held: Holdout) -> None:
    assert offences(held, kind, 5000, seed=PretrainConfig().seed) == []


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
        assert read_program(example.completion) is not None
    kinds = Counter(
        kind
        for example in lesson(Lesson.PROPOSE, 90, held)
        for kind in (Kind.DEDUCTION, Kind.ABDUCTION)
        if not isinstance(MICRO.read_free_proposal(kind, [], example.completion, CONFIG.pairs), Unreadable)
    )
    assert kinds[Kind.DEDUCTION] > 30


def test_the_solver_is_taught_common_operations_truly_and_rare_ones_with_slips(held: Holdout) -> None:
    examples = lesson(Lesson.SOLVE, 3000, held)

    right: dict[str, list[bool]] = {operation.name: [] for operation in OPERATIONS}
    for example in examples:
        asked, taught = example.sources
        for said, done in zip(asked.names, taught.names, strict=True):
            right.setdefault(said, []).append(said == done)
    common, rare = right["add"] + right["multiply"], [r for o in OPERATIONS[-8:] for r in right[o.name]]
    assert sum(common) / len(common) > 0.75
    assert sum(rare) / len(rare) < 0.5
    rates = [slip_rate(CONFIG, operation) for operation in OPERATIONS]
    assert rates == sorted(rates)
    assert (rates[0], rates[-1]) == pytest.approx((CONFIG.slip_common, CONFIG.slip_rare))


def test_the_writer_sees_rare_operations_and_depths_that_the_solver_does_not(held: Holdout) -> None:
    rare = {operation.name for operation in OPERATIONS[-10:]}

    def share(kind: Lesson) -> float:
        names = [name for example in lesson(kind, 400, held) for name in example.sources[-1].names]
        return sum(name in rare for name in names) / len(names)

    assert share(Lesson.LEMMA) > 2 * share(Lesson.SOLVE)
    assert max(e.sources[1].depth for e in lesson(Lesson.LEMMA, 200, held)) > len(CONFIG.solving_depths)


def test_lessons_get_the_same_number_of_tokens(held: Holdout) -> None:
    tokenizer, teacher = vocabulary.build(), Teacher(CONFIG, held)

    totals = [sum(len(s.tokens) for s in encode_lesson(teacher, kind, tokenizer, 4000, 0)) for kind in Lesson]

    assert all(4000 <= total < 4300 for total in totals)


def test_the_corpus_is_the_same_for_the_same_seed_and_another_for_another(held: Holdout) -> None:
    assert lesson(Lesson.LIFT, 30, held, 5) == lesson(Lesson.LIFT, 30, held, 5)
    assert lesson(Lesson.LIFT, 30, held, 5) != lesson(Lesson.LIFT, 30, held, 6)


def test_free_proposals_come_from_the_zipf_prior(held: Holdout) -> None:
    rng = random.Random(0)
    zipf = Counter(name for _ in range(2000) for name in draw_composition(Prior(CONFIG.solving_exponent), 2, rng).names)
    proposed = Counter(n for e in lesson(Lesson.PROPOSE, 1000, held) for n in e.sources[-1].names)

    assert proposed["add"] > 4 * proposed["running-max"]
    assert zipf["add"] > 4 * zipf["running-max"]
