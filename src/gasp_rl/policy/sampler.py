"""What samples for an engine, apart from what learns; and how a token is drawn, which is the same for all that sample.

A sample's randomness is a function of its request's seed, its place among the request's samples and the position of the
token, never of what it is batched with.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from gasp_rl.errors import EngineError
from gasp_rl.policy.engine import Sample, SampleRequest


class Sampler(Protocol):
    """Answers with the weights last published to it. What it owes its engine is promises 1, 3 and 4 of `Engine`."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the arithmetic."""
        ...

    def publish(self, model: PreTrainedModel, version: int) -> None:
        """Sample with this model's weights as they are now, adapters included, from here on. What is being answered is
        answered with the weights that it began with. To be called once before the first `sample`.
        """
        ...

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[tuple[int, list[Sample]]]:
        """Yield (index of request, its n samples) as requests finish; they are known to be answerable."""
        ...

    def close(self) -> None: ...


def require_answerable(requests: Sequence[SampleRequest], context: int) -> None:
    """EngineError for a request that no sampler can answer."""
    for request in requests:
        if not 0 < len(request.prompt) < context:
            raise EngineError(f"a prompt must have from 1 to {context - 1} tokens, got {len(request.prompt)}")
        if request.params.max_tokens < 1:
            raise EngineError(f"max_tokens must be at least 1, got {request.params.max_tokens}")


def uniforms(seed: int, place: int, count: int) -> NDArray[np.float32]:
    """The first `count` numbers of sample `place` of a request, each a multiple of 2^-24 in [0, 1).

    Philox is counter-based: number i is a function of (seed, place, i), so asking for more never changes the first ones.
    """
    key = np.array([seed % 2**64, place], np.uint64)
    bits = np.random.Philox(key=key).random_raw(count) >> np.uint64(40)
    return (bits.astype(np.float32) * np.float32(2.0**-24)).astype(np.float32)


def draw(logits_NV: Tensor, temperatures_N: Tensor, uniforms_N: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens by inverse CDF of softmax(logits / temperature), and their log-probs; greedy where the temperature is 0."""
    greedy_N = temperatures_N == 0
    p_NV = (logits_NV.float() / temperatures_N.masked_fill(greedy_N, 1.0)[:, None]).softmax(-1)
    cdf_NV = p_NV.cumsum(-1)
    # Scaled to the total that rounding left; uniforms are below 1, so the token found has a probability above 0.
    tokens_N1 = torch.searchsorted(cdf_NV, uniforms_N[:, None] * cdf_NV[:, -1:], right=True)
    tokens_N1.clamp_(max=cdf_NV.shape[1] - 1)
    if greedy_N.any():
        tokens_N1 = torch.where(greedy_N[:, None], p_NV.argmax(-1, keepdim=True), tokens_N1)
    return tokens_N1[:, 0], p_NV.gather(1, tokens_N1)[:, 0].log_()
