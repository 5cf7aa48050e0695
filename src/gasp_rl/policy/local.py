"""The default engine: one model in this process, on the CPU or one GPU.

Float32 master weights learn; a copy of them, possibly in bfloat16, samples. `publish` renews it.
"""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from gasp_rl.config import ModelConfig
from gasp_rl.errors import EngineError, ModelError
from gasp_rl.policy import llama
from gasp_rl.policy.engine import (
    Lack,
    Loss,
    OptimParams,
    OptimStats,
    Sample,
    SampleRequest,
    StepStats,
    TrainItem,
    finished,
)
from gasp_rl.policy.inprocess import InProcessSampler
from gasp_rl.policy.learner import ModelLearner
from gasp_rl.policy.lora import add_lora, named_weights
from gasp_rl.policy.memory import require_room
from gasp_rl.policy.models import open_model
from gasp_rl.policy.sampler import Sampler, require_answerable
from gasp_rl.policy.saved import Saved, digest_of, export, read_state, write_state
from gasp_rl.policy.tokenizer import HfTokenizer
from gasp_rl.policy.vllm import VllmSampler

TOKEN_BUDGET = 16_384


class LocalEngine:
    """Keeps the promises of `Engine` for any causal language model of `transformers`."""

    def __init__(self, learner: ModelLearner, sampler: Sampler, tokenizer: HfTokenizer) -> None:
        """`sampler` may be for other weights yet: it gets those of `learner`."""
        self._tokenizer = tokenizer
        self._learner = learner
        self._sampler = sampler
        self._version = 0
        self._stale = False
        """Whether the weights have moved since they were published."""
        sampler.publish(self.model, self._version)

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        tokenizer: HfTokenizer,
        config: ModelConfig,
        *,
        dtype: torch.dtype,
        token_budget: int = TOKEN_BUDGET,
    ) -> "LocalEngine":
        """`model` where it is to stay; what learns of it, adapters or all, in float32. `dtype` is that of the sampling copy."""
        learner = ModelLearner(
            model,
            token_budget,
            llama.arithmetic_of(dtype, model.device),
            recompute=config.recompute,
            eight_bit_adam=config.eight_bit_adam,
        )
        return cls(learner, sampler_for(config, model, tokenizer, dtype), tokenizer)

    @classmethod
    def open(cls, config: ModelConfig, token_budget: int = TOKEN_BUDGET, *, learns: bool = True) -> "LocalEngine":
        """The engine that `config` asks for, its model read from disk. ModelError, before that, if it cannot fit: `learns`
        says whether it will be trained, which takes several times the memory.
        """
        torch.set_num_threads(config.threads or len(os.sched_getaffinity(0)))
        device = choose_device(config.device)
        dtype = choose_dtype(config.dtype, device)
        require_room(config, token_budget, device, dtype, learns=learns)
        # What learns needs float32, or its steps would round to nothing; what stays need not be finer than the arithmetic.
        model, tokenizer = open_model(
            config.path, llama.arithmetic_of(dtype, device) if config.lora.rank else torch.float32
        )
        if config.lora.rank:
            add_lora(model, config.lora)
        torch.nn.Module.to(model, device)
        return cls.of(model, tokenizer, config, dtype=dtype, token_budget=token_budget)

    @property
    def model(self) -> PreTrainedModel:
        return self._learner.model

    @property
    def tokenizer(self) -> HfTokenizer:
        return self._tokenizer

    @property
    def lacks(self) -> frozenset[Lack]:
        return frozenset()

    @property
    def version(self) -> int:
        return self._version

    @property
    def context(self) -> int:
        return int(self.model.config.max_position_embeddings)

    @property
    def named_prompts(self) -> str:
        """The prompt set that the model itself names in its configuration; empty where it names none, as most do."""
        return str(getattr(self.model.config, "gasp_prompts", ""))

    @property
    def dtype(self) -> str:
        """Of the sampling copy."""
        return str(self._sampler.dtype).removeprefix("torch.")

    @property
    def digest(self) -> str:
        """SHA-256 over the names and bits of the weights as they are now."""
        return digest_of(named_weights(self.model))

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[tuple[int, list[Sample]]]:
        require_answerable(requests, self.context)
        return self._sampler.sample(requests)

    def logprobs(self, items: Sequence[TrainItem], temperature: float = 1.0) -> Future[list[list[float]]]:
        return finished(self._learner.logprobs(items, temperature))

    def forward_backward(self, items: Sequence[TrainItem], loss: Loss) -> Future[StepStats]:
        return finished(self._learner.forward_backward(items, loss))

    def optim_step(self, params: OptimParams) -> Future[OptimStats]:
        stats = self._learner.optim_step(params)
        self._stale = self._stale or not stats.skipped
        return finished(stats)

    def publish(self) -> Future[int]:
        self._version += 1
        self._sampler.publish(self.model, self._version)
        self._stale = False
        return finished(self._version)

    def save(self, path: Path) -> None:
        """Write the weights that learn, optimizer state and version, all or nothing. Gradients not yet applied are not part
        of it.
        """
        if self._stale:
            raise EngineError(f"cannot save to {path}: weights have moved since version {self._version}; publish first")
        write_state(path, Saved(self._learner.weights(), self._learner.moments(), self._version))

    def load(self, path: Path) -> None:
        """Become what was saved. Gradients not yet applied are dropped."""
        saved = read_state(path, self._learner.shapes)
        self._learner.restore(saved.weights, saved.moments)
        self._version = saved.version
        self._stale = False
        self._sampler.publish(self.model, self._version)

    def export_hf(self, path: Path) -> None:
        export(self.model, self._tokenizer, path)

    def close(self) -> None:
        self._sampler.close()


def sampler_for(config: ModelConfig, model: PreTrainedModel, tokenizer: HfTokenizer, dtype: torch.dtype) -> Sampler:
    """What is to sample for models like this one; nothing is published to it yet."""
    match config.sampler:
        case "in-process":
            return InProcessSampler(
                model, tokenizer, dtype, batch_rows=config.batch_rows, batch_tokens=config.batch_tokens
            )
        case "vllm":
            return VllmSampler(config, model, tokenizer, dtype)


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "model.device is cuda, but torch finds no CUDA device: set model.device=cpu or install a CUDA torch"
        )
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def choose_dtype(wanted: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """`auto` tries on a CPU, where bfloat16 is four times as fast or a hundred times as slow, with little between."""
    match wanted:
        case "float32":
            return torch.float32
        case "bfloat16":
            return torch.bfloat16
        case "auto":
            pays = torch.cuda.is_bf16_supported() if device.type == "cuda" else _bfloat16_pays()
            return torch.bfloat16 if pays else torch.float32


def _bfloat16_pays() -> bool:
    def seconds(dtype: torch.dtype) -> float:
        x, weight = torch.ones(64, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)

        def once() -> float:
            start = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            return time.perf_counter() - start

        return min(once() for _ in range(4))

    return seconds(torch.bfloat16) * 1.5 < seconds(torch.float32)
