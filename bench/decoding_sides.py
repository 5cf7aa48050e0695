"""One side of `decoding.py`, in a process of its own: samples with one program and tells what it took.

    PYTHON decoding_sides.py SIDE MODEL DTYPE THREADS DEVICE

Reads one JSON request per line, {"prompts": [[token, ...], ...], "n": samples of each, "tokens": tokens of each sample}:
answers with {"tokens": sampled, "seconds": wall, "cpu": of all threads}. Temperature 1, no end heeded, log-probs of the
sampled tokens kept, but for `generate`, which has none.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # all of these before torch and vLLM are imported
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import torch

Prompts: TypeAlias = Sequence[Sequence[int]]
Side: TypeAlias = Callable[[Prompts, int, int], int]
"""Takes prompts, samples of each and tokens of each sample; the number of tokens that there were."""


def ours(sampler: str, model: str, dtype: str, device: str) -> Side:
    from gasp_rl.config import ModelConfig  # noqa: PLC0415 - not all sides have all packages
    from gasp_rl.policy.engine import SampleRequest, SamplingParams  # noqa: PLC0415
    from gasp_rl.policy.local import sampler_for  # noqa: PLC0415
    from gasp_rl.policy.models import open_model  # noqa: PLC0415

    loaded, tokenizer = open_model(model)
    torch.nn.Module.to(loaded, torch.device(device))
    tokenizer.all_eos = frozenset()
    settings: dict[str, Any] = {"sampler": sampler, "batch_tokens": 32_768}
    samples = sampler_for(ModelConfig(**settings), loaded, tokenizer, getattr(torch, dtype))
    samples.publish(loaded, 0)
    del loaded  # four sides are in memory at a time

    def sample(prompts: Prompts, n: int, tokens: int) -> int:
        asked = [SampleRequest(tuple(p), n, SamplingParams(tokens), seed) for seed, p in enumerate(prompts)]
        return sum(len(sample.tokens) for _, found in samples.sample(asked) for sample in found)

    return sample


def generate(model: str, dtype: str, device: str) -> Side:
    """`generate` of transformers, all samples in one batch, prompts of equal length."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    read: Any = AutoModelForCausalLM.from_pretrained
    loaded = read(model, dtype=getattr(torch, dtype)).to(device)
    loaded.generation_config.eos_token_id = None

    @torch.inference_mode()
    def sample(prompts: Prompts, n: int, tokens: int) -> int:
        given = torch.tensor(prompts, device=device)
        out = loaded.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=tokens, do_sample=True, temperature=1.0,
            top_k=0, top_p=1.0, repetition_penalty=1.0, num_return_sequences=n, pad_token_id=0,
        )  # fmt: skip
        return int(out.shape[0] * (out.shape[1] - given.shape[1]))

    return sample


def vllm(model: str, dtype: str, device: str) -> Side:
    """vLLM as its own documentation has it for use from Python; eager on a CPU, where compiling pays for itself never."""
    from vllm import LLM, SamplingParams  # noqa: PLC0415

    eager = device == "cpu"
    llm = LLM(
        model, dtype=dtype, enforce_eager=eager, max_model_len=2048, disable_log_stats=True, max_num_seqs=64,
        kv_cache_memory_bytes=2**30 if eager else None, distributed_executor_backend="uni",
    )  # fmt: skip

    def sample(prompts: Prompts, n: int, tokens: int) -> int:
        params = SamplingParams(n=n, temperature=1.0, max_tokens=tokens, ignore_eos=True, logprobs=0, detokenize=False)
        llm.llm_engine.reset_prefix_cache()  # what was asked in the last turn is not to be had for nothing in this one
        asked: Any = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        found = llm.generate(asked, params, use_tqdm=False)
        return sum(len(made.token_ids) for output in found for made in output.outputs)

    return sample


SIDES: dict[str, Callable[[str, str, str], Side]] = {
    "ours": partial(ours, "in-process"), "ours-vllm": partial(ours, "vllm"), "transformers": generate, "vllm": vllm,
}  # fmt: skip


def main() -> None:
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what programs print is not an answer
    name, model, dtype, threads, device = sys.argv[1:]
    torch.set_num_threads(int(threads))
    side = SIDES[name](model, dtype, device)
    print(json.dumps({"torch": torch.__version__}), file=channel, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        start, cpu_start = time.perf_counter(), time.process_time()
        tokens = side(request["prompts"], request["n"], request["tokens"])
        spent = {"tokens": tokens, "seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu_start}
        print(json.dumps(spent), file=channel, flush=True)


if __name__ == "__main__":
    main()
