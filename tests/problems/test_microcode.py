"""The language of MicroCode: text and meaning agree, every operation is total, statements and programs read back."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.problems.microcode.draw import (
    LARGEST,
    MAX_WRITTEN,
    NORMAL,
    Prior,
    cuts,
    draw_composition,
    draw_examples,
    draw_step,
    extend,
    is_blank,
    output_of,
)
from gasp_rl.problems.microcode.operations import (
    COMMENT,
    MAX_NUMBER,
    OPERATIONS,
    REDUCERS,
    Composition,
    Family,
    Operation,
    Step,
    behaviour,
    honest,
    read_program,
    read_statement,
)

ALL = OPERATIONS + REDUCERS
numbers = st.lists(st.integers(-99, 99), max_size=8)
operations = st.sampled_from(ALL)


@st.composite
def compositions(draw: st.DrawFn) -> Composition:
    rng = random.Random(draw(st.integers(0, 2**32)))
    return draw_composition(
        Prior(draw(st.sampled_from((0.0, 1.0)))),
        draw(st.integers(1, 8)),
        rng,
        rows=0.3,
        last_number=draw(st.sampled_from((0, MAX_NUMBER))),
    )


def run(program: str, value: object) -> object:
    """What the text really does in Python. Our own text: the model has no part in it."""
    space: dict[str, object] = {}
    exec(program, space)
    function = space["f"]
    assert callable(function)
    return function(value)


@given(numbers, operations, st.randoms(use_true_random=False))
def test_every_operation_is_total_and_leaves_its_input_alone(
    x: list[int], operation: Operation, rng: random.Random
) -> None:
    before = list(x)

    value = operation.apply(x, rng.choice(operation.constants))

    assert x == before
    assert type(value) is int if operation.family is Family.REDUCE else isinstance(value, list)
    assert isinstance(value, int) or all(type(v) is int for v in value)


@given(compositions(), st.lists(numbers, min_size=1, max_size=3))
def test_the_program_as_python_does_what_the_composition_says(composition: Composition, rows: list[list[int]]) -> None:
    value = rows if composition.rows else rows[0]

    assert run(composition.program, value) == output_of(composition, value)


@given(compositions())
def test_programs_and_statements_read_back_as_what_they_were_written_from(composition: Composition) -> None:
    read = read_program(composition.program)

    assert read_statement(composition.statement) == composition
    assert read is not None
    assert (read.names, read.rows) == (composition.names, composition.rows)
    assert [step.constant for step in read.steps] == [step.constant for step in composition.steps]


def test_no_two_operations_share_a_line_or_a_phrase() -> None:
    lines = [operation.line for operation in ALL]
    phrases = [wording for operation in ALL for wording in operation.wordings]

    assert len(set(lines)) == len(lines)
    assert len(set(phrases)) == len(phrases)
    assert not any(set("()\n") & set(phrase) for phrase in phrases)
    assert 36 <= len(ALL) <= 40


def test_no_two_operations_are_the_same_function_whatever_their_constants() -> None:
    seen: dict[tuple[str, ...], str] = {}
    for operation, constant in ((o, k) for o in ALL for k in o.constants):
        first = seen.setdefault(behaviour(Composition((Step(operation, constant),))), operation.name)
        assert first == operation.name


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def f(x):\n    return x", "no step"),
        ("def f(x):\n    x = sorted(x)", "no return"),
        ("def f(x):\n    x = [v * 0 for v in x]\n    return x", "a constant of 0"),
        ("def f(x):\n    x = x[1:] + x[:2]\n    return x", "two different constants where there is one"),
        ("def f(x):\n    x = sum(x)\n    x = sorted(x)\n    return x", "a reducer before the end"),
        ("def f(x):\n    import os\n    return x", "a foreign line"),
        ("def g(x):\n    x = sorted(x)\n    return x", "rows without f"),
        ("", "nothing"),
    ],
)
def test_a_program_outside_the_fixed_form_is_not_read(text: str, why: str) -> None:
    assert read_program(text) is None, why


@pytest.mark.parametrize(
    "text",
    [
        "",
        "on the list:",
        "on the list: sort ascending",
        "(1) sort ascending",
        "on the list: (1) sort ascending (3) reverse",
        "on the list: (1) sort ascending (1) reverse",
        "on the list: (1) sort ascending (2)",
        "on the list: (1) sort sideways",
        "on the list: (1) return the sum (2) reverse",
        "near the list: (1) reverse",
    ],
)
def test_a_statement_outside_the_fixed_form_is_not_read(text: str) -> None:
    assert read_statement(text) is None


def test_a_statement_may_begin_at_any_number_as_a_part_of_a_longer_one_does() -> None:
    part = read_statement("on the list: (3) sort ascending (4) reverse")

    assert part is not None
    assert part.first == 3
    assert part.statement == "on the list: (3) sort ascending (4) reverse"
    assert "# (4) reverse" in part.program


def test_comments_do_not_count_when_a_program_is_read() -> None:
    assert read_program("def f(x):\n    x = sorted(x)\n    # anything\n    return x") == read_program(
        f"def f(x):\n{COMMENT} sort ascending\n    x = sorted(x)\n    return x"
    )


def test_a_message_is_honest_if_it_describes_what_the_program_does_and_not_what_it_says() -> None:
    program = "def f(x):\n    # sort ascending\n    x = sorted(x, reverse=True)\n    return x"

    assert honest("on the list: (1) sort descending", program)
    assert honest("on the list: (3) sort ascending (4) reverse", program)
    assert not honest("on the list: (1) sort ascending", program)
    assert not honest("on each row: (1) sort descending", program)
    assert not honest("do something nice", program)
    assert not honest("on the list: (1) sort descending", "def f(x):\n    return sorted(x, reverse=True)")


@given(compositions())
def test_cuts_are_shorter_contiguous_parts_and_none_is_missing(composition: Composition) -> None:
    found = cuts(composition)

    depth = composition.depth
    assert [cut.steps for cut in found] == [
        composition.steps[i : i + n] for n in range(1, min(MAX_WRITTEN, depth - 1) + 1) for i in range(depth - n + 1)
    ]
    assert all(phrase in composition.statement for cut in found for phrase in cut.numbered_phrases)


@given(compositions(), st.integers(1, 2), st.randoms(use_true_random=False))
def test_extending_keeps_the_old_steps_in_order_and_reducers_last(
    composition: Composition, added: int, rng: random.Random
) -> None:
    longer = extend(composition, added, Prior(0.0), rng)

    assert longer.depth == composition.depth + added
    remaining = iter(longer.steps)
    assert all(any(step is kept for step in remaining) for kept in composition.steps)
    assert read_program(longer.program) is not None
    assert longer.first >= 1
    assert longer.first + longer.depth - 1 <= max(MAX_NUMBER, longer.depth)


@given(compositions(), st.randoms(use_true_random=False))
def test_examples_are_distinct_bounded_right_and_begin_with_two_that_show_something(
    composition: Composition, rng: random.Random
) -> None:
    examples = draw_examples(composition, 5, NORMAL, rng, tiny=0.3)

    if examples is not None:
        assert len({repr(value) for value, _ in examples}) == 5
        assert all(output_of(composition, value) == output for value, output in examples)
        assert all(
            abs(int(n)) <= LARGEST
            for _, output in examples
            for n in repr(output).replace("[", " ").replace("]", " ").replace(",", " ").split()
        )
        assert not any(is_blank(output) for _, output in examples[:2])


def test_a_zipf_prior_prefers_the_front_of_the_table_and_exponent_0_prefers_nothing() -> None:
    rng = random.Random(0)
    zipf, even = Prior(1.2), Prior(0.0)

    drawn = [zipf.operation(rng).name for _ in range(3000)]
    flat = [even.operation(rng).name for _ in range(3500)]

    assert drawn.count(OPERATIONS[0].name) > 5 * drawn.count(OPERATIONS[20].name)
    assert all(60 < flat.count(operation.name) < 150 for operation in OPERATIONS)


def test_the_first_wording_is_the_usual_one() -> None:
    rng = random.Random(0)
    steps = [draw_step(operation, rng) for operation in itertools.islice(itertools.cycle(ALL), 4000)]

    assert 0.65 < sum(step.wording == 0 for step in steps) / len(steps) < 0.75
