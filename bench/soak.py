"""Runs very many programs, hostile ones among them, in one sandbox, and watches what that leaves behind.

    python bench/soak.py [--programs 100000] [--hostile .2] [--every 10000] [--kill 10000] [--seed 0]

Every verdict is checked against what the program deserves. Now and then a worker is killed, as the kernel would when memory
is short. Prints a line of figures per `every` programs; ends with an error if a verdict was wrong, or if processes,
descriptors, anonymous files or memory grew.
"""

import argparse
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gasp_rl.config import Limits, SandboxConfig
from gasp_rl.sandbox.base import Execution, Job, Status
from gasp_rl.sandbox.local import LocalSandbox

LIMITS = Limits(cpu_seconds=0.1, wall_factor=1000.0, memory_mb=96)
"""No program here sleeps: the wall clock is for machines where nobody is let run."""
GROWTH = 1.05
"""Memory of the end over that of the first tenth, at most."""


class Kind(NamedTuple):
    source: str
    entry: str
    expected: frozenset[Status]


def function(body: str, *expected: Status, top: str = "import os, sys") -> Kind:
    source = f"{top}\ndef f(x):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    return Kind(source, "f", frozenset(expected))


def stdin(source: str, *expected: Status) -> Kind:
    return Kind(source, "", frozenset(expected))


CLEAN = (
    function("return x * MARK", Status.OK),
    function("return sum(i * i % 7 for i in range(x)) * 0 + x * MARK", Status.OK),
    function("d = {}\nfor i in range(x): d[i % 5] = d.get(i % 5, 0) + i\nreturn (len(d), x * MARK)[1]", Status.OK),
    function("return A().g(x)", Status.OK, top="class A:\n    def g(self, x): return [x * MARK][0]"),
    stdin("n = int(input())\nprint(n * MARK)", Status.OK),
    stdin("import sys\nfor line in sys.stdin: print(int(line) * MARK)", Status.OK),
)  # fmt: skip
HOSTILE = (
    function("os._exit(0)", Status.NO_RESULT),
    function("os.closerange(0, 256)\nreturn x", Status.NO_RESULT),
    function("os.ftruncate(3, 0)\nos._exit(3)", Status.NO_RESULT),
    function("sys.exit(0)", Status.RUNTIME_ERROR),
    function("return 1 / 0", Status.RUNTIME_ERROR),
    function("return os.fork()", Status.RUNTIME_ERROR),
    function("os.posix_spawn('/bin/sh', ['sh'], {})", Status.RUNTIME_ERROR),
    function("os.kill(os.getppid(), 9)", Status.RUNTIME_ERROR),
    function("os.kill(-1, 9)", Status.RUNTIME_ERROR),
    function("return [os.memfd_create('x') for _ in range(99)]", Status.RUNTIME_ERROR),
    function("return [os.pipe() for _ in range(99)]", Status.RUNTIME_ERROR),
    function("import socket\nsocket.socketpair()", Status.RUNTIME_ERROR),
    function("open('/tmp/escaped', 'w')", Status.RUNTIME_ERROR),
    function("raise ValueError('x' * 20_000_000)", Status.RUNTIME_ERROR),
    function("import ctypes\nctypes.CDLL(None).ptrace(0x4206, os.getppid(), 0, 0)", Status.FORBIDDEN),
    function("import ctypes\nctypes.string_at(0)", Status.CRASH),
    function("os.abort()", Status.CRASH),
    function("return bytearray(6 << 30)", Status.MEMORY),
    function("import mmap\nmmap.mmap(-1, 6 << 30)", Status.MEMORY),
    function("os.write(3, b'garbage')\nreturn x", Status.PROTOCOL),
    function("import struct\nos.write(3, struct.pack('<IBI', 9, 0, 1) + b'x')\nreturn x", Status.PROTOCOL),
    function("return object()", Status.UNSERIALIZABLE),
    function("x = []\nx.append(x)\nreturn x", Status.UNSERIALIZABLE),
    function("return 'x' * 30_000_000", Status.UNSERIALIZABLE),
    function("import threading\nthreading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()\nreturn object", Status.UNSERIALIZABLE),
    function("os._exit = os.write\nreturn object", Status.UNSERIALIZABLE),
    Kind("def f(x:", "f", frozenset({Status.COMPILE_ERROR})),
    stdin("import os\nwhile True: os.write(1, b'x' * 100_000)", Status.RUNTIME_ERROR, Status.OUTPUT_LIMIT),
    stdin("print('x' * 3_000_000)", Status.RUNTIME_ERROR, Status.OUTPUT_LIMIT),
    stdin("import os\nos.ftruncate(0, 0)\ninput()", Status.RUNTIME_ERROR),
)  # fmt: skip
SLOW = (
    function("while True: pass", Status.TIMEOUT_CPU),
    function("while True:\n    try:\n        while True: pass\n    except BaseException: pass", Status.TIMEOUT_CPU),
    function("import signal\nfor s in {*range(1, 65)} - {9, 19, 32, 33}: signal.signal(s, signal.SIG_IGN)\nwhile True: pass", Status.TIMEOUT_CPU),
    function("import re\nre.match('(a+)+$', 'a' * 40 + 'b')", Status.TIMEOUT_CPU),
    function("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()", Status.RUNTIME_ERROR, Status.MEMORY, Status.TIMEOUT_CPU),
)  # fmt: skip
INPUTS = ("7", "8")
SEEDS = (0, 4242)
ALONE_SHARE = 0.1
"""Of the jobs whose inputs run in processes of their own."""
SLOW_SHARE = 0.05
"""Of the hostile programs: those that use their limit up."""


