"""A sandbox that tells what running programs costs."""

from collections.abc import Iterable, Iterator

from gasp_rl.progress import Observer
from gasp_rl.sandbox.base import Execution, Job, Sandbox


class MeteredSandbox:
    """Stands below the memory of what was run before: what is remembered costs nothing."""

    def __init__(self, sandbox: Sandbox, observer: Observer) -> None:
        self._sandbox = sandbox
        self._observer = observer

    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Execution]]:
        for index, execution in self._sandbox.execute(jobs):
            self._observer.executed(execution.cpu_seconds)
            yield index, execution

    def close(self) -> None:
        self._sandbox.close()
