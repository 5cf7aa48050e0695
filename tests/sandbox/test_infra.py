"""A fault of ours, all the way from a dying process to the loss."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from gasp_rl.config import LearnConfig, SandboxConfig, StudentRewards
from gasp_rl.learn.learner import Learner
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.policy.policy import EnginePolicy
from gasp_rl.policy.scripted import ScriptedEngine
from gasp_rl.problem import Problem, TestCase
from gasp_rl.progress import Silent
from gasp_rl.rollout import Judgement
from gasp_rl.sandbox.base import Execution, Job, Status
from gasp_rl.sandbox.local import LocalSandbox
from gasp_rl.selfplay.prompts.micro import MICRO
from gasp_rl.selfplay.rewards import by_judgement
from gasp_rl.selfplay.student import Practice, Student, real

DOUBLE = Problem("double", "double", (TestCase("[1]", "[1, 1]"),), (TestCase("[2]", "[2, 2]"),))
RIGHT, WRONG, DOOMED = (f"def f(x):\n    return {value}" for value in ("x + x", "x", "max(range(9999999999))"))


class Accident:
    """A sandbox whose worker processes are killed whenever a doomed program runs."""

    def __init__(self, sandbox: LocalSandbox) -> None:
        self._sandbox = sandbox
        self.killed = 0

    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Execution]]:
        for index, job in enumerate(jobs):
            over = threading.Event()
            killer = threading.Thread(target=self._kill_what_is_busy, args=(over,))
            if job.source == DOOMED:
                killer.start()
            try:
                ((_, execution),) = self._sandbox.execute([job])
            finally:
                over.set()
                if killer.is_alive():
                    killer.join()
            yield index, execution

    def close(self) -> None:
        self._sandbox.close()

    def _kill_what_is_busy(self, over: threading.Event) -> None:
        while not over.wait(0.02):
            for worker in children(os.getpid()):
                if spent(youngest(worker)) > 0.2:  # seconds of CPU time: it is the program that spins
                    os.kill(worker, signal.SIGKILL)
                    self.killed += 1
                    while worker in children(os.getpid()):
                        time.sleep(0.005)


def children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


def youngest(pid: int) -> int:
    while grown := children(pid):
        pid = grown[-1]
    return pid


def spent(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def practised(replies: list[str]) -> tuple[Practice, ScriptedEngine, int]:
    """What a student earned with these answers to one problem, and an engine that then learnt from them."""
    engine = ScriptedEngine(lambda _prompt, sample, _seed: replies[sample])
    accident = Accident(LocalSandbox(SandboxConfig(workers=1)))
    with contextlib.closing(accident):
        student = Student(EnginePolicy(engine), accident, MICRO, SamplingParams(99), Silent())
        practice = student.practise([real(DOUBLE)], len(replies), [7], by_judgement(StudentRewards()))
    Learner(engine, LearnConfig(advantages="grpo"), temperature=1.0).update("problems", practice.groups)
    return practice, engine, accident.killed


def test_a_program_whose_worker_dies_twice_is_left_out_of_the_loss_and_never_scored() -> None:
    practice, engine, killed = practised([RIGHT, WRONG, DOOMED])
    _, without, _ = practised([RIGHT, WRONG])

    assert killed == 2  # it was tried once more, in another process
    judgements = [answer.judgement for answer in practice.answers]
    assert judgements == [Judgement.CORRECT, Judgement.WRONG, Judgement.SANDBOX_FAULT]
    assert [rollout.masked for rollout in practice.groups[0].rollouts] == [False, False, True]
    assert engine.learned == without.learned  # to the last advantage: a zero would have moved them


def test_a_fault_is_reported_as_ours() -> None:
    accident = Accident(LocalSandbox(SandboxConfig(workers=1)))
    with contextlib.closing(accident):
        found = dict(accident.execute([Job(DOOMED, ("[1]",)), Job(RIGHT, ("[1]",))]))

    assert (found[0].status, found[0].detail) == (Status.INFRA, "its worker process died, twice")
    assert found[1].status is Status.OK
