"""Ways in which honest programs read their input and write their answer: all of them work, however busy the machine is."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gasp_rl.config import Limits, SandboxConfig
from gasp_rl.problem import CompareKind, Comparison, Encoding, IoMode, Problem, TestCase
from gasp_rl.rollout import Judgement
from gasp_rl.sandbox.base import Job, Status
from gasp_rl.sandbox.grading import grade_problems
from gasp_rl.sandbox.local import LocalSandbox

INPUTS = ("3\n1 2 3\n", "1\n5", "4\n7 -2\t1 4  \n\n")
ANSWERS = ("6", "5", "10")
LIMITS = Limits(cpu_seconds=4.0, wall_factor=10.0)

IDIOMS = {
    # reading
    "input": "n = int(input())\nprint(sum(map(int, input().split())))",
    "sys.stdin.read": "import sys\nn, *a = map(int, sys.stdin.read().split())\nprint(sum(a))",
    "sys.stdin.readline": "import sys\ninput = sys.stdin.readline\nn = int(input())\nprint(sum(map(int, input().split())))",
    "sys.stdin.readlines": "import sys\nlines = sys.stdin.readlines()\nprint(sum(map(int, lines[1].split())))",
    "for line in sys.stdin": "import sys\nrows = [line.split() for line in sys.stdin]\nprint(sum(map(int, rows[1])))",
    "next of sys.stdin": "import sys\nnext(sys.stdin)\nprint(sum(map(int, next(sys.stdin).split())))",
    "enumerate sys.stdin": "import sys\nfor i, line in enumerate(sys.stdin):\n    if i == 1: print(sum(map(int, line.split())))",
    "sys.stdin.buffer.read": "import sys\nn, *a = map(int, sys.stdin.buffer.read().split())\nprint(sum(a))",
    "sys.stdin.buffer.readline": "import sys\ninput = sys.stdin.buffer.readline\nn = int(input())\nprint(sum(map(int, input().split())))",
    "for line in sys.stdin.buffer": "import sys\nrows = [line.split() for line in sys.stdin.buffer]\nprint(sum(map(int, rows[1])))",
    "open(0)": "n, *a = map(int, open(0).read().split())\nprint(sum(a))",
    "for line in open(0)": "rows = [line.split() for line in open(0)]\nprint(sum(map(int, rows[1])))",
    "unpacked open(0)": "n, a, *_ = open(0)\nprint(sum(map(int, a.split())))",
    "with open(0, 'rb')": "with open(0, 'rb') as file: n, *a = map(int, file.read().split())\nprint(sum(a))",
    "os.read": "import os\nn, *a = map(int, os.read(0, 10 ** 6).split())\nprint(sum(a))",
    "io.BytesIO over os.read": "import io, os, sys\ninput = io.BytesIO(os.read(0, os.fstat(0).st_size)).readline\nn = int(input())\nprint(sum(map(int, input().decode().split())))",
    "input, then sys.stdin.read": "import sys\nn = int(input())\nprint(sum(map(int, sys.stdin.read().split())))",
    "input, then for line in sys.stdin": "import sys\nn = int(input())\nprint(sum(int(x) for line in sys.stdin for x in line.split()))",
    "input until EOFError": "rows = []\nwhile True:\n    try: rows.append(input())\n    except EOFError: break\nprint(sum(map(int, rows[1].split())))",
    "iter(input, '')": "rows = []\ntry:\n    for row in iter(input, ''): rows.append(row)\nexcept EOFError: pass\nprint(sum(map(int, rows[1].split())))",
    "iter(readline, '')": "import sys\nrows = list(iter(sys.stdin.readline, ''))\nprint(sum(map(int, rows[1].split())))",
    "fileinput": "import fileinput\nrows = [row.split() for row in fileinput.input()]\nprint(sum(map(int, rows[1])))",
    "a generator of tokens": "import sys\ndef tokens():\n    for line in sys.stdin: yield from line.split()\nt = tokens()\nn = int(next(t))\nprint(sum(int(x) for x in t))",
    "a class that reads": "import sys\nclass Reader:\n    def __init__(self): self.rows = sys.stdin.read().split('\\n'); self.at = 0\n    def row(self): self.at += 1; return self.rows[self.at - 1]\n    def ints(self): return list(map(int, self.row().split()))\nr = Reader()\nn, = r.ints()\nprint(sum(r.ints()))",
    "FastIO": "import os, sys\nfrom io import BytesIO, IOBase\nclass FastIO(IOBase):\n    def __init__(self, file):\n        self._fd = file.fileno(); self.buffer = BytesIO(); self.writable = 'x' in file.mode or 'r' not in file.mode; self.write = self.buffer.write if self.writable else None\n    def read(self):\n        while True:\n            b = os.read(self._fd, max(os.fstat(self._fd).st_size, 8192))\n            if not b: break\n            p = self.buffer.tell(); self.buffer.seek(0, 2); self.buffer.write(b); self.buffer.seek(p)\n        return self.buffer.read()\n    def flush(self):\n        if self.writable: os.write(self._fd, self.buffer.getvalue()); self.buffer.truncate(0); self.buffer.seek(0)\nclass Wrapper(IOBase):\n    def __init__(self, file):\n        self.buffer = FastIO(file); self.flush = self.buffer.flush; self.writable = self.buffer.writable\n        self.write = lambda s: self.buffer.write(s.encode('ascii')); self.read = lambda: self.buffer.read().decode('ascii')\nsys.stdin, sys.stdout = Wrapper(sys.stdin), Wrapper(sys.stdout)\nn, *a = map(int, sys.stdin.read().split())\nprint(sum(a))",
    "sys.stdin put aside": "import io, sys\ntext = sys.stdin.read()\nsys.stdin = io.StringIO(text)\nn = int(input())\nprint(sum(map(int, input().split())))",
    "contextlib.redirect_stdout": "import contextlib, io\nout = io.StringIO()\nwith contextlib.redirect_stdout(out):\n    n = int(input()); print(sum(map(int, input().split())))\nprint(out.getvalue(), end='')",
    "sys.stdin closed": "import sys\nn, *a = map(int, sys.stdin.read().split())\nsys.stdin.close()\nprint(sum(a))",
    "sys.stdin reconfigured": "import sys\nsys.stdin.reconfigure(encoding='utf-8')\nn, *a = map(int, sys.stdin.read().split())\nprint(sum(a))",
    "select": "import select, sys\nselect.select([sys.stdin], [], [], 0)\nn, *a = map(int, sys.stdin.read().split())\nprint(sum(a))",
    "os.fdopen": "import os\nn, *a = map(int, os.fdopen(0).read().split())\nprint(sum(a))",
    "mmap of input": "import mmap\nn, *a = map(int, mmap.mmap(0, 0, prot=mmap.PROT_READ)[:].split())\nprint(sum(a))",
    # writing
    "print(end=)": "n = int(input())\nprint(sum(map(int, input().split())), end='')",
    "print of parts": "n = int(input())\ns = str(sum(map(int, input().split())))\nprint(*s, sep='')",
    "print(flush=True)": "n = int(input())\nprint(sum(map(int, input().split())), flush=True)",
    "print(file=sys.stdout)": "import sys\nn = int(input())\nprint(sum(map(int, input().split())), file=sys.stdout)",
    "notes on sys.stderr": "import sys\nn = int(input())\nprint('n is', n, file=sys.stderr)\nprint(sum(map(int, input().split())))",
    "sys.stdout.write": "import sys\nn = int(input())\nsys.stdout.write(str(sum(map(int, input().split()))) + '\\n')\nsys.stdout.flush()",
    "sys.stdout.writelines": "import sys\nn = int(input())\nsys.stdout.writelines([str(sum(map(int, input().split()))), '\\n'])",
    "sys.stdout.buffer.write": "import sys\nn = int(input())\nsys.stdout.buffer.write(b'%d\\n' % sum(map(int, input().split())))",
    "sys.__stdout__": "import sys\nn = int(input())\nsys.__stdout__.write('%d' % sum(map(int, input().split())))",
    "os.write": "import os\nn = int(input())\nos.write(1, str(sum(map(int, input().split()))).encode())",
    "open(1, 'w')": "n = int(input())\nprint(sum(map(int, input().split())), file=open(1, 'w'))",
    "open(1, 'w'), never closed": "out = open(1, 'w')\ndef say(x): out.write(str(x))\nn = int(input())\nsay(sum(map(int, input().split())))",
    "os.fdopen(1, 'w')": "import os\nn = int(input())\nwith os.fdopen(1, 'w') as out: out.write(str(sum(map(int, input().split()))))",
    "output at exit": "import atexit, io, os, sys\nout = io.BytesIO()\natexit.register(lambda: os.write(1, out.getvalue()))\nn = int(input())\nout.write(b'%d' % sum(map(int, input().split())))",
    "sys.stdin and sys.stdout replaced": "import os, sys\nsys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, 'w')\ndef f(): pass\nn = int(input())\nprint(sum(map(int, input().split())))",
    "sys.stdout replaced": "import io, os, sys\nsys.stdout = io.TextIOWrapper(io.FileIO(1, 'w'))\nn = int(input())\nprint(sum(map(int, input().split())))",
    "pprint": "from pprint import pprint\nn = int(input())\npprint(sum(map(int, input().split())))",
    "logging": "import logging, sys\nlogging.basicConfig(stream=sys.stdout, format='%(message)s', level=logging.INFO)\nn = int(input())\nlogging.info(sum(map(int, input().split())))",
    # ending
    "sys.exit": "import sys\nn = int(input())\nprint(sum(map(int, input().split())))\nsys.exit()",
    "sys.exit(0) in a function": "import sys\ndef main():\n    n = int(input())\n    print(sum(map(int, input().split())))\n    sys.exit(0)\nmain()",
    "exit": "n = int(input())\nprint(sum(map(int, input().split())))\nexit()",
    "quit(0)": "n = int(input())\nprint(sum(map(int, input().split())))\nquit(0)",
    "raise SystemExit": "n = int(input())\nprint(sum(map(int, input().split())))\nraise SystemExit",
    "os._exit after a flush": "import os, sys\nn = int(input())\nprint(sum(map(int, input().split())))\nsys.stdout.flush()\nos._exit(0)",
    # structure
    "if __name__": "def main():\n    n = int(input())\n    print(sum(map(int, input().split())))\nif __name__ == '__main__': main()",
    "if __name__, then sys.exit(main())": "import sys\ndef main() -> int:\n    n = int(input())\n    print(sum(map(int, input().split())))\n    return 0\nif __name__ == '__main__': sys.exit(main())",
    "a global counter": "total = 0\ndef add(x):\n    global total\n    total += x\nn = int(input())\nfor x in input().split(): add(int(x))\nprint(total)",
    "a class with state of its own": "class Sum:\n    seen = []\n    @classmethod\n    def add(cls, x): cls.seen.append(x)\nn = int(input())\nfor x in input().split(): Sum.add(int(x))\nprint(sum(Sum.seen))",
    "a name main of its own": "from __future__ import annotations\nfrom dataclasses import dataclass, field\n@dataclass(order=True)\nclass Item:\n    x: int\n    tags: list[str] = field(default_factory=list)\nn = int(input())\nprint(sum(i.x for i in sorted(Item(int(x)) for x in input().split())))",
    "a thread with a large stack": "import sys, threading\nsys.setrecursionlimit(10 ** 7)\nthreading.stack_size(1 << 27)\ndef main():\n    n = int(input())\n    a = list(map(int, input().split()))\n    def go(i): return 0 if i == len(a) else a[i] + go(i + 1)\n    print(go(0))\nt = threading.Thread(target=main)\nt.start()\nt.join()",
    "a thread that nobody joins": "import threading\ndef main():\n    n = int(input())\n    print(sum(map(int, input().split())))\nthreading.Thread(target=main).start()",
    "a pool of threads": "from concurrent.futures import ThreadPoolExecutor\nn = int(input())\nwith ThreadPoolExecutor(2) as pool: print(sum(pool.map(int, input().split())))",
    "a larger stack by rlimit": "import resource, sys\nresource.setrlimit(resource.RLIMIT_STACK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\nsys.setrecursionlimit(10 ** 6)\nn = int(input())\nprint(sum(map(int, input().split())))",
    "deep recursion": "import sys\nsys.setrecursionlimit(10 ** 6)\nn, *a = map(int, sys.stdin.read().split())\ndef depth(k): return 0 if k == 0 else 1 + depth(k - 1)\nassert depth(30_000) == 30_000\nprint(sum(a))",
    "a bootstrap for recursion": "from types import GeneratorType\ndef bootstrap(f, stack=[]):\n    def wrapped(*args):\n        if stack: return f(*args)\n        to = f(*args)\n        while True:\n            if type(to) is GeneratorType: stack.append(to); to = next(to)\n            else:\n                stack.pop()\n                if not stack: return to\n                to = stack[-1].send(to)\n    return wrapped\nn = int(input())\na = list(map(int, input().split()))\n@bootstrap\ndef go(i):\n    if i == len(a): yield 0\n    else: yield a[i] + (yield go(i + 1))\nprint(go(0))",
    "functools.cache": "import functools\nn = int(input())\na = list(map(int, input().split()))\n@functools.cache\ndef go(i): return 0 if i == len(a) else a[i] + go(i + 1)\nprint(go(0))\ngo.cache_clear()",
    "lru_cache with tuples": "from functools import lru_cache\nn = int(input())\n@lru_cache(maxsize=None)\ndef go(a): return a[0] + go(a[1:]) if a else 0\nprint(go(tuple(map(int, input().split()))))",
    "heapq": "import heapq\nn = int(input())\na = list(map(int, input().split()))\nheapq.heapify(a)\ns = 0\nwhile a: s += heapq.heappop(a)\nprint(s)",
    "bisect": "from bisect import bisect_left, insort\nn = int(input())\na = []\nfor x in map(int, input().split()): insort(a, x)\nassert all(a[bisect_left(a, x)] == x for x in a)\nprint(sum(a))",
    "deque and defaultdict": "from collections import defaultdict, deque\nn = int(input())\nd, q = defaultdict(int), deque(map(int, input().split()))\nwhile q: d['sum'] += q.popleft()\nprint(d['sum'])",
    "itertools": "from itertools import accumulate\nn = int(input())\nprint(list(accumulate(map(int, input().split())))[-1])",
    "Fraction": "from fractions import Fraction\nn = int(input())\nprint(sum(Fraction(x) for x in input().split()))",
    "Decimal": "from decimal import Decimal, getcontext\ngetcontext().prec = 50\nn = int(input())\nprint(sum(map(Decimal, input().split())))",
    "a float with digits": "n = int(input())\nprint('%.6f' % sum(map(float, input().split())))",
    "complex numbers": "n = int(input())\nprint(int(sum(complex(x) for x in input().split()).real))",
    "array": "from array import array\nn = int(input())\nprint(sum(array('q', map(int, input().split()))))",
    "star imports": "from math import *\nfrom collections import *\nfrom heapq import *\nn = int(input())\nprint(int(fsum(map(int, input().split()))))",
    "an import that may fail": "try:\n    import numpy as np\nexcept ImportError: np = None\ntry:\n    from math import *\nexcept ImportError: pass\nn = int(input())\nprint(sum(map(int, input().split())))",
    "names that are there without an import": "n = int(input())\nc = Counter(map(int, input().split()))\nprint(sum(reduce(add, [k] * v) for k, v in c.items()))",
    "names of the prelude taken over": "from sys import stdin, stdout\ndef solve(): return sum(map(int, stdin.readline().split()))\nn = int(stdin.readline())\nlist_, pow, gcd, e = [], 1, 2, 3\nstdout.write(str(solve()))",
    "typing": "from typing import List, Optional\nclass Solution:\n    def total(self, a: List[int]) -> Optional[int]: return sum(a)\nn = int(input())\nprint(Solution().total(list(map(int, input().split()))))",
    "random with a seed": "import random\nrandom.seed(7)\nn = int(input())\na = list(map(int, input().split()))\nrandom.shuffle(a)\nprint(sum(a))",
    "time": "import time\nstart = time.time()\nn = int(input())\nprint(sum(map(int, input().split())))\nassert time.perf_counter() and time.time() - start < 100",
    "gc and the switch interval": "import gc, sys\ngc.disable()\nsys.setswitchinterval(1)\nn = int(input())\nprint(sum(map(int, input().split())))",
    "int with many digits": "import sys\nsys.set_int_max_str_digits(0)\nn = int(input())\na = list(map(int, input().split()))\nassert len(str(10 ** 60_000)) == 60_001\nprint(sum(a))",
    "eval and exec": "n = int(input())\nexec('s = eval(\"+\".join(input().split()))')\nprint(s)",
    "match": "n = int(input())\nmatch input().split():\n    case [one]: print(one)\n    case [*many]: print(sum(map(int, many)))",
    "walrus and comprehension": "print(sum(int(x) for x in rows[1].split()) if (rows := open(0).read().splitlines()) else 0)",
    "a semicolon and a tab": "n = int(input()); a = input().split()\nif n:\n\tprint(sum(map(int, a)))",
    "text that is not ASCII": "# Größe ≤ 10⁵\nn = int(input())\ngröße = '€'\nprint(sum(map(int, input().split())))",
    "CRLF": "n = int(input())\r\nprint(sum(map(int, input().split())))\r\n",
    "a coding line": "# -*- coding: utf-8 -*-\nn = int(input())\nprint(sum(map(int, input().split())))",
}  # fmt: skip

DISHONEST = {
    "wrong": ("print(0)", Status.OK),
    "raises": ("print(1 / 0)", Status.RUNTIME_ERROR),
    "reads too much": ("while True: input()", Status.RUNTIME_ERROR),
    "leaves": ("import os\nos._exit(0)", Status.NO_RESULT),
    "crashes": ("import ctypes\nctypes.string_at(0)", Status.CRASH),
    "allocates": ("x = bytearray(6 << 30)", Status.MEMORY),
    "talks": ("while True: print('x' * 100_000)", Status.OUTPUT_LIMIT),
    "loops": ("while True: pass", Status.TIMEOUT_CPU),
    "sleeps": ("import time\ntime.sleep(1000)", Status.TIMEOUT_WALL),
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LocalSandbox]:
    with LocalSandbox(SandboxConfig(limits=LIMITS)) as started:
        yield started


ENDS_AT_ONCE = {"os._exit after a flush"}
"""The process that runs all tests is gone after the first: these need one of their own for each."""


@pytest.mark.parametrize("idiom", [idiom for idiom in IDIOMS if idiom not in ENDS_AT_ONCE])
def test_an_honest_program_passes_all_tests_in_one_process(sandbox: LocalSandbox, idiom: str) -> None:
    ((_, execution),) = sandbox.execute([Job(IDIOMS[idiom], INPUTS, entry="")])

    assert execution.status is Status.OK, execution
    assert [float(result.value) for result in execution.results] == [float(answer) for answer in ANSWERS]


@pytest.mark.parametrize(("encoding", "text"), [
    (Encoding.JSON, '{"b": 1, "aa": 2, "a": {"z": 3, "y": 4}}'), (Encoding.PYLITERAL, "{'b': 1, 'aa': 2, 'a': {'z': 3, 'y': 4}}"),
])  # fmt: skip
def test_a_function_goes_through_a_dict_in_the_order_of_its_test(
    sandbox: LocalSandbox, encoding: Encoding, text: str
) -> None:
    source = "def f(d): return [*d, *d['a']]"
    test = TestCase(text, json.dumps(["b", "aa", "a", "z", "y"]))
    problem = Problem("order", "", (), (test,), IoMode.FUNCTIONAL, encoding)

    assert [verdict.judgement for _, verdict in grade_problems(sandbox, [(source, problem)])] == [Judgement.CORRECT]


def test_where_only_truth_is_asked_for_any_object_will_do(sandbox: LocalSandbox) -> None:
    tests = (TestCase("'ab'", "True"), TestCase("'b'", "False"))
    problem = Problem("truth", "", (), tests, compare=Comparison(CompareKind.TRUTHY))
    sources = ["import re\ndef f(s): return re.match('a', s)", "import re\ndef f(s): return re.match('b', s)"]

    verdicts = dict(grade_problems(sandbox, [(source, problem) for source in sources]))

    assert [verdicts[k].judgement for k in range(2)] == [Judgement.CORRECT, Judgement.WRONG]


def test_there_are_at_least_twenty_idioms_more_than_the_study_names() -> None:
    assert len(IDIOMS) >= 23 + 20


@pytest.mark.slow
def test_verdicts_do_not_depend_on_how_busy_the_machine_is() -> None:
    limits = Limits(cpu_seconds=1.0, wall_factor=4.0)
    jobs = [Job(source, INPUTS, entry="", limits=LIMITS) for name, source in IDIOMS.items() if name not in ENDS_AT_ONCE]
    jobs += [Job(source, INPUTS, entry="", limits=limits) for source, _ in DISHONEST.values()]
    crowd = [
        subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
        for _ in range(3 * len(os.sched_getaffinity(0)))
    ]
    try:
        with LocalSandbox() as sandbox:
            executions = dict(sandbox.execute(jobs))
    finally:
        for process in crowd:
            process.kill()
            process.wait()

    ended = [executions[index].status for index in range(len(jobs))]
    assert ended[: -len(DISHONEST)] == [Status.OK] * (len(jobs) - len(DISHONEST))
    assert ended[-len(DISHONEST) :] == [status for _, status in DISHONEST.values()]
