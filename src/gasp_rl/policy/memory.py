"""How much memory a model will take, reckoned from its shape before its weights are read; what cannot fit is refused.

Weights that learn are kept in float32, with AdamW's two moments beside them, and a copy of all weights samples. On top of that an
iteration needs, by turns, the cache of what is being sampled, or the gradients and activations of an update.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from transformers import PretrainedConfig
from transformers.pytorch_utils import Conv1D

from gasp_rl.config import LoraConfig, ModelConfig
from gasp_rl.errors import ModelError
from gasp_rl.policy import llama
from gasp_rl.policy.learner import CPU_TOKENS, LOGITS, SHARED_TOKENS
from gasp_rl.policy.models import blank_model

GIB = 2**30
FLOAT = 4
"""Bytes of a float32."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides how much a model takes."""

    parameters: int
    adapted: int
    """Inputs and outputs of the linear layers beside which adapters would be, added up: their parameters for rank 1."""
    layers: int
    hidden: int
    inner: int
    """Of the feed-forward part of a layer."""
    keys: int
    """Width of the keys of all heads; values have the same."""
    tallest: int
    """Parameters of the largest layer or embedding, which are written out at a time."""
    tables: int
    """Parameters of embedding and head, where a sampling copy has no need of its own if they do not learn; else 0."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes, at the most."""

    weights: int
    moments: int
    """Of the optimizer."""
    copy: int
    """That samples."""
    cache: int
    """Of keys and values while sampling."""
    gradients: int
    activations: int
    """And logits, of one micro-batch."""
    cache_stays: bool = False
    """While the model learns."""

    @property
    def total(self) -> int:
        update = self.gradients + self.activations
        return self.weights + self.moments + self.copy + (sum if self.cache_stays else max)((self.cache, update))

    def __str__(self) -> str:
        parts = {
            "weights": self.weights, "optimizer": self.moments, "sampling copy": self.copy, "cache of keys": self.cache,
            "gradients": self.gradients, "activations": self.activations,
        }  # fmt: skip
        return ", ".join(f"{name} {gib(size)}" for name, size in parts.items() if size)


def gib(size: float) -> str:
    return f"{size / GIB:.1f}"


def shape_of(path: str) -> Shape:
    """Read from the model's configuration; no weights are read or made."""
    model = blank_model(path)
    config = model.config.get_text_config()
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    linears = [m for m in model.modules() if isinstance(m, nn.Linear | Conv1D) and m is not head]
    tables = {id(p): p.numel() for m in (model.get_input_embeddings(), head) if m is not None for p in m.parameters()}
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
    return Shape(
        parameters=sum(p.numel() for p in model.parameters()),
        adapted=sum(sum(linear.weight.shape) for linear in linears),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        inner=inner,
        keys=width_of_keys(config),
        tallest=max(p.numel() for p in model.parameters()),
        tables=sum(tables.values()) if llama.supports(model) else 0,
    )


def width_of_keys(config: PretrainedConfig) -> int:
    """Of all heads of a layer together; values have the same."""
    heads: int = config.num_attention_heads
    width: int = getattr(config, "head_dim", None) or config.hidden_size // heads
    return width * (getattr(config, "num_key_value_heads", None) or heads)


def needs(
    shape: Shape, config: ModelConfig, token_budget: int, device: torch.device, dtype: torch.dtype, *, learns: bool
) -> Needs:
    """For a run with these settings, or only to ask the model."""
    rank = config.lora.rank
    learned = (shape.adapted * rank if rank else shape.parameters) if learns else 0
    of_adapters = shape.adapted * rank
    # vLLM computes in the type of the weights, and on a CPU it gives nothing back.
    vllm = config.sampler == "vllm"
    arithmetic = llama.arithmetic_of(dtype, device)
    shared = shape.tables if rank and arithmetic == dtype and not vllm else 0
    tallest = 4 * shape.inner * shape.hidden if shared else shape.tallest
    tokens = min(token_budget, CPU_TOKENS) if device.type == "cpu" else token_budget
    # What a layer of the Llama kind keeps for its gradient: in float32 the inputs of its norms, in the type of the arithmetic
    # the inputs of its products, queries and keys as they are turned, what attention found, and four widths of the
    # feed-forward part.
    layer = FLOAT * 4 * shape.hidden + arithmetic.itemsize * (4 * shape.hidden + 4 * shape.keys + 4 * shape.inner)
    kept = layer + shape.layers * FLOAT * shape.hidden if config.recompute else shape.layers * layer
    mask = arithmetic.itemsize * min(tokens, SHARED_TOKENS)  # of each token, on every other of its row
    return Needs(
        weights=(arithmetic.itemsize if rank else FLOAT) * shape.parameters + FLOAT * of_adapters,
        moments=2 * (1 if config.eight_bit_adam else FLOAT) * learned,
        copy=dtype.itemsize * (shape.parameters - shared) + FLOAT * tallest,
        cache=(dtype if vllm else arithmetic).itemsize * 2 * shape.layers * shape.keys * config.batch_tokens,
        gradients=FLOAT * learned,
        activations=tokens * (kept + mask) + 3 * FLOAT * LOGITS if learns else 0,
        cache_stays=vllm and device.type == "cpu",
    )


def free_memory(device: torch.device) -> int:
    """Bytes that can be had now."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group.joinpath(name).read_text().strip() for name in ("memory.max", "memory.current"))
        held = dict(line.split() for line in group.joinpath("memory.stat").read_text().splitlines())
    except OSError:
        return free
    if limit == "max":
        return free
    return min(free, int(limit) - int(used) + int(held["inactive_file"]))  # files that were read are given up first


def require_room(
    config: ModelConfig, token_budget: int, device: torch.device, dtype: torch.dtype, *, learns: bool
) -> None:
    """ModelError, with what would help, if the model cannot fit into what is free."""

    def needed(other: ModelConfig) -> Needs:
        return needs(shape, other, token_budget, device, dtype, learns=learns)

    shape = shape_of(config.path)
    doing = "train" if learns else "ask"
    if fault := refusal(config, needed, free_memory(device), learns=learns):
        raise ModelError(f"model.path {config.path!r} is too large to {doing} on this {device.type}: {fault}")


def refusal(config: ModelConfig, needed: Callable[[ModelConfig], Needs], free: int, *, learns: bool) -> str:
    """Why there is no room, and which settings would make some; empty where there is."""
    found = needed(config)
    if found.total <= free:
        return ""
    fault = f"it needs about {gib(found.total)} GiB ({found}), and {gib(free)} are free"
    for flags, other in _smaller(config, learns=learns):
        if needed(other).total <= free:
            return f"{fault}; with {flags} it needs {gib(needed(other).total)}"
    return f"{fault}; no setting makes it fit: take a smaller model or a larger machine"


def _smaller(config: ModelConfig, *, learns: bool) -> Iterator[tuple[str, ModelConfig]]:
    """Flags that save memory, each beside those before it: what costs least first."""
    flags: list[str] = []
    if config.batch_tokens > 16_384:
        config = replace(config, batch_tokens=16_384)
        flags.append("--model.batch-tokens 16384")
        yield " ".join(flags), config
    if learns and not config.recompute:
        config = replace(config, recompute=True)
        flags.append("--model.recompute")
        yield " ".join(flags), config
    if learns and not config.lora.rank:
        config = replace(config, lora=LoraConfig(rank=16))
        flags.append("--model.lora.rank 16")
        yield " ".join(flags), config
