"""What a model takes is known before it is read, and close to what it then takes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, LlamaConfig, PreTrainedConfig, PreTrainedModel, Qwen2Config

from gasp_rl.config import LoraConfig, ModelConfig
from gasp_rl.errors import ModelError
from gasp_rl.policy import llama
from gasp_rl.policy.engine import TrainItem
from gasp_rl.policy.learner import LOGITS, ModelLearner
from gasp_rl.policy.local import LocalEngine
from gasp_rl.policy.lora import add_lora
from gasp_rl.policy.memory import (
    Place,
    crowds,
    learner_needs,
    needs,
    require_room_at,
    sampler_needs,
    shape_of,
)
from gasp_rl.policy.needs import GIB, Needs, Part, Setup, Term, refusal, side_by_side

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
MICRO = shape_of("micro")
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

    found = needs(shape_of(settings.path), Setup(settings, tokens), CPU, torch.float32, learns=True)
    assert 0.85 < kept / found.of(Part.ACTIVATIONS) < 1.05
    assert found.of(Part.LOGITS) == 3 * 4 * min(LOGITS, tokens * 300)
    assert found.of(Part.WEIGHTS) == sum(parameter.nbytes for parameter in model.parameters())
    learned = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    assert found.of(Part.GRADIENTS) == learned
    assert found.of(Part.MOMENTS) == 2 * learned


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
    found = needs(shape_of(str(tmp_path)), Setup(settings, 1), CPU, dtype, learns=False)
    written_out = 4 * 128 * 512 * (4 if shared else 1)
    own = tensors if shared else [*tensors, *tables]
    assert sum(t.nbytes for t in own) == pytest.approx(found.of(Part.COPY) - written_out, rel=0.02)
    assert {term.part for term in found.terms} == {Part.WEIGHTS, Part.COPY, Part.CACHE}


def test_layers_that_are_computed_again_keep_their_input_only() -> None:
    shape = shape_of("micro")
    kept, again = (
        needs(shape, Setup(ModelConfig(recompute=recompute), 2048), CPU, torch.float32, learns=True)
        for recompute in (False, True)
    )

    assert again.of(Part.ACTIVATIONS) < 0.4 * kept.of(Part.ACTIVATIONS)


def size(gigabytes: float) -> int:
    return int(gigabytes * GIB)


def of(**gigabytes: float) -> Needs:
    return Needs(tuple(Term(Part[name.upper()], size(value)) for name, value in gigabytes.items()))


def needed(setup: Setup) -> Needs:
    """Ten gibibytes of weights; others by the settings."""
    config = setup.model
    learned = 0.1 if config.lora.rank else 10
    return of(
        weights=10, moments=2 * learned, copy=5, cache=8 * config.batch_tokens / 131_072, gradients=learned,
        activations=1 if config.recompute else 6 * setup.token_budget / 16_384,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("free", "help_"),
    [
        (size(52), ""),
        (size(47), "; with --learn.token-budget 4096 it needs 46.5"),
        (size(46), "; with --model.recompute it needs 46.0"),
        (size(20), "; with --model.recompute --model.lora.rank 16 it needs 17.2"),
        (size(17), "; with --model.batch-tokens 16384 --model.recompute --model.lora.rank 16 it needs 16.3"),
        (size(12), "; no setting makes it fit: take a smaller model or a larger machine"),
    ],
)
def test_what_would_help_is_said_and_what_costs_least_comes_first(free: int, help_: str) -> None:
    said = refusal(Setup(ModelConfig(batch_tokens=32_768), 16_384), needed, free, learns=True)

    assert said.endswith(help_)
    assert bool(said) == (free < size(51))


def test_a_model_that_only_answers_needs_no_room_to_learn() -> None:
    def asked(setup: Setup) -> Needs:
        return of(weights=10, copy=5, cache=8 * setup.model.batch_tokens / 131_072)

    assert refusal(Setup(ModelConfig(), 1), asked, size(17), learns=False).endswith(
        "with --model.batch-tokens 16384 it needs 16.0"
    )


def test_a_model_too_large_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    config = Qwen2Config(hidden_size=2**20, intermediate_size=2**22, num_hidden_layers=200, num_attention_heads=2**13,
                         num_key_value_heads=2**13, vocab_size=150_000)  # fmt: skip
    describe(config, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")  # nobody gets so far

    with pytest.raises(ModelError, match=r"is too large to train on this cpu: it needs about \d+\.\d GiB \(weights \d"):
        LocalEngine.open(ModelConfig(path=str(tmp_path), device="cpu", dtype="float32"))


def describe(config: Qwen2Config, folder: Path) -> str:
    """A model's directory without its weights."""
    described = config.to_dict() | {"architectures": ["Qwen2ForCausalLM"], "model_type": config.model_type}
    (folder / "config.json").write_text(json.dumps(described))
    return str(folder)


GPU = torch.device("cuda")
SEVEN = Qwen2Config(hidden_size=3584, intermediate_size=18_944, num_hidden_layers=28, num_attention_heads=28,
                    num_key_value_heads=4, vocab_size=152_064, max_position_embeddings=32_768,
                    tie_word_embeddings=False)  # fmt: skip


