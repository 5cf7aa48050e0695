"""Runs programs in confined processes on this machine. Trusted side: it parses what workers send, and believes none of it.

One **worker** process (gasp_rl.sandbox.worker) per slot and hash seed stays warm; it forks a fresh child per program. What a
program did is told by the kernel (wait status, CPU time) and by frames of a strict grammar. Limits are CPU seconds, so a
verdict does not depend on how busy the machine is.
"""

import math
import os
import re
import selectors
import signal
import statistics
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Final, NamedTuple, Self

from gasp_rl.config import Limits, SandboxConfig
from gasp_rl.errors import SandboxError
from gasp_rl.sandbox.base import Execution, Job, Result, Status
from gasp_rl.sandbox.isolation import Level, Tier, require_level, start_worker

QUEUE: Final = 2
"""Jobs given to a worker at a time: the next one waits in its socket, so that it need not wait for us."""
PULLED: Final = 4
"""Jobs in flight per worker, those included that wait for one."""
GRACE_SECONDS: Final = 30.0
"""A worker that has not answered so long after the last deadline of its job is dead."""
END_SECONDS: Final = 5.0
"""A worker that has not ended so long after nobody is at the other end is killed."""
KINDS: Final = 3
"""Idle workers that are kept, per worker at a time: two hash seeds, and some for large modules."""
MAX_DETAIL: Final = 400
MAX_DEATHS: Final = 8
"""Workers that may die in a row, without any result between, before we give up."""

_LARGE: Final = re.compile(
    r"\b(?:statistics|decimal|Decimal|fractions|Fraction|(?:import|from)\s+queue|textwrap|dataclass(?:es)?|inspect|pprint"
    rf"|traceback|{'|'.join(statistics.__all__)})\b"
)
"""What needs a worker with more modules loaded (LARGE there): programs find the names of `statistics` without an import,
and an import of the others takes up to 15 ms elsewhere."""
_HEADER: Final = struct.Struct("<ddddQQQBI")
_REPLY: Final = struct.Struct("<iBdQ")
_FRAME: Final = struct.Struct("<IBI")
_LENGTH: Final = struct.Struct("<I")
_ENDED, _CPU, _INPUT_CPU, _WALL = range(4)
_STOP, _ALONE = 1, 2
_STATUSES: Final = (Status.OK, Status.COMPILE_ERROR, Status.RUNTIME_ERROR, Status.MEMORY, Status.OUTPUT_LIMIT,
                    Status.UNSERIALIZABLE)  # fmt: skip


def wall_seconds(limits: Limits) -> float:
    """Longest time without a result."""
    return limits.wall_factor * (limits.input_cpu_seconds or limits.cpu_seconds) + 2.0


class LocalSandbox:
    """A pool of warm workers. Safe to use from several threads, and while another `execute` is under way."""

    def __init__(self, config: SandboxConfig = SandboxConfig()) -> None:  # noqa: B008 - a frozen value
        self.level: Level = require_level(config.min_level)
        self.workers = config.workers or len(os.sched_getaffinity(0))
        self.limits = config.limits
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()

    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Execution]]:
        pulled = enumerate(jobs)
        flight = self.flight()
        try:
            more = True
            while more or flight.in_flight:
                if more and flight.has_room:
                    following = next(pulled, None)
                    more = following is not None
                    if following is not None:
                        flight.admit(*following)
                    flight.step(0.0)
                else:
                    flight.step(1.0)
                yield from flight.landed()
        finally:
            flight.stop()

    def flight(self) -> "Flight":
        """For whoever must do other things too while jobs run."""
        return Flight(self)

    def take(self, kind: "Kind") -> "_Worker":
        """A warm worker of this kind, or a new one."""
        with self._lock:
            for worker in self._idle:
                if worker.kind == kind:
                    self._idle.remove(worker)
                    return worker
        return _Worker(self.level, kind)

    def kind(self, job: Job) -> "Kind":
        # Without files nothing can be imported later.
        large = self.level == "L2" or _LARGE.search(job.source) is not None
        return Kind(job.hash_seed, "large" if large else "small")

    def give_back(self, worker: "_Worker") -> None:
        with self._lock:
            self._idle.append(worker)
            surplus = self._idle[: max(0, len(self._idle) - KINDS * self.workers)]  # the longest idle: old hash seeds
            del self._idle[: len(surplus)]
        for old in surplus:
            old.end()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.channel.close()
        for worker in idle:
            worker.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Kind(NamedTuple):
    """Workers of one kind can stand in for each other."""

    hash_seed: int
    tier: Tier


