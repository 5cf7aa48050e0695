"""How the learner cuts up its work. What it computes is in tests/conformance."""

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Gemma2Config, GPT2Config, LlamaConfig, PreTrainedConfig, PreTrainedModel

from gasp_rl.policy.engine import Loss, OptimParams, TrainItem
from gasp_rl.policy.learner import ModelLearner, micro_batches

MakeModel: TypeAlias = Callable[[PreTrainedConfig], PreTrainedModel]

CAPPED = Gemma2Config(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, head_dim=8,
    num_key_value_heads=2, max_position_embeddings=64, final_logit_softcapping=2.0, eos_token_id=1, pad_token_id=0,
)  # fmt: skip
PLAIN = LlamaConfig(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, eos_token_id=1, pad_token_id=0,
)  # fmt: skip
DROPPING = GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0.5, eos_token_id=1)

ITEMS = [
    TrainItem((5, 6, 7), (8, 9), 1.0, (-1.0, -2.0)),
    TrainItem((5,), (10, 11, 12, 13), -0.5, (-1.0, -2.0, -1.5, -0.5)),
    TrainItem((5, 6), (), 1.0, ()),
    TrainItem((6, 7, 8, 9, 10, 11), (1,), 2.0, (-3.0,)),
]


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 200))
def test_micro_batches_hold_every_item_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = micro_batches(lengths, budget)

    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget


def test_micro_batches_of_mixed_texts_waste_little_on_padding() -> None:
    lengths = [20 + 37 * place % 81 for place in range(200)]

    batches = micro_batches(lengths, 1000)

    padded = sum(len(batch) * max(lengths[place] for place in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)


@pytest.mark.parametrize("config", [PLAIN, CAPPED, DROPPING], ids=["plain", "capped logits", "dropout"])
def test_log_probs_are_those_of_the_model(config: PreTrainedConfig, make_model: MakeModel) -> None:
    model = make_model(config)
    learner = ModelLearner(model, 10, torch.float32)

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
