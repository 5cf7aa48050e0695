"""Decode the Llama and Qwen2 families with plain tensor operations: fused weights, static caches, shared prompts.

Everything about attention is a batch of matrices, one per key head: a row's queries of that head meet its keys in one
product. The prompt's keys and values are stored once per group and met by all rows of the group together; each row's own
tokens are stored per row, and the two parts meet in one softmax. Where no prompt is shared, a row's tokens follow its
prompt in memory, and one product meets both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedModel, Qwen2ForCausalLM

from gasp_rl.policy.decoder import Room
from gasp_rl.policy.lora import weight_of

PREFILL_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Prompt tokens run through the model at a time, padding included: enough to fill the device, few enough for its cache."""
ROW_TOKENS = 32
"""Tokens per row that a session first makes room for. Most completions end far below their limit; the room is doubled when
the longest does not."""
PIECE = 2**18
"""Numbers of a bfloat16 weight that are widened to float32 at a time: 1 MiB, which is still in the cache when it is met."""
STATIC_ROPE = ("default", "linear", "llama3")
"""Rotary scalings whose frequencies do not depend on the length of the text."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one layer, from input to output; the gain of a norm is part of the weight after it, see `_normed`."""

    qkv: Tensor
    """For each key head its queries, its key, its value; see `_paired` for the order within a head."""
    qkv_bias: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True, slots=True)
class LlamaDecoder:
    """A copy of the weights in the form that decoding wants."""

    heads: int
    kv_heads: int
    width: int
    """Of a head."""
    floor: Tensor
    """sqrt(eps * size of the hidden state): what the length of a vector is not to fall below when it is normalized."""
    eps: float
    embed: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    """Its type is that of the arithmetic, whatever weights are kept in."""
    head: Tensor
    turns_TD: Tensor
    """Rotation by position, as complex numbers: one per pair of features."""

    @property
    def queries(self) -> int:
        """Query heads per key head."""
        return self.heads // self.kv_heads

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


def arithmetic_of(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """What weights of this type are best computed with: a CPU without bfloat16 instructions is several times faster when it
    widens these weights, a piece at a time, and computes in float32.
    """
    narrow = dtype == torch.bfloat16 and device.type == "cpu"
    return torch.float32 if narrow and not torch.ops.mkldnn._is_mkldnn_bf16_supported() else dtype  # noqa: SLF001 - torch has no other name for it


@torch.no_grad()
def copy_weights(
    model: PreTrainedModel, dtype: torch.dtype, context: int, arithmetic: torch.dtype | None = None
) -> LlamaDecoder:
    """Fuse and cast the weights. No weight that learns is shared with the model, so learning goes on without touching
    the copy.

    `arithmetic` is the type of everything else, by default what this machine is fast in.
    """
    arithmetic = arithmetic or arithmetic_of(dtype, model.device)
    # The insides of a `transformers` module have no static types.
    trunk: Any = model.base_model
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    config = model.config
    root = math.sqrt(config.hidden_size)
    kv_heads, width = config.num_key_value_heads, trunk.layers[0].self_attn.head_dim

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.view(kv_heads, -1, width, *x.shape[1:]) for x in (q, k, v))
        return torch.cat([_paired(q), _paired(k), v], dim=1).flatten(0, 2)

    def laid_out(weight: Tensor) -> Tensor:
        """[input, output]; in memory the other way round where pieces of the output are taken."""
        return _copy(weight.T, dtype) if dtype == arithmetic else _copy(weight, dtype).T

    def layer(block: Any) -> Layer:
        attention, mlp = block.self_attn, block.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        qkv = fused(*(weight_of(linear) for linear in projections))
        biased = attention.q_proj.bias is not None
        gate_up = torch.cat([weight_of(mlp.gate_proj), weight_of(mlp.up_proj)])
        return Layer(
            qkv=laid_out(qkv * (block.input_layernorm.weight.float() * root)),
            qkv_bias=fused(*(linear.bias for linear in projections)).to(arithmetic) if biased else None,
            out=laid_out(weight_of(attention.o_proj)),
            out_bias=None if attention.o_proj.bias is None else _copy(attention.o_proj.bias, arithmetic),
            gate_up=laid_out(gate_up * (block.post_attention_layernorm.weight.float() * root)),
            down=laid_out(weight_of(mlp.down_proj)),
        )

    rotary = trunk.rotary_emb
    angles_TD = torch.outer(torch.arange(context, device=rotary.inv_freq.device).float(), rotary.inv_freq.float())

    embed = _table(trunk.embed_tokens.weight, dtype)
    return LlamaDecoder(
        heads=config.num_attention_heads,
        kv_heads=kv_heads,
        width=width,
        floor=torch.tensor(root * math.sqrt(config.rms_norm_eps), device=model.device),
        eps=config.rms_norm_eps,
        embed=embed,
        layers=tuple(layer(block) for block in trunk.layers),
        norm=_copy(trunk.norm.weight, arithmetic),
        head=embed if head.weight is trunk.embed_tokens.weight else _table(head.weight, dtype),
        turns_TD=torch.polar(torch.full_like(angles_TD, rotary.attention_scaling), angles_TD),
    )


