"""Pretrain the embedded model: supervised, on completion tokens only, the same number of tokens for every lesson.

    python -m gasp_rl.world.pretrain --out src/gasp_rl/data/micro

On the CPU the bytes that come out depend only on the configuration, the kind of CPU and the number of threads.
"""

import itertools
import math
import os
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads starve whoever runs beside us

import torch
import tyro
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gasp_rl.problems.microcode.splits import Holdout, holdout
from gasp_rl.selfplay.prompts.micro import INPUTS
from gasp_rl.streams import seed_of, stream
from gasp_rl.world import vocabulary
from gasp_rl.world.corpus import CorpusConfig, Lesson, Teacher


@dataclass(frozen=True, slots=True)
class ModelShape:
    layers: int = 4
    hidden: int = 192
    heads: int = 6
    kv_heads: int = 2
    intermediate: int = 656
    positions: int = 512


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    seed: int = 0
    tokens: int = 8_000_000
    """Prompt and completion tokens in all, seen once."""
    batch_tokens: int = 1024
    """Per optimizer step, padding included."""
    lr: float = 2e-3
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises; then it falls as a cosine to a twentieth."""
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    grad_clip: float = 1.0
    drawn_weight: float = 0.1
    """Of the tokens of randomly drawn inputs in the loss; the others count 1. They are most of what the teacher writes
    and cannot be foretold: at full weight their noise drowns the rest."""
    threads: int = 2
    shape: ModelShape = field(default_factory=ModelShape)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)


@dataclass(frozen=True, slots=True)
class Encoded:
    tokens: tuple[int, ...]
    prompt: int
    """How many of the tokens are the prompt."""
    drawn: int
    """From which place on the tokens are inputs drawn at random, which nothing foretells."""


def encode_lesson(
    teacher: Teacher, lesson: Lesson, tokenizer: PreTrainedTokenizerFast, tokens: int, seed: int
) -> list[Encoded]:
    """Examples of one lesson, as many as it takes to fill `tokens`."""
    encoded: list[Encoded] = []
    headers = {place for place, piece in enumerate(vocabulary.pieces()) if piece.startswith("\n" + INPUTS)}
    examples = teacher.examples(lesson, seed)
    while tokens > 0:
        chunk = list(itertools.islice(examples, 250))
        prompts = tokenizer([example.prompt for example in chunk])["input_ids"]
        completions = tokenizer([example.completion for example in chunk])["input_ids"]
        for prompt, completion in zip(prompts, completions, strict=True):
            tokens_of = (*prompt, *completion, tokenizer.eos_token_id)
            drawn = next(
                (place + 1 for place, token in enumerate(tokens_of) if place >= len(prompt) and token in headers),
                len(tokens_of),
            )
            encoded.append(Encoded(tokens_of, len(prompt), drawn))
            tokens -= len(encoded[-1].tokens)
            if tokens <= 0:
                break
    return encoded


def batches(sequences: Sequence[Encoded], batch_tokens: int, rng: random.Random) -> list[list[Encoded]]:
    """Every sequence once, those of like length together, batches in random order: little of it is padding."""
    order = sorted(sequences, key=lambda s: (len(s.tokens), rng.random()))
    cut: list[list[Encoded]] = [[]]
    for sequence in order:
        if (len(cut[-1]) + 1) * len(sequence.tokens) > batch_tokens:
            cut.append([])
        cut[-1].append(sequence)
    rng.shuffle(cut)
    return cut


@cache
def structural() -> tuple[bool, ...]:
    """For each token, whether it ends a line or a text: among drawn inputs these alone can be foretold."""
    return tuple("\n" in piece or piece == vocabulary.EOS for piece in vocabulary.pieces())


def build_model(shape: ModelShape, seed: int, device: torch.device) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary.SIZE,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=1,
    )
    config.update({"gasp_prompts": "micro"})  # how it is to be asked, wherever it is copied to
    model = LlamaForCausalLM(config)
    torch.nn.Module.to(model, device)
    return model


def batch_loss(
    model: LlamaForCausalLM, batch: Sequence[Encoded], drawn_weight: float, device: torch.device
) -> torch.Tensor:
    """Weighted mean negative log-likelihood of the completion tokens, nats."""
    longest = max(len(s.tokens) for s in batch)
    ids_BT = torch.tensor([[*s.tokens, *[1] * (longest - len(s.tokens))] for s in batch], device=device)
    place_T = torch.arange(longest, device=device)
    start_B1 = torch.tensor([[s.prompt] for s in batch], device=device)
    end_B1 = torch.tensor([[len(s.tokens)] for s in batch], device=device)
    structural_V = torch.tensor(structural(), device=device)
    drawn_B1 = torch.tensor([[s.drawn] for s in batch], device=device)
    predicts_BT = ((place_T >= start_B1) & (place_T < end_B1))[:, 1:]  # position t is predicted from t - 1
    # Padding is on the right and attention is causal, so no mask is needed; the head is run only where it is graded.
    hidden_BTH = model.model(input_ids=ids_BT).last_hidden_state
    nll_N = cross_entropy(model.lm_head(hidden_BTH[:, :-1][predicts_BT]), ids_BT[:, 1:][predicts_BT], reduction="none")
    noise_BT = (place_T >= drawn_B1) & ~structural_V[ids_BT]
    weights_N = torch.where(noise_BT, drawn_weight, 1.0)[:, 1:][predicts_BT]
    return (nll_N * weights_N).sum() / weights_N.sum()


def schedule(step: int, steps: int, warmup: float) -> float:
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def corpus(cfg: PretrainConfig, held: Holdout, tokenizer: PreTrainedTokenizerFast) -> list[Encoded]:
    teacher = Teacher(cfg.corpus, held)
    return [
        sequence
        for lesson in Lesson
        for sequence in encode_lesson(teacher, lesson, tokenizer, cfg.tokens // len(Lesson), cfg.seed)
    ]


def train(
    model: LlamaForCausalLM, order: Iterable[list[Encoded]], steps: int, cfg: PretrainConfig, device: torch.device
) -> Iterator[float]:
    """One pass over the batches; yields the loss of every step."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=cfg.lr, betas=cfg.betas, weight_decay=cfg.weight_decay, fused=True
    )
    model.train()
    for step, batch in enumerate(order):
        for group in optimizer.param_groups:
            group["lr"] = cfg.lr * schedule(step, steps, cfg.warmup)
        loss = batch_loss(model, batch, cfg.drawn_weight, device)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()


