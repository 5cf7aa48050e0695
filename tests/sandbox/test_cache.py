"""Equal jobs run once, and nobody can tell but by the clock."""

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.config import Limits
from gasp_rl.sandbox.base import Execution, Job, Result, Status
from gasp_rl.sandbox.cache import CachedSandbox
from gasp_rl.sandbox.scripted import ScriptedSandbox


def echo(job: Job) -> Execution:
    return Execution(Status.OK, tuple(Result(Status.OK, f"{job.source}({text})") for text in job.inputs))


def job(name: str) -> Job:
    return Job(name, ("1",))


class Backwards(ScriptedSandbox):
    """Whatever was asked last is finished first."""

    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Execution]]:
        yield from reversed(list(super().execute(jobs)))


def test_equal_jobs_run_once_within_a_call_and_across_calls() -> None:
    inner = ScriptedSandbox(echo)
    sandbox = CachedSandbox(inner)

    first = dict(sandbox.execute([job("a"), job("b"), job("a")]))
    second = dict(sandbox.execute([job("b"), job("c")]))

    assert [one.source for one in inner.jobs] == ["a", "b", "c"]
    assert first == {0: echo(job("a")), 1: echo(job("b")), 2: echo(job("a"))}
    assert second == {0: echo(job("b")), 1: echo(job("c"))}


@pytest.mark.parametrize(
    "other",
    [
        Job("b", ("1",)),
        Job("a", ("2",)),
        Job("a", ("1",), entry="g"),
        Job("a", ("1",), limits=Limits(memory_mb=64)),
        Job("a", ("1",), hash_seed=1),
        Job("a", ("1",), stop_on_error=False),
    ],
)
def test_a_job_that_differs_in_anything_runs_again(other: Job) -> None:
    inner = ScriptedSandbox(echo)

    list(CachedSandbox(inner).execute([Job("a", ("1",)), other]))

    assert len(inner.jobs) == 2


@pytest.mark.parametrize("status", Status)
def test_an_outcome_is_remembered_unless_another_run_might_not_repeat_it(status: Status) -> None:
    inner = ScriptedSandbox(lambda _: Execution(status))
    sandbox = CachedSandbox(inner)

    for _ in range(2):
        assert dict(sandbox.execute([job("a")])) == {0: Execution(status)}

    assert len(inner.jobs) == (2 if status in {Status.INFRA, Status.TIMEOUT_WALL} else 1)


def test_a_fault_of_ours_is_forgotten_and_the_next_run_counts() -> None:
    outcomes = iter([Execution(Status.INFRA), Execution(Status.OK)])
    sandbox = CachedSandbox(ScriptedSandbox(lambda _: next(outcomes)))

    found = [dict(sandbox.execute([job("a")]))[0].status for _ in range(3)]

    assert found == [Status.INFRA, Status.OK, Status.OK]


def test_what_is_large_is_not_remembered() -> None:
    inner = ScriptedSandbox(lambda _: Execution(Status.OK, (Result(Status.OK, "x" * 20_000),)))
    sandbox = CachedSandbox(inner)

    for _ in range(2):
        list(sandbox.execute([job("a")]))

    assert len(inner.jobs) == 2


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    inner = ScriptedSandbox(echo)
    sandbox = CachedSandbox(inner, capacity=2)

    for name in "abacab":  # c takes the place of b, since a was used in between; then b that of c
        list(sandbox.execute([job(name)]))

    assert [one.source for one in inner.jobs] == ["a", "b", "c", "b"]


calls = st.lists(st.lists(st.sampled_from("abcde"), max_size=8), max_size=4)


@given(calls, st.integers(1, 4), st.booleans())
def test_what_comes_out_does_not_depend_on_what_is_remembered(
    asked: list[list[str]], capacity: int, backwards: bool
) -> None:
    sandbox = CachedSandbox(Backwards(echo) if backwards else ScriptedSandbox(echo), capacity)

    for names in asked:
        found = list(sandbox.execute(job(name) for name in names))

        assert sorted(index for index, _ in found) == list(range(len(names)))
        assert all(execution == echo(job(names[index])) for index, execution in found)


def test_jobs_are_read_only_as_far_as_there_is_room() -> None:
    read: list[str] = []

    def jobs() -> Iterator[Job]:
        for name in "abc":
            read.append(name)
            yield job(name)

    next(CachedSandbox(ScriptedSandbox(echo)).execute(jobs()))

    assert read == ["a"]