class _Ticket:
    """A job on its way."""

    __slots__ = ("index", "job", "kind", "limits", "tries")

    def __init__(self, index: int, job: Job, kind: Kind, limits: Limits) -> None:
        self.index = index
        self.job = job
        self.kind = kind
        self.limits = limits
        self.tries = 0


class _Worker:
    """Our end of one worker process: the jobs it was given, and the bytes on their way."""

    def __init__(self, level: Level, kind: Kind) -> None:
        self.kind = kind
        self.tickets: deque[_Ticket] = deque()
        self.process, self.channel = start_worker(level, kind.hash_seed, kind.tier)
        self.channel.setblocking(False)
        self.ready = False
        self.since = time.monotonic()
        self._incoming = bytearray()
        self._outgoing = bytearray()

    @property
    def wants_to_write(self) -> bool:
        return bool(self._outgoing)

    @property
    def overdue(self) -> bool:
        """Nothing heard for longer than its job can last."""
        patience = _longest(self.tickets[0]) if self.tickets else 0.0
        return time.monotonic() > self.since + patience + GRACE_SECONDS

    def give(self, ticket: _Ticket) -> None:
        if not self.tickets:
            self.since = time.monotonic()
        self.tickets.append(ticket)
        self._outgoing += _message(ticket.job, ticket.limits)

    def write(self) -> None:
        sent = self.channel.send(self._outgoing[: 1 << 18])
        del self._outgoing[:sent]

    def read(self) -> list[bytes]:
        """The messages that are complete. EOFError when the worker is gone."""
        piece = self.channel.recv(1 << 16)
        if not piece:
            raise EOFError
        self.since = time.monotonic()
        self._incoming += piece
        messages = []
        while len(self._incoming) >= 4:
            (length,) = _LENGTH.unpack_from(self._incoming)
            if length > 1 << 28:
                raise EOFError  # a broken worker: it never sends so much
            if len(self._incoming) < 4 + length:
                break
            messages.append(bytes(self._incoming[4 : 4 + length]))
            del self._incoming[: 4 + length]
        return messages

    def end(self) -> None:
        """It ends, with whatever it runs, when nobody is at the other end."""
        self.channel.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Flight:
    """Jobs on their way. `step` moves them on without waiting longer than it is told; call it at least every second."""

    def __init__(self, sandbox: LocalSandbox) -> None:
        self._sandbox = sandbox
        self._waiting: deque[_Ticket] = deque()
        self._busy: list[_Worker] = []
        self._deaths = 0
        self._done: list[tuple[int, Execution]] = []
        self._selector = selectors.DefaultSelector()
        self.in_flight = 0

    @property
    def has_room(self) -> bool:
        return self.in_flight < PULLED * self._sandbox.workers

    def fileno(self) -> int:
        """Readable when `step` has something to do."""
        poll = self._selector
        assert isinstance(poll, selectors.EpollSelector)
        return poll.fileno()

    def landed(self) -> list[tuple[int, Execution]]:
        """What has finished since this was last asked."""
        done, self._done = self._done, []
        self.in_flight -= len(done)
        return done

    def stop(self) -> None:
        """Ends workers that still have jobs: their answers would be taken for those of a later call."""
        self._selector.close()
        for worker in self._busy:
            worker.channel.close()
        for worker in self._busy:
            worker.end()
        self._busy.clear()

    def admit(self, index: int, job: Job) -> None:
        self.in_flight += 1
        limits = job.limits or self._sandbox.limits
        size = len(job.source.encode("utf-8", "surrogatepass"))
        if size > limits.source_bytes:
            detail = f"a source of {size} bytes, more than {limits.source_bytes}"
            self._done.append((index, Execution(Status.COMPILE_ERROR, (), detail, 0.0, self._sandbox.level)))
        else:
            self._waiting.append(_Ticket(index, job, self._sandbox.kind(job), limits))

    def step(self, timeout: float) -> None:
        """Give out what can be given, then send and receive what can be without waiting longer than `timeout`."""
        self._dispatch()
        for key, events in self._selector.select(timeout if not self._done else 0.0):
            worker = key.data
            try:
                if events & selectors.EVENT_WRITE:
                    worker.write()
                    if not worker.wants_to_write:
                        self._selector.modify(worker.channel, selectors.EVENT_READ, worker)
                if events & selectors.EVENT_READ:
                    for message in worker.read():
                        self._receive(worker, message)
                    if worker.ready and not worker.tickets:
                        self._release(worker)
            except BlockingIOError:
                pass  # ready only for less than we tried; the next round goes on
            except (EOFError, ConnectionError):
                self._bury(worker)
        for worker in [worker for worker in self._busy if worker.overdue]:
            self._bury(worker)
        self._dispatch()

    def _dispatch(self) -> None:
        for _ in range(len(self._waiting)):
            ticket = self._waiting.popleft()
            worker = self._place(ticket.kind)
            if worker is None:
                self._waiting.append(ticket)
            else:
                worker.give(ticket)
                with suppress(BlockingIOError, ConnectionError):  # of which the selector tells us too
                    worker.write()
                if worker.wants_to_write:
                    self._selector.modify(worker.channel, selectors.EVENT_READ | selectors.EVENT_WRITE, worker)

    def _place(self, kind: Kind) -> _Worker | None:
        if len(self._busy) < self._sandbox.workers:
            worker = self._sandbox.take(kind)
            self._busy.append(worker)
            self._selector.register(worker.channel, selectors.EVENT_READ, worker)
            return worker
        same = [w for w in self._busy if w.kind == kind and len(w.tickets) < QUEUE]
        return min(same, key=lambda worker: len(worker.tickets), default=None)

    def _receive(self, worker: _Worker, message: bytes) -> None:
        if not worker.ready:
            if message != b"ready":
                raise SandboxError(f"a sandbox worker could not confine itself: {message.decode('utf-8', 'replace')}")
            worker.ready = True
            return
        if not worker.tickets:
            raise EOFError  # it is broken: nobody asked
        ticket = worker.tickets[0]
        execution = read_reply(ticket.job, ticket.limits, message, self._sandbox.level)
        worker.tickets.popleft()
        self._deaths = 0
        if execution.status is Status.INFRA and ticket.tries == 0:
            ticket.tries = 1
            self._waiting.appendleft(ticket)
        else:
            self._done.append((ticket.index, execution))

    def _release(self, worker: _Worker) -> None:
        self._selector.unregister(worker.channel)
        self._busy.remove(worker)
        self._sandbox.give_back(worker)

    def _bury(self, worker: _Worker) -> None:
        """A dead worker's first job is tried once more; those behind it were never begun."""
        self._selector.unregister(worker.channel)
        self._busy.remove(worker)
        worker.end()
        self._deaths += 1
        if self._deaths > MAX_DEATHS:
            raise SandboxError(
                f"{self._deaths} sandbox workers in a row died (exit status {worker.process.returncode})"
            )
        if worker.ready and worker.tickets and worker.tickets[0].tries > 0:
            lost = worker.tickets.popleft()
            detail = "its worker process died, twice"
            self._done.append((lost.index, Execution(Status.INFRA, (), detail, 0.0, self._sandbox.level)))
        elif worker.ready and worker.tickets:
            worker.tickets[0].tries += 1
        self._waiting.extendleft(reversed(worker.tickets))


