"""How much memory a model will take, reckoned from its shape before its weights are read; what cannot fit is refused.

Weights that learn are kept in float32, with AdamW's two moments beside them, and a copy of all weights samples. On top of that an
iteration needs, by turns, the cache of what is being sampled, or the gradients and activations of an update. Learners of the
engine `ray` share weights, moments and gradients, and gather the weights of a layer at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from gasp_rl.config import ModelConfig
from gasp_rl.errors import ModelError
from gasp_rl.policy import llama
from gasp_rl.policy.learner import CPU_TOKENS, LOGITS, SHARED_TOKENS
from gasp_rl.policy.models import blank_model
from gasp_rl.policy.needs import Needs, Part, Setup, Term, gib, refusal, side_by_side

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
    block: int
    """Parameters of the largest layer, all its matrices together."""
    rest: int
    """Parameters outside the layers: embedding, head, last norm."""
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process is, and what is free there now."""

    machine: str
    device: torch.device
    name: str
    """Of the device, different for each of a machine."""
    dtype: torch.dtype
    """That its sampling copy would have."""
    free: int
    """Bytes, on the device."""
    free_here: int
    """Bytes, in the machine's own memory."""


def shape_of(path: str) -> Shape:
    """Read from the model's configuration; no weights are read or made."""
    model = blank_model(path)
    config = model.config.get_text_config()
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    linears = [m for m in model.modules() if isinstance(m, nn.Linear | Conv1D) and m is not head]
    tables = {id(p): p.numel() for m in (model.get_input_embeddings(), head) if m is not None for p in m.parameters()}
    blocks = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    sizes = [sum(p.numel() for p in block.parameters()) for block in blocks]
    parameters = sum(p.numel() for p in model.parameters())
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
    return Shape(
        parameters=parameters,
        adapted=sum(sum(linear.weight.shape) for linear in linears),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        inner=inner,
        keys=width_of_keys(config),
        tallest=max(p.numel() for p in model.parameters()),
        tables=sum(tables.values()) if llama.supports(model) else 0,
        block=max(sizes, default=0),
        rest=parameters - sum(sizes),
        vocabulary=config.vocab_size,
    )


def width_of_keys(config: PreTrainedConfig) -> int:
    """Of all heads of a layer together; values have the same."""
    heads: int = config.num_attention_heads
    width: int = getattr(config, "head_dim", None) or config.hidden_size // heads
    return width * (getattr(config, "num_key_value_heads", None) or heads)


def needs(shape: Shape, setup: Setup, device: torch.device, dtype: torch.dtype, *, learns: bool) -> Needs:
    """Of one process that samples and, it may be, learns."""
    config = setup.model
    arithmetic = llama.arithmetic_of(dtype, device)
    rank = config.lora.rank
    learned = learned_parameters(shape, config) if learns else 0
    # vLLM computes in the type of the weights, and on a CPU it gives nothing back.
    vllm = config.sampler == "vllm"
    shared = shape.tables if rank and arithmetic == dtype and not vllm else 0
    terms = [
        *_weights(shape, config, arithmetic.itemsize if rank else FLOAT),
        _term(Part.MOMENTS, 2 * (1 if config.eight_bit_adam else FLOAT), learned),
        *_copy(shape, dtype, shared),
        _cache(shape, config, device, dtype),
        _term(Part.GRADIENTS, FLOAT, learned),
    ]
    if learns:
        terms += _micro_batch(shape, setup, device, dtype)
    if learns and not rank and arithmetic != torch.float32:
        terms.append(_term(Part.CAST, arithmetic.itemsize, shape.parameters))
    return Needs(_filled(terms), cache_stays=vllm and device.type == "cpu", opening=terms[0].size)


