"""Adapters: what learns, what stays, and what is written. That such an engine keeps every promise is in tests/conformance."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaMLP

from gasp_rl.config import LoraConfig, ModelConfig
from gasp_rl.errors import ModelError
from gasp_rl.policy import llama
from gasp_rl.policy.engine import Loss, OptimParams, SampleRequest, SamplingParams, TrainItem
from gasp_rl.policy.learner import ModelLearner
from gasp_rl.policy.local import LocalEngine
from gasp_rl.policy.lora import add_lora, merged, named_weights, weight_of

MakeModel: TypeAlias = Callable[[PreTrainedConfig], PreTrainedModel]

PLAIN = LlamaConfig(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, eos_token_id=1, pad_token_id=0, attention_dropout=0.5,
)  # fmt: skip
ITEMS = [
    TrainItem((5, 6, 7), (8, 9), 1.0, (-1.0, -2.0)),
    TrainItem((5,), (10, 11, 12, 13), -0.5, (-1.0, -2.0, -1.5, -0.5)),
]
ASK = SampleRequest(tuple(range(3, 12)), 4, SamplingParams(20), seed=7)


def micro(rank: int = 0) -> LocalEngine:
    return LocalEngine.open(ModelConfig(device="cpu", dtype="float32", threads=1, lora=LoraConfig(rank)))


def learn(engine: LocalEngine) -> None:
    ((_, samples),) = engine.sample([ASK])
    items = [
        TrainItem(ASK.prompt, s.tokens, advantage, s.logprobs)
        for s, advantage in zip(samples, (1, -1, 1, 0.5), strict=True)
    ]
    engine.forward_backward(items, Loss(10.0))
    engine.optim_step(OptimParams(lr=0.01))
    engine.publish()


def test_a_new_adapter_changes_nothing() -> None:
    with_adapters, plain = micro(rank=4), micro()

    assert list(with_adapters.sample([ASK])) == list(plain.sample([ASK]))


def test_equal_models_get_equal_adapters_whatever_was_drawn_before(make_model: MakeModel) -> None:
    one, other = make_model(PLAIN), make_model(PLAIN)
    add_lora(one, LoraConfig(2))
    torch.manual_seed(5)
    expected = torch.rand(2)[1]
    torch.manual_seed(5)
    torch.rand(1)
    add_lora(other, LoraConfig(2))

    assert torch.rand(1) == expected  # nothing was drawn from the common generator
    for (name, weight), (_, same) in zip(named_weights(one), named_weights(other), strict=True):
        assert torch.equal(weight, same), name


def test_only_adapters_learn_and_only_they_are_saved(tmp_path: Path) -> None:
    engine, plain = micro(rank=4), micro()
    before = dict(named_weights(engine.model))
    kept = {name: weight.clone() for name, weight in before.items()}

    for _ in range(2):  # at first one of each two matrices is zero, and the other's gradient with it
        learn(engine)
    engine.save(tmp_path / "saved")

    moved = {name for name, weight in named_weights(engine.model) if not torch.equal(weight, kept[name])}
    assert moved == {name for name in kept if "lora_" in name}
    assert not any("head" in name or "embed" in name for name in moved)
    saved = load_file(tmp_path / "saved" / "weights-1-of-1.safetensors")
    assert len(saved) == len(moved)
    assert sum(w.numel() for w in saved.values()) < 0.05 * sum(w.numel() for _, w in named_weights(plain.model))


def test_in_bfloat16_adapters_alone_stay_in_float32_and_still_learn() -> None:
    engine = LocalEngine.open(ModelConfig(device="cpu", dtype="bfloat16", threads=1, lora=LoraConfig(4)))

    for _ in range(2):
        learn(engine)

    arithmetic = llama.arithmetic_of(torch.bfloat16, torch.device("cpu"))
    for name, weight in named_weights(engine.model):
        assert weight.dtype == (torch.float32 if "lora_" in name else arithmetic), name
    ((_, samples),) = engine.sample([ASK])
    items = [TrainItem(ASK.prompt, sample.tokens, 1.0, sample.logprobs) for sample in samples]
    for item, logprobs in zip(items, engine.logprobs(items).result(), strict=True):
        assert item.old_logprobs == pytest.approx(logprobs, abs=0.1)


def test_an_export_needs_no_adapters_and_holds_what_they_learned(tmp_path: Path) -> None:
    engine = micro(rank=4)
    learn(engine)

    engine.export_hf(tmp_path / "model")

    exported, untrained = dict(named_weights(merged(engine.model))), dict(named_weights(micro().model))
    assert not any("adapter" in path.name for path in (tmp_path / "model").iterdir())
    assert list(exported) == list(untrained)
    moved = {name for name in exported if not torch.equal(exported[name], untrained[name])}
    assert moved == {name for name in untrained if "_proj" in name}


def test_what_a_layer_multiplies_by_is_its_weight_and_its_adapters_scaled_product(make_model: MakeModel) -> None:
    model = make_model(PLAIN)
    place = "model.layers.0.mlp.up_proj"
    plain = model.get_parameter(f"{place}.weight").detach().clone()
    add_lora(model, LoraConfig(rank=2, alpha=8))
    layer: Any = model.get_submodule(place)
    torch.nn.init.normal_(layer.lora_B["default"].weight)

    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert torch.allclose(weight_of(layer), plain + (8 / 2) * b @ a)


@pytest.mark.parametrize("rank", [0, 2])
def test_layers_that_are_computed_again_give_the_same_gradient_without_dropout(
    rank: int, make_model: MakeModel
) -> None:
    runs: list[int] = []
    found = []
    for recompute in (False, True):
        model = make_model(PLAIN)
        if rank:
            add_lora(model, LoraConfig(rank))
        learner = ModelLearner(model, 1000, torch.float32, recompute=recompute)
        calls: list[int] = []
        for module in model.modules():
            if isinstance(module, LlamaMLP):
                module.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        stats = learner.forward_backward(ITEMS, Loss(3.0))
        runs.append(len(calls))
        found.append((stats, {name: p.grad.clone() for name, p in learner.parameters.items() if p.grad is not None}))

    (plain, gradients), (again, recomputed) = found
    assert runs == [2, 4]
    assert plain == again
    assert gradients.keys() == recomputed.keys()
    assert all(torch.equal(gradients[name], recomputed[name]) for name in gradients)


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, make_model: MakeModel) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(
        ModelError, match=r"model.lora.rank above 0 needs the peft package: pip install 'gasp-rl\[lora\]'"
    ):
        add_lora(make_model(PLAIN), LoraConfig(2))
