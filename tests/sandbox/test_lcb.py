"""LiveCodeBench's grader, quirks and all. Every verdict here is what its own code says (commit 28fef95), run on these programs."""

from collections.abc import Iterator

import pytest

from gasp_rl.config import GradeSemantics, GradingConfig, Limits, SandboxConfig
from gasp_rl.problem import Encoding, IoMode, Problem, TestCase
from gasp_rl.sandbox.base import Status
from gasp_rl.sandbox.grading import Grade, Judged, grade
from gasp_rl.sandbox.lcb import standard_output
from gasp_rl.sandbox.local import LocalSandbox

LCB = GradingConfig(semantics=GradeSemantics.LCB)
SUM = Problem(
    "sum", "", (TestCase("3\n1 2 3\n", "6\n"),), (TestCase("2\n10 20", "30"),), IoMode.STDIN, Encoding.TEXT
)  # fmt: skip
SAME = Problem(
    "same", "", (TestCase("[1, 2]", "[1, 2]"),), (TestCase("[3]", "[3]"),), encoding=Encoding.JSON, entry_point="solve"
)  # fmt: skip
READ = "n = int(input())\na = list(map(int, input().split()))\n"
WRITE = "\nprint(sum(map(int, data.split()[1:])))"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LocalSandbox]:
    with LocalSandbox(SandboxConfig(workers=1)) as started:
        yield started


def graded(sandbox: LocalSandbox, problem: Problem, source: str, how: GradingConfig = LCB) -> Grade:
    ((_, found),) = grade(sandbox, [(source, problem)], how)
    return found


@pytest.mark.parametrize("source", [
    "data = input() + ' ' + input()" + WRITE,
    "import sys\ndata = sys.stdin.read()" + WRITE,
    "import sys\nsys.stdin.read()\ndata = sys.stdin.read()" + WRITE,  # it can be read twice
    "import sys\ndata = sys.stdin.buffer.read().decode()" + WRITE,
    "import sys\ninput = sys.stdin.readline\ndata = input() + input()" + WRITE,
    "from sys import stdin\ndata = stdin.read()" + WRITE,
    "import builtins\ndata = builtins.open('/any/file').read()" + WRITE,
    "import sys, io\nsys.stdin = io.StringIO(sys.stdin.read())\ndata = input() + ' ' + input()" + WRITE,
    "import sys\ndata = ' '.join(sys.stdin.readlines())" + WRITE,
    READ + "print(sum(a)); exit()",
    READ + "print(sum(a)); raise SystemExit(1)",
    READ + "print(sum(a))\nreturn",  # it is a function there
    READ + "print(f'{sum(a)}.000')",
    READ + "def main(): print(sum(a))\nif __name__ == '__main__':\n    main()",
    READ + "import threading\nt = threading.Thread(target=lambda: print(sum(a)))\nt.start()\nt.join()",
    READ + "c = 0\ndef go():\n    nonlocal c\n    for x in a: c += x\ngo()\nprint(c)",
])  # fmt: skip
def test_a_stdin_program_that_passes_there_passes_here(sandbox: LocalSandbox, source: str) -> None:
    found = graded(sandbox, SUM, source)

    assert found.outcome is Judged.PASS, found


@pytest.mark.parametrize(("source", "faithful"), [
    ("import sys\ndata = ' '.join(sys.stdin)" + WRITE, True),  # not iterable there
    ("import sys\ndata = (sys.stdin.buffer.readline() + sys.stdin.buffer.readline()).decode()" + WRITE, True),
    ("data = open(0).read()" + WRITE, True),
    ("import os\ndata = os.read(0, 1000).decode()" + WRITE, True),
    ("data = input() + ' ' + input()\nimport sys\nsys.stdin.close()\nimport resource" + WRITE, True),
    (READ + "c = 0\ndef go():\n    global c\n    for x in a: c += x\ngo()\nprint(c)", True),
    (READ + "import sys\nsys.stdout.buffer.write(str(sum(a)).encode())", True),
    (READ + "import os\nos.write(1, str(sum(a)).encode())", True),
    (READ + "import atexit\natexit.register(lambda: print(sum(a)))", True),
    # Nobody waits there for a thread that the program does not join: one that needs no time passes, or not, by chance.
    (READ + "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.3), print(sum(a)))).start()", True),
    (READ + "class Solution: pass\nprint(sum(a))", True),  # the mere words
    (READ + "print(sum(a))\nquit()", True),
    (READ + "try:\n    from math import *\nexcept ImportError: pass\nprint(sum(a))", True),
    ("from __future__ import annotations\n" + READ + "print(sum(a))", True),
    ("data = input('? ') + ' ' + input()" + WRITE, False),
    (READ + "print(sum(a))\nraise ValueError", False),
    (READ + "print(sum(a), sum(a))", False),
    (READ + "print(", False),
])  # fmt: skip
def test_a_stdin_program_that_fails_there_fails_here_even_if_it_is_right(
    sandbox: LocalSandbox, source: str, faithful: bool
) -> None:
    assert graded(sandbox, SUM, source).outcome is not Judged.PASS
    assert (graded(sandbox, SUM, source, GradingConfig()).outcome is Judged.PASS) is faithful


