"""A fake sandbox that answers from a function. Public: tests of whoever uses a sandbox need one too."""

from collections.abc import Callable, Iterable, Iterator

from gasp_rl.sandbox.base import Execution, Job, Result, Status


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


def gave(*values: str) -> Execution:
    """A program that gave a value for every input."""
    return Execution(Status.OK, tuple(Result(Status.OK, value) for value in values))


def failed(status: Status, *values: str) -> Execution:
    """Some values, then an end."""
    return Execution(status, (*gave(*values).results, Result(status, "", "why")), "why")