def _paired(heads: Tensor) -> Tensor:
    """[key head, head, feature, ...] with feature i beside i + width/2, the two that rotate together: one complex number.

    Scores are the same in any order of features that queries and keys share.
    """
    first, second = heads.chunk(2, dim=2)
    return torch.stack([first, second], dim=3).flatten(2, 3)


@dataclass(frozen=True, slots=True)
class _Work:
    """Memory for what a layer makes of its tokens. Every layer and step uses it again: fresh memory has to be mapped first."""

    x: Tensor
    """The hidden states, [token, feature] like all of these."""
    normed: Tensor
    qkv: Tensor
    met: Tensor
    """What attention found."""
    gate_up: Tensor

    def first(self, count: int) -> "_Work":
        """The part for so many tokens."""
        return _Work(*(getattr(self, field.name)[:count] for field in fields(self)))


def _work(decoder: LlamaDecoder, count: int) -> _Work:
    hidden, layer = decoder.embed.shape[1], decoder.layers[0]
    sizes = (hidden, hidden, layer.qkv.shape[1], layer.out.shape[0], layer.gate_up.shape[1])
    return _Work(*(decoder.norm.new_empty(count, size) for size in sizes))


class LlamaSession:
    """Prompts and rows being decoded. The caches hold all prompts and rows from the start, and grow with the longest row."""

    continuous = True

    def __init__(self, decoder: LlamaDecoder, room: Room) -> None:
        self._decoder = decoder
        self._device = decoder.embed.device
        self._room = room
        joined = room.groups == room.rows
        self._start = room.prompt if joined else 0
        """Where a row's own tokens start in its cache."""
        # Keys and values by layer, so that growing needs little room beside. Prompts end at position `room.prompt`, so
        # that a row's own tokens can follow.
        self._row_caches = self._caches(room.rows, self._start + min(room.new, ROW_TOKENS))
        self._prompt_caches = self._row_caches if joined else self._caches(room.groups, room.prompt)
        self._work = _work(decoder, room.rows)

        self._prompts: NDArray[np.int64] = np.zeros(0, np.int64)
        self._groups: NDArray[np.int64] = np.zeros(0, np.int64)
        self._lengths: NDArray[np.int64] = np.zeros(0, np.int64)
        self._layout: _Layout | None = None

    def _caches(self, count: int, positions: int) -> list[list[Tensor]]:
        """[count x key head, position, feature], keys and values of every layer.

        Zeros, because a masked position still meets a weight of 0, and 0 * nan is nan.
        """
        shape = (count * self._decoder.kv_heads, positions, self._decoder.width)
        return [[self._decoder.norm.new_zeros(shape) for _ in "kv"] for _ in self._decoder.layers]

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
        end = self._room.prompt
        if len(self._lengths):
            self._move(self._row_caches, rows, slice(self._start, self._start + int(self._lengths.max())))
        if len(self._prompts):
            self._move(self._prompt_caches, groups, slice(end - int(self._prompts.max()), end))

        place = np.zeros(len(self._prompts), np.int64)
        place[list(groups)] = np.arange(len(groups))
        self._prompts = self._prompts[list(groups)]
        self._groups = place[self._groups[list(rows)]]
        self._lengths = self._lengths[list(rows)]
        self._layout = None

    def _move(self, caches: Sequence[Sequence[Tensor]], kept: Sequence[int], used: slice) -> None:
        moved = [(new, old) for new, old in enumerate(kept) if new != old]
        if moved:
            new, old = torch.tensor(moved, device=self._device).T
            for cache in (cache for both in caches for cache in both):
                by_place = cache.view(-1, self._decoder.kv_heads, *cache.shape[1:])
                by_place[new, :, used] = by_place[old, :, used]

    @torch.inference_mode()
    def step(self, tokens_N: Tensor) -> Tensor:
        decoder, count = self._decoder, len(self._groups)
        span = int(self._lengths.max()) + 1
        self._make_room(span)
        if self._layout is None:
            joined = self._start > 0
            self._layout = _Layout(
                self._groups, self._prompts, self._lengths, decoder.kv_heads, joined=joined, device=self._device
            )
        layout, work = self._layout, self._work.first(count)
        heads = _Heads(work.qkv.view(count, decoder.kv_heads, -1, decoder.width))
        slots = layout.slots(self._row_caches[0][0].shape[1], self._start)
        turns = decoder.turns_TD[layout.prompts + layout.lengths][:, None, None]
        mask = layout.row_mask(span)

        work.x.copy_(decoder.embed.index_select(0, tokens_N))
        for index, layer in enumerate(decoder.layers):
            _project(work, layer, decoder.floor)
            heads.turn(turns)
            for cache, new in zip(self._row_caches[index], (heads.k, heads.v), strict=True):
                cache.view(-1, decoder.width).index_copy_(0, slots, new)
            self._attend(index, heads.q, layout, mask, span, work.met.view_as(heads.q))
            _finish(work, layer, decoder.floor)

        self._lengths += 1
        layout.lengths += 1
        return _logits(work.x, decoder)

    def _attend(self, index: int, q: Tensor, layout: "_Layout", mask: Tensor, span: int, out: Tensor) -> None:
        """What each query [row x key head, query, feature] finds in its prompt and in its row's own tokens."""
        reach = layout.span if layout.alone else 0
        own_k, own_v = (c[: len(q), self._start - reach : self._start + span] for c in self._row_caches[index])
        own = _scores(q, own_k, mask)
        if layout.alone:
            torch.bmm(own.softmax(-1).to(q.dtype), own_v, out=out)
            return

        end = self._room.prompt
        prompt_k, prompt_v = (c[: len(layout.mask), end - layout.span : end] for c in self._prompt_caches[index])
        shared = layout.to_rows(_scores(layout.to_groups(q), prompt_k, layout.mask))
        weights = torch.cat([shared, own], dim=-1).softmax(-1).to(q.dtype)
        shared, own = torch.split(weights, [layout.span, span], dim=-1)
        torch.baddbmm(layout.to_rows(torch.bmm(layout.to_groups(shared), prompt_v)), own, own_v, out=out)

    def _make_room(self, span: int) -> None:
        """Grow the rows' caches to hold so many tokens."""
        room = self._row_caches[0][0].shape[1] - self._start
        if span > room:
            more = min(self._room.new, max(span, 2 * room)) - room
            for both in self._row_caches:
                both[:] = [functional.pad(cache, (0, 0, 0, more)) for cache in both]  # with zeros

    def _prefill(self, prompts: Sequence[tuple[int, ...]], first: int) -> Tensor:
        decoder = self._decoder
        batch, longest = len(prompts), max(map(len, prompts))
        if len(self._work.x) < batch * longest:
            self._work = _work(decoder, batch * longest)
        work = self._work.first(batch * longest)
        heads = _Heads(work.qkv.view(batch, longest, decoder.kv_heads, -1, decoder.width))
        places, slots = self._places(prompts, first, longest)
        turns = decoder.turns_TD[:longest, None, None]

        tokens_BT = np.zeros((batch, longest), np.int64)
        for row, prompt in enumerate(prompts):
            tokens_BT[row, : len(prompt)] = prompt
        work.x.copy_(decoder.embed.index_select(0, torch.from_numpy(tokens_BT).to(self._device).view(-1)))
        for index, layer in enumerate(decoder.layers):
            _project(work, layer, decoder.floor)
            heads.turn(turns)
            for cache, new in zip(self._prompt_caches[index], (heads.k, heads.v), strict=True):
                cache.view(-1, decoder.width).index_copy_(0, slots, new.index_select(0, places))
            # Padding stands on the right, where a causal mask hides it from every real token.
            met = functional.scaled_dot_product_attention(*heads.sequences(), is_causal=True, enable_gqa=True)
            work.met.copy_(met.transpose(1, 2).flatten(2).flatten(0, 1))
            _finish(work, layer, decoder.floor)

        last = torch.tensor([row * longest + len(prompt) - 1 for row, prompt in enumerate(prompts)])
        return _logits(work.x[last.to(self._device)], decoder)

    def _places(self, prompts: Sequence[tuple[int, ...]], first: int, longest: int) -> tuple[Tensor, Tensor]:
        """Of every key head of the real tokens: its number among the padded ones, and where it goes in a cache."""
        heads, room = np.arange(self._decoder.kv_heads), self._prompt_caches[0][0].shape[1]
        places, slots = [], []
        for row, prompt in enumerate(prompts):
            tokens = np.arange(len(prompt))[:, None]
            places.append((row * longest + tokens) * len(heads) + heads)
            slots.append(((first + row) * len(heads) + heads) * room + self._room.prompt - len(prompt) + tokens)
        flat = [torch.from_numpy(np.concatenate(numbers).reshape(-1)).to(self._device) for numbers in (places, slots)]
        return flat[0], flat[1]


