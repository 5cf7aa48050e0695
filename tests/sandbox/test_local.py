"""The promises of the sandbox, each tried by a program that would break it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gasp_rl.config import Limits, SandboxConfig
from gasp_rl.errors import SandboxError
from gasp_rl.rollout import Rejection
from gasp_rl.sandbox import isolation, judge
from gasp_rl.sandbox.base import Execution, Job, Result, Status
from gasp_rl.sandbox.local import LocalSandbox, read_frames
from gasp_rl.sandbox.values import decode, spell

SHORT = Limits(cpu_seconds=0.25, wall_factor=1.0, memory_mb=96)
ROOMY = Limits(cpu_seconds=2.0)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LocalSandbox]:
    with LocalSandbox(SandboxConfig(limits=SHORT)) as started:
        yield started


def run(sandbox: LocalSandbox, job: Job) -> Execution:
    """What the program did; an honest one after it must be none the worse."""
    ((_, execution),) = sandbox.execute([job])
    ((_, honest),) = sandbox.execute([Job("def f(x):\n    return x + 1", ("41",))])
    assert honest.results == (Result(Status.OK, "42"),)
    return execution


def call(sandbox: LocalSandbox, body: str, *inputs: str) -> Execution:
    """`body` is that of f(x)."""
    source = "def f(x=None):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    return run(sandbox, Job(source, inputs or ("",)))


def stdin(sandbox: LocalSandbox, source: str, *inputs: str) -> Execution:
    return run(sandbox, Job(source, inputs or ("",), entry="", limits=ROOMY))


def value(execution: Execution) -> str:
    assert execution.status is Status.OK, execution
    return execution.results[-1].value


# ------------------------------------------------------------------------------------------------------------- values


VALUES: list[object] = [
    None, True, 0, -7, 10**300, 1.5, -0.0, 1e300, float("inf"), float("-inf"), "", "it's \"x\"\n\t\\", "é\ud800\U0001f600", b"\x00'",
    [], [1, [2, []]], (), (1,), (1, 2), set(), {3, 1, 2}, {"b", "a"}, frozenset(), frozenset({(1, 2)}),
    {}, {"b": 1, "a": [2]}, {(1, 2): {3}, None: frozenset({4})},
]  # fmt: skip


def test_a_value_comes_back_in_its_one_spelling(sandbox: LocalSandbox) -> None:
    jobs = [Job("def f(x): return x", tuple(spell(v) for v in VALUES))]
    ((_, execution),) = sandbox.execute(jobs)

    assert execution.status is Status.OK, execution.detail
    assert [result.value for result in execution.results] == [spell(v) for v in VALUES]
    assert [decode(result.value) for result in execution.results] == VALUES


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner) | st.frozensets(st.integers())
        | st.sets(st.text())
    ),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(values=st.lists(PLAIN, min_size=10, max_size=30))
def test_both_sides_of_the_wall_spell_alike(sandbox: LocalSandbox, values: list[object]) -> None:
    texts = tuple(spell(value) for value in values)
    ((_, execution),) = sandbox.execute([Job("def f(x): return x", texts)])

    assert tuple(result.value for result in execution.results) == texts, execution.detail


def test_nan_is_a_value(sandbox: LocalSandbox) -> None:
    assert value(call(sandbox, "return [x, -x, float('nan')]", "nan")) == "[nan, nan, nan]"


def test_equal_sets_and_dicts_are_spelled_alike_whatever_their_order(sandbox: LocalSandbox) -> None:
    body = "return {'b': {'y', 'x'}, 'a': 1} if x else {'a': 1, 'b': {'x', 'y'}}"
    execution = call(sandbox, body, "0", "1")

    assert execution.results[0] == execution.results[1]


@pytest.mark.parametrize("body", [
    "class Equal:\n    def __eq__(self, other): return True\nreturn Equal()",
    "class Seven(int):\n    def __eq__(self, other): return True\n    __hash__ = None\nreturn Seven()",
    "class Text(str): pass\nreturn ['7', Text('7')]",
    "class Pair(tuple): pass\nreturn Pair((1, 2))",
    "return collections.Counter('a')", "return collections.OrderedDict()", "return collections.deque([1])",
    "return 1j", "return range(3)", "return bytearray(1)", "return (i for i in range(3))", "return len", "return f",
    "import decimal\nreturn decimal.Decimal(7)",
    "x = []\nx.append(x)\nreturn x",
    "x = {}\nx[1] = x\nreturn x",
    "x = []\nfor _ in range(200_000): x = [x]\nreturn x",
    "x = []\nfor _ in range(64): x = [x]\nreturn x",
    "return list(range(20_001))", "return [[1] * 150] * 150", "return 'x' * 65_537", "return b'x' * 20_000_000",
    "return 10 ** 49_999", "return 1 << 100_000_000", "return 'é' * 40_000",
])  # fmt: skip
def test_what_is_not_a_plain_value_of_reasonable_size_is_unserializable(sandbox: LocalSandbox, body: str) -> None:
    assert call(sandbox, body).status is Status.UNSERIALIZABLE


def test_the_largest_values_are_allowed(sandbox: LocalSandbox) -> None:
    assert len(value(call(sandbox, "return 'x' * 65_534"))) == 65_536
    assert len(value(call(sandbox, "return 10 ** 49_000"))) == 49_001
    assert value(call(sandbox, "for _ in range(63): x = [x]\nreturn x", "7")) == "[" * 63 + "7" + "]" * 63


# --------------------------------------------------------------------------------------------------- honest functions


def test_each_input_is_called_with_fresh_arguments(sandbox: LocalSandbox) -> None:
    execution = call(sandbox, "x.append(len(x))\nreturn x", "[1]", "[1]", "[]")

    assert [result.value for result in execution.results] == ["[1, 1]", "[1, 1]", "[0]"]


@pytest.mark.parametrize(("inputs", "result"), [
    ("", "[]"), ("  ", "[]"), ("1", "[1]"), ("[1, 2], 'a'", "[[1, 2], 'a']"), ("-1.5, [1,]", "[-1.5, [1]]"),
    ("(1, 2), {3: {4}}, set()", "[(1, 2), {3: {4}}, set()]"), ("1.0, 1, -0", "[1.0, 1, 0]"), ("[], [[]]", "[[], [[]]]"),
    ("frozenset({1}), [nan, -inf]", "[frozenset({1}), [nan, -inf]]"), ("'a' # b", "['a']"), ("[1,\n2]\n", "[[1, 2]]"),
])  # fmt: skip
def test_arguments_are_literals(sandbox: LocalSandbox, inputs: str, result: str) -> None:
    assert value(run(sandbox, Job("def f(*xs): return list(xs)", (inputs,)))) == result


@pytest.mark.parametrize("text", ["f(1)", "1) or (2", "__import__('os')", "1], [2", "[1", "(" * 500])
def test_arguments_that_are_not_literals_are_an_error_and_are_not_evaluated(sandbox: LocalSandbox, text: str) -> None:
    assert run(sandbox, Job("def f(*xs): return 1", (text,))).status is Status.RUNTIME_ERROR


def test_a_method_of_solution_is_called_on_a_fresh_instance(sandbox: LocalSandbox) -> None:
    source = (
        "class Solution:\n"
        "    def __init__(self): self.seen = []\n"
        "    def solve(self, x: List[int]) -> int:\n"
        "        self.seen.append(x)\n        return len(self.seen)\n"
    )
    assert [r.value for r in run(sandbox, Job(source, ("[1]", "[2]"), entry="solve")).results] == ["1", "1"]


def test_the_usual_imports_are_there_without_importing_them(sandbox: LocalSandbox) -> None:
    body = "return [inf, gcd(4, 6), pow(2, 3), Counter('aa')['a'], heapq.nlargest(1, x), bisect_left(x, 2), math.floor(sqrt(9))]"

    assert value(call(sandbox, body, "[1, 2]")) == "[inf, 2, 8, 2, [2], 1, 3]"


def test_a_name_of_the_usual_imports_is_not_an_entry_point(sandbox: LocalSandbox) -> None:
    missing = run(sandbox, Job("def g(x): return x", ("[1, 2]",), entry="permutations"))

    assert missing.status is Status.RUNTIME_ERROR
    assert "does not define permutations" in missing.detail


def test_deep_honest_recursion_passes(sandbox: LocalSandbox) -> None:
    plain = "g = lambda n: 0 if n == 0 else 1 + g(n - 1)\nreturn g(x)"
    cached = "@functools.lru_cache(None)\ndef g(n): return 0 if n == 0 else 1 + g(n - 1)\nreturn g(x)"

    assert value(call(sandbox, plain, "20_000")) == "20000"
    through_c = 20_000 if sys.version_info < (3, 12) else 500  # from 3.12 on, CPython has a limit of its own for these
    assert value(call(sandbox, cached, str(through_c))) == str(through_c)


def test_dataclasses_threads_and_lazy_imports_work(sandbox: LocalSandbox) -> None:
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport colorsys, threading\n"
        "@dataclass\nclass P:\n    x: int\n"
        "def f(x):\n    out = []\n    t = threading.Thread(target=lambda: out.append(P(x).x))\n    t.start(); t.join()\n    return out\n"
    )
    assert value(run(sandbox, Job(source, ("7",)))) == "[7]"


def test_what_a_function_prints_is_nobodys_business(sandbox: LocalSandbox) -> None:
    assert (
        value(
            call(
                sandbox,
                "print('x' * 5_000_000, '\\ud800')\nos = __import__('os')\nos.write(1, b'y' * 3_000_000)\nreturn 1",
            )
        )
        == "1"
    )


def test_a_thread_that_never_ends_does_not_hold_a_result_back(sandbox: LocalSandbox) -> None:
    body = "import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin).start()\nreturn 1"

    assert value(call(sandbox, body)) == "1"


def test_later_inputs_run_after_a_failure_only_when_asked(sandbox: LocalSandbox) -> None:
    source, inputs = "def f(x): return 1 / x", ("1", "0", "2")

    stopped = run(sandbox, Job(source, inputs))
    whole = run(sandbox, Job(source, inputs, stop_on_error=False))

    assert [r.status for r in stopped.results] == [Status.OK, Status.RUNTIME_ERROR]
    assert [r.value for r in whole.results] == ["1.0", "", "0.5"]
    assert whole.status is Status.RUNTIME_ERROR
    assert whole.detail == "ZeroDivisionError: division by zero"


def test_the_hash_seed_is_the_jobs(sandbox: LocalSandbox) -> None:
    body = Job("def f(x): return hash(x)", ("'abc'",)).source
    one, two, again = (run(sandbox, Job(body, ("'abc'",), hash_seed=seed)).results for seed in (1, 2, 1))

    assert one == again != two


def test_process_numbers_and_entropy_give_a_program_away_as_not_deterministic(sandbox: LocalSandbox) -> None:
    source = "import os, random\ndef f(x): return [os.getpid(), random.random()]"
    one, two = (decode(value(run(sandbox, Job(source, ("0",), hash_seed=seed)))) for seed in (1, 2))

    assert isinstance(one, list)
    assert isinstance(two, list)
    assert one[0] != two[0]
    assert one[1] != two[1]


@pytest.mark.parametrize("body", [
    "import datetime\nreturn str(datetime.date.today())",
    "import datetime\nreturn datetime.datetime.now().isoformat()",
    "from datetime import datetime\nreturn datetime.utcnow().year",
    "import datetime\nreturn datetime.datetime.today().month",
    "return date.today().year",  # what LiveCodeBench imports is there without an import
    "import time\nreturn time.time()", "import time\nreturn time.strftime('%Y-%m-%d')", "import time\nreturn time.ctime()",
    "import time\nreturn time.monotonic_ns()", "import time\nreturn time.clock_gettime(1)",
    "import time\nreturn time.localtime().tm_hour", "import time\nreturn time.localtime(0).tm_hour", "import time\nreturn time.timezone",
    "import os\nreturn os.getcwd()", "import os\nreturn os.getpid()", "import os\nreturn list(os.environ)", "import os\nreturn os.getenv('TZ')",
    "import random\nreturn random.random()", "return randint(1, 10 ** 9)", "return hash('a')", "return id(f)", "return repr(object())",
    "return list({'a', 'b', 'c', 'd', 'e'})", "global n\nn = globals().get('n', 0) + 1\nreturn n",
    "import threading\nthreading.Thread(target=print).start()\nreturn 1", "import os\nreturn os.urandom(1)[0]",
])  # fmt: skip
def test_a_program_whose_result_depends_on_where_and_when_it_runs_is_not_accepted(
    sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr(judge, "policy_breach", lambda source: None)  # which refuses most of these unseen
    source = "def f(x):\n" + "".join(f"    {line}\n" for line in body.splitlines())

    ((_, found),) = judge.check(sandbox, [judge.Program(source, ("1", "2"))])

    assert found.rejection in {Rejection.NONDETERMINISTIC, Rejection.INVALID}, found


@pytest.mark.parametrize("body", [
    "import datetime as d\nreturn str(d.datetime(2024, 2, 28) + d.timedelta(2)), d.date(2024, 3, 1).weekday()",
    "import datetime as d\nreturn isinstance(d.datetime.now(), d.date), d.datetime.fromisoformat('2024-01-01').year",
    "import time\ntime.sleep(0.001)\nreturn time.gmtime(0).tm_year", "import random\nreturn random.Random(7).random()",
    "return sorted({'b', 'a'}), {'b': 1, 'a': 2}, {3, 1}, frozenset('ab')",
])  # fmt: skip
def test_a_program_whose_result_does_not_is_accepted(
    sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr(judge, "policy_breach", lambda source: None)
    source = "def f(x):\n" + "".join(f"    {line}\n" for line in body.splitlines())

    ((_, found),) = judge.check(sandbox, [judge.Program(source, ("1", "2"))])

    assert found.rejection is None, found


def test_clocks_run_where_nobody_stops_them(sandbox: LocalSandbox) -> None:
    body = "import time, datetime\nstart = time.time()\nwhile time.time() == start: pass\nreturn datetime.date.today().year"

    assert int(value(call(sandbox, body))) >= 2024


COUNTS = "n = 0\ndef f(x):\n    global n\n    n += 1\n    return [n, 1 / x]"


def test_inputs_that_run_alone_share_no_state(sandbox: LocalSandbox) -> None:
    together, alone = (run(sandbox, Job(COUNTS, ("1", "2"), alone=alone)) for alone in (False, True))

    assert [result.value for result in together.results] == ["[1, 1.0]", "[2, 0.5]"]
    assert [result.value for result in alone.results] == ["[1, 1.0]", "[1, 0.5]"]


def test_inputs_that_run_alone_end_alone(sandbox: LocalSandbox) -> None:
    source = "import os\ndef f(x):\n    while x == 3: pass\n    if x == 2: os._exit(0)\n    if x == 1: os.close(3)\n    return x"
    inputs = ("0", "1", "2", "3", "4")

    every = run(sandbox, Job(source, inputs, stop_on_error=False, alone=True))
    stopped = run(sandbox, Job(source, inputs, alone=True))

    assert [result.status for result in every.results] == [
        Status.OK, Status.NO_RESULT, Status.NO_RESULT, Status.TIMEOUT_CPU, Status.OK,
    ]  # fmt: skip
    assert [result.status for result in stopped.results] == [Status.OK, Status.NO_RESULT]
    assert every.status is Status.NO_RESULT


def test_a_program_that_runs_alone_cannot_reach_the_code_of_its_next_process(sandbox: LocalSandbox) -> None:
    source = (
        "import os\ndef f(x):\n    for fd in range(4, 70):\n"
        "        try: os.write(fd, b'x'); return 'reached'\n        except OSError: pass\n    return x"
    )

    assert [r.value for r in run(sandbox, Job(source, ("1", "2"), alone=True)).results] == ["1", "2"]


@pytest.mark.parametrize("source", ["def f(x", "f = 1 / 0", "while True: pass"])
def test_a_program_that_cannot_be_loaded_says_so_alone_too(sandbox: LocalSandbox, source: str) -> None:
    together, alone = (run(sandbox, Job(source, ("1", "2"), alone=alone)) for alone in (False, True))

    assert (alone.status, alone.detail) == (together.status, together.detail)
    assert len(alone.results) == 1


def test_standard_input_alone_is_as_fresh_as_a_new_process(sandbox: LocalSandbox) -> None:
    source = "import sys, os\nprint(open(0).read(), len(sys.modules), flush=True)\nsys.modules['x'] = 1\nos.close(1)"
    execution = run(sandbox, Job(source, ("1", "2"), "", ROOMY, alone=True))

    assert len({result.value[1:] for result in execution.results}) == 1


def test_all_processes_of_a_job_share_its_output(sandbox: LocalSandbox) -> None:
    job = Job("print('x' * 600_000)", ("",) * 3, "", ROOMY, alone=True)

    assert [result.status for result in run(sandbox, job).results] == [Status.OK, Status.OUTPUT_LIMIT]


@pytest.mark.parametrize("name", ["mean", "statistics", "Decimal", "dataclass"])
def test_names_that_only_larger_workers_have_ready_are_there_for_whoever_uses_them(
    sandbox: LocalSandbox, name: str
) -> None:
    imported = {"Decimal": "from decimal import Decimal\n", "dataclass": "from dataclasses import dataclass\n"}
    body = f"{imported.get(name, '')}return callable({name}) or {name}.__name__"

    assert value(call(sandbox, body)) in {"True", "'statistics'"}


def test_an_input_may_have_a_limit_of_its_own(sandbox: LocalSandbox) -> None:
    limits = Limits(cpu_seconds=60.0, input_cpu_seconds=0.2)
    source = "def f(x):\n    while x: pass\n    return x"
    execution = run(sandbox, Job(source, ("0", "0", "1", "0"), limits=limits))

    assert [result.status for result in execution.results] == [Status.OK, Status.OK, Status.TIMEOUT_CPU]
    assert execution.detail == "more than 0.2 s of CPU time for one input"
    assert 0.2 <= execution.cpu_seconds < 2


def test_a_limit_per_input_is_one_for_loading_too(sandbox: LocalSandbox) -> None:
    limits = Limits(cpu_seconds=60.0, input_cpu_seconds=0.2)

    assert run(sandbox, Job("while True: pass", ("0",), limits=limits)).status is Status.TIMEOUT_CPU


def test_who_sleeps_has_no_more_patience_than_for_one_input(sandbox: LocalSandbox) -> None:
    limits = Limits(cpu_seconds=60.0, input_cpu_seconds=0.1, wall_factor=1.0)

    assert call_within(sandbox, limits, "import time\ntime.sleep(x)\nreturn x", "0", "1000") is Status.TIMEOUT_WALL


def call_within(sandbox: LocalSandbox, limits: Limits, body: str, *inputs: str) -> Status:
    source = "def f(x):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    return run(sandbox, Job(source, inputs, limits=limits)).status


# ------------------------------------------------------------------------------------------------- honest stdin programs


def test_each_test_has_globals_and_output_of_its_own(sandbox: LocalSandbox) -> None:
    source = "try: print('seen', n)\nexcept NameError: n = input()\nprint(n)"

    assert [r.value for r in stdin(sandbox, source, "1", "2").results] == ["1\n", "2\n"]


def test_input_that_is_longer_than_any_output_is_read_in_full(sandbox: LocalSandbox) -> None:
    assert value(stdin(sandbox, "print(len(input()))", "x" * 3_000_000)) == "3000000\n"


def test_bytes_that_are_no_text_come_back_replaced(sandbox: LocalSandbox) -> None:
    assert value(stdin(sandbox, "import os\nos.write(1, b'a\\xffb')")) == "a\N{REPLACEMENT CHARACTER}b"


def test_a_program_that_fails_says_how(sandbox: LocalSandbox) -> None:
    assert stdin(sandbox, "import sys\nsys.exit(3)").detail == "SystemExit: 3"
    assert stdin(sandbox, "input()").detail == "EOFError: EOF when reading a line"
    assert stdin(sandbox, "print('\\ud800')").status is Status.RUNTIME_ERROR


# ----------------------------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    "source", ["def f(x: return", "x = \x00", "(" * 5000, "x = '\ud800'", "-" * 20_000 + "1", "return 1"]
)
def test_a_source_that_does_not_compile_says_so(sandbox: LocalSandbox, source: str) -> None:
    execution = run(sandbox, Job(source, ("1",)))

    assert execution.status in {Status.COMPILE_ERROR, Status.CRASH}, execution
    assert execution.detail


def test_a_source_that_is_too_long_is_not_run(sandbox: LocalSandbox) -> None:
    assert run(sandbox, Job("#" * 65_537, ("1",))).status is Status.COMPILE_ERROR


@pytest.mark.parametrize(("body", "status"), [
    ("raise ValueError('x' * 20_000_000)", Status.RUNTIME_ERROR),
    ("raise StopIteration", Status.RUNTIME_ERROR),
    ("raise KeyboardInterrupt", Status.RUNTIME_ERROR),
    ("import sys\nsys.exit(0)", Status.RUNTIME_ERROR),
    ("g = lambda: g()\nreturn g()", Status.RUNTIME_ERROR),
    ("import os\nos._exit(0)", Status.NO_RESULT),
    ("import os\nos.closerange(0, 100)\nreturn 1", Status.NO_RESULT),
    ("while True: pass", Status.TIMEOUT_CPU),
    ("while True:\n    try:\n        while True: pass\n    except BaseException: pass", Status.TIMEOUT_CPU),
    ("import signal\nfor s in {*range(1, 32)} - {9, 19}: signal.signal(s, signal.SIG_IGN)\nwhile True: pass", Status.TIMEOUT_CPU),
    ("return 10 ** 10 ** 8", Status.TIMEOUT_CPU),
    ("return re.match('(a+)+$', 'a' * 40 + 'b')", Status.TIMEOUT_CPU),
    ("class Slow(Exception):\n    def __str__(self):\n        while True: pass\nraise Slow", Status.TIMEOUT_CPU),
    ("return len(bytearray(6 << 30))", Status.MEMORY),
    ("import mmap\nreturn len(mmap.mmap(-1, 6 << 30))", Status.MEMORY),
    ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nreturn len(bytearray(6 << 30))", Status.MEMORY),
    ("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (0, 0))\nwhile True: pass", Status.TIMEOUT_CPU),
    ("x = [0]\nwhile True: x += x", Status.MEMORY),
    ("x = []\nwhile True: x.append(bytes(1 << 20))", Status.MEMORY),
    ("import ctypes\nctypes.string_at(0)", Status.CRASH),
    ("import os\nos.abort()", Status.CRASH),
    ("import signal\nsignal.setitimer(0, 0.01)\nsignal.pause()", Status.CRASH),
    ("import ctypes\nctypes.CDLL(None).ptrace(16, 1, 0, 0)", Status.FORBIDDEN),
    ("import ctypes\nctypes.CDLL(None).syscall(425, 4, 0)", Status.FORBIDDEN),
])  # fmt: skip
def test_a_program_that_breaks_a_limit_is_told_which(sandbox: LocalSandbox, body: str, status: Status) -> None:
    execution = call(sandbox, body)

    assert execution.status is status, execution
    assert execution.results[-1].status is status
    assert execution.detail
    assert len(execution.detail) < 1000


def test_a_program_that_only_waits_meets_the_wall_clock(sandbox: LocalSandbox) -> None:
    sources = ["import time\ntime.sleep(1000)", "import os\nos.read(os.pipe()[0], 1)"]

    executions = [execution for _, execution in sandbox.execute([Job(source, ("",), entry="") for source in sources])]

    assert {execution.status for execution in executions} == {Status.TIMEOUT_WALL}


def test_output_without_end_is_a_limit_of_its_own(sandbox: LocalSandbox) -> None:
    assert stdin(sandbox, "while True: print('x' * 100_000)").status is Status.OUTPUT_LIMIT
    assert stdin(sandbox, "import os\nfor _ in range(30): os.write(1, b'x' * 100_000)").status is Status.OUTPUT_LIMIT
    assert call(sandbox, "return 'x' * 60_000", *["0"] * 20).status is Status.OUTPUT_LIMIT


def test_output_of_exactly_the_limit_is_fine(sandbox: LocalSandbox) -> None:
    assert len(value(stdin(sandbox, "print('x' * (2**20 - 1))"))) == 1 << 20
    assert stdin(sandbox, "print('x' * 2**20)").status is Status.OUTPUT_LIMIT


def test_results_before_a_timeout_are_kept(sandbox: LocalSandbox) -> None:
    execution = call(sandbox, "while x: pass\nreturn x", "0", "0", "1", "0")

    assert [r.status for r in execution.results] == [Status.OK, Status.OK, Status.TIMEOUT_CPU]
    assert SHORT.cpu_seconds <= execution.cpu_seconds < SHORT.cpu_seconds + 0.3


# --------------------------------------------------------------------------------------------------------- containment


FORBIDDEN = {
    "start a process": "import os\nreturn os.fork()",
    "start a program": "import subprocess\nreturn subprocess.run(['/bin/true']).returncode",
    "become a program": "import os\nos.execv('/bin/true', ['true'])",
    "spawn a program": "import os\nreturn os.posix_spawn('/bin/true', ['true'], {})",
    "open a socket": "import socket\nreturn socket.create_connection(('127.0.0.1', 9)).fileno()",
    "open a datagram socket": "import socket\nreturn socket.socket(socket.AF_INET, socket.SOCK_DGRAM).fileno()",
    "open a socket pair": "import socket\nreturn len(socket.socketpair())",
    "resolve a name": "import socket\nreturn len(socket.getaddrinfo('example.com', 80))",
    "read a file of the host": "return open('/etc/passwd').read()",
    "read its own source tree": f"return open({str(Path(isolation.__file__))!r}).read()",
    "list the root": "import os\nreturn os.listdir('/')",
    "read the memory of its parent": "import os\nreturn len(open(f'/proc/{os.getppid()}/mem', 'r+b').read(1))",
    "read its own memory file": "return len(open('/proc/self/maps').read())",
    "write a file": "open('/tmp/escaped', 'w').write('x')\nreturn 1",
    "write where it is": "open('escaped', 'w').write('x')\nreturn 1",
    "make a directory": "import os\nos.mkdir('/tmp/escaped')\nreturn 1",
    "share memory": "import os\nreturn os.memfd_create('x')",
    "signal its parent": "import os\nos.kill(os.getppid(), 9)\nreturn 1",
    "signal everybody": "import os\nos.kill(-1, 9)\nreturn 1",
    "signal its group": "import os\nos.killpg(0, 9)\nreturn 1",
    "stop itself": "import os\nos.kill(os.getpid(), 19)\nreturn 1",
    "open a handle on its parent": "import os\nreturn os.pidfd_open(os.getppid())",
    "change its parent's limits": "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))\nreturn 1",
    "get entropy": "import os\nreturn len(os.getrandom(8))",
    "change its user": "import os\nos.setuid(0)\nreturn 1",
    "change its root": "import ctypes, os\nreturn 1 / (1 + ctypes.CDLL(None).personality(0))",
}  # fmt: skip


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_program_cannot(sandbox: LocalSandbox, what: str) -> None:
    execution = call(sandbox, FORBIDDEN[what])

    assert execution.status in {Status.RUNTIME_ERROR, Status.FORBIDDEN}, execution
    assert not Path("/tmp/escaped").exists()


def test_a_program_sees_no_environment(sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    with LocalSandbox(SandboxConfig(limits=SHORT)) as fresh:
        assert value(call(fresh, "import os\nreturn dict(os.environ)")) == "{}"
        assert (
            value(
                call(
                    fresh,
                    "import ctypes\ng = ctypes.CDLL(None).getenv\ng.restype = ctypes.c_char_p\nreturn g(b'SECRET')",
                )
            )
            == "None"
        )


def test_a_program_holds_no_descriptor_but_its_own(sandbox: LocalSandbox) -> None:
    body = "import os\nopened = []\nfor fd in range(256):\n    try: os.fstat(fd); opened.append(fd)\n    except OSError: pass\nreturn opened"
    assert value(call(sandbox, body)) == "[0, 1, 2, 3]"


def test_third_party_packages_are_out_of_reach(sandbox: LocalSandbox) -> None:
    assert "ModuleNotFoundError" in call(sandbox, "import numpy").detail
    assert "ModuleNotFoundError" in call(sandbox, "import gasp_rl").detail


def test_threads_without_end_are_contained(sandbox: LocalSandbox) -> None:
    body = "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(100,)).start()"

    assert call(sandbox, body).status in {Status.RUNTIME_ERROR, Status.TIMEOUT_CPU, Status.MEMORY}


@pytest.mark.parametrize("forged", [
    "struct.pack('<IBI', 7, 0, 1) + b'7'", "struct.pack('<IBI', 1, 0, 900) + b'7'", "struct.pack('<IBI', 1, 77, 1) + b'7'", "b'garbage'",
])  # fmt: skip
def test_a_forged_frame_is_noticed(sandbox: LocalSandbox, forged: str) -> None:
    body = f"import os, struct\nfor fd in range(3, 100):\n    try: os.write(fd, {forged})\n    except OSError: pass\nreturn 1"

    assert call(sandbox, body).status is Status.PROTOCOL


def test_tampering_with_the_result_file_gains_nothing(sandbox: LocalSandbox) -> None:
    assert call(sandbox, "import os\nos.lseek(3, 0, 0)\nreturn 1").status is Status.PROTOCOL
    assert call(sandbox, "import os\nos.pwrite(3, b'x', 1 << 40)\nreturn 1").status is Status.RUNTIME_ERROR
    assert call(sandbox, "import os\nos.ftruncate(3, 0)\nos._exit(97)").status is Status.NO_RESULT


def test_more_frames_than_inputs_are_refused() -> None:
    one = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00"

    assert read_frames(one, 1) == [Result(Status.OK)]
    assert read_frames(one + b"\x01" + one[1:], 1) is None
    assert read_frames(one[:5], 1) is None


def test_patching_python_harms_nobody_but_the_program(sandbox: LocalSandbox) -> None:
    body = "import builtins, json, sys, os\nbuiltins.len = builtins.type = builtins.repr = lambda *a: 0\nos.write = print\nmath.sqrt = 0\nreturn 1"

    assert call(sandbox, body).status is not Status.OK


# ------------------------------------------------------------------------------------------------------------- service


def test_jobs_are_read_only_as_far_as_there_is_room() -> None:
    pulled = 0

    def jobs() -> Iterator[Job]:
        nonlocal pulled
        for _ in range(100):
            pulled += 1
            yield Job("def f(x): return x", ("1",))

    with LocalSandbox(SandboxConfig(workers=1)) as sandbox:
        results = sandbox.execute(jobs())
        next(results)
        assert pulled <= 6

        assert len(list(results)) == 99


def test_results_are_given_while_jobs_are_still_being_produced(sandbox: LocalSandbox) -> None:
    done: list[int] = []
    seen: list[int] = []

    def jobs() -> Iterator[Job]:
        for index in range(3):
            yield Job("def f(x): return x", (str(index),))
        while len(seen) < 200 and not done:  # somebody who goes on thinking
            seen.append(len(done))
            time.sleep(0.01)
            yield Job("def f(x): return x", ("9",))

    for index, _ in sandbox.execute(jobs()):
        done.append(index)

    assert len(seen) < 200


def test_every_job_is_answered_once_whatever_the_others_do(sandbox: LocalSandbox) -> None:
    sources = [
        "def f(x): return x",
        "import os\nos._exit(1)",
        "def f(x): return 1 / 0",
        "def f(",
        "def f(x): return object()",
    ]
    jobs = [Job(sources[k % 5], (str(k),), hash_seed=k % 3) for k in range(60)]

    executions = dict(sandbox.execute(iter(jobs)))

    assert sorted(executions) == list(range(60))
    assert [executions[k].results[0].value for k in range(0, 60, 5)] == [str(k) for k in range(0, 60, 5)]
    assert {executions[k].status for k in range(1, 60, 5)} == {Status.NO_RESULT}


def test_an_iterator_that_is_abandoned_does_not_confuse_later_ones(sandbox: LocalSandbox) -> None:
    jobs = [Job(f"def f(x): return {k}", ("1",)) for k in range(20)]
    with closing(iter(sandbox.execute(jobs))) as abandoned:  # type: ignore[type-var]
        next(abandoned)

    assert value(call(sandbox, "return 'mine'")) == "'mine'"


def test_execute_may_be_called_while_another_is_under_way(sandbox: LocalSandbox) -> None:
    outer = sandbox.execute([Job("def f(x): return x", ("1",))] * 5)
    next(outer)

    assert value(call(sandbox, "return 'inner'")) == "'inner'"
    assert len(list(outer)) == 4


def test_several_threads_may_execute_at_once(sandbox: LocalSandbox) -> None:
    def work(thread: int) -> list[str]:
        jobs = [Job(f"def f(x): return [{thread}, x]", (str(k),), hash_seed=k % 2) for k in range(20)]
        return [execution.results[0].value for _, execution in sorted(sandbox.execute(jobs), key=lambda pair: pair[0])]

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(work, range(3))) == [[f"[{thread}, {k}]" for k in range(20)] for thread in range(3)]


def test_the_death_of_a_worker_is_not_the_programs_fault() -> None:
    with LocalSandbox(SandboxConfig(workers=1)) as sandbox:
        results = sandbox.execute(
            [Job("import time\ndef f(x):\n    time.sleep(0.2)\n    return x", (str(k),)) for k in range(3)]
        )
        _, first = next(results)
        worker = _children(os.getpid())[0]
        os.kill(worker, signal.SIGKILL)
        rest = [execution for _, execution in results]

    assert [execution.status for execution in (first, *rest)] == [Status.OK] * 3


def test_nothing_is_left_after_close() -> None:
    before, descriptors = _children(os.getpid()), len(list(Path("/proc/self/fd").iterdir()))
    with LocalSandbox(SandboxConfig(workers=2)) as sandbox:
        list(sandbox.execute([Job("def f(x): return x", ("1",), hash_seed=k) for k in range(4)]))
        assert _children(os.getpid()) > before

    assert _children(os.getpid()) == before
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_nothing_is_left_after_the_trainer_is_killed() -> None:
    program = (
        "from gasp_rl.sandbox.local import LocalSandbox\nfrom gasp_rl.sandbox.base import Job\n"
        "jobs = [Job('def f(x): return x', ('1',)), Job('while True: pass', ('1',))] * 2\n"
        "for _ in LocalSandbox().execute(jobs): print('running', flush=True)\n"
    )
    trainer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=_environment())
    assert trainer.stdout is not None
    with trainer, trainer.stdout:
        assert trainer.stdout.readline() == b"running\n"
        family = _descendants(trainer.pid)
        assert len(family) >= 2
        trainer.kill()

    deadline = time.monotonic() + 10
    while any(map(_alive, family)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(_alive, family))


# -------------------------------------------------------------------------------------------------------------- levels


@pytest.mark.parametrize("level", ["L3", "L2", "L1"])
def test_weaker_levels_work_and_contain_what_they_say(monkeypatch: pytest.MonkeyPatch, level: isolation.Level) -> None:
    monkeypatch.setattr("gasp_rl.sandbox.local.require_level", lambda least: level)
    with LocalSandbox(SandboxConfig(limits=SHORT)) as sandbox:
        assert value(call(sandbox, "return sorted(x)", "[2, 1]")) == "[1, 2]"
        assert value(stdin(sandbox, "print(open(0).read())", "x")) == "x\n"
        assert call(sandbox, "while True: pass").status is Status.TIMEOUT_CPU
        assert call(sandbox, FORBIDDEN["start a process"]).status is Status.RUNTIME_ERROR
        for what in ("open a socket", "signal its parent", "get entropy") if level != "L1" else ():
            assert call(sandbox, FORBIDDEN[what]).status is Status.RUNTIME_ERROR, what
        for what in ("read a file of the host", "write a file", "list the root") if level != "L1" else ():
            assert call(sandbox, FORBIDDEN[what]).status is Status.RUNTIME_ERROR, what


def test_a_machine_that_enforces_too_little_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    found = isolation.Isolation("L1", (("L4", "no"), ("L3", "no"), ("L2", "seccomp is missing")))
    monkeypatch.setattr(isolation, "probe", lambda: found)

    with pytest.raises(
        SandboxError, match=r"^.*L1 only, L2 is required \(seccomp is missing\).*--sandbox.min-level L1$"
    ):
        LocalSandbox(SandboxConfig(min_level="L2"))


def test_another_system_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    isolation.probe.cache_clear()

    with pytest.raises(
        SandboxError, match=r"^programs are confined by Linux, this is darwin: run gasp in a Linux [^\n]*$"
    ):
        LocalSandbox()


def test_the_machine_can_be_described() -> None:
    assert isolation.describe().startswith(isolation.probe().level)


@pytest.mark.skipif(os.getuid() != 0, reason="this test run is unprivileged already")
def test_no_privileges_are_needed() -> None:
    program = (
        "import os, sys\n"
        "from gasp_rl.sandbox.local import LocalSandbox\nfrom gasp_rl.sandbox.base import Job\n"
        "with LocalSandbox() as sandbox:\n"
        "    (_, execution), = sandbox.execute([Job('def f(x): return x', ('1',))])\n"
        "    print(os.getuid(), sandbox.level, execution.results[0].value)\n"
    )
    done = subprocess.run([_python_for_all(), "-c", program], env=_environment(), cwd="/",
                          capture_output=True, text=True, check=False, **_NOBODY)  # fmt: skip

    assert done.stdout.split()[0::2] == ["65534", "1"], done.stderr


_NOBODY: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []}


def _python_for_all() -> str:
    """An interpreter that everybody may run: ours may live in a private home."""
    question = "import sys; print(sys.version_info >= (3, 11))"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(PermissionError, FileNotFoundError):
            found = subprocess.run([python, "-c", question], capture_output=True, check=False, cwd="/", **_NOBODY)
            if found.stdout == b"True\n":
                return python
    pytest.skip("no Python here that an unprivileged user may run")


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(isolation.__file__).parents[2]), "PATH": "/usr/bin:/bin"}


def _children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def _descendants(pid: int) -> list[int]:
    return [found for child in _children(pid) for found in (child, *_descendants(child))]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
