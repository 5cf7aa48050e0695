"""What it costs to run a small program in the sandbox, against a new Python process for each, in the same run.

    python bench/sandbox.py [programs]

CPU time of this process and of everything it started, workers included: wall time depends on who else is busy. Rounds of
both take turns, and the median is printed.
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from gasp_rl.config import SandboxConfig
from gasp_rl.sandbox.base import Job, Status
from gasp_rl.sandbox.local import LocalSandbox

ROUNDS = 5
SOURCES = (
    "def f(xs):\n    seen = set()\n    return [x for x in xs if not (x in seen or seen.add(x))]",
    "def f(xs):\n    best = run = 0\n    for x in xs:\n        run = max(x, run + x)\n        best = max(best, run)\n    return best",
    "def f(xs):\n    d = {}\n    for x in xs: d[x] = d.get(x, 0) + 1\n    return sorted(d.items(), key=lambda t: (-t[1], t[0]))",
    "class Node:\n    def __init__(self, v, n): self.v, self.n = v, n\ndef f(xs):\n    h = None\n    for x in xs: h = Node(x, h)\n    return [h.v, h.n.v]",
)
INPUTS = tuple(str([(7 * k * k + 3 * n) % 11 - 3 for k in range(n + 3)]) for n in range(10))
STDIN = "n = int(input())\nxs = list(map(int, input().split()))\nprint(sum(xs), max(xs), n)"
TESTS = tuple(f"{n}\n{' '.join(map(str, range(n)))}\n" for n in range(1, 21))


def cpu_seconds() -> float:
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def in_sandbox(jobs: list[Job]) -> None:
    with LocalSandbox(SandboxConfig()) as sandbox:
        executions = [execution for _, execution in sandbox.execute(jobs)]
    assert all(execution.status is Status.OK for execution in executions)


def in_processes(jobs: list[Job]) -> None:
    """One interpreter per function program, one per test of a stdin program. No isolation at all."""
    for job in jobs:
        calls = "".join(f"print(repr({job.entry}({text})))\n" for text in job.inputs)
        for source, data in (
            [(f"{job.source}\n{calls}", "")] if job.entry else [(job.source, text) for text in job.inputs]
        ):
            python = [sys.executable, "-I", "-S", "-c", source]
            subprocess.run(python, input=data, text=True, capture_output=True, check=True)  # noqa: S603 - our own programs


def cost(run: Callable[[list[Job]], None], jobs: list[Job]) -> tuple[float, float]:
    """CPU and wall milliseconds per program."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    run(jobs)
    return 1e3 * (cpu_seconds() - cpu) / len(jobs), 1e3 * (time.perf_counter() - wall) / len(jobs)


def main() -> None:
    programs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    workloads = {
        "functions, 10 inputs": ([Job(SOURCES[k % 4], INPUTS) for k in range(programs)], 10),
        "stdin, 20 tests": ([Job(STDIN, TESTS, entry="") for _ in range(programs // 2)], 50),
    }
    for name, (jobs, fewer) in workloads.items():
        rounds = [
            (cost(in_sandbox, jobs), cost(in_processes, jobs[: max(1, len(jobs) // fewer)])) for _ in range(ROUNDS)
        ]
        cpu, wall, plain_cpu, plain_wall = (
            statistics.median(values) for values in zip(*(ours + plain for ours, plain in rounds), strict=True)
        )
        print(f"{name:22} sandbox {cpu:6.2f} ms CPU {wall:7.2f} ms wall | new process {plain_cpu:7.2f} ms CPU "
              f"{plain_wall:7.2f} ms wall | ratio {cpu / plain_cpu:.3f} CPU")  # fmt: skip


if __name__ == "__main__":
    main()
