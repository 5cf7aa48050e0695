"""What programs cost is told once for each that ran, wherever it ran."""

from gasp_rl.progress import Silent
from gasp_rl.sandbox.base import Execution, Job, Status
from gasp_rl.sandbox.cache import CachedSandbox
from gasp_rl.sandbox.metered import MeteredSandbox
from gasp_rl.sandbox.scripted import ScriptedSandbox


class Bill(Silent):
    def __init__(self) -> None:
        self.told: list[float] = []

    def executed(self, cpu_seconds: float) -> None:
        self.told.append(cpu_seconds)


def test_what_is_remembered_costs_nothing() -> None:
    bill = Bill()
    took = Execution(Status.OK, cpu_seconds=0.25)
    sandbox = CachedSandbox(MeteredSandbox(ScriptedSandbox(lambda _: took), bill))
    jobs = [Job("a", ("1",)), Job("b", ("1",)), Job("a", ("1",))]

    found = dict(sandbox.execute(jobs))
    list(sandbox.execute(jobs))

    assert found == {0: took, 1: took, 2: took}
    assert bill.told == [0.25, 0.25]