class _Layout:
    """Which rows belong to which group, as index tensors; rebuilt when rows come or go."""

    def __init__(
        self,
        groups: NDArray[np.int64],
        prompts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        kv_heads: int,
        *,
        joined: bool,
        device: torch.device,
    ) -> None:
        count, heads = len(groups), np.arange(kv_heads)
        self.span = int(prompts.max())
        self.alone = joined and np.array_equal(groups, np.arange(len(prompts)))
        """Whether each row follows its own prompt in memory."""
        self.prompts = torch.from_numpy(prompts[groups]).to(device)
        self.lengths = torch.from_numpy(lengths.copy()).to(device)
        self.mask = _mask(torch.arange(-self.span, 0) < -torch.from_numpy(prompts)[:, None], kv_heads).to(device)

        # Rows of a group side by side, in a grid of groups by the largest group; free places hold row 0, unread.
        order = np.argsort(groups, kind="stable")
        ranks = np.empty(count, np.int64)
        ranks[order] = np.arange(count) - np.searchsorted(groups[order], groups[order])
        widest = int(ranks.max()) + 1
        grid = np.zeros((len(prompts), widest), np.int64)
        grid[groups, ranks] = np.arange(count)

        self._kv_heads = kv_heads
        self._matrices = len(prompts) * kv_heads
        # [group, key head, place] -> row x key head, and back.
        self._grid = torch.from_numpy((grid[:, None] * kv_heads + heads[:, None]).reshape(-1)).to(device)
        places = (groups[:, None] * kv_heads + heads) * widest + ranks[:, None]
        self._places = torch.from_numpy(places.reshape(-1)).to(device)

    def slots(self, positions: int, start: int) -> Tensor:
        """Where the new keys of each row and key head go, in a cache of so many positions seen as a list of vectors."""
        heads = torch.arange(self._kv_heads, device=self.lengths.device)
        caches = torch.arange(len(self.lengths), device=self.lengths.device)[:, None] * self._kv_heads + heads
        return (caches * positions + (start + self.lengths)[:, None]).view(-1)

    def row_mask(self, span: int) -> Tensor:
        """For each row's own tokens, after those of its prompt where they are in one cache."""
        columns = torch.arange(-self.span if self.alone else 0, span, device=self.lengths.device)
        hidden = columns > self.lengths[:, None]
        if self.alone:
            hidden |= columns < -self.prompts[:, None]
        return _mask(hidden, self._kv_heads)

    def to_groups(self, x: Tensor) -> Tensor:
        """[row x key head, query, width] -> [group x key head, rows of the group x query, width]."""
        return x.index_select(0, self._grid).view(self._matrices, -1, x.shape[-1])

    def to_rows(self, x: Tensor) -> Tensor:
        """The inverse of `to_groups`."""
        width = x.shape[-1]
        return x.view(len(self._grid), -1, width).index_select(0, self._places)