def place(name: str, free: float, here: float = 1000, machine: str = "one") -> Place:
    device = torch.device(name.partition(":")[0])
    return Place(machine, device, name, torch.bfloat16, size(free), size(here))


def test_a_configuration_alone_tells_the_shape(tmp_path: Path) -> None:
    shape = shape_of(describe(SEVEN, tmp_path))

    assert shape.parameters == 7_615_616_512
    assert shape.block * shape.layers + shape.rest == shape.parameters
    assert shape.rest == 2 * 152_064 * 3584 + 3584


def test_learners_share_all_but_what_a_micro_batch_keeps(tmp_path: Path) -> None:
    shape = shape_of(describe(SEVEN, tmp_path))
    one, six = (learner_needs(shape, Setup(ModelConfig(), 16_384, n), GPU, torch.bfloat16) for n in (1, 6))

    for part in (Part.WEIGHTS, Part.MOMENTS, Part.GRADIENTS):
        assert six.of(part) == pytest.approx(one.of(part) / 6, abs=1)
    for part in (Part.ACTIVATIONS, Part.LOGITS, Part.GATHERED):
        assert six.of(part) == one.of(part)
    assert one.of(Part.WEIGHTS) + one.of(Part.MOMENTS) + one.of(Part.GRADIENTS) == 16 * shape.parameters
    assert one.opening == six.opening == 4 * shape.parameters


def test_adapters_are_all_that_is_learned_but_not_all_that_is_held(tmp_path: Path) -> None:
    shape = shape_of(describe(SEVEN, tmp_path))
    setup = Setup(ModelConfig(lora=LoraConfig(16)), 16_384, 2)

    found = learner_needs(shape, setup, GPU, torch.bfloat16)

    assert found.of(Part.WEIGHTS) == pytest.approx(4 * (shape.parameters + 16 * shape.adapted) / 2, abs=1)
    assert found.of(Part.MOMENTS) == 4 * 16 * shape.adapted


def test_who_is_on_one_device_or_on_the_processors_of_one_machine_shares_a_memory() -> None:
    found = crowds(
        [place("cuda:a", 70), place("cuda:b", 60), place("cpu", 9, machine="two")],
        [place("cuda:b", 61), place("cpu", 8, machine="two"), place("cpu", 8, machine="three")],
    )

    assert [(crowd.machine, crowd.learners, crowd.samplers, crowd.free) for crowd in found] == [
        ("one", 1, 0, size(70)), ("one", 1, 1, size(60)), ("three", 0, 1, size(8)), ("two", 1, 1, size(8)),
    ]  # fmt: skip


def test_by_turns_helps_on_a_processor_and_not_on_a_device_whose_processes_keep_what_they_took() -> None:
    several = [of(weights=1, cache=5), of(weights=1, gradients=2, activations=4)]

    assert side_by_side(several, cache_stays=False).total == size(2 + 6)
    assert side_by_side(several, cache_stays=True).total == size(2 + 5 + 6)


def test_processes_that_cannot_fit_are_refused_with_what_would_help(tmp_path: Path) -> None:
    config = ModelConfig(path=describe(SEVEN, tmp_path))
    learners = [place(f"cuda:{n}", 78) for n in range(6)]
    samplers = [place(f"cuda:{n}", 78) for n in range(6, 8)]

    with pytest.raises(
        ModelError, match=r"too large for 1 learner on one cuda of one: .*; with --learn.token-budget 4096 "
    ):
        require_room_at(learners, samplers, config, 16_384)
    with pytest.raises(
        ModelError, match=r"1 learner and 1 sampler on one cuda of one: .*; with --model.recompute --ray.learners 8 "
    ):
        require_room_at(learners[:2], learners[:2], config, 4096)
    require_room_at(learners, samplers, ModelConfig(path=config.path, recompute=True), 16_384)


def test_processes_that_all_open_the_model_at_once_need_room_for_so_many(tmp_path: Path) -> None:
    config = ModelConfig(path=describe(SEVEN, tmp_path), recompute=True)
    learners = [place(f"cuda:{n}", 78, here=100) for n in range(6)]

    with pytest.raises(
        ModelError, match=r"for 6 processes on one: .*, 170.2 GiB for a moment, and 100.0 of its memory"
    ):
        require_room_at(learners, [place("cuda:0", 78, machine="two")], config, 16_384)


def test_a_sampler_holds_the_weights_and_its_copy(tmp_path: Path) -> None:
    shape = shape_of(describe(SEVEN, tmp_path))

    found = sampler_needs(shape, ModelConfig(), GPU, torch.bfloat16)

    assert found.of(Part.WEIGHTS) == 4 * shape.parameters
    assert found.of(Part.COPY) == 2 * shape.parameters + 4 * 152_064 * 3584
    assert found.cache == 131_072 * 2 * 28 * 512 * 2


@given(learners=st.integers(1, 64), more=st.integers(1, 64), budget=st.integers(1, 32_768), rank=st.integers(0, 64))
def test_more_learners_never_need_more_each(learners: int, more: int, budget: int, rank: int) -> None:
    model = ModelConfig(lora=LoraConfig(rank))
    few, many = (learner_needs(MICRO, Setup(model, budget, n), CPU, torch.float32) for n in (learners, learners + more))

    assert many.total <= few.total
    assert all(term.arithmetic for term in (*few.terms, *many.terms))
