"""The parts of sampling that need no model."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from gasp_rl.policy.decoder import survivors
from gasp_rl.policy.sampler import draw, uniforms


@given(st.lists(st.booleans(), max_size=30))
def test_survivors_are_all_kept_and_as_few_as_possible_move(alive: list[bool]) -> None:
    kept = survivors(alive)

    assert sorted(kept) == [place for place, lives in enumerate(alive) if lives]
    assert sum(new != old for new, old in enumerate(kept)) == sum(not lives for lives in alive[: len(kept)])


@given(st.integers(0, 2**63 - 1), st.integers(0, 1000), st.integers(0, 50), st.integers(0, 50))
def test_asking_for_more_numbers_never_changes_the_first(seed: int, place: int, few: int, more: int) -> None:
    assert np.array_equal(uniforms(seed, place, few + more)[:few], uniforms(seed, place, few))


def test_numbers_are_uniform_and_each_sample_has_its_own() -> None:
    table = np.stack([uniforms(7, place, 1000) for place in range(20)])

    assert table.dtype == np.float32
    assert table.min() >= 0
    assert table.max() < 1
    assert kstest(table.reshape(-1), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(table) - np.eye(20)).max() < 0.15


def test_numbers_are_the_same_on_every_machine() -> None:
    assert (uniforms(1, 2, 3) * 2**24).astype(int).tolist() == [5189443, 5988731, 619155]


def test_a_token_is_drawn_as_often_as_its_probability_says() -> None:
    logits_V = torch.tensor([2.0, 0.0, -1.0, 1.0, -3.0])
    count = 20_000
    numbers = torch.from_numpy(uniforms(3, 0, count))

    tokens, logprobs = draw(logits_V.expand(count, -1), torch.full((count,), 0.8), numbers)

    p_V = (logits_V.double() / 0.8).softmax(-1)
    assert torch.allclose(logprobs.double(), p_V.log()[tokens], atol=1e-5)
    assert chisquare(torch.bincount(tokens, minlength=5).numpy(), (p_V * count).numpy()).pvalue > 1e-3


@given(
    st.lists(st.floats(-1e4, 1e4, width=32) | st.just(float("-inf")), min_size=2, max_size=8).filter(
        lambda logits: max(logits) > float("-inf")
    ),
    st.integers(0, 2**24 - 1),
)
def test_a_token_that_cannot_be_drawn_never_is(logits: list[float], number: int) -> None:
    uniform = torch.tensor([number * 2.0**-24])

    token, logprob = draw(torch.tensor([logits]), torch.ones(1), uniform)

    assert torch.tensor(logits).softmax(-1)[token] > 0
    assert torch.isfinite(logprob).all()


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2.0**-24])
def test_temperature_zero_takes_the_likeliest_whatever_the_number(number: float) -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0]])

    tokens, logprobs = draw(logits, torch.tensor([0.0, 1.0]), torch.tensor([number, 0.0]))

    assert tokens.tolist() == [1, 0]
    assert torch.allclose(logprobs[0], logits[0].log_softmax(-1)[1])
