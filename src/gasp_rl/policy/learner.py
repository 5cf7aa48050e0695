"""Gradients of one model: log-probs of completions, and the clipped policy-gradient loss.

A prompt is run once for several of its completions, which stand behind it in one row and do not see each other. Rows,
micro-batches and vocabulary chunks decide memory and speed only. The loss is a sum over tokens divided by an explicit
denominator, so neither they nor the number of calls can change the update.
"""

import importlib.util
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from gasp_rl.errors import EngineError, ModelError
from gasp_rl.policy.engine import Loss, OptimParams, OptimStats, StepStats, TrainItem

LOGITS = 2**25
"""Logits in memory at a time: 128 MiB of float32, and as much again for their gradient."""

CPU_TOKENS = 2048
"""Tokens of a micro-batch on a CPU, at most: its matrix products are as fast as they get, and its activations still fit
the cache. The micro model's gradient took 6.1 CPU seconds with 2,048, 9.3 with 16,384."""

BATCH_PRICE = 1 / 16
"""Of its budget: what a micro-batch costs before it has a token. So much padding is better than one more."""

SHARED_TOKENS = 4096
"""Of a row with several completions, at most. Its mask is as large as the square of its length, and so is the time that
attention takes; long before, the prompt's own share of the work has become small."""

Layer: TypeAlias = Callable[[Tensor], Tensor]
Trunk: TypeAlias = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
"""(tokens_BT, positions_BT, mask_B1TT) -> hidden states. None: the tokens follow each other, each sees all before it."""
Shard: TypeAlias = Callable[[PreTrainedModel, Trunk], Trunk]
"""Spreads the parameters of a model over processes; given its trunk, returns the trunk to call from then on."""


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt, and behind it completions that follow it, not each other. The last token of each predicts nothing and is
    left out.
    """

    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    items: tuple[int, ...]
    """Places in the caller's list of the items that these are of."""

    @property
    def length(self) -> int:
        return len(self.prompt) + sum(len(completion) - 1 for completion in self.completions)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows run through the model together."""

    items: list[int]
    """Places of the items in the caller's list."""
    tokens_BT: Tensor
    places_N: Tensor
    """Where in the flattened batch each completion token is predicted."""
    targets_N: Tensor
    sizes: list[int]
    """Completion tokens per item."""
    positions_BT: Tensor | None = None
    mask_B1TT: Tensor | None = None
    """0 where a token sees another, else minus infinity. Positions and mask are None where every row has one completion."""


def rows_of(items: Sequence[TrainItem], room: int) -> list[Row]:
    """Put items of one prompt into one row while it has room: `room` tokens, or one item. Empty completions are left out.

    >>> items = [TrainItem((1, 2), completion, 1.0, ()) for completion in ((3, 4), (5,), (6, 7, 8))]
    >>> [(row.completions, row.length) for row in rows_of(items, 4)]
    [(((3, 4), (5,)), 3), (((6, 7, 8),), 4)]
    """
    rows: list[Row] = []
    newest: dict[tuple[int, ...], int] = {}
    for place, item in enumerate(items):
        if not item.completion:
            continue
        last = newest.get(item.prompt)
        if last is not None and rows[last].length + len(item.completion) - 1 <= room:
            row = rows[last]
            rows[last] = Row(row.prompt, (*row.completions, item.completion), (*row.items, place))
        else:
            newest[item.prompt] = len(rows)
            rows.append(Row(item.prompt, (item.completion,), (place,)))
    return rows


def micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group rows of like length: no more than fit the budget with their padding, one at least, so that padding and the
    price of every micro-batch come to as little as can be.

    >>> micro_batches([3, 9, 4, 10], 20)
    [[3, 1], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    price = token_budget * BATCH_PRICE
    least, begins = [0.0], [0]
    """For the first so many rows: the tokens of their micro-batches, and where the last of these begins."""
    for end in range(1, len(order) + 1):
        costs = {end - 1: least[-1] + lengths[order[end - 1]] + price}
        for begin in range(end - 2, -1, -1):
            padded = (end - begin) * lengths[order[begin]]
            if padded > token_budget:  # and longer ones all the more
                break
            costs[begin] = least[begin] + padded + price
        best = min(costs, key=lambda begin: costs[begin])
        least.append(costs[best])
        begins.append(best)

    batches: list[list[int]] = []
    end = len(order)
    while end:
        batches.append(order[begins[end] : end])
        end = begins[end]
    return batches[::-1]


def require_prompts(items: Sequence[TrainItem]) -> None:
    """EngineError for an item whose log-probs cannot be taken."""
    if any(not item.prompt for item in items):
        raise EngineError("an item to learn from has an empty prompt: the first token needs one to follow")


def require_learnable(items: Sequence[TrainItem]) -> None:
    """EngineError for an item that cannot be learned from."""
    require_prompts(items)
    for item in items:
        if len(item.old_logprobs) != len(item.completion):
            raise EngineError(f"a completion of {len(item.completion)} tokens came with "
                              f"{len(item.old_logprobs)} old_logprobs: give one per token")  # fmt: skip


class ModelLearner:
    """The model, and gradients and optimizer of those of its weights that learn."""

    def __init__(
        self,
        model: PreTrainedModel,
        token_budget: int,
        compute: torch.dtype,
        *,
        recompute: bool = False,
        eight_bit_adam: bool = False,
        shard: Shard | None = None,
    ) -> None:
        # Evaluation mode also while learning: dropout would make the learner disagree with the sampler.
        self.model: PreTrainedModel = model.train(mode=False)
        if recompute:
            _recompute(model)
        self._device = model.device
        self._compute = compute
        with self._autocast():
            self._trunk, self._head, self.vocabulary = _split(model)
            self._shares = _can_share(model, self._trunk, compute)
        if shard is not None:
            self._trunk = shard(model, self._trunk)
            self._device = model.device  # it may have been moved
        self._token_budget = token_budget if self._device.type != "cpu" else min(token_budget, CPU_TOKENS)
        self.parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.optimizer = _adamw(self.parameters.values(), eight_bit=eight_bit_adam)

    def logprobs(self, items: Sequence[TrainItem], temperature: float) -> list[list[float]]:
        found: list[list[float]] = [[] for _ in items]
        with torch.no_grad():  # inference mode would mark what is gathered of a sharded model as unfit to learn with
            for batch in self._batches(items):
                features = self._features(batch)
                parts = [
                    self._logprobs(features[at], batch.targets_N[at], temperature) for at in self._chunks(features)
                ]
                scored = torch.cat([torch.zeros(0, device=self._device), *parts])
                for item, logprobs in zip(batch.items, torch.split(scored, batch.sizes), strict=True):
                    found[item] = logprobs.tolist()
        return found

    def forward_backward(self, items: Sequence[TrainItem], loss: Loss) -> StepStats:
        require_learnable(items)
        totals = torch.zeros(3, dtype=torch.float64, device=self._device)
        largest = torch.zeros((), device=self._device)
        for batch in self._batches(items):
            features = self._features(batch)
            # The head runs on a leaf, chunk by chunk, each chunk's gradient taken at once: its logits need not be kept.
            leaf = features.detach().requires_grad_()
            leaf.grad = torch.zeros_like(leaf)
            old, advantage, weight = self._targets(items, batch)
            for at in self._chunks(leaf):
                logprobs = self._logprobs(leaf[at], batch.targets_N[at], loss.temperature)
                log_ratio = logprobs - old[at]
                objective, clipped = _objective(logprobs, log_ratio.exp(), advantage[at], loss)
                summed = -(weight[at] * objective).sum() / loss.denominator
                torch.autograd.backward(summed)

                with torch.no_grad():
                    totals += torch.stack([summed, -logprobs.sum(), clipped.sum()]).double()
                    largest = torch.maximum(largest, log_ratio.abs().max())
            torch.autograd.backward(features, leaf.grad)

        value, surprise, clipped_tokens = totals.tolist()
        tokens = sum(len(item.completion) for item in items)
        mean = 1 / tokens if tokens else 0.0
        return StepStats(value, tokens, surprise * mean, largest.item(), clipped_tokens * mean)

    def optim_step(self, params: OptimParams) -> OptimStats:
        for group in self.optimizer.param_groups:
            group.update(lr=params.lr, betas=params.betas, weight_decay=params.weight_decay, eps=params.eps)
        norm = self._clip(params.grad_clip)
        finite = math.isfinite(norm)
        if finite:
            self.optimizer.step()
        self.clear()
        return OptimStats(norm, skipped=not finite)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters that learn."""
        return {name: tuple(parameter.shape) for name, parameter in self.parameters.items()}

    def weights(self) -> dict[str, Tensor]:
        """The parameters that learn."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    def moments(self) -> dict[str, Tensor]:
        """Of the optimizer, by "slot/name"."""
        return {
            f"{slot}/{name}": torch.as_tensor(value)
            for name, parameter in self.parameters.items()
            for slot, value in self.optimizer.state.get(parameter, {}).items()
        }

    def restore(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Become what `weights` and `moments` told. Gradients not yet applied are dropped."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self._own(parameter, weights[name]))
        self.optimizer.state.clear()
        for key, value in moments.items():
            slot, name = key.split("/", 1)
            self.optimizer.state[self.parameters[name]][slot] = (
                # bitsandbytes counts its steps in a plain number.
                value.item() if value.dtype == torch.int64 else self._own(self.parameters[name], value)
            )
        self.clear()

    def clear(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def _own(self, parameter: Tensor, value: Tensor) -> Tensor:
        """A value that belongs to a parameter, where the parameter is: there the fused kernel wants also its step count."""
        return value.to(parameter.device)

    def _clip(self, largest: float) -> float:
        """Bound the norm of all gradients together; what it was."""
        return torch.nn.utils.clip_grad_norm_(self.parameters.values(), largest).item()

    def _batches(self, items: Sequence[TrainItem]) -> Iterator[Batch]:
        return map(self._batch, self._planned(items))

    def _planned(self, items: Sequence[TrainItem]) -> list[list[Row]]:
        """The rows of each micro-batch."""
        require_prompts(items)
        rows = rows_of(items, min(self._token_budget, SHARED_TOKENS) if self._shares else 0)
        batches = micro_batches([row.length for row in rows], self._token_budget)
        return [[rows[place] for place in chosen] for chosen in batches]

    def _batch(self, rows: Sequence[Row]) -> Batch:
        """Right-padded: a causal model needs no mask for what comes after."""
        shape = len(rows), max(row.length for row in rows)
        tokens, positions, owners = (np.zeros(shape, np.int64) for _ in range(3))
        places: list[int] = []
        for number, row in enumerate(rows):
            prompt = end = len(row.prompt)
            tokens[number, :end] = row.prompt
            positions[number, :end] = np.arange(end)
            for owner, completion in enumerate(row.completions, start=1):
                start, end = end, end + len(completion) - 1
                tokens[number, start:end] = completion[:-1]
                positions[number, start:end] = np.arange(prompt, prompt + end - start)
                owners[number, start:end] = owner
                first = number * shape[1]
                places += [first + prompt - 1, *range(first + start, first + end)]
        shared = any(len(row.items) > 1 for row in rows)
        return Batch(
            items=[item for row in rows for item in row.items],
            tokens_BT=torch.from_numpy(tokens).to(self._device),
            places_N=torch.tensor(places, device=self._device),
            targets_N=torch.tensor([t for row in rows for c in row.completions for t in c], device=self._device),
            sizes=[len(completion) for row in rows for completion in row.completions],
            positions_BT=torch.from_numpy(positions).to(self._device) if shared else None,
            mask_B1TT=sight(torch.from_numpy(owners).to(self._device), self._compute) if shared else None,
        )

    def _targets(self, items: Sequence[TrainItem], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Old log-probs, advantage and weight of each completion token."""
        chosen = [items[place] for place in batch.items]
        sizes = torch.tensor(batch.sizes, dtype=torch.int64, device=self._device)
        old = torch.tensor([logprob for item in chosen for logprob in item.old_logprobs], device=self._device)
        advantage = torch.tensor([item.advantage for item in chosen], device=self._device)
        weight = torch.tensor([item.weight for item in chosen], device=self._device)
        return old, advantage.repeat_interleave(sizes), weight.repeat_interleave(sizes)

    def _features(self, batch: Batch) -> Tensor:
        with self._autocast():
            hidden_BTH = self._trunk(batch.tokens_BT, batch.positions_BT, batch.mask_B1TT)
            return hidden_BTH.flatten(0, 1).index_select(0, batch.places_N)

    def _logprobs(self, features: Tensor, targets_N: Tensor, temperature: float) -> Tensor:
        """Log of softmax(logits / temperature) at the targets; temperature 0 was sampled greedily and is scored as 1."""
        with self._autocast():
            logits = self._head(features)
        logits = logits.float() / (temperature or 1.0)
        return logits.log_softmax(-1).gather(1, targets_N[:, None])[:, 0]

    def _chunks(self, features: Tensor) -> Iterator[slice]:
        rows = max(1, LOGITS // self.vocabulary)
        return (slice(first, first + rows) for first in range(0, len(features), rows))

    def _autocast(self) -> AbstractContextManager[object]:
        return nullcontext() if self._compute == torch.float32 else torch.autocast(self._device.type, self._compute)


def _adamw(parameters: Iterable[Parameter], *, eight_bit: bool) -> Optimizer:
    if not eight_bit:
        return torch.optim.AdamW(parameters, lr=0.0, fused=True)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("model.eight_bit_adam needs the bitsandbytes package: pip install 'gasp-rl[adam8bit]'")
    from bitsandbytes.optim.adamw import AdamW8bit  # noqa: PLC0415 - an extra

    make: Callable[..., Optimizer] = AdamW8bit
    return make(parameters, lr=0.0)


def _objective(logprobs: Tensor, ratio: Tensor, advantage: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """What is to be raised, by token, and whether its ratio was bounded."""
    if loss.truncate:
        return ratio.detach().clamp(max=loss.truncate) * advantage * logprobs, ratio > loss.truncate
    free = ratio * advantage
    bounded = ratio.clamp(1 - loss.clip_low, 1 + loss.clip_high) * advantage
    return torch.minimum(free, bounded), bounded < free


def _recompute(model: PreTrainedModel) -> None:
    """Have each layer computed again for its gradient. `transformers` does so in training mode only: the layers are put
    into it, what is inside them is not.
    """
    # The old name is deprecated, the new one is not in all versions.
    enable: Callable[..., None] = (
        getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    )
    enable({"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True


def sight(owners_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """mask_B1TT: a token sees those before it that are of its own completion or of the prompt, whose owner is 0.

    A sum's mask, not a truth's: `scaled_dot_product_attention` would make one of it in every layer and keep them all.
    """
    length = owners_BT.shape[1]
    earlier_TT = torch.ones(length, length, dtype=torch.bool, device=owners_BT.device).tril_()
    seen_B1T = owners_BT[:, None, :]
    sees_BTT = earlier_TT & ((seen_B1T == 0) | (seen_B1T == owners_BT[:, :, None]))
    return torch.zeros(sees_BTT.shape, dtype=dtype, device=owners_BT.device).masked_fill_(~sees_BTT, -math.inf)[:, None]


@torch.no_grad()
def _split(model: PreTrainedModel) -> tuple[Trunk, Layer, int]:
    """Trunk and head, so that logits are computed where a completion is and nowhere else; and the vocabulary's size.

    Some models change the logits after the head (soft caps, scales). Whether this one does is tried, not guessed: if
    head after trunk is not what the model says, the whole model is the trunk and the head does nothing.
    """
    trunk, head = model.base_model, model.get_output_embeddings()  # type: ignore[no-untyped-call]
    probe = torch.tensor([[0, 1, 1, 0]], device=model.device)
    whole = model(input_ids=probe, use_cache=False).logits

    def run(part: Callable[..., Any], tokens_BT: Tensor, positions_BT: Tensor | None, mask_B1TT: Tensor | None) -> Any:
        if positions_BT is None:
            return part(input_ids=tokens_BT, use_cache=False)
        return part(input_ids=tokens_BT, position_ids=positions_BT, attention_mask=mask_B1TT, use_cache=False)

    if head is not None and trunk is not model:
        inner = trunk(input_ids=probe, use_cache=False).last_hidden_state
        if inner.shape[-1] == head.in_features and torch.equal(head(inner), whole):
            return (lambda *text: run(trunk, *text).last_hidden_state), head, whole.shape[-1]
    return (lambda *text: run(model, *text).logits), (lambda logits: logits), whole.shape[-1]


@torch.no_grad()
def _can_share(model: PreTrainedModel, trunk: Trunk, dtype: torch.dtype) -> bool:
    """Whether a token of this model sees exactly what a mask says, wherever it stands in its row.

    Tried on two completions of one prompt: behind one another, and each for itself. A window would show in longer texts
    only, so a model whose layers are not all of full attention is not tried.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    known = inspect.signature(model.base_model.forward).parameters
    if kinds != {"full_attention"} or window or not {"attention_mask", "position_ids"} <= set(known):
        return False

    def tensor(*numbers: int) -> Tensor:
        return torch.tensor([numbers], device=model.device)

    alone = [trunk(tensor(0, 1, 0, 1), None, None)[0, 2:], trunk(tensor(0, 1, 1, 1, 0), None, None)[0, 2:]]
    row = trunk(tensor(0, 1, 0, 1, 1, 1, 0), tensor(0, 1, 2, 3, 2, 3, 4), sight(tensor(0, 0, 1, 1, 2, 2, 2), dtype))[
        0, 2:
    ]
    rounding = 100 * torch.finfo(dtype).eps * float(row.abs().max())
    return torch.allclose(row.float(), torch.cat(alone).float(), rtol=0.0, atol=rounding)
