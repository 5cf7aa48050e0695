"""Randomness by name."""

import random

from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.streams import seed_of, stream

names = st.lists(st.text("abc", min_size=1, max_size=3) | st.integers(0, 99), max_size=4)


def test_a_seed_is_the_same_on_every_machine_and_python() -> None:
    assert seed_of(0) == 3456079177858693020
    assert seed_of(7, "lemma", 3) == 2411627702636146122


@given(st.integers(0, 1 << 62), names)
def test_a_seed_fits_where_signed_64_bit_integers_do(root: int, path: list[str | int]) -> None:
    assert 0 <= seed_of(root, *path) < 1 << 63


@given(st.integers(0, 99), names, names)
def test_different_names_have_different_seeds(root: int, one: list[str | int], other: list[str | int]) -> None:
    same = [str(part) for part in one] == [str(part) for part in other]

    assert (seed_of(root, *one) == seed_of(root, *other)) is same


@given(st.integers(0, 99), names)
def test_a_stream_can_be_drawn_again_and_leaves_all_others_alone(root: int, path: list[str | int]) -> None:
    before = random.getstate()

    drawn = [stream(root, *path).random() for _ in range(2)]
    stream(root, *path, "other").random()

    assert drawn[0] == drawn[1]
    assert random.getstate() == before
