"""Sample in this process: many requests decoded together, rows replaced as they finish.

What is batched together depends on requests and token counts only, never on the clock.
"""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from gasp_rl.policy import generic, llama
from gasp_rl.policy.decoder import Decoder, Room, Session, survivors
from gasp_rl.policy.engine import Sample, SampleRequest, Stop
from gasp_rl.policy.sampler import draw, uniforms
from gasp_rl.policy.stops import StopStrings
from gasp_rl.policy.tokenizer import HfTokenizer

REFILL = 8
"""New rows join when one in so many places is free: often enough to keep the batch full, seldom enough that prompts are
prefilled together."""
STRAGGLERS = 3.0
"""Prompts held per prompt's worth of rows: a group's last rows keep its prompt while others have moved on."""


@dataclass(slots=True)
class _Group:
    """A request while it is being sampled."""

    index: int
    request: SampleRequest
    limit: int
    """Tokens per completion at most."""
    started: int = 0
    resident: bool = False
    """Whether its prompt is in the cache."""
    logits_V: Tensor | None = None
    """Of the first token, while rows are still to start."""
    samples: dict[int, Sample] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        return self.request.n - self.started


@dataclass(frozen=True, slots=True)
class _Row:
    """A completion while it is being sampled."""

    group: _Group
    place: int
    """Among the samples of its request."""
    line: int
    """Of the sampler's tables, which it has to itself."""
    begun: int
    """Steps that the sampler had done before its first token."""


