"""The sandbox under measurement, with one worker, so that ratios hold per core. Run by `bench/sandbox.py`.

    python sandbox_ours.py confined|unconfined|forks

Reads and answers as `bench/sandbox_peers.py` does; what is to be done with the programs is one of `functions`, `determinism`,
`stdin`, `strict` and `spinners`. unconfined: of all limits only those of children remain. forks: instead of running a
program, the unconfined worker forks FORKS children that end at once: what a job costs at least.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, TypeAlias

from gasp_rl.config import GradeIsolation, GradingConfig, Limits, SandboxConfig
from gasp_rl.problem import Encoding, IoMode, Problem, TestCase
from gasp_rl.rollout import Judgement
from gasp_rl.sandbox import isolation
from gasp_rl.sandbox.base import Job, Status
from gasp_rl.sandbox.grading import grade_problems
from gasp_rl.sandbox.judge import Program as Proposed
from gasp_rl.sandbox.judge import check
from gasp_rl.sandbox.local import LocalSandbox

SPIN = Limits(cpu_seconds=0.25, wall_factor=1000.0)
ALONE = GradingConfig(isolation=GradeIsolation.TEST)

UNCONFINED = """
class NoFilter:
    def install(self): pass

def move_in(level): return os.open("/proc/self/statm", os.O_RDONLY)
def lock(level): return Jail(NoFilter(), dies_with_us=True)
def check_confinement(*_): pass
"""
FORKS = 200
ONLY_FORKS = f"""
def run(job, jail):
    for _ in range({FORKS}):
        pid = os.fork()
        if pid == 0: os._exit(0)
        os.wait4(pid, 0)
    return _REPLY.pack(0, 0, 0.0, 0) + _FRAME.pack(0, 0, 0)
"""
"""In the place of the worker's own functions."""
CHANGES = {"confined": "", "unconfined": UNCONFINED, "forks": UNCONFINED + ONLY_FORKS}

Program: TypeAlias = dict[str, Any]


def inputs(program: Program) -> tuple[str, ...]:
    return tuple(text for text, _ in program["tests"])


def outputs(program: Program) -> list[str]:
    return [text for _, text in program["tests"]]


def problem(program: Program) -> Problem:
    tests = tuple(TestCase(text, wanted) for text, wanted in program["tests"])
    return Problem(program["source"], "", (), tests, IoMode.STDIN, Encoding.TEXT)


def right(sandbox: LocalSandbox, do: str, programs: list[Program]) -> int:
    match do:
        case "functions":
            jobs = (Job(program["source"], inputs(program)) for program in programs)
            return sum(
                [result.value for result in execution.results] == outputs(programs[index])
                for index, execution in sandbox.execute(jobs)
            )
        case "determinism":
            proposed = (Proposed(program["source"], inputs(program)) for program in programs)
            return sum(list(found.outputs) == outputs(programs[index]) for index, found in check(sandbox, proposed))
        case "spinners":
            jobs = (Job(program["source"], ("0",), limits=SPIN) for program in programs)
            return sum(execution.status is Status.TIMEOUT_CPU for _, execution in sandbox.execute(jobs))
        case _:
            attempts = ((program["source"], problem(program)) for program in programs)
            verdicts = grade_problems(sandbox, attempts, ALONE if do == "strict" else GradingConfig())
            return sum(verdict.judgement is Judgement.CORRECT for _, verdict in verdicts)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        program, start = isolation.WORKER.read_text(), '\n\nif __name__ == "__main__":'
        assert start in program
        changed = Path(folder) / "worker.py"
        changed.write_text(program.replace(start, CHANGES[sys.argv[1]] + start))
        vars(isolation)["WORKER"] = changed
        with LocalSandbox(SandboxConfig(workers=1)) as sandbox:
            for line in sys.stdin:
                request = json.loads(line)
                print(right(sandbox, request["do"], request["programs"]), flush=True)


if __name__ == "__main__":
    main()
