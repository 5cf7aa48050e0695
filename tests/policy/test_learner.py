"""How the learner cuts up its work. What it computes is in tests/conformance."""

import importlib.util
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Gemma2Config, GPT2Config, LlamaConfig, MistralConfig, PreTrainedConfig, PreTrainedModel

from gasp_rl.errors import ModelError
from gasp_rl.policy.engine import Loss, OptimParams, TrainItem
from gasp_rl.policy.learner import BATCH_PRICE, ModelLearner, micro_batches, rows_of

MakeModel: TypeAlias = Callable[[PreTrainedConfig], PreTrainedModel]

CAPPED = Gemma2Config(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, head_dim=8,
    num_key_value_heads=2, max_position_embeddings=64, final_logit_softcapping=2.0, eos_token_id=1, pad_token_id=0,
)  # fmt: skip
PLAIN = LlamaConfig(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, eos_token_id=1, pad_token_id=0,
)  # fmt: skip
WINDOWED = MistralConfig(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, sliding_window=3, eos_token_id=1, pad_token_id=0,
)  # fmt: skip
DROPPING = GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0.5, eos_token_id=1)

ITEMS = [
    TrainItem((5, 6, 7), (8, 9), 1.0, (-1.0, -2.0)),
    TrainItem((5,), (10, 11, 12, 13), -0.5, (-1.0, -2.0, -1.5, -0.5)),
    TrainItem((5, 6), (), 1.0, ()),
    TrainItem((6, 7, 8, 9, 10, 11), (1,), 2.0, (-3.0,)),
    TrainItem((5, 6, 7), (8,), -1.0, (-1.0,)),
    TrainItem((5, 6, 7), (12, 13, 14), 1.5, (-2.0, -2.0, -1.0)),
]

texts = st.lists(st.integers(2, 4), max_size=6).map(tuple)


@given(st.lists(st.tuples(texts.filter(bool), texts), max_size=20), st.integers(0, 40))
def test_rows_hold_every_token_once_behind_its_prompt_and_within_their_room(
    pairs: list[tuple[tuple[int, ...], tuple[int, ...]]], room: int
) -> None:
    items = [TrainItem(prompt, completion, 1.0, ()) for prompt, completion in pairs]

    rows = rows_of(items, room)

    assert sorted(place for row in rows for place in row.items) == [
        n for n, item in enumerate(items) if item.completion
    ]
    for row in rows:
        assert [TrainItem(row.prompt, text, 1.0, ()) for text in row.completions] == [
            items[place] for place in row.items
        ]
        assert len(row.items) == 1 or row.length <= room


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 200))
def test_micro_batches_hold_every_item_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = micro_batches(lengths, budget)

    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(1, 200))
def test_no_other_micro_batches_of_rows_of_like_length_cost_less(lengths: list[int], budget: int) -> None:
    def cost(batches: Sequence[Sequence[int]]) -> float:
        """Infinite where one does not fit."""
        padded = [len(batch) * max(batch) for batch in batches]
        fits = all(len(batch) == 1 or size <= budget for batch, size in zip(batches, padded, strict=True))
        return sum(padded) + len(batches) * budget * BATCH_PRICE if fits else math.inf

    row, cuts = sorted(lengths, reverse=True), range(1, len(lengths))
    others = [
        [row[begin:end] for begin, end in itertools.pairwise([0, *chosen, len(row)])]
        for count in range(len(lengths))
        for chosen in itertools.combinations(cuts, count)
    ]

    found = [[lengths[place] for place in batch] for batch in micro_batches(lengths, budget)]

    assert cost(found) == pytest.approx(min(map(cost, others)))


def test_micro_batches_of_mixed_texts_waste_little_on_padding() -> None:
    lengths = [20 + 37 * place % 81 for place in range(200)]

    batches = micro_batches(lengths, 1000)

    padded = sum(len(batch) * max(lengths[place] for place in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)


@pytest.mark.parametrize(
    "config", [PLAIN, CAPPED, DROPPING, WINDOWED], ids=["plain", "capped logits", "dropout", "window"]
)
def test_log_probs_are_those_of_the_model(config: PreTrainedConfig, make_model: MakeModel) -> None:
    model = make_model(config)
    learner = ModelLearner(model, 12, torch.float32)

    found = learner.logprobs(ITEMS, 0.5)

    for item, logprobs in zip(ITEMS, found, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*item.prompt, *item.completion]])).logits[0] / 0.5
        want = logits.log_softmax(-1)[len(item.prompt) - 1 : -1].gather(
            1, torch.tensor(item.completion).long()[:, None]
        )
        assert logprobs == pytest.approx(want[:, 0].tolist(), abs=1e-4)


