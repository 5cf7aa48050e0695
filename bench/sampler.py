"""How fast is sampling? The local engine against `transformers` generate and against its own matrix products alone.

    python bench/sampler.py [--model DIR] [--device cuda] [--threads N] [--repeats N] [--tokens N]

Both sample the shipped model at temperature 1 until it ends its text, on prompts of its own: 64 lemma prompts, and 64
problems ten times each. With --tokens no end is heeded and every completion has so many tokens. Rates are sampled tokens per second, the median of the repeats. Arms take turns, and a ratio is
the median over turns, so that whatever else the machine does weighs on all arms alike; a second column counts the
seconds of CPU instead.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from statistics import median
from typing import Any

from gasp_rl.config import LEMMA, GaspConfig, ModelConfig
from gasp_rl.policy import llama
from gasp_rl.policy.decoder import Room
from gasp_rl.policy.engine import SampleRequest, SamplingParams
from gasp_rl.policy.inprocess import Batch
from gasp_rl.policy.local import LocalEngine
from gasp_rl.policy.policy import EnginePolicy
from gasp_rl.policy.stops import StopStrings
from gasp_rl.problems.microcode.splits import load
from gasp_rl.rollout import Axis, Prompt
from gasp_rl.selfplay.prompts.micro import MICRO

# isort: split
import torch
from torch import Tensor

MODEL = ModelConfig(path="micro", dtype="float32")
PROMPTS = 64
NEW_TOKENS = 200


def lemma_prompts() -> list[Prompt]:
    axes = list(Axis)
    goalposts = load("candidates")[:PROMPTS]
    return [
        MICRO.teach(LEMMA, axes[place % len(axes)], goalpost, None, GaspConfig().pairs)
        for place, goalpost in enumerate(goalposts)
    ]


def induction_prompts() -> list[Prompt]:
    problems = load("validation")
    return [MICRO.ask_problem(problems[place * len(problems) // PROMPTS]) for place in range(PROMPTS)]  # of all depths


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


def record(engine: LocalEngine, requests: Sequence[SampleRequest]) -> Recorder:
    """The shapes that the engine meets when it answers these requests."""
    device, decoder = engine.model.device, llama.copy_weights(engine.model, torch.float32, engine.context)
    notes = Recorder(decoder)
    batch = Batch(
        notes, requests, context=engine.context, eos=engine.tokenizer.all_eos, version=0, device=device,
        stops=StopStrings(engine.tokenizer, len(decoder.embed), device), batch_rows=MODEL.batch_rows,
        batch_tokens=MODEL.batch_tokens,
    )  # fmt: skip
    for _ in batch.run():
        pass
    return notes


@torch.inference_mode()
def matmuls(notes: Recorder, *, attention: bool) -> None:
    """Only the matrix products of a recorded run, on buffers that are ready."""
    decoder = notes.inner
    kv_heads, per_kv, width = decoder.kv_heads, decoder.queries, decoder.width
    like = decoder.embed
    weights = [[layer.qkv, layer.out, layer.gate_up, layer.down] for layer in decoder.layers]
    tallest = max(*notes.prefills, *(step[0] for step in notes.steps))
    sizes = {size for weight in [*weights[0], decoder.head] for size in weight.shape}
    buffers = {size: like.new_ones(tallest, size) for size in sizes}
    results = {size: like.new_ones(tallest, size) for size in sizes}
    longest = max(prompt + new for *_, prompt, new in notes.steps)
    cache = like.new_ones(2, len(decoder.layers), 2, max(s[0] for s in notes.steps) * kv_heads, longest, width)

    def linear(weight: Tensor, rows: int) -> None:
        torch.mm(buffers[weight.shape[0]][:rows], weight, out=results[weight.shape[1]][:rows])

    def attend(queries: Tensor, place: int, index: int, positions: int) -> None:
        k, v = cache[place, index, :, : len(queries), :positions]
        torch.bmm(torch.bmm(queries, k.transpose(1, 2)), v)

    for tokens in notes.prefills:
        for weight in chain(*weights):
            linear(weight, tokens)
    for rows, groups, widest, prompt, new in notes.steps:
        queries = like.new_ones(groups * kv_heads, widest * per_kv, width)
        own = like.new_ones(rows * kv_heads, per_kv, width)
        for index, of_layer in enumerate(weights):
            for weight in of_layer:
                linear(weight, rows)
            if attention and groups == rows:  # a row's own tokens follow its prompt
                attend(own, 1, index, prompt + new)
            elif attention:
                attend(queries, 0, index, prompt)
                attend(own, 1, index, new)
        linear(decoder.head.T, rows)


def ours(engine: LocalEngine, requests: Sequence[SampleRequest]) -> int:
    return sum(len(sample.tokens) for _, samples in engine.sample(requests) for sample in samples)


@torch.inference_mode()
def theirs(engine: LocalEngine, prompts: Sequence[tuple[int, ...]], n: int, per_batch: int, limit: int) -> int:
    """`generate` on so many prompts at a time, padded on the left as it wants them."""
    model: Any = engine.model  # its `generate` is typed for a mixin
    device, end, total = engine.model.device, engine.tokenizer.eos, 0
    ends = torch.tensor(sorted(engine.tokenizer.all_eos), device=device)
    prompts = sorted(prompts, key=len)
    for first in range(0, len(prompts), per_batch):
        batch = prompts[first : first + per_batch]
        longest = max(map(len, batch))
        pads = [longest - len(prompt) for prompt in batch]
        out = model.generate(
            torch.tensor([[end] * pad + list(prompt) for pad, prompt in zip(pads, batch, strict=True)], device=device),
            attention_mask=torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads], device=device),
            max_new_tokens=limit, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=n,
        )  # fmt: skip
        ended = torch.isin(out[:, longest:], ends).int()
        total += int((ended.cumsum(1) - ended == 0).sum())
    return total


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of one arm."""

    tokens: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds

    @property
    def cpu_rate(self) -> float:
        return self.tokens / self.cpu_seconds