def _longest(ticket: _Ticket) -> float:
    """Seconds after which even a patient worker has ended the job."""
    stretches = 1 + len(ticket.job.inputs) if ticket.limits.input_cpu_seconds or ticket.job.alone else 1
    return 4 * stretches * wall_seconds(ticket.limits)


def _message(job: Job, limits: Limits) -> bytes:
    texts = [text.encode("utf-8", "surrogatepass") for text in (job.entry, job.source, *job.inputs)]
    clock = math.nan if job.clock is None else job.clock
    header = _HEADER.pack(limits.cpu_seconds, limits.input_cpu_seconds, wall_seconds(limits), clock,
                          limits.memory_mb << 20, limits.output_bytes, limits.value_bytes, _STOP * job.stop_on_error | _ALONE * job.alone,
                          len(texts))  # fmt: skip
    body = b"".join([header, *(_LENGTH.pack(len(text)) for text in texts), *texts])
    return _LENGTH.pack(len(body)) + body


# ------------------------------------------------------------------------------------------------- what a program did


def read_reply(job: Job, limits: Limits, message: bytes, level: str) -> Execution:
    """What a worker's reply says about its children. Nothing in the frames is trusted beyond their grammar.

    EOFError: the worker is broken.
    """
    return _alone(job, limits, message, level) if job.alone else _together(job, limits, message, level)


