"""Serves one pool of workers to several trainers on this machine, over a Unix socket.

    python -m gasp_rl.sandbox.server /run/user/1000/gasp.sock --workers 8

Whoever may open the socket may run programs, so only its owner may. At most `--workers` programs run at a time whatever
the number of clients, who take turns; a client that sends faster than programs finish is read more slowly. Ends at
SIGTERM or Ctrl-C, and with it every program. The wire is described in `gasp_rl.sandbox.remote`.
"""

import contextlib
import os
import platform
import selectors
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import tyro
from tyro.conf import Positional, arg

from gasp_rl.config import SandboxConfig
from gasp_rl.errors import SandboxError
from gasp_rl.sandbox.local import PULLED, LocalSandbox
from gasp_rl.sandbox.remote import Finished, Hello, Order, Wire

ROOM = 4
"""Orders that a client may have under way, as a multiple of what all workers can have."""


class _Client:
    """A connection: orders that wait for their turn, answers that wait to be sent, and how many orders have neither."""

    def __init__(self, channel: socket.socket) -> None:
        self.wire = Wire(channel)
        self.orders: deque[Order] = deque()
        self.answers: list[Finished] = []
        self.unanswered = 0


class Server:
    """Everything happens in one thread, between one `select` and the next."""

    def __init__(self, path: Path, config: SandboxConfig) -> None:
        self._path = path
        self._sandbox = LocalSandbox(config)
        self._flight = self._sandbox.flight()
        self._clients: deque[_Client] = deque()
        self._owners: dict[int, tuple[_Client, int]] = {}
        """Number of a job in flight -> who ordered it, under which number."""
        self._numbers = 0
        self._selector = selectors.DefaultSelector()
        self._listener = _listen(path)
        self._selector.register(self._listener, selectors.EVENT_READ, self._welcome)
        self._selector.register(self._flight, selectors.EVENT_READ, lambda _: None)

    @property
    def room(self) -> int:
        return ROOM * PULLED * self._sandbox.workers

    def describe(self) -> str:
        return f"sandbox at level {self._sandbox.level} with {self._sandbox.workers} workers listens at {self._path}"

    def run(self) -> NoReturn:
        while True:
            for key, events in self._selector.select(1.0):
                handle: Callable[[int], None] = key.data
                handle(events)
            self._admit()
            self._flight.step(0.0)
            for number, execution in self._flight.landed():
                client, theirs = self._owners.pop(number)
                client.answers.append(Finished(theirs, execution))
            for client in self._clients:
                self._answer(client)

    def close(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._listener.close()
        for client in self._clients:
            client.wire.channel.close()
        self._selector.close()
        self._flight.stop()
        self._sandbox.close()

    def _welcome(self, _: int) -> None:
        channel, _address = self._listener.accept()
        client = _Client(channel)
        client.wire.put(Hello(self._sandbox.level, platform.python_version(), self.room))
        self._clients.append(client)
        self._selector.register(client.wire, selectors.EVENT_WRITE, lambda events: self._serve(client, events))

    def _serve(self, client: _Client, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                client.wire.send()
            if events & selectors.EVENT_READ:
                for orders in client.wire.receive(list[Order]):
                    client.orders.extend(orders)
                    client.unanswered += len(orders)
        except (EOFError, ConnectionError):  # what it ordered and is under way ends by itself, unheard
            self._selector.unregister(client.wire)
            self._clients.remove(client)
            client.wire.channel.close()

    def _answer(self, client: _Client) -> None:
        """Tell a client what has finished. It is heard only while it has room: what it sends meanwhile waits."""
        if client.answers:
            client.unanswered -= len(client.answers)
            client.wire.put(client.answers)
            client.answers = []
        reading = selectors.EVENT_READ if client.unanswered <= self.room else 0
        writing = selectors.EVENT_WRITE if client.wire.wants_to_write else 0
        key = self._selector.get_key(client.wire)
        if key.events != reading | writing:
            # One of both is always wanted: a client without room is owed answers.
            self._selector.modify(client.wire, reading | writing or selectors.EVENT_READ, key.data)

    def _admit(self) -> None:
        """Orders go to the workers one client at a time, in turn."""
        while self._flight.has_room and any(client.orders for client in self._clients):
            client = self._clients[0]
            self._clients.rotate(-1)
            if client.orders:
                asked = client.orders.popleft()
                self._owners[self._numbers] = client, asked.number
                self._flight.admit(self._numbers, asked.job())
                self._numbers += 1


def _listen(path: Path) -> socket.socket:
    """A socket that only its owner may open. One that a killed server left behind is replaced."""
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        if path.is_socket() and not _answers(path):
            path.unlink()
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise SandboxError(f"cannot listen at {path}: {error.strerror or error}") from error
    finally:
        os.umask(mask)
    listener.listen()
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as channel:
        return channel.connect_ex(str(path)) == 0


@dataclass(frozen=True)
class Serve:
    """Serve a pool of sandbox workers over a Unix socket."""

    socket: Positional[Path]
    config: Annotated[SandboxConfig, arg(name="")] = field(default_factory=SandboxConfig)


def main() -> int:
    asked = tyro.cli(Serve, prog="python -m gasp_rl.sandbox.server", config=(tyro.conf.EnumChoicesFromValues,))
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)  # which who is started in the background finds ignored
    try:
        server = Server(asked.socket, asked.config)
        with contextlib.closing(server):
            print(f"gasp: {server.describe()}", flush=True)
            server.run()
    except KeyboardInterrupt:
        return 0
    except SandboxError as fault:
        print(f"gasp: {fault}", file=sys.stderr)
        return 2


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
