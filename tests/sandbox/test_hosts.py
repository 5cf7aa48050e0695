"""Sandboxes whose workers belong to processes of a cluster."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from gasp_rl.cluster import Cluster
from gasp_rl.config import Limits, RayConfig, SandboxConfig
from gasp_rl.sandbox.base import Job, Status
from gasp_rl.sandbox.hosts import Hosts
from gasp_rl.sandbox.local import LocalSandbox

pytestmark = pytest.mark.ray

ONE = SandboxConfig(workers=1)
JOBS = [
    Job("def f(x):\n    return x * x\n", ("3", "4")),
    Job("def f(x):\n    return 1 / x\n", ("0",)),
    Job("def f(x:\n", ("0",)),
    Job("print(input()[::-1])\n", ("abc",), entry=""),
    Job("def f(x):\n    while True: pass\n", ("0",)),
]


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def hosts(cluster: Cluster, notes: list[str]) -> Iterator[Hosts]:
    with closing(Hosts(cluster, RayConfig(sandboxes=2, start_seconds=120), notes.append)) as hosts:
        yield hosts


def squares(count: int) -> Iterator[Job]:
    for number in range(count):
        yield Job(f"def f(x):\n    return x * x + {number}\n", (str(number),))


def test_what_programs_do_is_what_they_do_here_and_no_verdict_is_lost_with_a_host(
    hosts: Hosts, notes: list[str]
) -> None:
    quick = SandboxConfig(workers=1, limits=Limits(cpu_seconds=0.2))
    with closing(hosts.open(quick)) as hosted, closing(LocalSandbox(quick)) as local:
        ours, theirs = dict(hosted.execute(JOBS)), dict(local.execute(JOBS))
    assert {n: (e.status, e.results, e.level) for n, e in ours.items()} == {
        n: (e.status, e.results, e.level) for n, e in theirs.items()
    }

    with closing(hosts.open(ONE)) as sandbox:
        found = {}
        for number, execution in sandbox.execute(squares(200)):
            found[number] = execution
            if len(found) == 40:
                gone = hosts.workers[1]
                assert gone is not None
                gone.kill()

        assert sorted(found) == list(range(200))
        assert {e.status for e in found.values()} == {Status.OK}
        assert all(e.results[0].value == str(n * n + n) for n, e in found.items())
        assert [note.split(" died")[0] for note in notes] == ["sandbox host 2 of 2"]
        assert dict(sandbox.execute(squares(3)))[2].results[0].value == "6"  # the one in its place is used


def test_executions_can_be_under_way_at_once_and_be_left(hosts: Hosts) -> None:
    with closing(hosts.open(ONE)) as sandbox:
        outer = sandbox.execute(squares(30))
        first = next(outer)
        inner = dict(sandbox.execute(squares(5)))
        for _ in sandbox.execute(squares(50)):
            break

        assert len(dict([first, *outer])) == 30
        assert len(inner) == 5
