"""A sandbox that runs equal jobs once. A policy repeats itself: most of its programs were seen before."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from gasp_rl.sandbox.base import Execution, Job, Sandbox, Status

UNCERTAIN = frozenset({Status.INFRA, Status.TIMEOUT_WALL})
"""Outcomes that another run might not repeat: never remembered."""

LARGE = 1 << 14
"""Characters of a job and its results together, above which they are not remembered: that bounds the memory."""


class CachedSandbox:
    """Remembers what the newest `capacity` different jobs did. A job is known by all of its content."""

    def __init__(self, sandbox: Sandbox, capacity: int = 20_000) -> None:
        self._sandbox = sandbox
        self._capacity = capacity
        self._known: OrderedDict[Job, Execution] = OrderedDict()

    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Execution]]:
        ready: list[tuple[int, Execution]] = []
        waiting: dict[Job, list[int]] = {}
        running: list[Job] = []

        def unknown() -> Iterator[Job]:
            for index, job in enumerate(jobs):
                if (execution := self._known.get(job)) is not None:
                    self._known.move_to_end(job)
                    ready.append((index, execution))
                elif job in waiting:
                    waiting[job].append(index)
                else:
                    waiting[job] = [index]
                    running.append(job)
                    yield job

        for place, execution in self._sandbox.execute(unknown()):
            job = running[place]
            self._remember(job, execution)
            ready += [(index, execution) for index in waiting.pop(job)]
            while ready:
                yield ready.pop()
        while ready:
            yield ready.pop()

    def close(self) -> None:
        self._sandbox.close()

    def _remember(self, job: Job, execution: Execution) -> None:
        if execution.status not in UNCERTAIN and _size(job, execution) <= LARGE:
            self._known[job] = execution
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)


def _size(job: Job, execution: Execution) -> int:
    return len(job.source) + sum(map(len, job.inputs)) + sum(len(result.value) for result in execution.results)
