"""What a real model's samplers owe it: `make test-model MODEL=DIR`, with vLLM `make test-vllm MODEL=DIR`."""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from gasp_rl.config import LoraConfig, ModelConfig
from gasp_rl.policy.engine import Loss, OptimParams, Sample, SampleRequest, SamplingParams, TrainItem
from gasp_rl.policy.local import LocalEngine

# isort: split
import torch

pytestmark = pytest.mark.model

OF_VLLM = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]
QUESTIONS = [
    "Write a Python function that returns the sum of the even numbers of a list.",
    "What does `sorted(set(xs))[-2]` do, and when does it fail?",
    "Write a program that reads n and prints the n-th Fibonacci number modulo 1000000007.",
    "Reverse the words of a sentence in Python. Code only.",
]
TIE = 0.05
"""Probabilities nearer than this are told apart by rounding."""


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[LocalEngine]:
    """One at a time: two would take twice the memory."""
    with closing(opened(*request.param)) as made:
        yield made


def in_type(dtype: str, rank: int = 0) -> pytest.MarkDecorator:
    """An engine for each sampler, in float32 or bfloat16, with adapters of a rank or without."""
    vllm = pytest.param(("vllm", dtype, rank), marks=OF_VLLM, id=f"vllm-{dtype}-{rank}")
    ours = pytest.param(("in-process", dtype, rank), id=f"in-process-{dtype}-{rank}")
    return pytest.mark.parametrize("engine", [ours, vllm], indirect=True, scope="module")


def opened(sampler: str, dtype: str, rank: int) -> LocalEngine:
    config: Any = ModelConfig(path=os.environ["GASP_MODEL"], batch_tokens=8192, lora=LoraConfig(rank=rank))
    return LocalEngine.open(replace(config, sampler=sampler, dtype=dtype), learns=False)


def prompts(engine: LocalEngine) -> list[tuple[int, ...]]:
    return [engine.tokenizer.chat([("user", question)]) for question in QUESTIONS]


def sampled(engine: LocalEngine, params: SamplingParams, n: int) -> list[tuple[tuple[int, ...], Sample]]:
    given = prompts(engine)
    answers = dict(engine.sample([SampleRequest(prompt, n, params, seed) for seed, prompt in enumerate(given)]))
    return [(prompt, sample) for index, prompt in enumerate(given) for sample in answers[index]]


def generated(engine: LocalEngine, prompt: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """What `generate` of transformers finds, greedily, with the float32 weights."""
    model: Any = engine.model
    ids = torch.tensor([prompt], device=engine.model.device)
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False, repetition_penalty=1.0,
        temperature=None, top_p=None, top_k=None,
    )  # fmt: skip
    return tuple(out[0, len(prompt) :].tolist())


def probabilities(engine: LocalEngine, text: tuple[int, ...]) -> torch.Tensor:
    """Of the next token, with the float32 weights."""
    with torch.no_grad():
        ids = torch.tensor([text], device=engine.model.device)
        logits_V: torch.Tensor = engine.model(input_ids=ids).logits[0, -1]
    return logits_V.softmax(-1)


def distances(engine: LocalEngine) -> torch.Tensor:
    """Between sampler and learner, of the log-prob of each of some hundred sampled tokens."""
    pairs = sampled(engine, SamplingParams(48), n=4)
    items = [TrainItem(prompt, sample.tokens, 0.0, sample.logprobs) for prompt, sample in pairs]
    learned = engine.logprobs(items).result()
    gaps = [
        abs(a - b)
        for item, new in zip(items, learned, strict=True)
        for a, b in zip(item.old_logprobs, new, strict=True)
    ]
    found = torch.tensor(gaps)
    print(f"{len(found)} tokens, mean {found.mean():.2g}, max {found.max():.2g}")
    return found


@in_type("float32")
def test_greedy_is_what_generate_finds(engine: LocalEngine) -> None:
    for prompt, sample in sampled(engine, SamplingParams(64, temperature=0.0), n=1):
        assert sample.tokens == generated(engine, prompt, 64)


@in_type("bfloat16")
def test_greedy_in_bfloat16_first_differs_at_a_near_tie(engine: LocalEngine) -> None:
    for prompt, sample in sampled(engine, SamplingParams(64, temperature=0.0), n=1):
        theirs = generated(engine, prompt, 64)
        alike = next((place for place, (a, b) in enumerate(zip(sample.tokens, theirs, strict=False)) if a != b), None)
        if alike is None:
            print(f"{len(theirs)} tokens alike")
            assert sample.tokens == theirs
        else:
            p_V = probabilities(engine, prompt + theirs[:alike])
            gap = float(p_V[theirs[alike]] - p_V[sample.tokens[alike]])
            print(f"{alike} tokens alike, then {p_V[theirs[alike]]:.3f} and {p_V[sample.tokens[alike]]:.3f}")
            assert 0 <= gap < TIE


@in_type("float32")
def test_log_probs_of_samples_are_those_of_the_learner(engine: LocalEngine) -> None:
    assert distances(engine).max() < 1e-4


@in_type("bfloat16")
def test_log_probs_in_bfloat16_are_near_those_of_the_learner(engine: LocalEngine) -> None:
    assert distances(engine).mean() < 2e-2


@in_type("float32", rank=16)
def test_what_was_learned_is_sampled_from_once_it_is_published(engine: LocalEngine) -> None:
    before = sampled(engine, SamplingParams(48), n=2)
    items = [TrainItem(prompt, one.tokens, (-1.0) ** place, one.logprobs) for place, (prompt, one) in enumerate(before)]
    engine.forward_backward(items, Loss(float(sum(len(one.tokens) for _, one in before)))).result()
    engine.optim_step(OptimParams(lr=1e-3)).result()
    moved = max(abs(a - b) for item, new in zip(items, engine.logprobs(items).result(), strict=True)
                for a, b in zip(item.old_logprobs, new, strict=True))  # fmt: skip
    assert moved > 0.01

    began = time.perf_counter(), time.process_time()
    version = engine.publish().result()
    spent = time.perf_counter() - began[0], time.process_time() - began[1]

    after = sampled(engine, SamplingParams(48), n=2)
    print(f"moved by up to {moved:.2g}, published in {spent[0]:.2f} s ({spent[1]:.2f} s of CPU)")
    assert {one.version for _, one in after} == {version}
    assert [one.tokens for _, one in after] != [one.tokens for _, one in before]
    assert distances(engine).max() < 1e-4