def learner_needs(shape: Shape, setup: Setup, device: torch.device, dtype: torch.dtype) -> Needs:
    """Of one of several learners, which share everything but activations (FSDP2)."""
    config, share = setup.model, setup.learners
    arithmetic = llama.arithmetic_of(dtype, device).itemsize
    learned = learned_parameters(shape, config)
    # Whole at a time: a layer and the next, which is fetched meanwhile, and to the end of the backward pass what the layers
    # leave. Of the latter the gradients too, in the arithmetic's type, and in float32 where they are added up.
    gathered = [_term(Part.GATHERED, arithmetic, 2 * shape.block + shape.rest, "of two layers, embedding and head")]
    if not config.lora.rank:
        gathered.append(_term(Part.GATHERED, arithmetic + FLOAT, max(shape.block, shape.rest), "as their gradients"))
    terms = [
        *_weights(shape, config, FLOAT, share),
        _term(Part.MOMENTS, 2 * FLOAT, learned, share=share),
        _term(Part.GRADIENTS, FLOAT, learned, share=share),
        *gathered,
        *_micro_batch(shape, setup, device, dtype),
    ]
    return Needs(_filled(terms), opening=opened_whole(shape, config))


def sampler_needs(shape: Shape, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Needs:
    """Of a process that samples: the weights as they are published, in float32, and the copy that it samples with."""
    terms = [*_weights(shape, config, FLOAT), *_copy(shape, dtype, 0), _cache(shape, config, device, dtype)]
    return Needs(_filled(terms), opening=opened_whole(shape, config))


def opened_whole(shape: Shape, config: ModelConfig) -> int:
    """Bytes that a process takes while it opens the model, in the machine's own memory."""
    return FLOAT * (shape.parameters + learned_adapters(shape, config))


def learned_parameters(shape: Shape, config: ModelConfig) -> int:
    return learned_adapters(shape, config) if config.lora.rank else shape.parameters


def learned_adapters(shape: Shape, config: ModelConfig) -> int:
    return shape.adapted * config.lora.rank


def _weights(shape: Shape, config: ModelConfig, itemsize: int, share: int = 1) -> Iterator[Term]:
    yield _term(Part.WEIGHTS, itemsize, shape.parameters, share=share)
    yield _term(Part.WEIGHTS, FLOAT, learned_adapters(shape, config), "of adapters", share)


def _copy(shape: Shape, dtype: torch.dtype, shared: int) -> Iterator[Term]:
    yield _term(Part.COPY, dtype.itemsize, shape.parameters - shared)
    tallest = 4 * shape.inner * shape.hidden if shared else shape.tallest
    yield _term(Part.COPY, FLOAT, tallest, "written out at a time")


def _cache(shape: Shape, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Term:
    itemsize = (dtype if config.sampler == "vllm" else llama.arithmetic_of(dtype, device)).itemsize
    each = itemsize * 2 * shape.layers * shape.keys
    how = f"{config.batch_tokens:,} tokens × {each:,} bytes (2 × {shape.layers} layers × {shape.keys} × {itemsize})"
    return Term(Part.CACHE, each * config.batch_tokens, how)


def _micro_batch(shape: Shape, setup: Setup, device: torch.device, dtype: torch.dtype) -> Iterator[Term]:
    """What is kept of a micro-batch for its gradient."""
    itemsize = llama.arithmetic_of(dtype, device).itemsize
    tokens = min(setup.token_budget, CPU_TOKENS) if device.type == "cpu" else setup.token_budget
    # What a layer of the Llama kind keeps for its gradient: in float32 the inputs of its norms, in the type of the arithmetic
    # the inputs of its products, queries and keys as they are turned, what attention found, and four widths of the
    # feed-forward part.
    layer = FLOAT * 4 * shape.hidden + itemsize * (4 * shape.hidden + 4 * shape.keys + 4 * shape.inner)
    entry = FLOAT * shape.hidden
    mask = itemsize * min(tokens, SHARED_TOKENS)  # of each token, on every other of its row
    if setup.model.recompute:
        kept = layer + shape.layers * entry
        how = f"{shape.layers} layers × {entry:,} that enter, {layer:,} of one at a time"
    else:
        kept = shape.layers * layer
        how = f"{shape.layers} layers × {layer:,}"
    yield Term(Part.ACTIVATIONS, tokens * (kept + mask), f"{tokens:,} tokens × ({how}, {mask:,} of a mask) bytes")
    yield _term(Part.LOGITS, 3 * FLOAT, min(LOGITS, tokens * shape.vocabulary), "logits at a time")


def _term(part: Part, each: int, count: int, noun: str = "parameters", share: int = 1) -> Term:
    """So many bytes for each of so many, shared among so many learners."""
    among = f" / {share} learners" if share > 1 else ""
    return Term(part, each * count // share, f"{each} bytes × {many(count)} {noun}{among}")


def _filled(terms: Sequence[Term]) -> tuple[Term, ...]:
    return tuple(term for term in terms if term.size)


def many(count: int) -> str:
    """In words.

    >>> many(7_615_616_512), many(43_500_000), many(1_900)
    ('7.62 billion', '43.5 million', '1,900')
    """
    if count >= 10**9:
        return f"{count / 10**9:.2f} billion"
    return f"{count / 10**6:.1f} million" if count >= 10**6 else f"{count:,}"


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

    def needed(setup: Setup) -> Needs:
        return needs(shape, setup, device, dtype, learns=learns)

    shape = shape_of(config.path)
    doing = "train" if learns else "ask"
    if fault := refusal(Setup(config, token_budget), needed, free_memory(device), learns=learns):
        raise ModelError(f"model.path {config.path!r} is too large to {doing} on this {device.type}: {fault}")


def require_room_at(
    learners: Sequence[Place], samplers: Sequence[Place], config: ModelConfig, token_budget: int
) -> None:
    """ModelError, with what would help, if the processes of the engine `ray` cannot all fit where they are to be."""
    shape = shape_of(config.path)
    setup = Setup(config, token_budget, len(learners))
    everyone = (*learners, *samplers)
    for machine in dict.fromkeys(place.machine for place in everyone):
        here = [place.free_here for place in everyone if place.machine == machine]
        opening = len(here) * opened_whole(shape, config)
        if opening > min(here):
            raise ModelError(
                f"model.path {config.path!r} is too large for {len(here)} processes on {machine}: each opens all of it in "
                f"float32 before it keeps its share, {gib(opening)} GiB for a moment, and {gib(min(here))} of its memory are "
                "free; start fewer there (--ray.learners, --ray.samplers) or join more machines (--ray.address)"
            )
    for crowd in crowds(learners, samplers):

        def needed(setup: Setup, crowd: Crowd = crowd) -> Needs:
            return crowd.needs(shape, setup)

        fault = refusal(setup, needed, crowd.free, learns=crowd.learners > 0, spreads=crowd.device.type != "cpu")
        if fault:
            raise ModelError(f"model.path {config.path!r} is too large for {crowd}: {fault}")


@dataclass(frozen=True, slots=True)
class Crowd:
    """Processes that share a memory: of a device, or on a CPU of a machine."""

    machine: str
    device: torch.device
    dtype: torch.dtype
    learners: int
    samplers: int
    free: int

    def needs(self, shape: Shape, setup: Setup) -> Needs:
        learner = learner_needs(shape, setup, self.device, self.dtype)
        sampler = sampler_needs(shape, setup.model, self.device, self.dtype)
        # Each process keeps what it once took of a device, by turns or not.
        return side_by_side(
            [learner] * self.learners + [sampler] * self.samplers, cache_stays=self.device.type != "cpu"
        )

    def __str__(self) -> str:
        counts = ((self.learners, "learner"), (self.samplers, "sampler"))
        who = " and ".join(f"{count} {noun}{'s' * (count > 1)}" for count, noun in counts if count)
        return f"{who} on one {self.device.type} of {self.machine}"


def crowds(learners: Sequence[Place], samplers: Sequence[Place]) -> list[Crowd]:
    """Who shares a memory with whom."""

    def key(place: Place) -> tuple[str, str]:
        return place.machine, place.name

    found = []
    for _, group in groupby(sorted((*learners, *samplers), key=key), key):
        places = list(group)
        first = places[0]
        counts = [sum(key(one) == key(first) for one in kind) for kind in (learners, samplers)]
        free = min(place.free for place in places)
        found.append(Crowd(first.machine, first.device, first.dtype, counts[0], counts[1], free))
    return found
