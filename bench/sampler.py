"""How fast is sampling? The local engine against `transformers` generate and against its own matrix products alone.

    python bench/sampler.py [--device cuda] [--threads N] [--repeats N]

The model has the micro model's shape and random weights, so the spread of lengths comes from making ten tokens end a
text: 36 tokens on average, 64 at most. Rates are sampled tokens per second, the median of the repeats; arms take turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gasp_rl.policy  # noqa: F401  (sets the OpenMP policy, so it comes before torch)

# isort: split
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from gasp_rl.policy import llama
from gasp_rl.policy.decoder import Room
from gasp_rl.policy.engine import SampleRequest, SamplingParams
from gasp_rl.policy.local import choose_device
from gasp_rl.policy.sampler import Sampler
from gasp_rl.policy.scripted import CharTokenizer
from gasp_rl.policy.stops import StopStrings
from gasp_rl.streams import stream

EOS = frozenset(range(2, 12))
NEW_TOKENS = 64
ROWS = 64


def micro_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=6,
        num_key_value_heads=6, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=sorted(EOS), pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def prompts(count: int) -> list[tuple[int, ...]]:
    rng = stream(0, "bench")
    return [tuple(rng.randrange(12, 512) for _ in range(rng.randint(60, 100))) for _ in range(count)]


@dataclass
class Recorder:
    """A decoder that notes the shape of everything it is asked."""

    inner: llama.LlamaDecoder
    prefills: list[int] = field(default_factory=list)
    """Tokens of each prefilled prompt batch, padding included."""
    steps: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    """Rows, groups, rows of the largest group, tokens of the longest prompt, tokens of the longest completion."""

    def open(self, room: Room) -> "RecordingSession":
        return RecordingSession(self.inner.open(room), self)


@dataclass
class RecordingSession:
    inner: llama.LlamaSession
    notes: Recorder
    continuous: bool = True
    prompts: list[int] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    """Group and length of each row."""

    def prefill(self, asked: Sequence[tuple[int, ...]]) -> Tensor:
        for chunk in llama.chunks(asked, llama.PREFILL_TOKENS[self.notes.inner.embed.device.type]):
            self.notes.prefills.append(len(chunk) * max(map(len, chunk)))
        self.prompts += map(len, asked)
        return self.inner.prefill(asked)

    def join(self, groups: Sequence[int]) -> None:
        self.rows += [[group, 0] for group in groups]
        self.inner.join(groups)

    def step(self, tokens_N: Tensor) -> Tensor:
        sizes = [sum(row[0] == group for row in self.rows) for group in range(len(self.prompts))]
        longest = max(length for _, length in self.rows) + 1
        self.notes.steps.append((len(self.rows), len(sizes), max(sizes), max(self.prompts), longest))
        for row in self.rows:
            row[1] += 1
        return self.inner.step(tokens_N)

    def keep(self, rows: Sequence[int], groups: Sequence[int]) -> None:
        place = {old: new for new, old in enumerate(groups)}
        self.rows = [[place[self.rows[row][0]], self.rows[row][1]] for row in rows]
        self.prompts = [self.prompts[group] for group in groups]
        self.inner.keep(rows, groups)


def matmuls(notes: Recorder, *, attention: bool) -> None:
    """Only the matrix products of a recorded run, on buffers that are ready."""
    decoder, layer = notes.inner, notes.inner.layers[0]
    kv_heads, per_kv, width = decoder.kv_heads, decoder.heads // decoder.kv_heads, decoder.head_dim
    like = decoder.embed
    weights = [layer.qkv, layer.out, layer.gate_up, layer.down]
    tallest = max(*notes.prefills, *(step[0] for step in notes.steps))
    inputs = {weight.shape[1]: like.new_ones(tallest, weight.shape[1]) for weight in [*weights, decoder.head]}
    cache = like.new_ones(2, len(decoder.layers), 2, max(s[0] for s in notes.steps) * kv_heads, 512, width)

    for tokens in notes.prefills:
        for _ in decoder.layers:
            for weight in weights:
                torch.mm(inputs[weight.shape[1]][:tokens], weight.T)
    for rows, groups, widest, prompt, new in notes.steps:
        queries = like.new_ones(groups * kv_heads, widest * per_kv, width)
        own = like.new_ones(rows * kv_heads, per_kv, width)
        for index, _ in enumerate(decoder.layers):
            for weight in weights:
                torch.mm(inputs[weight.shape[1]][:rows], weight.T)
            if attention:
                k, v = cache[0, index, :, : groups * kv_heads, :prompt]
                torch.bmm(torch.bmm(queries, k.transpose(1, 2)), v)
                k, v = cache[1, index, :, : rows * kv_heads, :new]
                torch.bmm(torch.bmm(own, k.transpose(1, 2)), v)
        torch.mm(inputs[decoder.head.shape[1]][:rows], decoder.head.T)


@dataclass(frozen=True)
class Arena:
    model: LlamaForCausalLM
    decoder: llama.LlamaDecoder
    device: torch.device

    def ours(self, decoder: llama.LlamaDecoder | Recorder, asked: list[tuple[int, ...]], n: int, rows: int) -> int:
        requests = [SampleRequest(prompt, n, SamplingParams(NEW_TOKENS), seed) for seed, prompt in enumerate(asked)]
        sampler = Sampler(
            decoder, requests, context=512, eos=EOS, stops=StopStrings(CharTokenizer(), 512, self.device), version=0,
            batch_rows=rows, batch_tokens=1 << 20, device=self.device,
        )  # fmt: skip
        return sum(len(sample.tokens) for _, samples in sampler.run() for sample in samples)

    @torch.inference_mode()
    def theirs(self, asked: list[tuple[int, ...]], n: int) -> int:
        """`generate` on batches of ROWS rows, prompts padded on the left as it wants them."""
        model: Any = self.model  # its `generate` is typed for a mixin
        total, per_batch = 0, ROWS // n
        ends = torch.tensor(sorted(EOS), device=self.device)
        for first in range(0, len(asked), per_batch):
            batch = asked[first : first + per_batch]
            longest = max(map(len, batch))
            tokens = torch.tensor(
                [[0] * (longest - len(prompt)) + list(prompt) for prompt in batch], device=self.device
            )
            out = model.generate(
                tokens, attention_mask=(tokens > 0).long(), max_new_tokens=NEW_TOKENS, do_sample=True, top_k=0,
                num_return_sequences=n, output_logits=True, return_dict_in_generate=True,
            )  # fmt: skip
            ended = torch.isin(out.sequences[:, longest:], ends).int()
            total += int((ended.cumsum(1) - ended == 0).sum())
        return total


def seconds(job: Callable[[], object], device: torch.device) -> tuple[float, object]:
    start = time.perf_counter()
    result = job()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def compare(arena: Arena, title: str, asked: list[tuple[int, ...]], n: int, rows: int, repeats: int) -> None:
    notes = Recorder(arena.decoder)
    arena.ours(notes, asked, n, rows)
    arms: dict[str, Callable[[], object]] = {
        "local engine": lambda: arena.ours(arena.decoder, asked, n, rows),
        "transformers generate": lambda: arena.theirs(asked, n),
        "linear layers alone": lambda: matmuls(notes, attention=False),
        "all matrix products alone": lambda: matmuls(notes, attention=True),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    tokens: dict[str, object] = {}
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for name, job in arms.items():
                spent, result = seconds(job, arena.device)
                if turn:  # the first turn warms up
                    times[name].append(spent)
                    tokens[name] = result

    ours = tokens["local engine"]
    steps, widest = len(notes.steps), max(step[0] for step in notes.steps)
    print(f"{title}: {len(asked)} prompts x {n}, up to {widest} rows at a time, {steps} steps")
    rates = {}
    for name, runs in times.items():
        done = tokens[name] if isinstance(tokens[name], int) else ours
        assert isinstance(done, int)
        rates[name] = done / statistics.median(runs)
        print(f"  {name:26} {rates[name]:9,.0f} tokens/s   (median of {repeats}: {statistics.median(runs):.3f} s)")
    print(f"  local / generate {rates['local engine'] / rates['transformers generate']:.2f}x, "
          f"local / linear layers {rates['local engine'] / rates['linear layers alone']:.2f}, "
          f"local / all matrix products {rates['local engine'] / rates['all matrix products alone']:.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)

    device = choose_device(args.device)
    model = micro_model()
    torch.nn.Module.to(model, device)
    arena = Arena(model, llama.copy_weights(model, torch.float32, 512), device)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, "
          f"{sum(p.numel() for p in model.parameters()):,} parameters")  # fmt: skip
    compare(arena, "distinct prompts", prompts(ROWS), 1, ROWS, args.repeats)
    compare(arena, "shared prompts", prompts(ROWS), 10, ROWS, max(1, args.repeats // 3))
    compare(arena, "shared prompts, wide", prompts(ROWS), 10, 512, max(1, args.repeats // 3))


if __name__ == "__main__":
    main()
