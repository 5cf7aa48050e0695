"""Decode the Llama and Qwen2 families with plain tensor operations: fused weights, static caches, shared prompts.

Attention of a row has two parts. The prompt's keys and values are stored once per group and met by all rows of the group
in one matrix product; each row's own tokens are stored per row. The two parts meet in one softmax.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedModel, Qwen2ForCausalLM

from gasp_rl.policy.decoder import Room

PREFILL_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Prompt tokens run through the model at a time, padding included: enough to fill the device, few enough for its cache."""
SUFFIX_TOKENS = 32
"""Tokens per row that a session first makes room for. Most completions end far below their limit; the room is doubled when
the longest does not."""
STATIC_ROPE = ("default", "linear", "llama3")
"""Rotary scalings whose frequencies do not depend on the length of the text."""


@dataclass(frozen=True, slots=True)
class Layer:
    attention_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True, slots=True)
class LlamaDecoder:
    """A copy of the weights in the form that decoding wants."""

    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    embed: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Tensor
    cos: Tensor
    """cos_TD and sin_TD by position; the first half of sin is negated, so that rotation is x cos + swap(x) sin."""
    sin: Tensor

    def open(self, room: Room) -> "LlamaSession":
        return LlamaSession(self, room)


def supports(model: PreTrainedModel) -> bool:
    """Whether `copy_weights` knows everything this model does; other models go the generic way."""
    if type(model) not in (LlamaForCausalLM, Qwen2ForCausalLM):
        return False
    config = model.config
    return (
        config.hidden_act == "silu"
        and not getattr(config, "mlp_bias", False)
        and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        and config.rope_parameters["rope_type"] in STATIC_ROPE
    )


@torch.no_grad()
def copy_weights(model: PreTrainedModel, dtype: torch.dtype, context: int) -> LlamaDecoder:
    """Fuse and cast the weights. Nothing is shared with the model, so learning goes on without touching the copy."""
    # The insides of a `transformers` module have no static types.
    trunk: Any = model.base_model
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    config = model.config

    def fused(*linears: torch.nn.Linear) -> Tensor:
        return torch.cat([linear.weight for linear in linears]).to(dtype)

    def fused_bias(*linears: torch.nn.Linear) -> Tensor | None:
        biases: list[Tensor | None] = [linear.bias for linear in linears]
        given = [bias for bias in biases if bias is not None]
        return torch.cat(given).to(dtype) if given else None

    def layer(block: Any) -> Layer:
        attention, mlp = block.self_attn, block.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        return Layer(
            attention_norm=_copy(block.input_layernorm.weight, dtype),
            qkv=fused(*projections),
            qkv_bias=fused_bias(*projections),
            out=fused(attention.o_proj),
            out_bias=fused_bias(attention.o_proj),
            mlp_norm=_copy(block.post_attention_layernorm.weight, dtype),
            gate_up=fused(mlp.gate_proj, mlp.up_proj),
            down=fused(mlp.down_proj),
        )

    rotary = trunk.rotary_emb
    angles_TD = torch.outer(torch.arange(context, device=rotary.inv_freq.device).float(), rotary.inv_freq.float())
    cos, sin = angles_TD.cos() * rotary.attention_scaling, angles_TD.sin() * rotary.attention_scaling

    embed = _copy(trunk.embed_tokens.weight, dtype)
    return LlamaDecoder(
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=trunk.layers[0].self_attn.head_dim,
        eps=config.rms_norm_eps,
        embed=embed,
        layers=tuple(layer(block) for block in trunk.layers),
        norm=_copy(trunk.norm.weight, dtype),
        head=embed if head.weight is trunk.embed_tokens.weight else _copy(head.weight, dtype),
        cos=torch.cat([cos, cos], dim=-1).to(dtype),
        sin=torch.cat([-sin, sin], dim=-1).to(dtype),
    )