def test_logits_are_computed_for_completions_only(make_model: MakeModel) -> None:
    model = make_model(PLAIN)
    learner = ModelLearner(model, 1000, torch.float32)
    seen: list[int] = []
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    head.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))

    learner.forward_backward(ITEMS, Loss(1.0))

    assert sum(seen) == sum(len(item.completion) for item in ITEMS)


def test_a_prompt_is_run_once_for_all_its_completions(make_model: MakeModel) -> None:
    model = make_model(PLAIN)
    learner = ModelLearner(model, 1000, torch.float32)
    seen: list[list[int]] = []
    embedding: Any = model.get_input_embeddings()
    embedding.register_forward_hook(lambda _, inputs, __: seen.extend(inputs[0].tolist()))

    learner.forward_backward(ITEMS, Loss(1.0))

    assert [row for row in seen if row[:3] == [5, 6, 7]] == [[5, 6, 7, 8, 12, 13]]


def test_a_model_that_sees_through_a_window_runs_every_item_for_itself(make_model: MakeModel) -> None:
    model = make_model(WINDOWED)
    learner = ModelLearner(model, 1000, torch.float32)
    seen: list[int] = []
    embedding: Any = model.get_input_embeddings()
    embedding.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))

    learner.forward_backward(ITEMS, Loss(1.0))

    assert sum(seen) == sum(bool(item.completion) for item in ITEMS)


@pytest.mark.parametrize("config", [PLAIN, DROPPING], ids=["llama", "gpt2"])
def test_a_gradient_in_bfloat16_is_close_to_that_in_float32(config: PreTrainedConfig, make_model: MakeModel) -> None:
    exact, rounded = make_model(config), make_model(config)

    ModelLearner(exact, 1000, torch.float32).forward_backward(ITEMS, Loss(1.0))
    ModelLearner(rounded, 1000, torch.bfloat16).forward_backward(ITEMS, Loss(1.0))

    left, right = (
        torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None]) for m in (exact, rounded)
    )
    assert right.dtype == torch.float32
    assert float((left - right).norm() / left.norm()) < 0.02


def test_a_step_is_that_of_adamw(make_model: MakeModel) -> None:
    model, twin = make_model(PLAIN), make_model(PLAIN)
    learner = ModelLearner(model, 1000, torch.float32)
    plain = torch.optim.AdamW(twin.parameters(), lr=0.01, betas=(0.8, 0.9), weight_decay=0.1, eps=1e-6)

    for _ in range(3):
        learner.forward_backward(ITEMS, Loss(1.0))
        for parameter, copy in zip(model.parameters(), twin.parameters(), strict=True):
            copy.grad = None if parameter.grad is None else parameter.grad.clone()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        plain.step()
        learner.optim_step(OptimParams(0.01, (0.8, 0.9), 0.1, 1e-6, 0.5))

    for parameter, copy in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(parameter, copy, atol=1e-6)


def test_moments_in_eight_bits_step_nearly_as_exact_ones_do(make_model: MakeModel) -> None:
    large = LlamaConfig(**{**PLAIN.to_dict(), "hidden_size": 64, "intermediate_size": 128})
    exact, small, start = make_model(large), make_model(large), make_model(large)
    learners = [
        ModelLearner(exact, 1000, torch.float32),
        ModelLearner(small, 1000, torch.float32, eight_bit_adam=True),
    ]

    for learner in learners:
        for _ in range(3):
            learner.forward_backward(ITEMS, Loss(1.0))
            learner.optim_step(OptimParams(0.01))

    place = "model.layers.0.mlp.up_proj.weight"
    left, right, before = (model.get_parameter(place).detach() for model in (exact, small, start))
    assert float((left - right).norm() / (left - before).norm()) < 0.1
    moments = learners[1].moments()
    assert moments[f"state1/{place}"].dtype == moments[f"state2/{place}"].dtype == torch.uint8


def test_moments_in_eight_bits_are_restored_to_the_bit(make_model: MakeModel) -> None:
    large = LlamaConfig(**{**PLAIN.to_dict(), "hidden_size": 64, "intermediate_size": 128})
    one, other = (ModelLearner(make_model(large), 1000, torch.float32, eight_bit_adam=True) for _ in range(2))

    def learn(learner: ModelLearner) -> None:
        learner.forward_backward(ITEMS, Loss(1.0))
        learner.optim_step(OptimParams(0.01))

    learn(one)
    other.restore(one.weights(), {name: value.clone() for name, value in one.moments().items()})
    learn(one)
    learn(other)

    assert all(torch.equal(weight, other.weights()[name]) for name, weight in one.weights().items())


def test_without_bitsandbytes_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, make_model: MakeModel) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ModelError, match=r"gasp-rl\[adam8bit\]"):
        ModelLearner(make_model(PLAIN), 1000, torch.float32, eight_bit_adam=True)