def timed(job: Callable[[], int], device: torch.device) -> Turn:
    start, cpu_start = time.perf_counter(), time.process_time()
    tokens = job()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return Turn(tokens, time.perf_counter() - start, time.process_time() - cpu_start)


def compare(
    engine: LocalEngine, title: str, prompts: Sequence[Prompt], n: int, limit: int, repeats: int, batches: Sequence[int]
) -> None:
    """`batches`: how many prompts `generate` gets at a time, the ways to be tried."""
    encoded = [EnginePolicy(engine).encode(prompt) for prompt in prompts]
    requests = [SampleRequest(prompt, n, SamplingParams(limit), seed) for seed, prompt in enumerate(encoded)]
    notes = record(engine, requests)
    tokens = ours(engine, requests)

    def products(*, attention: bool) -> int:
        matmuls(notes, attention=attention)
        return tokens

    local, linear, every = "local engine", "linear layers alone", "all matrix products alone"
    arms: dict[str, Callable[[], int]] = {
        local: partial(ours, engine, requests),
        linear: partial(products, attention=False),
        every: partial(products, attention=True),
    }
    for per_batch in batches:
        arms[f"generate, {per_batch * n} rows"] = partial(theirs, engine, encoded, n, per_batch, limit)
    turns: dict[str, list[Turn]] = {name: [] for name in arms}
    for turn in range(repeats + 1):
        for name, job in arms.items():
            spent = timed(job, engine.model.device)
            if turn:  # the first turn warms up
                turns[name].append(spent)

    steps, widest = len(notes.steps), max(step[0] for step in notes.steps)
    print(f"\n{title}: {len(prompts)} prompts x {n}, {tokens:,} tokens in {steps} steps, up to {widest} rows at a time")
    print(f"{'':26} {'tokens/s':>9} {'local is':>9} {'tokens/CPU s':>13} {'local is':>9}")
    for name, runs in turns.items():
        pairs = list(zip(turns[local], runs, strict=True))
        ratio, cpu_ratio = median(a.rate / b.rate for a, b in pairs), median(a.cpu_rate / b.cpu_rate for a, b in pairs)
        rate, cpu_rate = median(run.rate for run in runs), median(run.cpu_rate for run in runs)
        print(f"{name:26} {rate:9,.0f} {ratio:8.2f}x {cpu_rate:13,.0f} {cpu_ratio:8.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="micro")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=0)
    args = parser.parse_args()

    engine = LocalEngine.open(replace(MODEL, path=args.model, device=args.device, threads=args.threads))
    if args.tokens:
        engine.tokenizer.all_eos = frozenset()
        generation: Any = engine.model.generation_config
        generation.eos_token_id = None
    limit = args.tokens or NEW_TOKENS
    print(f"torch {torch.__version__}, {engine.model.device}, {torch.get_num_threads()} threads, "
          f"{sum(p.numel() for p in engine.model.parameters()):,} parameters; median of {args.repeats}")  # fmt: skip
    compare(engine, "distinct prompts", lemma_prompts(), 1, limit, args.repeats, batches=[64])
    compare(engine, "shared prompts", induction_prompts(), 10, limit, args.repeats, batches=[6, 32])


if __name__ == "__main__":
    main()
