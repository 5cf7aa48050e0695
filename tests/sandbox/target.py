"""What attacks are aimed at: a process that grades programs and has something to lose. Run as a script by the tests.

    python target.py REFUSED        REFUSED: names of system calls that its kernel shall refuse, with commas

It reads one request per line and answers each with one line, both JSON. It holds the hidden answers of a task, and its
environment holds a secret. After each request it runs an honest program in the same worker.
"""

import dataclasses
import errno
import json
import os
import sys
from collections.abc import Iterable, Iterator

from gasp_rl.config import GradeIsolation, GradeSemantics, GradingConfig, Limits, SandboxConfig
from gasp_rl.problem import Encoding, IoMode, Problem, TestCase
from gasp_rl.rollout import Judgement, Pair
from gasp_rl.sandbox import worker
from gasp_rl.sandbox.base import Execution, Job, Status
from gasp_rl.sandbox.grading import grade_problems
from gasp_rl.sandbox.judge import grade_abduction, grade_deduction, grade_pairs
from gasp_rl.sandbox.local import LocalSandbox

HONEST = "def f(n): return str(n * 7919) + '#'"
HONEST_STDIN = "print(str(int(input()) * 7919) + '#')"
NUMBERS = (3, 10, 7)
PAIRS = tuple(Pair(str(n), repr(f"{n * 7919}#")) for n in NUMBERS)
PROBLEM = Problem(
    "hidden", "", (), tuple(TestCase(f"{n}\n", f"{n * 7919}#\n") for n in NUMBERS), IoMode.STDIN, Encoding.TEXT
)
CALLS = Problem(
    "calls", "", (), tuple(TestCase(str(n), json.dumps(f"{n * 7919}#")) for n in NUMBERS), encoding=Encoding.JSON
)
MODES = {
    "test": GradingConfig(isolation=GradeIsolation.TEST),
    "lcb": GradingConfig(semantics=GradeSemantics.LCB),
}
SHORT = Limits(cpu_seconds=0.25, wall_factor=1.0, memory_mb=96)


class Overheard:
    """A sandbox that remembers what the last program did."""

    def __init__(self, sandbox: LocalSandbox, limits: Limits) -> None:
        self._sandbox = sandbox
        self._limits = limits
        self.last = Execution(Status.OK)

    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Execution]]:
        limited = (dataclasses.replace(job, limits=self._limits) for job in jobs)
        for index, execution in self._sandbox.execute(limited):
            self.last = execution
            yield index, execution

    def close(self) -> None:
        self._sandbox.close()


def answer(sandbox: LocalSandbox, request: dict[str, str]) -> dict[str, object]:
    limits = dataclasses.replace(SHORT, **json.loads(request["limits"]))
    overheard, source = Overheard(sandbox, limits), request["source"]
    match request["kind"]:
        case "function":
            ((_, verdict),) = grade_pairs(overheard, [(source, PAIRS)])
        case "stdin":
            ((_, verdict),) = grade_problems(overheard, [(source, PROBLEM)])
        case "test" | "lcb" as mode:
            ((_, verdict),) = grade_problems(overheard, [(source, CALLS)], MODES[mode])
        case "abduction":
            ((_, verdict),) = grade_abduction(overheard, [(HONEST, source, PAIRS[0].output)])
        case _:
            verdict = grade_deduction(source, PAIRS[0].output)
    execution = overheard.last
    return {
        "status": execution.status,
        "results": [[result.status, result.value[:2000], result.detail] for result in execution.results],
        "detail": execution.detail,
        "cpu_seconds": execution.cpu_seconds,
        "judgement": verdict.judgement,
        "honest": honest_programs_pass(sandbox),
    }


def honest_programs_pass(sandbox: LocalSandbox) -> bool:
    ((_, function),) = grade_pairs(sandbox, [(HONEST, PAIRS)])
    ((_, stdin),) = grade_problems(sandbox, [(HONEST_STDIN, PROBLEM)])
    return function.judgement is stdin.judgement is Judgement.CORRECT


def refuse(names: list[str]) -> None:
    """As a container's profile does: `Operation not permitted`; clone3 is unknown, and clone makes no namespaces."""
    numbers = worker.numbers(worker._OURS + worker._DEADLY, worker.MACHINE)
    load, equal, any_bit, give = worker._LOAD, worker._EQUAL, worker._ANY_BIT, worker._RETURN
    profile = worker.Filter([
        (load, 0, 0, worker._NUMBER_AT),
        *(instruction for name in names for instruction in worker._answer(numbers[name], worker._REFUSE)),
        *worker._answer(worker.CLONE3, worker._ERRNO | errno.ENOSYS),
        (equal, 0, 3, worker.CLONE), (load, 0, 0, worker._ARGUMENTS_AT), (any_bit, 0, 1, worker.CLONE_NEW),
        (give, 0, 0, worker._REFUSE),
        (give, 0, 0, worker._ALLOW),
    ])  # fmt: skip
    worker.prctl(worker.PR_SET_NO_NEW_PRIVS, 1)
    profile.install()


def main() -> None:
    if sys.argv[1]:
        refuse(sys.argv[1].split(","))
    with LocalSandbox(SandboxConfig(workers=1)) as sandbox:
        list(sandbox.execute([Job("import decimal\ndef f(x): return x", ("1",))]))  # there are two kinds of workers
        ready = {"level": sandbox.level, "user": os.getuid(), "honest": honest_programs_pass(sandbox)}
        print(json.dumps(ready), flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(sandbox, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