class InProcessSampler:
    """Keeps the promises of `Sampler` with a copy of the weights: fused for decoding where the architecture is known."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: HfTokenizer, dtype: torch.dtype, *, batch_rows: int, batch_tokens: int
    ) -> None:
        """For weights like those of `model`, on its device."""
        config = model.config.get_text_config()
        self._context = int(config.max_position_embeddings)
        self._device = model.device
        self._dtype = dtype
        self._eos = tokenizer.all_eos
        self._stops = StopStrings(tokenizer, config.vocab_size, model.device)
        self._batch_rows = batch_rows
        self._batch_tokens = batch_tokens
        self._decoder: Decoder | None = None
        self._version = 0

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    def publish(self, model: PreTrainedModel, version: int) -> None:
        self._decoder = None  # its memory first: two copies are one too many, if nothing is sampled with the old one
        self._decoder = self._copy(model)
        self._version = version

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[tuple[int, list[Sample]]]:
        yield from ((index, []) for index, request in enumerate(requests) if request.n == 0)
        asked = [index for index, request in enumerate(requests) if request.n > 0]
        if not asked:
            return
        assert self._decoder is not None
        batch = Batch(
            self._decoder,
            [requests[index] for index in asked],
            context=self._context,
            eos=self._eos,
            stops=self._stops,
            version=self._version,
            batch_rows=self._batch_rows,
            batch_tokens=self._batch_tokens,
            device=self._device,
        )
        for place, samples in batch.run():
            yield asked[place], samples

    def close(self) -> None:
        """Nothing is held open; the memory goes with the sampler."""

    def _copy(self, model: PreTrainedModel) -> Decoder:
        if llama.supports(model):
            return llama.copy_weights(model, self._dtype, self._context)
        return generic.copy_model(model, self._dtype)


class Batch:
    """One call to `sample`: the queue of requests and the rows being decoded."""

    def __init__(
        self,
        decoder: Decoder,
        requests: Sequence[SampleRequest],
        *,
        context: int,
        eos: frozenset[int],
        stops: StopStrings,
        version: int,
        batch_rows: int,
        batch_tokens: int,
        device: torch.device,
    ) -> None:
        groups = [
            _Group(index, request, min(request.params.max_tokens, context - len(request.prompt)))
            for index, request in enumerate(requests)
        ]
        # Longest prompts first: neighbours have like lengths, and what comes last finishes soonest.
        self._queue = deque(sorted(groups, key=lambda group: -len(group.request.prompt)))
        self._room = plan(groups, batch_rows, batch_tokens)
        self._session: Session = decoder.open(self._room)
        self._stops = stops
        self._version = version
        self._device = device
        self._ending = torch.zeros(stops.vocabulary, dtype=torch.bool, device=device)
        """By token: whether it ends a text."""
        self._ending[sorted(eos)] = True

        self._groups: list[_Group] = []
        self._rows: list[_Row] = []
        self._steps = 0
        # A line per row, a column per token.
        lines, columns = self._room.rows, self._room.new
        self._free = list(range(lines))
        self._uniforms = torch.zeros(lines, columns, device=device)
        self._tokens = torch.zeros(lines, columns, dtype=torch.int64, device=device)
        self._logprobs = torch.zeros(lines, columns, device=device)
        # By row.
        self._cells = torch.zeros(0, dtype=torch.int64, device=device)
        """Where in the tables, read line by line, its next token goes."""
        self._temperatures = torch.zeros(0, device=device)
        self._suspects = torch.zeros(0, dtype=torch.int64, device=device)

    @torch.inference_mode()
    def run(self) -> Iterator[tuple[int, list[Sample]]]:
        """Yield requests as their last sample finishes."""
        logits_NV: Tensor | None = None
        while self._queue or self._rows:
            logits_NV = self._admit(logits_NV)
            tokens_N = self._draw(logits_NV)
            reasons = self._reasons(tokens_N)
            if reasons:
                done = self._finish(reasons)
                tokens_N = tokens_N[self._retire(reasons)]
                for group in done:
                    yield group.index, [group.samples[place] for place in range(group.request.n)]
            logits_NV = self._session.step(tokens_N) if self._rows else None

    def _admit(self, logits_NV: Tensor | None) -> Tensor:
        """Let rows join where enough places are free. Returns the logits of all rows, the new ones last."""
        if self._rows:
            assert logits_NV is not None
            free = self._room.rows - len(self._rows)
            if not self._queue or not self._session.continuous or free < max(1, self._room.rows // REFILL):
                return logits_NV
        else:
            self._forget_groups()

        joining: list[_Row] = []
        fresh: list[_Group] = []
        while self._queue and len(self._rows) + len(joining) < self._room.rows:
            group = self._queue[0]
            if not group.resident:
                if len(self._groups) == self._room.groups:
                    break
                group.resident = True
                self._groups.append(group)
                fresh.append(group)
            taken = min(group.waiting, self._room.rows - len(self._rows) - len(joining))
            places = range(group.started, group.started + taken)
            joining += [_Row(group, place, self._free.pop(), self._steps) for place in places]
            group.started += taken
            if not group.waiting:
                self._queue.popleft()

        if fresh:
            for group, logits_V in zip(fresh, self._session.prefill([g.request.prompt for g in fresh]), strict=True):
                group.logits_V = logits_V
        self._start(joining)
        first_NV = [row.group.logits_V for row in joining if row.group.logits_V is not None]
        for row in joining:
            if not row.group.waiting:
                row.group.logits_V = None
        new_NV = torch.stack(first_NV) if first_NV else None
        parts = [part for part in (logits_NV, new_NV) if part is not None]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _forget_groups(self) -> None:
        """With no row left a session that cannot take prompts later starts anew."""
        if self._session.continuous:
            return
        self._session.keep([], [])
        for group in self._groups:
            group.resident = False
        self._groups = []

    def _start(self, joining: list[_Row]) -> None:
        """Set up the state of new rows, behind the rows there are."""
        if not joining:
            return
        numbers = {id(group): number for number, group in enumerate(self._groups)}
        self._session.join([numbers[id(row.group)] for row in joining])
        self._rows += joining

        asked = [row.group.request for row in joining]
        random = np.zeros((len(joining), self._room.new), np.float32)
        for numbers_of_row, row in zip(random, joining, strict=True):
            numbers_of_row[: row.group.limit] = uniforms(row.group.request.seed, row.place, row.group.limit)
        lines = torch.tensor([row.line for row in joining], device=self._device)
        self._uniforms[lines] = torch.from_numpy(random).to(self._device)
        self._cells = torch.cat([self._cells, lines * self._room.new])
        temperatures = torch.tensor([request.params.temperature for request in asked], device=self._device)
        self._temperatures = torch.cat([self._temperatures, temperatures])
        suspects = torch.tensor([self._stops.number(request.params.stop) for request in asked], device=self._device)
        self._suspects = torch.cat([self._suspects, suspects])

    def _draw(self, logits_NV: Tensor) -> Tensor:
        """Draw and note a token for every row."""
        uniforms_N = self._uniforms.view(-1).index_select(0, self._cells)
        tokens_N, logprobs_N = draw(logits_NV, self._temperatures, uniforms_N)
        self._tokens.view(-1).index_copy_(0, self._cells, tokens_N)
        self._logprobs.view(-1).index_copy_(0, self._cells, logprobs_N)
        self._cells += 1
        self._steps += 1
        return tokens_N

    def _reasons(self, tokens_N: Tensor) -> dict[int, Stop]:
        """The rows that end with these tokens, and why."""
        ended_N = self._ending.index_select(0, tokens_N)
        suspect_N = ended_N | self._stops.suspicious(self._suspects, tokens_N)
        reasons = {}
        for number in suspect_N.nonzero()[:, 0].tolist():
            row = self._rows[number]
            stop = row.group.request.params.stop
            if ended_N[number]:
                reasons[number] = Stop.EOS
            elif self._stops.reached(self._tokens[row.line, : self._steps - row.begun].tolist(), stop):
                reasons[number] = Stop.STRING
        for number, row in enumerate(self._rows):
            if self._steps - row.begun == row.group.limit:
                reasons.setdefault(number, Stop.LENGTH)
        return reasons

    def _finish(self, reasons: dict[int, Stop]) -> list[_Group]:
        """Collect the samples of rows that have ended; the groups that are complete with them."""
        rows = [self._rows[number] for number in reasons]
        lines = [row.line for row in rows]
        tokens, logprobs = self._tokens[lines].tolist(), self._logprobs[lines].tolist()
        done = []
        for row, stop, ids, ps in zip(rows, reasons.values(), tokens, logprobs, strict=True):
            count, group = self._steps - row.begun, row.group
            group.samples[row.place] = Sample(tuple(ids[:count]), tuple(ps[:count]), stop, self._version)
            if len(group.samples) == group.request.n:
                done.append(group)
        return done

    def _retire(self, ended: Collection[int]) -> Tensor:
        """Drop these rows, and groups that have no row left and none to come. Returns which rows the rest were."""
        self._free += [self._rows[number].line for number in ended]
        rows = survivors([number not in ended for number in range(len(self._rows))])
        kept = [self._rows[number] for number in rows]
        needed = {id(row.group) for row in kept} | {id(group) for group in self._groups if group.waiting}
        groups = survivors([id(group) in needed for group in self._groups])
        self._session.keep(rows, groups)
        self._rows = kept
        self._groups = [self._groups[number] for number in groups]

        chosen = torch.tensor(rows, dtype=torch.int64, device=self._device)
        self._cells, self._temperatures = self._cells[chosen], self._temperatures[chosen]
        self._suspects = self._suspects[chosen]
        return chosen


def plan(groups: Sequence[_Group], batch_rows: int, batch_tokens: int) -> Room:
    """How many rows and prompts to hold, within both bounds; always at least one of each."""
    prompt = max(len(group.request.prompt) for group in groups)
    new = max(group.limit for group in groups)
    total = sum(group.request.n for group in groups)
    prompts_per_row = min(1.0, STRAGGLERS * len(groups) / total)
    rows = max(1, min(batch_rows, total, int(batch_tokens / (new + prompts_per_row * prompt))))
    held = max(1, min(len(groups), rows, (batch_tokens - rows * new) // prompt))
    return Room(groups=held, prompt=prompt, rows=rows, new=new)
