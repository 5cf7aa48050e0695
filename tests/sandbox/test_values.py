"""One spelling per value, and text of a model that cannot hurt the one who reads it."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.sandbox.values import canonical, canonical_arguments, decode, spell

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5)
hashables = scalars | st.lists(scalars, max_size=3).map(tuple) | st.frozensets(scalars, max_size=3)
values = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(hashables, inner, max_size=3)
        | st.sets(hashables, max_size=3)
    ),
    max_leaves=12,
)


@given(values)
def test_a_spelling_reads_back_to_the_same_spelling(value: object) -> None:
    text = spell(value)

    assert canonical(text) == text
    assert spell(decode(text)) == text


@given(st.lists(st.integers() | st.text(max_size=3), max_size=5), st.randoms(use_true_random=False))
def test_sets_and_dicts_have_one_spelling_whatever_their_order(items: list[object], rng: random.Random) -> None:
    shuffled = list(items)
    rng.shuffle(shuffled)

    assert spell(set(items)) == spell(set(shuffled))
    assert spell(dict.fromkeys(items)) == spell(dict.fromkeys(shuffled))


def test_values_of_different_type_are_spelled_differently() -> None:
    spellings = [spell(value) for value in (1, 1.0, True, "1", b"1", [1], (1,), {1}, frozenset({1}), {1: 1})]

    assert len(set(spellings)) == len(spellings)


def test_not_a_number_and_infinity_have_a_spelling() -> None:
    assert canonical("[nan, -inf, 1e999]") == "[nan, -inf, inf]"
    value = decode("nan")
    assert isinstance(value, float)
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("[1,2 ,3]", "[1, 2, 3]"),
        (" 'a' ", "'a'"),
        ('"a"', "'a'"),
        ("(1,)", "(1,)"),
        ("{2,1}", "{1, 2}"),
        ("{}", "{}"),
        ("set()", "set()"),
        ("-3", "-3"),
        ("+3", "3"),
        ("1_000", "1000"),
    ],
)
def test_a_literal_has_one_spelling(written: str, spelled: str) -> None:
    assert canonical(written) == spelled


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1 + 1",
        "f(1)",
        "__import__('os').system('true')",
        "0) or (1==1",
        "[x for x in ()]",
        "{**{}}",
        "f'{1}'",
        "lambda: 0",
        "{[]: 1}",
        "{[1]}",
        "...",
        "1j",
        "[" * 100 + "]" * 100,
        "-" * 100_000 + "1",
        "- " * 50 + "1",
        "(" * 100_000,
        "1" * 30_000,
        "9" * 15_000,
        "[" + "1," * 30_000 + "]",
        "\x00",
        "'\ud800",
        "a" * 30_000,
    ],
)
def test_what_is_no_literal_or_too_large_is_refused(text: str) -> None:
    assert canonical(text) is None


@given(st.text())
def test_reading_never_raises_whatever_a_model_wrote(text: str) -> None:
    canonical(text)
    canonical_arguments(text)


@pytest.mark.parametrize(
    ("written", "spelled"),
    [("", ""), ("1", "1"), ("[1,2],3", "[1, 2], 3"), ("(1, 2)", "(1, 2)"), ("1,", "1"), ("'a' # note", "'a'")],
)
def test_arguments_are_read_without_parentheses(written: str, spelled: str) -> None:
    assert canonical_arguments(written) == spelled


@pytest.mark.parametrize("text", ["1) or (1", "1), (2", "1], [2", "1] + [2", "*[1]", "x=1", ",", "1, , 2"])
def test_text_that_is_more_than_arguments_is_refused(text: str) -> None:
    assert canonical_arguments(text) is None


def test_a_string_of_brackets_is_no_deep_value() -> None:
    text = "(" * 500 + ")" * 500

    assert decode(spell(text)) == text
    assert canonical(spell([text, '"[' * 200])) == spell([text, '"[' * 200])


@pytest.mark.parametrize("chain", ["1+", "not ", "lambda:", "a.", "a if b else ", "- - "])
def test_a_chain_of_operators_of_any_length_is_refused_and_harms_nobody(chain: str) -> None:
    with pytest.raises(ValueError, match="not a value"):
        decode(chain * (1_000_000 // len(chain)) + "1")
