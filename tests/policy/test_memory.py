"""What a model takes is known before it is read, and close to what it then takes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, PreTrainedConfig, PreTrainedModel, Qwen2Config

from gasp_rl.config import LoraConfig, ModelConfig
from gasp_rl.errors import ModelError
from gasp_rl.policy import llama
from gasp_rl.policy.engine import TrainItem
from gasp_rl.policy.learner import LOGITS, ModelLearner
from gasp_rl.policy.local import LocalEngine
from gasp_rl.policy.lora import add_lora
from gasp_rl.policy.memory import GIB, Needs, needs, refusal, shape_of

MakeModel: TypeAlias = Callable[[PreTrainedConfig], PreTrainedModel]

SIZE: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
FAMILIES = [
    LlamaConfig(**SIZE), Qwen2Config(**SIZE, tie_word_embeddings=True),
    GPT2Config(vocab_size=300, n_embd=128, n_layer=6, n_head=4, n_positions=512, bos_token_id=1, eos_token_id=1),
]  # fmt: skip
CPU = torch.device("cpu")
ITEMS = [TrainItem(tuple(range(3, 103)), tuple(range(3, 156)), 1.0, (0.0,) * 153)] * 8


def kept_for_gradients(model: PreTrainedModel) -> tuple[int, int]:
    """Bytes that the forward pass of one micro-batch keeps, beside the weights, and its tokens."""
    learner = ModelLearner(model, 4096, torch.float32)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)  # so that no other takes its place in memory
        return tensor

    (batch,) = learner._batches(ITEMS)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        learner._features(batch)
    return sum(kept.values()), batch.tokens_BT.numel()


@pytest.mark.parametrize("rank", [0, 8])
@pytest.mark.parametrize("config", FAMILIES, ids=["llama", "qwen2", "gpt2"])
def test_what_an_update_keeps_is_foreseen(
    config: PreTrainedConfig, rank: int, make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model(config)
    model.save_pretrained(tmp_path)
    settings = ModelConfig(path=str(tmp_path), lora=LoraConfig(rank))
    if rank:
        add_lora(model, settings.lora)

    kept, tokens = kept_for_gradients(model)

    found = needs(shape_of(settings.path), settings, tokens, CPU, torch.float32, learns=True)
    assert 0.85 < kept / (found.activations - 3 * 4 * LOGITS) < 1.05
    assert found.weights == sum(parameter.nbytes for parameter in model.parameters())
    assert found.gradients == sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    assert found.moments == 2 * found.gradients


@pytest.mark.parametrize("rank", [0, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sampling_copy_is_foreseen(dtype: torch.dtype, rank: int, make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(FAMILIES[0])
    model.save_pretrained(tmp_path)
    settings = ModelConfig(lora=LoraConfig(rank))
    arithmetic = llama.arithmetic_of(dtype, CPU)
    shared = rank > 0 and arithmetic == dtype
    if rank:
        torch.nn.Module.to(model, arithmetic)
        add_lora(model, settings.lora)

    copy = llama.copy_weights(model, dtype, 512)

    tensors = [t for layer in copy.layers for t in (layer.qkv, layer.out, layer.gate_up, layer.down)]
    tables = [copy.embed, copy.head]
    assert {table.data_ptr() for table in tables}.isdisjoint(p.data_ptr() for p in model.parameters()) != shared
    found = needs(shape_of(str(tmp_path)), settings, 1, CPU, dtype, learns=False)
    written_out = 4 * 128 * 512 * (4 if shared else 1)
    own = tensors if shared else [*tensors, *tables]
    assert sum(t.nbytes for t in own) == pytest.approx(found.copy - written_out, rel=0.02)
    assert (found.gradients, found.moments, found.activations) == (0, 0, 0)


def test_layers_that_are_computed_again_keep_their_input_only() -> None:
    shape = shape_of("micro")
    kept, again = (
        needs(shape, ModelConfig(recompute=recompute), 2048, CPU, torch.float32, learns=True)
        for recompute in (False, True)
    )

    assert again.activations - 3 * 4 * LOGITS < 0.4 * (kept.activations - 3 * 4 * LOGITS)


def size(gigabytes: float) -> int:
    return int(gigabytes * GIB)


def needed(config: ModelConfig) -> Needs:
    """Ten gibibytes of weights; others by the settings."""
    learned = size(0.1) if config.lora.rank else size(10)
    return Needs(
        size(10), 2 * learned, size(5), size(8) * config.batch_tokens // 131_072, learned,
        size(1) if config.recompute else size(6),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("free", "help_"),
    [
        (size(52), ""),
        (size(48), "; with --model.batch-tokens 16384 --model.recompute it needs 46.0"),
        (size(20), "; with --model.batch-tokens 16384 --model.recompute --model.lora.rank 16 it needs 16.3"),
        (size(12), "; no setting makes it fit: take a smaller model or a larger machine"),
    ],
)
def test_what_would_help_is_said_and_what_costs_least_comes_first(free: int, help_: str) -> None:
    said = refusal(ModelConfig(), needed, free, learns=True)

    assert said.endswith(help_)
    assert bool(said) == (free < size(51))


def test_a_model_that_only_answers_needs_no_room_to_learn() -> None:
    def asked(config: ModelConfig) -> Needs:
        return Needs(size(10), 0, size(5), size(8) * config.batch_tokens // 131_072, 0, 0)

    assert refusal(ModelConfig(), asked, size(17), learns=False).endswith(
        "with --model.batch-tokens 16384 it needs 16.0"
    )


def test_a_model_too_large_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    config = Qwen2Config(hidden_size=2**20, intermediate_size=2**22, num_hidden_layers=200, num_attention_heads=2**13,
                         num_key_value_heads=2**13, vocab_size=150_000)  # fmt: skip
    described = config.to_dict() | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
    (tmp_path / "config.json").write_text(json.dumps(described))
    (tmp_path / "model.safetensors").write_bytes(b"")  # nobody gets so far

    with pytest.raises(ModelError, match=r"is too large to train on this cpu: it needs about \d+\.\d GiB \(weights \d"):
        LocalEngine.open(ModelConfig(path=str(tmp_path), device="cpu", dtype="float32"))
