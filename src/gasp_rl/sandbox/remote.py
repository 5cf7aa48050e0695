"""A sandbox whose workers belong to a server on this machine (`gasp_rl.sandbox.server`), shared by several trainers.

Wire: messages of `u32 length, little endian` and so many bytes of MessagePack. The server says Hello, then the client
sends lists of orders and the server lists of what finished, in any order. A client has at most `Hello.room` orders under
way. Both ends are trusted, and the socket belongs to one user; programs never see it.
"""

import platform
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import msgspec

from gasp_rl.config import Limits, SandboxConfig
from gasp_rl.errors import SandboxError
from gasp_rl.sandbox.base import Execution, Job, Sandbox
from gasp_rl.sandbox.isolation import LEVELS, RISK, Level
from gasp_rl.sandbox.local import LocalSandbox

LENGTH: Final = struct.Struct("<I")
LARGEST: Final = 1 << 28
"""Bytes of a message: more is not one of ours."""
GATHER_SECONDS: Final = 0.005
"""Orders that come within this time travel together."""

Message = TypeVar("Message")


class Hello(msgspec.Struct, frozen=True):
    level: Level
    python: str
    room: int


class Order(msgspec.Struct, frozen=True, array_like=True):
    """A `Job`, its texts as bytes because a source may hold what is no text."""

    number: int
    source: bytes
    inputs: tuple[bytes, ...]
    entry: str
    limits: Limits
    hash_seed: int
    clock: float | None
    stop_on_error: bool
    alone: bool

    def job(self) -> Job:
        source, *inputs = (text.decode("utf-8", "surrogatepass") for text in (self.source, *self.inputs))
        return Job(
            source, tuple(inputs), self.entry, self.limits, self.hash_seed, self.clock, self.stop_on_error, self.alone
        )


class Finished(msgspec.Struct, frozen=True, array_like=True):
    number: int
    execution: Execution


def order(number: int, job: Job, limits: Limits) -> Order:
    source, *inputs = (text.encode("utf-8", "surrogatepass") for text in (job.source, *job.inputs))
    limits = job.limits or limits
    return Order(
        number, source, tuple(inputs), job.entry, limits, job.hash_seed, job.clock, job.stop_on_error, job.alone
    )


class Wire:
    """One end of a connection. Never waits: `send` and `receive` move what can be moved."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self.channel = channel
        self._incoming = bytearray()
        self._outgoing = bytearray()

    def fileno(self) -> int:
        return self.channel.fileno()

    @property
    def wants_to_write(self) -> bool:
        return bool(self._outgoing)

    def put(self, message: object) -> None:
        body = msgspec.msgpack.encode(message)
        self._outgoing += LENGTH.pack(len(body)) + body

    def send(self) -> None:
        try:
            sent = self.channel.send(self._outgoing)
        except BlockingIOError:
            return
        del self._outgoing[:sent]

    def receive(self, kind: type[Message]) -> list[Message]:
        """The messages that are complete. EOFError when the other side is gone, or sends what is none of ours."""
        try:
            piece = self.channel.recv(1 << 20)
        except BlockingIOError:
            return []
        if not piece:
            raise EOFError
        self._incoming += piece
        messages = []
        while len(self._incoming) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._incoming)
            if length > LARGEST:
                raise EOFError
            if len(self._incoming) < LENGTH.size + length:
                break
            try:
                messages.append(msgspec.msgpack.decode(self._incoming[LENGTH.size : LENGTH.size + length], type=kind))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise EOFError from error
            del self._incoming[: LENGTH.size + length]
        return messages


class RemoteSandbox:
    """A sandbox at the other end of a Unix socket. Each `execute` has a connection of its own, so threads may share this."""

    def __init__(self, config: SandboxConfig) -> None:
        self._path = config.server
        self._limits = config.limits
        wire, hello = self._connect()
        wire.channel.close()
        if LEVELS.index(hello.level) > LEVELS.index(config.min_level):
            raise SandboxError(
                f"the sandbox server at {self._path} isolates programs at level {hello.level} only, {config.min_level} is "
                f"required; to accept that {RISK[hello.level]}: --sandbox.min-level {hello.level}"
            )
        if hello.python != platform.python_version():
            raise SandboxError(
                f"the sandbox server at {self._path} runs Python {hello.python}, this is {platform.python_version()}: "
                "results would not compare"
            )
        self.level = hello.level

    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Execution]]:
        pulled = enumerate(jobs)
        wire, hello = self._connect()
        with wire.channel:
            under_way, more = 0, True
            while more or under_way:
                orders: list[Order] = []
                gathered = time.monotonic() + GATHER_SECONDS
                while more and under_way < hello.room and time.monotonic() < gathered:
                    following = next(pulled, None)
                    more = following is not None
                    if following is not None:
                        orders.append(order(*following, self._limits))
                        under_way += 1
                if orders:
                    wire.put(orders)
                for done in self._exchange(wire, wait=not (more and under_way < hello.room)):
                    under_way -= 1
                    yield done.number, done.execution

    def close(self) -> None:
        """Nothing is kept open between calls."""

    def _connect(self) -> tuple[Wire, Hello]:
        channel = socket.socket(socket.AF_UNIX)
        try:
            channel.connect(self._path)
        except OSError as error:
            channel.close()
            raise SandboxError(
                f"no sandbox server at {self._path}: {error.strerror}; start one: python -m gasp_rl.sandbox.server {self._path}"
            ) from error
        wire = Wire(channel)
        while True:
            try:
                select.select([wire], [], [])
                if hellos := wire.receive(Hello):
                    return wire, hellos[0]
            except (EOFError, ConnectionError) as error:
                channel.close()
                raise self._gone() from error

    def _exchange(self, wire: Wire, *, wait: bool) -> list[Finished]:
        """Send and receive what can be; if told to wait, until something was."""
        try:
            _, writable, _ = ready = select.select(
                [wire], [wire] if wire.wants_to_write else [], [], None if wait else 0.0
            )
            if writable:
                wire.send()
            return [done for message in (wire.receive(list[Finished]) if ready[0] else []) for done in message]
        except (EOFError, ConnectionError) as error:
            raise self._gone() from error

    def _gone(self) -> SandboxError:
        return SandboxError(f"the sandbox server at {self._path} ended while it was needed")


def open_sandbox(config: SandboxConfig) -> Sandbox:
    """The sandbox that the settings describe."""
    return RemoteSandbox(config) if config.server else LocalSandbox(config)
