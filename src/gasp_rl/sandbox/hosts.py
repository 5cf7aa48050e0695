"""A sandbox whose workers belong to processes of a cluster, one or more per machine.

In each is a `LocalSandbox`: programs are confined and limited there as they would be here. A host that is lost is replaced,
and what it had under way is run again, so no job is without its execution.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Final, TypeAlias

from gasp_rl.cluster import Call, Cluster, Room, Worker, ready
from gasp_rl.config import RayConfig, SandboxConfig
from gasp_rl.errors import SandboxError, WorkerError, WorkerLostError
from gasp_rl.sandbox.base import Execution, Job, Status
from gasp_rl.sandbox.local import PULLED, Flight, LocalSandbox

ROOM: Final = 2
"""Jobs that a host may have, as a multiple of what all its workers can have: the rest wait there while an answer travels."""
LISTEN_SECONDS: Final = 0.2
"""A host waits so long for something to finish before it says that nothing did."""
GATHER_SECONDS: Final = 0.01
"""What finishes within this time after the first travels with it."""
SILENT_SECONDS: Final = 60.0
"""A host that has not even said that is dead."""
TRIES: Final = 3
"""Hosts that a job may be lost with, before that is what is said of it."""

Numbered: TypeAlias = tuple[int, Job]
Done: TypeAlias = list[tuple[int, Execution]]


class HostProcess:
    """Runs programs where it is; lives in a process of its own."""

    def __init__(self) -> None:
        self._sandboxes: dict[int, LocalSandbox] = {}
        self._flights: dict[int, tuple[int, Flight]] = {}
        """By number, with that of their sandbox."""

    def open(self, sandbox: int, config: SandboxConfig) -> int:
        """A fresh sandbox; how many workers it has."""
        self._sandboxes[sandbox] = LocalSandbox(config)
        return self._sandboxes[sandbox].workers

    def exchange(self, sandbox: int, flight: int, jobs: list[Numbered]) -> Done:
        """Take jobs; say which of this flight have finished, soon after one has."""
        if flight not in self._flights:
            self._flights[flight] = sandbox, self._sandboxes[sandbox].flight()
        _, under_way = self._flights[flight]
        for number, job in jobs:
            under_way.admit(number, job)
        done: Done = []
        end = time.monotonic() + LISTEN_SECONDS
        while under_way.in_flight and (left := end - time.monotonic()) > 0:
            under_way.step(left)
            if (landed := under_way.landed()) and not done:
                end = min(end, time.monotonic() + GATHER_SECONDS)
            done += landed
        return done

    def end(self, flight: int) -> None:
        if flight in self._flights:
            self._flights.pop(flight)[1].stop()

    def close(self, sandbox: int) -> None:
        for flight in [flight for flight, (owner, _) in self._flights.items() if owner == sandbox]:
            self.end(flight)
        self._sandboxes.pop(sandbox).close()


class Hosts:
    """The processes, for all sandboxes of a run."""

    def __init__(self, cluster: Cluster, ray: RayConfig, note: Callable[[str], None]) -> None:
        self._ray = ray
        self._note = note
        self.numbers = count()
        """Of sandboxes and flights."""
        self._places = cluster.reserve([Room()] * ray.sandboxes, ray.start_seconds, spread=True)
        self.open_now: dict[int, SandboxConfig] = {}
        self.workers: list[Worker[HostProcess] | None] = [self._start(place) for place in range(ray.sandboxes)]
        """By place; None where one was lost and cannot be replaced."""

    def open(self, config: SandboxConfig) -> "HostedSandbox":
        """A sandbox in which nothing has run."""
        return HostedSandbox(self, config)

    def begin(self, sandbox: int, config: SandboxConfig) -> int:
        """Open it everywhere; how many workers a host has."""
        self.open_now[sandbox] = config
        asked = [(worker, worker.call(HostProcess.open, sandbox, config)) for worker in self.workers if worker]
        found = 1
        for worker, call in asked:
            try:
                found = call.result(self._ray.start_seconds)
            except WorkerLostError as lost:
                self.replace(worker, lost)
        return found

    def forget(self, sandbox: int) -> None:
        del self.open_now[sandbox]
        for worker in self.workers:
            if worker:
                worker.call(HostProcess.close, sandbox)

    def replace(self, gone: Worker[HostProcess], lost: WorkerLostError) -> None:
        """SandboxError if none is left."""
        if gone not in self.workers:
            return
        self._note(f"{lost}; another takes its place and runs again what it had under way")
        gone.kill()
        place = self.workers.index(gone)
        self.workers[place] = None
        stead = self._start(place)
        try:
            for sandbox, config in self.open_now.items():
                stead.call(HostProcess.open, sandbox, config).result(self._ray.start_seconds)
        except WorkerError as error:
            if not any(self.workers):
                raise SandboxError(f"no sandbox host is left: {error}") from error
            self._note(f"{error}; the others do its part")
        else:
            self.workers[place] = stead

    def close(self) -> None:
        for worker in self.workers:
            if worker:
                worker.kill()
        self._places.give_back()

    def _start(self, place: int) -> Worker[HostProcess]:
        return self._places.start(place, f"sandbox host {place + 1} of {self._ray.sandboxes}", Room(), HostProcess)


class _Lane:
    """What one `execute` has at one host."""

    def __init__(self, worker: Worker[HostProcess]) -> None:
        self.worker = worker
        self.waiting: list[Numbered] = []
        """To be sent."""
        self.under_way: dict[int, Job] = {}
        self.call: Call[Done] | None = None
        self.since = 0.0
        """When it was last asked."""

    @property
    def load(self) -> int:
        return len(self.waiting) + len(self.under_way)


class HostedSandbox:
    """One sandbox, spread over the hosts. Not to be shared by threads."""

    def __init__(self, hosts: Hosts, config: SandboxConfig) -> None:
        self._hosts = hosts
        self._number = next(hosts.numbers)
        self._room = ROOM * PULLED * hosts.begin(self._number, config)

    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Execution]]:
        pulled: Iterator[Numbered] = enumerate(jobs)
        again: deque[Numbered] = deque()
        """Jobs that were lost with a host."""
        tries: dict[int, int] = {}
        flight = next(self._hosts.numbers)
        lanes = {place: _Lane(worker) for place, worker in enumerate(self._hosts.workers) if worker}
        more = True
        try:
            while more or again or any(lane.load for lane in lanes.values()):
                lane = min(lanes.values(), key=lambda lane: lane.load)
                if (more or again) and lane.load < self._room:
                    following = again.popleft() if again else next(pulled, None)
                    if following is None:
                        more = False
                    else:
                        lane.waiting.append(following)
                self._send(lanes.values(), flight)
                wait = not (more or again) or min(lane.load for lane in lanes.values()) >= self._room
                calls = [lane.call for lane in lanes.values() if lane.call]
                done = ready(calls, SILENT_SECONDS if wait else 0.0) if calls else []
                for place, lane in list(lanes.items()):
                    try:
                        for number, execution in self._finished(lane, done):
                            del lane.under_way[number]
                            yield number, execution
                    except WorkerLostError as lost:
                        self._hosts.replace(lane.worker, lost)
                        del lanes[place]
                        stead = self._hosts.workers[place]
                        if stead is not None:
                            lanes[place] = _Lane(stead)
                        again.extend(lane.waiting)
                        for number, job in lane.under_way.items():
                            tries[number] = tries.get(number, 0) + 1
                            if tries[number] < TRIES:
                                again.append((number, job))
                            else:
                                yield number, Execution(Status.INFRA, (), f"lost with its host, {TRIES} times")
        finally:
            for lane in lanes.values():
                lane.worker.call(HostProcess.end, flight)

    def close(self) -> None:
        self._hosts.forget(self._number)

    def _send(self, lanes: Iterable[_Lane], flight: int) -> None:
        for lane in lanes:
            if lane.call is None and lane.load:
                lane.call = lane.worker.call(HostProcess.exchange, self._number, flight, lane.waiting)
                lane.since = time.monotonic()
                lane.under_way.update(lane.waiting)
                lane.waiting = []

    def _finished(self, lane: _Lane, done: list[Call[Done]]) -> Done:
        """WorkerLostError if the host is gone, or silent."""
        if lane.call is None:
            return []
        if lane.call in done:
            call, lane.call = lane.call, None
            return call.result(SILENT_SECONDS)
        if time.monotonic() > lane.since + SILENT_SECONDS:
            raise WorkerLostError(f"{lane.worker.name} gave no answer for {SILENT_SECONDS:g} s; taken for dead")
        return []
