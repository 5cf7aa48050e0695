"""Laws of the deck and the buffer."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.curriculum.buffer import PracticeBuffer
from gasp_rl.curriculum.deck import GoalpostDeck
from gasp_rl.errors import ConfigError
from gasp_rl.problem import Problem
from gasp_rl.rollout import Proposal


def problems(n: int) -> list[Problem]:
    return [Problem(f"p{i}", "", (), ()) for i in range(n)]


def proposals(n: int) -> list[Proposal]:
    return [Proposal(f"l{i}", "lemma", "") for i in range(n)]


@given(st.integers(1, 12), st.integers(0, 99), st.lists(st.integers(0, 7), max_size=8))
def test_a_goalpost_never_comes_twice_before_all_others_have_come(n: int, seed: int, draws: list[int]) -> None:
    deck = GoalpostDeck(problems(n), seed)

    drawn = [p.id for k in draws for p in deck.draw(k)]

    for start in range(0, len(drawn), n):
        epoch = drawn[start : start + n]
        assert len(set(epoch)) == len(epoch)


@given(st.integers(1, 12), st.integers(0, 99), st.integers(0, 40), st.integers(1, 9))
def test_a_deck_goes_on_from_its_position_alone(n: int, seed: int, before: int, after: int) -> None:
    straight = GoalpostDeck(problems(n), seed)
    straight.draw(before)

    resumed = GoalpostDeck(problems(n), seed, drawn=before)

    assert resumed.draw(after) == straight.draw(after)


def test_a_deck_without_goalposts_says_so() -> None:
    with pytest.raises(ConfigError, match="no goalposts"):
        GoalpostDeck([], 0)


@given(st.integers(1, 10), st.lists(st.integers(0, 6), max_size=6))
def test_the_buffer_keeps_the_newest_and_evicts_the_oldest(capacity: int, sizes: list[int]) -> None:
    buffer, items = PracticeBuffer(capacity), proposals(sum(sizes))
    rest = list(items)
    for size in sizes:
        buffer.add(rest[:size])
        rest = rest[size:]

    kept = buffer.draw(len(items), random.Random(0))

    assert {p.id for p in kept} == {p.id for p in items[-capacity:]}


@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 8))
def test_a_draw_has_no_repeats_and_nothing_excluded(held: int, n: int, excluded: int) -> None:
    buffer, items = PracticeBuffer(100), proposals(held)
    buffer.add(items)

    drawn = buffer.draw(n, random.Random(1), exclude=items[:excluded])

    assert max(Counter(p.id for p in drawn).values(), default=0) <= 1
    assert not {p.id for p in drawn} & {p.id for p in items[:excluded]}
    assert len(drawn) == min(n, max(0, held - excluded))


def test_draws_are_uniform_over_the_buffer() -> None:
    buffer, items = PracticeBuffer(100), proposals(5)
    buffer.add(items)

    counts = Counter(buffer.draw(1, random.Random(seed))[0].id for seed in range(2000))

    assert len(counts) == 5
    assert min(counts.values()) > 330  # 400 expected, sigma 18
