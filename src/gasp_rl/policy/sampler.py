"""Draw completions: many requests decoded together, rows replaced as they finish.

What is batched together depends on requests and token counts only, never on the clock. A row's randomness is a function
of its request's seed, its place among the request's samples and the position of the token, never of its neighbours.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gasp_rl.policy.decoder import Decoder, Room, Session, survivors
from gasp_rl.policy.engine import Sample, SampleRequest, Stop
from gasp_rl.policy.stops import StopStrings

REFILL = 8
"""New rows join when one in so many places is free: often enough to keep the batch full, seldom enough that prompts are
prefilled together."""
STRAGGLERS = 3.0
"""Prompts held per prompt's worth of rows: a group's last rows keep its prompt while others have moved on."""


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
    logprobs_NV = (logits_NV.float() / temperatures_N.masked_fill(greedy_N, 1.0)[:, None]).log_softmax(-1)
    cdf_NV = logprobs_NV.exp().cumsum(-1)
    # Scaled to the total that rounding left; uniforms are below 1, so the token found has a probability above 0.
    tokens_N1 = torch.searchsorted(cdf_NV, uniforms_N[:, None] * cdf_NV[:, -1:], right=True)
    tokens_N1.clamp_(max=cdf_NV.shape[1] - 1)
    tokens_N1 = torch.where(greedy_N[:, None], logprobs_NV.argmax(-1, keepdim=True), tokens_N1)
    return tokens_N1[:, 0], logprobs_NV.gather(1, tokens_N1)[:, 0]


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


class Sampler:
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
        self._eos = eos
        self._eos_tokens = torch.tensor(sorted(eos), device=device)
        self._stops = stops
        self._version = version
        self._device = device

        self._groups: list[_Group] = []
        self._rows: list[tuple[_Group, int]] = []
        rows, new = self._room.rows, self._room.new
        self._counts = torch.zeros(rows, dtype=torch.int64, device=device)
        self._limits = torch.zeros(rows, dtype=torch.int64, device=device)
        self._temperatures = torch.zeros(rows, device=device)
        self._uniforms = torch.zeros(rows, new, device=device)
        self._tokens = torch.zeros(rows, new, dtype=torch.int64, device=device)
        self._logprobs = torch.zeros(rows, new, device=device)
        self._suspects = torch.zeros(rows, dtype=torch.int64, device=device)

    @torch.inference_mode()
    def run(self) -> Iterator[tuple[int, list[Sample]]]:
        """Yield requests as their last sample finishes."""
        logits_NV: Tensor | None = None
        while self._queue or self._rows:
            logits_NV = self._admit(logits_NV)
            yield from self._advance(logits_NV)
            count = len(self._rows)
            if count:
                rows = torch.arange(count, device=self._device)
                logits_NV = self._session.step(self._tokens[rows, self._counts[:count] - 1])
            else:
                logits_NV = None

    def _admit(self, logits_NV: Tensor | None) -> Tensor:
        """Let rows join where enough places are free. Returns the logits of all rows, the new ones last."""
        if self._rows:
            assert logits_NV is not None
            free = self._room.rows - len(self._rows)
            if not self._queue or not self._session.continuous or free < max(1, self._room.rows // REFILL):
                return logits_NV
        else:
            self._forget_groups()

        joining: list[tuple[_Group, int]] = []
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
            joining += [(group, place) for place in range(group.started, group.started + taken)]
            group.started += taken
            if not group.waiting:
                self._queue.popleft()

        if fresh:
            for group, logits_V in zip(fresh, self._session.prefill([g.request.prompt for g in fresh]), strict=True):
                group.logits_V = logits_V
        self._start(joining)
        first_NV = [group.logits_V for group, _ in joining if group.logits_V is not None]
        for group, _ in joining:
            if not group.waiting:
                group.logits_V = None
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

    def _start(self, joining: list[tuple[_Group, int]]) -> None:
        """Set up the state of new rows, behind the rows there are."""
        if not joining:
            return
        first, last = len(self._rows), len(self._rows) + len(joining)
        numbers = {id(group): number for number, group in enumerate(self._groups)}
        self._session.join([numbers[id(group)] for group, _ in joining])
        self._rows += joining

        random = np.zeros((len(joining), self._room.new), np.float32)
        for row, (group, place) in enumerate(joining):
            random[row, : group.limit] = uniforms(group.request.seed, place, group.limit)
        self._uniforms[first:last] = torch.from_numpy(random).to(self._device)
        self._counts[first:last] = 0
        self._limits[first:last] = torch.tensor([group.limit for group, _ in joining], device=self._device)
        temperatures = [group.request.params.temperature for group, _ in joining]
        self._temperatures[first:last] = torch.tensor(temperatures, device=self._device)
        suspects = [self._stops.number(group.request.params.stop) for group, _ in joining]
        self._suspects[first:last] = torch.tensor(suspects, device=self._device)

    def _advance(self, logits_NV: Tensor) -> Iterator[tuple[int, list[Sample]]]:
        """Draw a token for every row, retire the rows that end with it, yield the requests that are complete."""
        count = len(self._rows)
        counts = self._counts[:count]
        rows = torch.arange(count, device=self._device)
        tokens_N, logprobs_N = draw(logits_NV, self._temperatures[:count], self._uniforms[rows, counts])
        self._tokens[rows, counts] = tokens_N
        self._logprobs[rows, counts] = logprobs_N
        counts += 1

        ended_N = torch.isin(tokens_N, self._eos_tokens)
        full_N = counts >= self._limits[:count]
        suspect_N = self._stops.suspicious(self._suspects[:count], tokens_N)
        events = (ended_N | full_N | suspect_N).nonzero()[:, 0].tolist()
        if not events:
            return
        reasons = self._reasons(events, ended_N, full_N)
        if not reasons:
            return

        alive = [True] * count
        done: list[_Group] = []
        for row, sample in self._samples(reasons).items():
            group, place = self._rows[row]
            group.samples[place] = sample
            alive[row] = False
            if len(group.samples) == group.request.n:
                done.append(group)
        self._retire(alive)
        for group in done:
            yield group.index, [group.samples[place] for place in range(group.request.n)]

    def _reasons(self, events: list[int], ended_N: Tensor, full_N: Tensor) -> dict[int, Stop]:
        """Why each row that may have ended did end."""
        reasons = {}
        counts = self._counts[events].tolist()
        flags = torch.stack([ended_N[events], full_N[events]]).tolist()
        for row, count, ended, full in zip(events, counts, *flags, strict=True):
            stop = self._rows[row][0].request.params.stop
            if ended:
                reasons[row] = Stop.EOS
            elif stop and self._stops.reached(self._tokens[row, :count].tolist(), stop):
                reasons[row] = Stop.STRING
            elif full:
                reasons[row] = Stop.LENGTH
        return reasons

    def _samples(self, reasons: dict[int, Stop]) -> dict[int, Sample]:
        rows = list(reasons)
        counts = self._counts[rows].tolist()
        tokens, logprobs = self._tokens[rows].tolist(), self._logprobs[rows].tolist()
        return {
            row: Sample(tuple(tokens[i][: counts[i]]), tuple(logprobs[i][: counts[i]]), reasons[row], self._version)
            for i, row in enumerate(rows)
        }

    def _retire(self, alive: list[bool]) -> None:
        """Drop finished rows, and groups that have no row left and none to come."""
        rows = survivors(alive)
        kept = [self._rows[row] for row in rows]
        needed = {id(group) for group, _ in kept} | {id(group) for group in self._groups if group.waiting}
        groups = survivors([id(group) in needed for group in self._groups])
        self._session.keep(rows, groups)
        self._rows = kept
        self._groups = [self._groups[number] for number in groups]

        moved = [(new, old) for new, old in enumerate(rows) if new != old]
        if moved:
            new, old = torch.tensor(moved, device=self._device).T
            for state in (self._counts, self._limits, self._temperatures, self._uniforms, self._tokens,
                          self._logprobs, self._suspects):  # fmt: skip
                state[new] = state[old]


def plan(groups: Sequence[_Group], batch_rows: int, batch_tokens: int) -> Room:
    """How many rows and prompts to hold, within both bounds; always at least one of each."""
    prompt = max(len(group.request.prompt) for group in groups)
    new = max(group.limit for group in groups)
    total = sum(group.request.n for group in groups)
    prompts_per_row = min(1.0, STRAGGLERS * len(groups) / total)
    rows = max(1, min(batch_rows, total, int(batch_tokens / (new + prompts_per_row * prompt))))
    held = max(1, min(len(groups), rows, (batch_tokens - rows * new) // prompt))
    return Room(groups=held, prompt=prompt, rows=rows, new=new)