def pretrain(out: Path, cfg: PretrainConfig, device: str = "cpu") -> None:
    """Write the pretrained model and its tokenizer as a Hugging Face directory, weights in bfloat16."""
    torch.set_num_threads(cfg.threads)
    torch.use_deterministic_algorithms(device == "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    began = time.monotonic()
    tokenizer = vocabulary.build()
    sequences = corpus(cfg, holdout(), tokenizer)
    order = batches(sequences, cfg.batch_tokens, stream(cfg.seed, "order"))
    model = build_model(cfg.shape, seed_of(cfg.seed, "weights"), torch.device(device))
    size = sum(p.numel() for p in model.parameters())
    print(
        f"{len(sequences)} examples, {len(order)} steps, {size / 1e6:.2f} M parameters, "
        f"corpus in {time.monotonic() - began:.0f} s"
    )

    window: list[float] = []
    for step, loss in enumerate(train(model, order, len(order), cfg, torch.device(device)), start=1):
        window.append(loss)
        if step % 50 == 0 or step == len(order):
            print(f"step {step}: loss {sum(window) / len(window):.4f}, {time.monotonic() - began:.0f} s", flush=True)
            window.clear()

    out.mkdir(parents=True, exist_ok=True)
    torch.nn.Module.to(model, device="cpu", dtype=torch.bfloat16)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main(out: Path, cfg: PretrainConfig = PretrainConfig(), device: str = "cpu") -> None:
    """Pretrain the embedded model."""
    pretrain(out, cfg, device)


if __name__ == "__main__":
    tyro.cli(main)
