"""Decode any causal language model of `transformers` through its own cache: slower, with the same meaning.

Prompts are padded on the left, so all rows of a wave write the same column; a wave is finished before the next starts.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from gasp_rl.policy.decoder import Room
from gasp_rl.policy.lora import merged


@dataclass(frozen=True, slots=True)
class GenericDecoder:
    model: PreTrainedModel

    def open(self, room: Room) -> "GenericSession":
        return GenericSession(self.model)


def copy_model(model: PreTrainedModel, dtype: torch.dtype) -> GenericDecoder:
    twin = merged(model).requires_grad_(requires_grad=False)
    torch.nn.Module.to(twin, dtype)
    return GenericDecoder(twin)


class GenericSession:
    """One wave of rows."""

    continuous = False

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._cache = DynamicCache()
        self._mask = torch.ones(0, 0)
        accepted = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._extra = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[tuple[int, ...]]) -> Tensor:
        longest = max(map(len, prompts))
        tokens = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        self._cache = DynamicCache()
        self._mask = mask.to(self._model.device)
        return self._forward(tokens.to(self._model.device))

    @torch.inference_mode()
    def join(self, groups: Sequence[int]) -> None:
        self._select(groups)

    @torch.inference_mode()
    def step(self, tokens_N: Tensor) -> Tensor:
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        return self._forward(tokens_N[:, None])

    @torch.inference_mode()
    def keep(self, rows: Sequence[int], groups: Sequence[int]) -> None:
        if rows:
            self._select(rows)

    def _select(self, rows: Sequence[int]) -> None:
        index = torch.tensor(rows, device=self._mask.device)
        self._cache.batch_select_indices(index)
        self._mask = self._mask[index]

    def _forward(self, tokens_NT: Tensor) -> Tensor:
        inputs: dict[str, Any] = dict(self._extra)
        if self._takes_positions:
            inputs["position_ids"] = (self._mask.cumsum(1) - 1).clamp_(min=0)[:, -tokens_NT.shape[1] :]
        out = self._model(
            input_ids=tokens_NT, attention_mask=self._mask, past_key_values=self._cache, use_cache=True, **inputs
        )
        self._cache = out.past_key_values
        logits_NV: Tensor = out.logits[:, -1]
        return logits_NV
