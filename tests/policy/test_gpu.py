"""The local engine on one CUDA device: the same promises, in bfloat16 and with tolerances to match."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from transformers import LlamaConfig, PreTrainedConfig, PreTrainedModel, Qwen2Config

from gasp_rl.config import ModelConfig
from gasp_rl.policy import generic, llama
from gasp_rl.policy.decoder import Decoder, Room
from gasp_rl.policy.engine import Loss, OptimParams, SampleRequest, SamplingParams, TrainItem
from gasp_rl.policy.local import TOKEN_BUDGET, LocalEngine, choose_device, choose_dtype
from gasp_rl.policy.scripted import CharTokenizer
from gasp_rl.policy.tokenizer import HfTokenizer

pytestmark = pytest.mark.gpu

MakeModel: TypeAlias = Callable[[PreTrainedConfig], PreTrainedModel]

SIZE: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
PROMPTS = [tuple(5 + (7 * row + t) % 250 for t in range(3 + 11 * row)) for row in range(6)]


class Letters(CharTokenizer, HfTokenizer):
    """A character is a token, so no files are needed."""

    def __init__(self) -> None:
        self.all_eos = frozenset({0})


@pytest.fixture
def model(make_model: MakeModel) -> PreTrainedModel:
    made = make_model(Qwen2Config(**SIZE, tie_word_embeddings=True))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(0.4)
    torch.nn.Module.to(made, "cuda")
    return made


def engine_of(
    model: PreTrainedModel, dtype: torch.dtype, token_budget: int = TOKEN_BUDGET, batch_rows: int = 512
) -> LocalEngine:
    config = ModelConfig(batch_rows=batch_rows)
    return LocalEngine.of(model, Letters(), config, dtype=dtype, token_budget=token_budget)


def training(engine: LocalEngine, n: int = 8) -> list[TrainItem]:
    asked = [SampleRequest(prompt, n, SamplingParams(40), seed) for seed, prompt in enumerate(PROMPTS)]
    answers = dict(engine.sample(asked))
    return [
        TrainItem(PROMPTS[index], sample.tokens, math.sin(5 * index + place), sample.logprobs)
        for index in sorted(answers)
        for place, sample in enumerate(answers[index])
    ]


def test_auto_chooses_the_gpu_and_bfloat16() -> None:
    device = choose_device("auto")

    assert device.type == "cuda"
    assert choose_dtype("auto", device) is torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", [llama.copy_weights, generic.copy_model], ids=["fast", "generic"])
def test_decoding_gives_the_logits_of_the_model(
    way: Callable[..., Decoder], dtype: torch.dtype, model: PreTrainedModel
) -> None:
    decoder = way(model, dtype, 256) if way is llama.copy_weights else way(model, dtype)
    session = decoder.open(Room(groups=6, prompt=64, rows=12, new=10))
    texts = [list(prompt) for prompt in PROMPTS for _ in range(2)]
    session.prefill(PROMPTS)
    session.join([group for group in range(len(PROMPTS)) for _ in range(2)])

    worst = 0.0
    for step in range(10):
        tokens = [20 + (3 * step + 5 * row) % 200 for row in range(len(texts))]
        for text, token in zip(texts, tokens, strict=True):
            text.append(token)
        logits = session.step(torch.tensor(tokens, device="cuda")).float()
        for text, logits_V in zip(texts, logits, strict=True):
            with torch.no_grad():
                want = model(input_ids=torch.tensor([text], device="cuda")).logits[0, -1]
            worst = max(worst, float((want - logits_V).abs().max() / want.abs().max()))

    assert worst < (1e-3 if dtype is torch.float32 else 0.05)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-3), (torch.bfloat16, 0.3)])
def test_the_ratio_is_near_one_right_after_publishing(dtype: torch.dtype, bound: float, model: PreTrainedModel) -> None:
    engine = engine_of(model, dtype)
    engine.forward_backward(training(engine), Loss(100.0)).result()
    engine.optim_step(OptimParams(1e-3)).result()
    engine.publish().result()

    items = training(engine)
    stats = engine.forward_backward(items, Loss(100.0)).result()

    assert stats.log_ratio_max < bound
    learned = engine.logprobs(items).result()
    gaps = [
        a - b for item, new in zip(items, learned, strict=True) for a, b in zip(item.old_logprobs, new, strict=True)
    ]
    assert abs(sum(gaps) / len(gaps)) < bound / 20


@pytest.mark.parametrize("token_budget", [50, 300])
def test_the_gradient_does_not_depend_on_the_micro_batch_size(make_model: MakeModel, token_budget: int) -> None:
    grads = []
    items: list[TrainItem] = []
    for budget in (100_000, token_budget):
        model = make_model(LlamaConfig(**SIZE))
        torch.nn.Module.to(model, "cuda")
        engine = engine_of(model, torch.float32, token_budget=budget)
        items = items or training(engine)
        engine.forward_backward(items, Loss(100.0)).result()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))

    assert float((grads[0] - grads[1]).norm() / grads[0].norm()) < 1e-4


def test_samples_do_not_depend_on_what_they_are_batched_with(model: PreTrainedModel) -> None:
    wide, narrow = engine_of(model, torch.float32), engine_of(model, torch.float32, batch_rows=5)

    pairs = list(zip(training(wide), training(narrow), strict=True))

    # Rounding may push a draw over an edge once in a while.
    assert sum(a.completion == b.completion for a, b in pairs) >= 0.9 * len(pairs)


def test_saving_and_loading_is_bit_exact(model: PreTrainedModel, make_model: MakeModel, tmp_path: Path) -> None:
    engine = engine_of(model, torch.bfloat16)
    items = training(engine)
    engine.forward_backward(items, Loss(100.0)).result()
    engine.optim_step(OptimParams(1e-3)).result()
    engine.publish().result()
    engine.save(tmp_path / "checkpoint")
    other = make_model(Qwen2Config(**SIZE, tie_word_embeddings=True))
    torch.nn.Module.to(other, "cuda")
    resumed = engine_of(other, torch.bfloat16)
    resumed.load(tmp_path / "checkpoint")

    for each in (engine, resumed):
        each.forward_backward(items, Loss(100.0)).result()
        each.optim_step(OptimParams(1e-3)).result()

    for a, b in zip(engine.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_is_rewarded_becomes_likely(model: PreTrainedModel) -> None:
    engine = engine_of(model, torch.bfloat16)
    prompt = PROMPTS[2]
    good = set(range(100))

    rates = []
    for step in range(15):
        samples = next(engine.sample([SampleRequest(prompt, 256, SamplingParams(1), step)]))[1]
        rates.append(sum(s.tokens[0] in good for s in samples) / 256)
        items = [TrainItem(prompt, s.tokens, (s.tokens[0] in good) - rates[-1], s.logprobs) for s in samples]
        engine.forward_backward(items, Loss(256.0)).result()
        engine.optim_step(OptimParams(1e-2)).result()
        engine.publish().result()

    assert rates[-1] > max(0.9, rates[0])