@pytest.mark.parametrize(("body", "passes"), [
    ("return x", True), ("return tuple(x)", True), ("return [float(v) for v in x]", True), ("print(x)\nreturn x", True),
    ("import fractions\nreturn [fractions.Fraction(v) for v in x]", True), ("class L(list): pass\nreturn L(x)", True),
    ("from enum import IntEnum\nreturn [IntEnum('E', 'A B C')(v) for v in x]", True),
    ("return namedtuple('P', range(0), rename=True)() + tuple(x)", True), ("return UserList(x)", True),
    ("return deque(x)", False), ("return set(x)", False), ("return iter(x)", False), ("return [str(v) for v in x]", False),
    ("import resource\nreturn x", False), ("exit()", False), ("nonexistent", False),
])  # fmt: skip
def test_a_function_is_called_and_its_result_compared_as_there(sandbox: LocalSandbox, body: str, passes: bool) -> None:
    lines = body.split("\n")
    function = "def solve(x):\n" + "".join(f"    {line}\n" for line in lines)
    method = "class Solution:\n    def solve(self, x):\n" + "".join(f"        {line}\n" for line in lines)

    assert (graded(sandbox, SAME, function).outcome is Judged.PASS) is passes
    assert (graded(sandbox, SAME, method).outcome is Judged.PASS) is passes


@pytest.mark.parametrize(("source", "passes"), [
    ("class Solution:\n    n = 0\n    def solve(self, x):\n        self.n += 1\n        return x if self.n < 3 else 0", True),
    ("class Solution:\n    n = 0\n    def solve(self, x):\n        self.n += 1\n        return x if self.n < 2 else 0", False),
    ("# class Solution\ndef solve(x): return x", False),
    ("from __future__ import annotations\ndef solve(x): return x", False),
    ("import sys\nsys.exit()\ndef solve(x): return x", False),
    ("@cache\ndef g(v): return v\ndef solve(x): return [g(v) for v in x]", True),
    ("class Same:\n    def __eq__(self, other): return True\ndef solve(x): return Same()", False),  # passes there
])  # fmt: skip
def test_all_calls_share_one_object(sandbox: LocalSandbox, source: str, passes: bool) -> None:
    assert (graded(sandbox, SAME, source).outcome is Judged.PASS) is passes


def test_a_long_output_comes_through_and_the_comparison_is_livecodebenchs(sandbox: LocalSandbox) -> None:
    long = Problem("long", "", (TestCase("1", "'\\\n" * 70_000),), (), IoMode.STDIN, Encoding.TEXT)

    assert graded(sandbox, long, "for _ in range(70_000): print('\\'\\\\ ')").outcome is Judged.PASS


def test_a_program_of_the_largest_size_fits_with_all_that_is_around_it(sandbox: LocalSandbox) -> None:
    source = READ + "print(sum(a))\nx = '" + "\\" * 2_000 + "'"
    how = GradingConfig(semantics=GradeSemantics.LCB, limits=Limits(source_bytes=len(source)))

    assert graded(sandbox, SUM, source, how).outcome is Judged.PASS
    assert graded(sandbox, SUM, source + "#", how).outcome is Status.COMPILE_ERROR


def test_what_is_no_string_is_no_standard_output() -> None:
    assert standard_output("'a\\n'") == "a\n"
    assert standard_output("7") is None
    assert standard_output("__import__('os')") is None


def test_every_test_has_its_own_seconds_however_many_there_are(sandbox: LocalSandbox) -> None:
    how = GradingConfig(semantics=GradeSemantics.LCB, limits=Limits(cpu_seconds=0.3, input_cpu_seconds=0.2))
    spin = "import time\nn = int(input())\nwhile time.process_time() < 0.15 * n: pass\nprint(1)"
    three = Problem("three", "", tuple(TestCase(str(n), "1") for n in (1, 2, 3)), (), IoMode.STDIN, Encoding.TEXT)

    assert graded(sandbox, three, spin, how).outcome is Judged.PASS
    assert graded(sandbox, three, spin.replace("0.15", "0.45"), how).outcome is Status.TIMEOUT_CPU


# Where both differ, as `bench/agreement.py` found on references and their mutants.


def test_a_package_that_could_be_imported_there_cannot_here(sandbox: LocalSandbox) -> None:
    found = graded(sandbox, SUM, "import numpy\n" + READ + "print(sum(a))")

    assert found.detail == "test 1 of 2: runtime_error: ModuleNotFoundError: No module named 'numpy'"


def test_who_waits_is_not_out_of_time_here_where_seconds_are_those_of_the_processor(sandbox: LocalSandbox) -> None:
    how = GradingConfig(semantics=GradeSemantics.LCB, limits=Limits(input_cpu_seconds=0.2))

    assert graded(sandbox, SUM, READ + "import time\ntime.sleep(0.5)\nprint(sum(a))", how).outcome is Judged.PASS


@pytest.mark.parametrize(
    "end", ["exit()", "raise KeyboardInterrupt", "raise GeneratorExit", "import os\n    os._exit(0)"]
)
def test_tests_before_the_one_that_ended_the_process_are_not_forgotten_here(sandbox: LocalSandbox, end: str) -> None:
    found = graded(sandbox, SAME, f"def solve(x):\n    if len(x) == 2: return x\n    {end}")

    assert [tested and tested.outcome is Judged.PASS for tested in found.tests] == [True, False]
