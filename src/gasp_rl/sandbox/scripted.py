"""A fake sandbox that answers from a function. Public: tests of whoever uses a sandbox need one too."""

from collections.abc import Callable, Iterable, Iterator

from gasp_rl.sandbox.base import Execution, Job


class ScriptedSandbox:
    """Runs nothing. `jobs` holds every job it was given."""

    def __init__(self, execute: Callable[[Job], Execution]) -> None:
        self._execute = execute
        self.jobs: list[Job] = []

    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Execution]]:
        for index, job in enumerate(jobs):
            self.jobs.append(job)
            yield index, self._execute(job)

    def close(self) -> None:
        pass