def _alone(job: Job, limits: Limits, message: bytes, level: str) -> Execution:
    """One reply per input, as far as they were run."""
    parts: list[Execution] = []
    at = 0
    while at < len(message):
        if at + _LENGTH.size > len(message) or len(parts) == len(job.inputs):
            raise EOFError
        (length,) = _LENGTH.unpack_from(message, at)
        at += _LENGTH.size
        one = replace(job, inputs=job.inputs[len(parts) : len(parts) + 1], alone=False)
        parts.append(_together(one, limits, message[at : at + length], level))
        at += length
    results = [part.results[0] if part.results else Result(part.status, detail=part.detail) for part in parts]
    if len(results) < len(job.inputs) and all(result.status is Status.OK for result in results):
        results.append(Result(Status.OUTPUT_LIMIT, detail=f"more than {limits.output_bytes} bytes"))
    first = next((result for result in results if result.status is not Status.OK), Result(Status.OK))
    cpu_seconds = sum(part.cpu_seconds for part in parts)
    return Execution(first.status, tuple(results), first.detail, cpu_seconds, level)


def _together(job: Job, limits: Limits, message: bytes, level: str) -> Execution:
    if len(message) < _REPLY.size:
        raise EOFError
    wait_status, reason, cpu_seconds, peak_bytes = _REPLY.unpack_from(message)
    frames = read_frames(message[_REPLY.size :], 1 + len(job.inputs))
    if frames is None:
        return Execution(Status.PROTOCOL, (), "it tampered with the result channel", cpu_seconds, level)

    end = how_it_ended(limits, wait_status, reason, cpu_seconds, peak_bytes)
    loaded, results = frames[:1], list(frames[1:])
    if sum(len(result.value) for result in results) > limits.output_bytes:
        end = end or Result(Status.OUTPUT_LIMIT, detail=f"more than {limits.output_bytes} bytes")
    failed = [result for result in frames if result.status is not Status.OK]
    complete = bool(loaded) and (len(results) == len(job.inputs) or (bool(failed) and job.stop_on_error))
    if end is None and not complete and not (loaded and failed and loaded[0] is failed[0]):
        end = Result(Status.NO_RESULT, detail=f"it exited with status {os.waitstatus_to_exitcode(wait_status)}")
    if end is not None:
        if len(results) == len(job.inputs) and results:
            results.pop()  # the limit was passed in the last one
        results.append(end)
        failed = [result for result in (*loaded, *results) if result.status is not Status.OK]
    first = failed[0] if failed else Result(Status.OK)
    return Execution(first.status, tuple(results), first.detail, cpu_seconds, level)


def read_frames(raw: bytes, most: int) -> list[Result] | None:
    """The results that the child left; None if it left anything else."""
    results: list[Result] = []
    at = 0
    while at < len(raw):
        if at + _FRAME.size > len(raw) or len(results) == most:
            return None
        index, status, length = _FRAME.unpack_from(raw, at)
        at += _FRAME.size
        if index != len(results) or status >= len(_STATUSES) or at + length > len(raw):
            return None
        text = raw[at : at + length].decode("utf-8", "replace")
        at += length
        if _STATUSES[status] is Status.OK:
            results.append(Result(Status.OK, text))
        else:  # for people to read on a terminal: nothing that could command it
            detail = "".join(character if character.isprintable() else " " for character in text[:MAX_DETAIL])
            results.append(Result(_STATUSES[status], detail=detail))
    return results


def how_it_ended(limits: Limits, wait_status: int, reason: int, cpu_seconds: float, peak_bytes: int) -> Result | None:
    """None if it simply exited."""
    signalled = os.WTERMSIG(wait_status) if os.WIFSIGNALED(wait_status) else 0
    if reason == _CPU or signalled == signal.SIGXCPU or cpu_seconds > limits.cpu_seconds:
        return Result(Status.TIMEOUT_CPU, detail=f"more than {limits.cpu_seconds:g} s of CPU time")
    if reason == _INPUT_CPU:
        return Result(Status.TIMEOUT_CPU, detail=f"more than {limits.input_cpu_seconds:g} s of CPU time for one input")
    if reason == _WALL:
        return Result(Status.TIMEOUT_WALL, detail=f"not done after {wall_seconds(limits):g} s")
    if signalled == signal.SIGSYS:
        return Result(Status.FORBIDDEN, detail="a forbidden system call")
    if signalled == signal.SIGKILL and peak_bytes > limits.memory_mb << 19:
        return Result(Status.MEMORY, detail=f"killed for want of memory, holding {peak_bytes >> 20} MB")
    if signalled == signal.SIGKILL:  # it cannot kill itself
        return Result(Status.INFRA, detail="it was killed from outside: is the machine out of memory?")
    if signalled:
        named = (known.name for known in signal.Signals if known == signalled)
        return Result(Status.CRASH, detail=next(named, f"signal {signalled}"))  # those of real time have no names
    return None
