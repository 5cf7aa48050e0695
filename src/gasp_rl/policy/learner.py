"""Gradients of one model: log-probs of completions, and the clipped policy-gradient loss.

Micro-batches and vocabulary chunks decide memory and speed only. The loss is a sum over tokens divided by an explicit
denominator, so neither they nor the number of calls can change the update.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from gasp_rl.errors import EngineError
from gasp_rl.policy.engine import Loss, OptimParams, OptimStats, StepStats, TrainItem

LOGITS = 2**25
"""Logits in memory at a time: 128 MiB of float32, and as much again for their gradient."""

CPU_TOKENS = 2048
"""Tokens of a micro-batch on a CPU, at most: its matrix products are as fast as they get, and its activations still fit
the cache. The micro model's gradient took 6.1 CPU seconds with 2,048, 9.3 with 16,384."""

Layer: TypeAlias = Callable[[Tensor], Tensor]

Shard: TypeAlias = Callable[[PreTrainedModel, Layer], Layer]
"""Spreads the parameters of a model over processes; given its trunk, returns the trunk to call from then on."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Items run through the model together."""

    items: list[int]
    """Places of the items in the caller's list."""
    tokens_BT: Tensor
    places_N: Tensor
    """Where in the flattened batch each completion token is predicted."""
    targets_N: Tensor
    sizes: list[int]
    """Completion tokens per item."""


def micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group items of like length: as many as fit the budget with their padding, one at least.

    >>> micro_batches([3, 9, 4, 10], 20)
    [[3, 1], [2, 0]]
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= token_budget:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


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
    """The float32 weights, the gradients and the optimizer of those that learn."""

    def __init__(
        self,
        model: PreTrainedModel,
        token_budget: int,
        compute: torch.dtype,
        *,
        recompute: bool = False,
        shard: Shard | None = None,
    ) -> None:
        # Evaluation mode also while learning: dropout would make the learner disagree with the sampler.
        self.model: PreTrainedModel = model.train(mode=False)
        if recompute:
            _recompute(model)
        self._trunk, self._head, self.vocabulary = _split(model)
        if shard is not None:
            self._trunk = shard(model, self._trunk)
        self.parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=0.0, fused=True)
        self._device = model.device
        self._token_budget = token_budget if model.device.type != "cpu" else min(token_budget, CPU_TOKENS)
        self._compute = compute

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
                ratio = log_ratio.exp()
                free = ratio * advantage[at]
                bounded = ratio.clamp(1 - loss.clip_low, 1 + loss.clip_high) * advantage[at]
                summed = -(weight[at] * torch.minimum(free, bounded)).sum() / loss.denominator
                summed.backward()  # type: ignore[no-untyped-call]

                with torch.no_grad():
                    clipped = (bounded < free).sum()
                    totals += torch.stack([summed, -logprobs.sum(), clipped]).double()
                    largest = torch.maximum(largest, log_ratio.abs().max())
            features.backward(leaf.grad)  # type: ignore[no-untyped-call]

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

    def clear(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def _clip(self, largest: float) -> float:
        """Bound the norm of all gradients together; what it was."""
        return torch.nn.utils.clip_grad_norm_(self.parameters.values(), largest).item()

    def _batches(self, items: Sequence[TrainItem]) -> Iterator[Batch]:
        """Micro-batches, right-padded: a causal model needs no mask for what comes after. Empty completions are left out."""
        require_prompts(items)
        written = [place for place, item in enumerate(items) if item.completion]
        lengths = [len(items[place].prompt) + len(items[place].completion) - 1 for place in written]
        for batch in micro_batches(lengths, self._token_budget):
            chosen = [items[written[place]] for place in batch]
            longest = lengths[batch[0]]
            tokens: list[list[int]] = []
            places: list[int] = []
            targets: list[int] = []
            for row, item in enumerate(chosen):
                text = [*item.prompt, *item.completion[:-1]]
                tokens.append(text + [0] * (longest - len(text)))
                first = row * longest + len(item.prompt) - 1
                places.extend(range(first, first + len(item.completion)))
                targets.extend(item.completion)
            yield Batch(
                items=[written[place] for place in batch],
                tokens_BT=torch.tensor(tokens, device=self._device),
                places_N=torch.tensor(places, device=self._device),
                targets_N=torch.tensor(targets, device=self._device),
                sizes=[len(item.completion) for item in chosen],
            )

    def _targets(self, items: Sequence[TrainItem], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Old log-probs, advantage and weight of each completion token."""
        chosen = [items[place] for place in batch.items]
        sizes = torch.tensor(batch.sizes, device=self._device)
        old = torch.tensor([logprob for item in chosen for logprob in item.old_logprobs], device=self._device)
        advantage = torch.tensor([item.advantage for item in chosen], device=self._device)
        weight = torch.tensor([item.weight for item in chosen], device=self._device)
        return old, advantage.repeat_interleave(sizes), weight.repeat_interleave(sizes)

    def _features(self, batch: Batch) -> Tensor:
        with self._autocast():
            return self._trunk(batch.tokens_BT).flatten(0, 1).index_select(0, batch.places_N)

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
        if self._compute == torch.float32 or self._device.type != "cuda":
            return nullcontext()
        return torch.autocast("cuda", self._compute)


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


@torch.no_grad()
def _split(model: PreTrainedModel) -> tuple[Layer, Layer, int]:
    """Trunk and head, so that logits are computed where a completion is and nowhere else; and the vocabulary's size.

    Some models change the logits after the head (soft caps, scales). Whether this one does is tried, not guessed: if
    head after trunk is not what the model says, the whole model is the trunk and the head does nothing.
    """
    trunk, head = model.base_model, model.get_output_embeddings()  # type: ignore[no-untyped-call]
    probe = torch.tensor([[0, 1, 1, 0]], device=model.device)
    whole = model(input_ids=probe, use_cache=False).logits

    if head is not None and trunk is not model:
        inner = trunk(input_ids=probe, use_cache=False).last_hidden_state
        if inner.shape[-1] == head.in_features and torch.equal(head(inner), whole):
            return (lambda tokens: trunk(input_ids=tokens, use_cache=False).last_hidden_state), head, whole.shape[-1]
    return (lambda tokens: model(input_ids=tokens, use_cache=False).logits), (lambda logits: logits), whole.shape[-1]
