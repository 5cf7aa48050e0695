"""Both ways of decoding against the model's own forward pass."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor
from transformers import (
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from gasp_rl.policy import generic, llama
from gasp_rl.policy.decoder import Decoder, Room, Session

MakeModel: TypeAlias = Callable[[PreTrainedConfig], PreTrainedModel]

SIZE: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip

FAST = {
    "llama": LlamaConfig(**SIZE),
    "llama tied": LlamaConfig(**SIZE, tie_word_embeddings=True),
    "llama with one key head per query head": LlamaConfig(**{**SIZE, "num_key_value_heads": 4}),
    "llama with biases": LlamaConfig(**SIZE, attention_bias=True),
    "llama with wide heads": LlamaConfig(**SIZE, head_dim=16),
    "llama 3 rope": LlamaConfig(
        **SIZE, rope_parameters={"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0,
                                 "high_freq_factor": 4.0, "original_max_position_embeddings": 16}),
    "qwen2": Qwen2Config(**SIZE, rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
    "qwen2 tied": Qwen2Config(**SIZE, tie_word_embeddings=True),
}  # fmt: skip

SLOW = {
    "gpt2": GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=None, eos_token_id=1),
    "gpt-neox": GPTNeoXConfig(**{k: v for k, v in SIZE.items() if k != "num_key_value_heads"}),
    "mistral with a sliding window": MistralConfig(**SIZE, sliding_window=8),
    "qwen2 with a sliding window": Qwen2Config(**SIZE, use_sliding_window=True, sliding_window=8, max_window_layers=1),
    "qwen3": Qwen3Config(**SIZE, head_dim=8),
    "gemma2 with capped logits": Gemma2Config(**SIZE, head_dim=8),
    "llama with a gelu": LlamaConfig(**SIZE, hidden_act="gelu"),
    "llama with dynamic rope": LlamaConfig(
        **SIZE, rope_parameters={"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0}),
}  # fmt: skip

PROMPTS = [(5, 6, 7, 8, 9, 10, 11), (12, 13), (14, 15, 16, 17), (18,)]


def distance(model: PreTrainedModel, texts: list[list[int]], logits_NV: Tensor) -> float:
    """The largest one from the model's own logits."""
    worst = 0.0
    for text, logits_V in zip(texts, logits_NV, strict=True):
        with torch.no_grad():
            want = model(input_ids=torch.tensor([text])).logits[0, -1]
        worst = max(worst, float((want - logits_V).abs().max()))
    return worst


def decode(session: Session, model: PreTrainedModel) -> float:
    """Play a script of joining, stepping and dropping; the largest distance from the model's own logits."""
    worst = 0.0

    def check(texts: list[list[int]], logits_NV: Tensor) -> None:
        nonlocal worst
        worst = max(worst, distance(model, texts, logits_NV))

    check([list(prompt) for prompt in PROMPTS], session.prefill(PROMPTS))
    groups = [0, 1, 0, 2, 3, 0]
    session.join(groups)
    texts = [list(PROMPTS[group]) for group in groups]

    for step in range(12):
        tokens = [20 + (3 * step + 5 * row) % 17 for row in range(len(texts))]
        for text, token in zip(texts, tokens, strict=True):
            text.append(token)
        check(texts, session.step(torch.tensor(tokens)))
        if step == 4:
            session.keep(
                [0, 5, 2, 3], [0, 3, 2]
            )  # drops row 1 (all of group 1) and row 4 (all of group 3, but it stays)
            texts = [texts[row] for row in (0, 5, 2, 3)]
        if step == 6 and session.continuous:
            late = (30, 31, 32)
            check([list(late)], session.prefill([late]))
            session.join([3, 1, 3])  # group 1 is what group 3 was
            texts += [list(late), list(PROMPTS[3]), list(late)]
    return worst


def open_session(decoder: Decoder) -> Session:
    return decoder.open(Room(groups=5, prompt=7, rows=8, new=12))


@pytest.mark.parametrize("config", FAST.values(), ids=FAST)
def test_the_fast_path_gives_the_logits_of_the_model(config: PreTrainedConfig, make_model: MakeModel) -> None:
    model = make_model(config)

    assert llama.supports(model)
    assert decode(open_session(llama.copy_weights(model, torch.float32, 64)), model) < 1e-4