@dataclass(frozen=True)
class Figures:
    """What a soak holds at one moment. Memory in KiB, resident."""

    programs: int
    wrong: int
    processes: int
    manager: int
    largest_worker: int
    descriptors: int
    worker_descriptors: int
    """-1 where only root may count them."""
    anonymous_files: int

    def line(self) -> str:
        return (
            f"{self.programs:8} programs  {self.wrong} wrong  {self.processes} processes  manager {self.manager} KiB  "
            f"largest worker {self.largest_worker} KiB  descriptors {self.descriptors} + {self.worker_descriptors}  "
            f"anonymous files {self.anonymous_files}"
        )


def descendants(pid: int) -> list[int]:
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [found for child in children for found in (child, *descendants(child))]


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 10
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def open_files(pid: int) -> list[str]:
    names: list[str] = []
    with suppress(FileNotFoundError):  # a worker that was just killed
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # the listing's own
                names.append(str(entry.readlink()))
    return names


def look(programs: int, wrong: int) -> Figures:
    """Between jobs: no child is running, so all there is are the workers."""
    family = descendants(os.getpid())
    mine = open_files(os.getpid())
    theirs: list[str] | None = None
    with suppress(PermissionError):
        theirs = [name for pid in family for name in open_files(pid)]
    return Figures(
        programs, wrong, len(family), resident(os.getpid()), max(map(resident, family), default=0), len(mine),
        -1 if theirs is None else len(theirs), sum("memfd" in name for name in [*mine, *(theirs or [])]),
    )  # fmt: skip


def soak(programs: int, hostile: float, every: int, kill: int, seed: int) -> list[Figures]:
    rng = random.Random(seed)
    wrong = 0
    left: Counter[Status] = Counter()
    with LocalSandbox() as sandbox:  # what is made once and kept by the process: compiled worker programs
        list(sandbox.execute([Job("import os", ("",), "", hash_seed=hash_seed) for hash_seed in SEEDS]))
    before = look(0, 0)
    with LocalSandbox(SandboxConfig(limits=LIMITS)) as sandbox:
        for hash_seed in SEEDS:  # all the workers that it will keep
            list(
                sandbox.execute(
                    Job("def f(x): return x", ("1",), hash_seed=hash_seed) for _ in range(4 * sandbox.workers)
                )
            )
        history = [look(0, 0)]
        for start in range(0, programs, every):
            kinds = [draw(rng, hostile) for _ in range(min(every, programs - start))]
            marks = [rng.randrange(10**6) for _ in kinds]
            jobs = (
                Job(
                    kind.source.replace("MARK", str(mark)),
                    INPUTS,
                    kind.entry,
                    hash_seed=rng.choice(SEEDS),
                    alone=rng.random() < ALONE_SHARE,
                )
                for kind, mark in zip(kinds, marks, strict=True)
            )
            for count, (index, execution) in enumerate(sandbox.execute(jobs), start + 1):
                left[execution.status] += 1
                if not right(kinds[index], marks[index], execution):
                    wrong += 1
                    print(f"wrong: {execution} <- {kinds[index].source!r}", flush=True)
                if kill and count % kill == 0:
                    os.kill(rng.choice(descendants(os.getpid())), signal.SIGKILL)
            history.append(look(start + len(kinds), wrong))
            print(history[-1].line(), flush=True)
    print("verdicts:", ", ".join(f"{status} {count}" for status, count in left.most_common()))
    return [before, *history, look(programs, wrong)]


def draw(rng: random.Random, hostile: float) -> Kind:
    if rng.random() >= hostile:
        return rng.choice(CLEAN)
    return rng.choice(SLOW if rng.random() < SLOW_SHARE else HOSTILE)


def right(kind: Kind, mark: int, execution: Execution) -> bool:
    if execution.status not in kind.expected:
        return False
    return execution.status is not Status.OK or [int(r.value) for r in execution.results] == [7 * mark, 8 * mark]


def faults(history: list[Figures]) -> Iterator[str]:
    """What a soak must not leave."""
    before, full, *during, after = history
    first, last = during[len(during) // 10], during[-1]
    if last.wrong:
        yield f"{last.wrong} wrong verdicts"
    for name in ("processes", "descriptors", "anonymous_files"):
        if (more := getattr(after, name) - getattr(before, name)) > 0:
            yield f"{more} {name} after closing"
    for name in ("processes", "descriptors", "worker_descriptors", "anonymous_files"):
        if (more := getattr(last, name) - getattr(full, name)) > 0:
            yield f"{more} {name} more at the end than when all workers had just started"
    for name in ("manager", "largest_worker"):
        if getattr(last, name) > GROWTH * getattr(first, name):
            yield f"{name}: {getattr(last, name)} KiB at the end, {getattr(first, name)} after a tenth"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=100_000)
    parser.add_argument("--hostile", type=float, default=0.2, help="share of them that is hostile")
    parser.add_argument("--every", type=int, default=10_000, help="programs between two lines of figures")
    parser.add_argument("--kill", type=int, default=10_000, help="programs between two deaths of a worker; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    started = time.perf_counter()
    history = soak(options.programs, options.hostile, options.every, options.kill, options.seed)
    found = list(faults(history))
    print(f"after closing: {history[-1].line()}")
    print(f"{time.perf_counter() - started:.0f} s by the clock; " + ("; ".join(found) or "nothing was left behind"))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