def _mask(hidden: Tensor, kv_heads: int) -> Tensor:
    """What to add to scores [row or group x key head, query, position]: -inf where hidden."""
    mask = torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -math.inf)
    return mask.repeat_interleave(kv_heads, 0)[:, None]


def _project(work: _Work, layer: Layer, floor: Tensor) -> None:
    """The first part of a layer, up to queries, keys and values."""
    _normalize(work, floor)
    if layer.qkv_bias is None:
        _multiply(work.normed, layer.qkv, work.qkv)
    else:
        _multiply(work.normed, layer.qkv, work.qkv, add=layer.qkv_bias)


def _finish(work: _Work, layer: Layer, floor: Tensor) -> None:
    """The rest of a layer, after attention."""
    _multiply(work.met, layer.out, work.x, add=work.x)
    if layer.out_bias is not None:
        work.x.add_(layer.out_bias)
    _normalize(work, floor)
    _multiply(work.normed, layer.gate_up, work.gate_up)
    gate, up = work.gate_up.chunk(2, dim=-1)
    _multiply(functional.silu(gate, inplace=True).mul_(up), layer.down, work.x, add=work.x)


def _multiply(x: Tensor, weight: Tensor, out: Tensor, add: Tensor | None = None) -> None:
    """Out = x weight, plus what is to be added."""
    if weight.dtype == x.dtype:
        if add is None:
            torch.mm(x, weight, out=out)
        else:
            torch.addmm(add, x, weight, out=out)
        return
    size, count = weight.shape
    width = max(1, PIECE // size)
    wide = x.new_empty(width, size)
    for first in range(0, count, width):
        at = slice(first, min(first + width, count))
        piece = wide[: at.stop - first].copy_(weight[:, at].T).T
        if add is None:
            torch.mm(x, piece, out=out[:, at])
        else:
            torch.addmm(add[..., at], x, piece, out=out[:, at])


def _normalize(work: _Work, floor: Tensor) -> None:
    """Of n features: x / sqrt(|x|^2 + n eps). The weight that comes next has the gain times sqrt(n).

    `rms_norm` is six passes on a CPU, and three times as slow.
    """
    length = torch.linalg.vector_norm(work.x, dim=-1, keepdim=True, dtype=torch.float32)
    torch.div(work.x, torch.hypot(length, floor), out=work.normed)


def _logits(x: Tensor, decoder: LlamaDecoder) -> Tensor:
    normed = functional.rms_norm(x, x.shape[-1:], decoder.norm, decoder.eps)
    if decoder.head.dtype == x.dtype:
        return functional.linear(normed, decoder.head)
    logits = x.new_empty(len(x), len(decoder.head))
    _multiply(normed, decoder.head.T, logits)
    return logits


class _Heads:
    """Views of the projections [..., key head, its queries and key and value, feature]."""

    def __init__(self, projections: Tensor) -> None:
        self._all = projections
        self._turning = projections[..., :-1, :]
        self._pairs = self._turning.view(*self._turning.shape[:-1], -1, 2)
        matrices = projections.flatten(0, -3)
        self.q, self.k, self.v = matrices[:, :-2], matrices[:, -2], matrices[:, -1]

    def turn(self, turns: Tensor) -> None:
        """Rotate queries and keys in place."""
        if self._pairs.dtype == torch.float32:
            torch.view_as_complex(self._pairs).mul_(turns)
        else:
            turned = torch.view_as_complex(self._pairs.float()) * turns
            self._turning.copy_(torch.view_as_real(turned).flatten(-2))

    def sequences(self) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values as [sequence, head, position, feature]."""
        q, k, v = self._all[..., :-2, :].flatten(2, 3), self._all[..., -2, :], self._all[..., -1, :]
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def _scores(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """Scaled and masked q k^T in float32: in bfloat16 a score of 8 would be off by up to 0.03."""
    scale = 1 / math.sqrt(q.shape[-1])
    if q.dtype == torch.float32:
        return torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale)
    if q.is_cuda:
        return torch.bmm(q, k.transpose(1, 2), out_dtype=torch.float32).mul_(scale).add_(mask)
    return torch.bmm(q, k.transpose(1, 2)).float().mul_(scale).add_(mask)


def chunks(prompts: Sequence[tuple[int, ...]], budget: int) -> list[list[tuple[int, ...]]]:
    """Consecutive prompts, as many as fit the budget with their padding."""
    chunks: list[list[tuple[int, ...]]] = []
    for prompt in prompts:
        if chunks and (len(chunks[-1]) + 1) * max(len(prompt), *map(len, chunks[-1])) <= budget:
            chunks[-1].append(prompt)
        else:
            chunks.append([prompt])
    return chunks


def _table(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A vector per token: the largest weights, and with adapters such as do not learn."""
    return _copy(weight, dtype) if weight.requires_grad else weight.detach().to(dtype)


def _copy(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)