@pytest.mark.parametrize("piece", [1, 100, 2**18])
@pytest.mark.parametrize("config", FAST.values(), ids=FAST)
def test_weights_in_bfloat16_can_be_met_in_float32(
    config: PreTrainedConfig, piece: int, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large the pieces, it is as if they were all widened before."""
    monkeypatch.setattr(llama, "PIECE", piece)
    narrow = llama.copy_weights(make_model(config), torch.bfloat16, 64, arithmetic=torch.float32)
    layers = [
        replace(
            layer, **{f.name: weight.float() for f in fields(layer) if (weight := getattr(layer, f.name)) is not None}
        )
        for layer in narrow.layers
    ]
    wide = replace(narrow, embed=narrow.embed.float(), head=narrow.head.float(), layers=tuple(layers))

    found = []
    for decoder in (narrow, wide):
        session = open_session(decoder)
        first = session.prefill(PROMPTS)
        session.join([0, 1, 0, 2, 3, 0])
        found.append([first, *(session.step(torch.arange(6) + step) for step in range(5))])

    assert narrow.head.dtype == narrow.layers[0].down.dtype == torch.bfloat16
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("config", FAST.values(), ids=FAST)
def test_rows_that_share_no_prompt_give_the_logits_of_the_model(
    config: PreTrainedConfig, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama, "ROW_TOKENS", 2)
    model = make_model(config)
    session = llama.copy_weights(model, torch.float32, 64).open(Room(groups=4, prompt=8, rows=4, new=12))
    worst = distance(model, [list(prompt) for prompt in PROMPTS], session.prefill(PROMPTS))
    session.join(range(4))
    texts = [list(prompt) for prompt in PROMPTS]

    for step in range(10):
        tokens = [20 + (3 * step + 5 * row) % 17 for row in range(len(texts))]
        for text, token in zip(texts, tokens, strict=True):
            text.append(token)
        worst = max(worst, distance(model, texts, session.step(torch.tensor(tokens))))
        if step == 3:
            session.keep([0, 3, 2], [0, 3, 2])
            texts = [texts[0], texts[3], texts[2]]
        if step == 5:
            late = (30, 31, 32, 33)
            worst = max(worst, distance(model, [list(late)], session.prefill([late])))
            session.join([3])
            texts.append(list(late))

    assert worst < 1e-4


def test_rows_that_share_a_prompt_though_each_could_have_its_own_give_the_logits_of_the_model(
    make_model: MakeModel,
) -> None:
    model = make_model(FAST["llama"])
    session = llama.copy_weights(model, torch.float32, 64).open(Room(groups=8, prompt=7, rows=8, new=12))

    assert decode(session, model) < 1e-4


@pytest.mark.parametrize("config", SLOW.values(), ids=SLOW)
def test_the_generic_path_gives_the_logits_of_the_model(config: PreTrainedConfig, make_model: MakeModel) -> None:
    model = make_model(config)

    assert not llama.supports(model)
    assert decode(open_session(generic.copy_model(model, torch.float32)), model) < 2e-4


def test_both_paths_agree_on_a_model_that_both_know(make_model: MakeModel) -> None:
    model = make_model(FAST["qwen2"])

    assert decode(open_session(generic.copy_model(model, torch.float32)), model) < 1e-4


def test_a_copy_in_bfloat16_stays_close(make_model: MakeModel) -> None:
    model = make_model(LlamaConfig(**{**SIZE, "num_hidden_layers": 1}))

    assert decode(open_session(llama.copy_weights(model, torch.bfloat16, 64)), model) < 0.5


@pytest.mark.parametrize("name", ["llama tied", "qwen2"])
def test_a_copy_shares_nothing_with_the_model(name: str, make_model: MakeModel) -> None:
    model = make_model(FAST[name])
    decoder = llama.copy_weights(model, torch.float32, 64)
    before = open_session(decoder).prefill(PROMPTS)

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()

    assert torch.equal(open_session(decoder).prefill(PROMPTS), before)


def test_prompts_prefilled_in_small_chunks_give_the_same_logits(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = llama.copy_weights(make_model(FAST["llama"]), torch.float32, 64)
    whole = open_session(decoder).prefill(PROMPTS)

    monkeypatch.setitem(llama.PREFILL_TOKENS, "cpu", 8)

    assert [len(chunk) for chunk in llama.chunks(PROMPTS, 8)] == [1, 2, 1]
    assert torch.allclose(open_session(decoder).prefill(PROMPTS), whole, atol=1e-5)


def test_rows_that_outgrow_their_first_room_keep_what_they_have(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(FAST["llama"])

    monkeypatch.setattr(llama, "ROW_TOKENS", 2)  # grown thrice: to 4, 8 and the 12 of the room

    assert decode(open_session(llama.copy_weights(model, torch.float32, 64)), model) < 1e-4