class LlamaSession:
    """Prompts and rows being decoded. The caches hold all prompts and rows from the start, and grow with the longest row."""

    continuous = True

    def __init__(self, decoder: LlamaDecoder, room: Room) -> None:
        self._decoder = decoder
        self._device = decoder.embed.device
        layers, heads, width = len(decoder.layers), decoder.kv_heads, decoder.head_dim
        # Zeros, because a masked position still meets a weight of 0, and 0 * nan is nan.
        self._prefix = decoder.embed.new_zeros(layers, 2, room.groups, heads, room.prompt, width)
        # By layer, so that growing needs little room beside.
        self._suffix = [
            decoder.embed.new_zeros(2, room.rows, heads, min(room.new, SUFFIX_TOKENS), width) for _ in range(layers)
        ]
        self._new = room.new

        self._prompts: NDArray[np.int64] = np.zeros(0, np.int64)
        self._groups: NDArray[np.int64] = np.zeros(0, np.int64)
        self._lengths: NDArray[np.int64] = np.zeros(0, np.int64)
        self._layout: _Layout | None = None

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[tuple[int, ...]]) -> Tensor:
        logits, first = [], len(self._prompts)
        for chunk in chunks(prompts, PREFILL_TOKENS[self._device.type]):
            logits.append(self._prefill(chunk, first))
            first += len(chunk)
        self._prompts = np.concatenate([self._prompts, [len(prompt) for prompt in prompts]])
        self._layout = None
        return torch.cat(logits)

    def join(self, groups: Sequence[int]) -> None:
        self._groups = np.concatenate([self._groups, np.asarray(groups, np.int64)])
        self._lengths = np.concatenate([self._lengths, np.zeros(len(groups), np.int64)])
        self._layout = None

    @torch.inference_mode()
    def keep(self, rows: Sequence[int], groups: Sequence[int]) -> None:
        """The cost is that of the rows and groups that move."""
        for caches, kept, span in ((self._suffix, rows, self._lengths), (self._prefix, groups, self._prompts)):
            moved = [(new, old) for new, old in enumerate(kept) if new != old]
            if moved:
                new, old = torch.tensor(moved, device=self._device).T
                used = int(span.max())
                for cache in caches:
                    cache[:, new, :, :used] = cache[:, old, :, :used]

        place = np.zeros(len(self._prompts), np.int64)
        place[list(groups)] = np.arange(len(groups))
        self._prompts = self._prompts[list(groups)]
        self._groups = place[self._groups[list(rows)]]
        self._lengths = self._lengths[list(rows)]
        self._layout = None

    @torch.inference_mode()
    def step(self, tokens_N: Tensor) -> Tensor:
        decoder, count = self._decoder, len(self._groups)
        heads, kv_heads, width = decoder.heads, decoder.kv_heads, decoder.head_dim
        per_kv, scale = heads // kv_heads, 1 / math.sqrt(width)
        span = int(self._lengths.max()) + 1
        self._make_room(span)
        capacity, room = self._suffix[0].shape[1], self._suffix[0].shape[3]
        if self._layout is None:
            self._layout = _Layout(self._groups, self._prompts, self._lengths, capacity, kv_heads, self._device)
        layout = self._layout

        places = layout.lengths
        # Where in the cache of a layer each row's new keys and values go, as rows of a matrix of vectors.
        slots = (layout.slots * room + places[:, None]).view(-1)
        positions = layout.prompts + places
        cos, sin = decoder.cos[positions][:, None], decoder.sin[positions][:, None]
        own_mask = torch.zeros(count, span, device=self._device)
        own_mask.masked_fill_(torch.arange(span, device=self._device) > places[:, None], -math.inf)
        own_mask = own_mask.repeat_interleave(kv_heads, 0)[:, None]

        x = functional.embedding(tokens_N, decoder.embed)
        for index, layer in enumerate(decoder.layers):
            h = functional.rms_norm(x, x.shape[-1:], layer.attention_norm, decoder.eps)
            qkv = functional.linear(h, layer.qkv, layer.qkv_bias).view(count, heads + 2 * kv_heads, width)
            turned = qkv[:, : heads + kv_heads]
            swapped = turned.roll(width // 2, -1)
            turned.mul_(cos).addcmul_(swapped, sin)
            self._suffix[index].view(-1, width).index_copy_(0, slots, qkv[:, heads:].reshape(-1, width))

            q = qkv[:, :heads].reshape(count * kv_heads, per_kv, width)
            # Batches of matrices: [row or group times head, position, width].
            own_k, own_v = self._suffix[index].flatten(1, 2)[:, : count * kv_heads, :span]
            shared_k, shared_v = self._prefix[index].flatten(1, 2)[:, : layout.count * kv_heads, : layout.span]
            own = _scores(q, own_k, own_mask, scale)
            shared = layout.to_rows(_scores(layout.to_groups(q), shared_k, layout.mask, scale))
            weights = torch.cat([shared, own], dim=-1).softmax(-1).to(x.dtype)
            met = layout.to_rows(torch.bmm(layout.to_groups(weights[..., : layout.span]), shared_v))
            met = torch.baddbmm(met, weights[..., layout.span :], own_v)

            x = torch.addmm(x, met.view(count, heads * width), layer.out.T)
            if layer.out_bias is not None:
                x = x + layer.out_bias
            x = _mlp(x, layer, decoder.eps)

        self._lengths += 1
        places += 1
        return functional.linear(functional.rms_norm(x, x.shape[-1:], decoder.norm, decoder.eps), decoder.head)

    def _make_room(self, span: int) -> None:
        """Grow the rows' caches to hold so many tokens."""
        room = self._suffix[0].shape[3]
        if span > room:
            more = min(self._new, max(span, 2 * room)) - room
            for index, cache in enumerate(self._suffix):
                self._suffix[index] = functional.pad(cache, (0, 0, 0, more))  # with zeros

    def _prefill(self, prompts: Sequence[tuple[int, ...]], first: int) -> Tensor:
        decoder = self._decoder
        heads, kv_heads, width = decoder.heads, decoder.kv_heads, decoder.head_dim
        lengths = [len(prompt) for prompt in prompts]
        batch, longest = len(prompts), max(lengths)
        tokens_BT = np.zeros((batch, longest), np.int64)
        for row, prompt in enumerate(prompts):
            tokens_BT[row, : len(prompt)] = prompt
        cos, sin = decoder.cos[:longest, None], decoder.sin[:longest, None]

        x = functional.embedding(torch.from_numpy(tokens_BT).to(self._device), decoder.embed).flatten(0, 1)
        for index, layer in enumerate(decoder.layers):
            h = functional.rms_norm(x, x.shape[-1:], layer.attention_norm, decoder.eps)
            qkv = functional.linear(h, layer.qkv, layer.qkv_bias).view(batch, longest, heads + 2 * kv_heads, width)
            turned = qkv[:, :, : heads + kv_heads]
            swapped = turned.roll(width // 2, -1)
            turned.mul_(cos).addcmul_(swapped, sin)
            q, k, v = torch.split(qkv.transpose(1, 2), [heads, kv_heads, kv_heads], dim=1)
            self._prefix[index, 0, first : first + batch, :, :longest] = k
            self._prefix[index, 1, first : first + batch, :, :longest] = v

            # Padding stands on the right, where a causal mask hides it from every real token.
            met = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != kv_heads)
            x = torch.addmm(x, met.transpose(1, 2).reshape(batch * longest, heads * width), layer.out.T)
            if layer.out_bias is not None:
                x = x + layer.out_bias
            x = _mlp(x, layer, decoder.eps)

        last = torch.arange(batch) * longest + torch.tensor(lengths) - 1
        x = functional.rms_norm(x[last.to(self._device)], x.shape[-1:], decoder.norm, decoder.eps)
        return functional.linear(x, decoder.head)


class _Layout:
    """Which rows belong to which group, as index tensors; rebuilt when rows come or go."""

    def __init__(
        self,
        groups: NDArray[np.int64],
        prompts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        capacity: int,
        kv_heads: int,
        device: torch.device,
    ) -> None:
        self.count = len(prompts)
        self.span = int(prompts.max())
        # [row, key heads then value heads] -> place in a cache of [key or value, row, head].
        of_head = torch.arange(2)[:, None] * capacity * kv_heads + torch.arange(kv_heads)
        self.slots = (torch.arange(len(groups))[:, None] * kv_heads + of_head.view(-1)).to(device)
        self.prompts = torch.from_numpy(prompts[groups]).to(device)
        self.lengths = torch.from_numpy(lengths.copy()).to(device)
        hidden = torch.arange(self.span) >= torch.from_numpy(prompts)[:, None]
        mask = torch.zeros(hidden.shape).masked_fill_(hidden, -math.inf)
        self.mask = mask.repeat_interleave(kv_heads, 0)[:, None].to(device)

        # Rows of a group side by side, in a grid of groups by the largest group; free places hold row 0, unread.
        order = np.argsort(groups, kind="stable")
        ranks = np.arange(len(groups)) - np.searchsorted(groups[order], groups[order])
        self._widest = int(ranks.max()) + 1
        grid = np.zeros((self.count, self._widest), np.int64)
        grid[groups[order], ranks] = order
        places = np.empty(len(groups), np.int64)
        places[order] = groups[order] * self._widest + ranks

        self._kv_heads = kv_heads
        self._plain = self._widest == 1 and np.array_equal(order, np.arange(self.count))
        self._grid = torch.from_numpy(grid.reshape(-1)).to(device)
        self._places = torch.from_numpy(places).to(device)

    def to_groups(self, x: Tensor) -> Tensor:
        """[row x kv head, queries, width] -> [group x kv head, rows of the group x queries, width]."""
        if self._plain:
            return x
        _, queries, width = x.shape
        x = x.reshape(-1, self._kv_heads * queries * width).index_select(0, self._grid)
        x = x.view(self.count, self._widest, self._kv_heads, queries, width).transpose(1, 2)
        return x.reshape(self.count * self._kv_heads, self._widest * queries, width)

    def to_rows(self, x: Tensor) -> Tensor:
        """The inverse of `to_groups`."""
        if self._plain:
            return x
        width = x.shape[-1]
        x = x.view(self.count, self._kv_heads, self._widest, -1, width).transpose(1, 2)
        queries = x.shape[3]
        x = x.reshape(-1, self._kv_heads * queries * width).index_select(0, self._places)
        return x.view(-1, queries, width)


def _scores(q: Tensor, k: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Scaled and masked q k^T in float32: in bfloat16 a score of 8 would be off by up to 0.03."""
    if q.dtype == torch.float32:
        return torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale)
    if q.is_cuda:
        return torch.bmm(q, k.transpose(1, 2), out_dtype=torch.float32).mul_(scale).add_(mask)
    return torch.bmm(q, k.transpose(1, 2)).float().mul_(scale).add_(mask)


def _mlp(x: Tensor, layer: Layer, eps: float) -> Tensor:
    h = functional.linear(functional.rms_norm(x, x.shape[-1:], layer.mlp_norm, eps), layer.gate_up)
    gate, up = h.chunk(2, dim=-1)
    return torch.addmm(x, functional.silu(gate).mul_(up), layer.down.T)


def chunks(prompts: Sequence[tuple[int, ...]], budget: int) -> list[list[tuple[int, ...]]]:
    """Consecutive prompts, as many as fit the budget with their padding."""
    chunks: list[list[tuple[int, ...]]] = []
    for prompt in prompts:
        if chunks and (len(chunks[-1]) + 1) * max(len(prompt), *map(len, chunks[-1])) <= budget:
            chunks[-1].append(prompt)
        else:
            chunks.append([prompt])
    return chunks


def _copy(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.detach().to(dtype, copy=True)
