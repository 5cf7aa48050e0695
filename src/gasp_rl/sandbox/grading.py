"""Does a program solve a real problem? Outside the jail: expected outputs and their comparison never enter it.

One process runs all tests of a problem; a test that fails there is run once more in a process of its own, and that run
decides, so that state left by earlier tests can only help. Or each test has its own process from the start. Or all is
done as LiveCodeBench's grader does it (`gasp_rl.sandbox.lcb`).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gasp_rl.config import GradeIsolation, GradeSemantics, GradingConfig
from gasp_rl.problem import CompareKind, Comparison, Encoding, IoMode, Problem
from gasp_rl.rollout import Judgement
from gasp_rl.sandbox import lcb
from gasp_rl.sandbox.base import Execution, Job, Result, Sandbox, Status
from gasp_rl.sandbox.compare import same_output, same_value
from gasp_rl.sandbox.judge import Verdict, short
from gasp_rl.sandbox.values import decode, spell

MAX_DETAIL = 200


class Outcome(StrEnum):
    """What a test, or a program on all tests, was found to be: `Status`, with OK judged."""

    PASS = "pass"  # noqa: S105 - no password
    WRONG_ANSWER = "wrong_answer"
    COMPILE_ERROR = "compile_error"
    RUNTIME_ERROR = "runtime_error"
    TIMEOUT_CPU = "timeout_cpu"
    TIMEOUT_WALL = "timeout_wall"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output_limit"
    CRASH = "crash"
    FORBIDDEN = "forbidden"
    UNSERIALIZABLE = "unserializable"
    NO_RESULT = "no_result"
    PROTOCOL = "protocol"
    INFRA = "infra"


@dataclass(frozen=True, slots=True)
class Tested:
    """What one test was found to be."""

    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Grade:
    """What a program was found to be on the tests of a problem."""

    outcome: Outcome
    """PASS if every test passed; INFRA after a fault of ours; else that of the first test that did not pass."""
    tests: tuple[Tested | None, ...]
    """Public ones first. None: not run, since one that decides had failed."""
    detail: str = ""
    level: str = ""
    cpu_seconds: float = 0.0

    @property
    def passed(self) -> int:
        return sum(test is not None and test.outcome is Outcome.PASS for test in self.tests)


def grade_problems(
    sandbox: Sandbox,
    attempts: Iterable[tuple[str, Problem]],
    how: GradingConfig = GradingConfig(),  # noqa: B008 - a frozen value
) -> Iterator[tuple[int, Verdict]]:
    """Does each program pass every test of its problem? Yields (index, verdict) as they are found."""
    for index, found in grade(sandbox, attempts, how):
        match found.outcome:
            case Outcome.PASS:
                yield index, Verdict(Judgement.CORRECT)
            case Outcome.INFRA:
                yield index, Verdict(Judgement.SANDBOX_FAULT, found.detail)
            case _:
                yield index, Verdict(Judgement.WRONG, found.detail)


def grade(
    sandbox: Sandbox,
    attempts: Iterable[tuple[str, Problem]],
    how: GradingConfig = GradingConfig(),  # noqa: B008 - a frozen value
    *,
    every: bool = False,
) -> Iterator[tuple[int, Grade]]:
    """Run each program on the tests of its problem, until one fails or, if asked for, on every one."""
    inputs_of: dict[str, tuple[str, ...]] = {}
    graded: list[_Attempt] = []

    def first_jobs() -> Iterator[Job]:
        for source, problem in attempts:
            if problem.id not in inputs_of:
                inputs_of[problem.id] = tuple(_job_input(problem, test.input) for test in problem.tests)
            graded.append(_Attempt(source, problem, inputs_of[problem.id], how, every))
            yield graded[-1].first_job()

    waiting: dict[int, list[int]] = {}
    for index, execution in sandbox.execute(first_jobs()):
        graded[index].record(execution)
        if tests := graded[index].to_run_alone():
            waiting[index] = tests
        else:
            yield index, graded[index].grade()
    while waiting:
        alone, waiting = sorted(waiting.items()), {}
        for place, execution in sandbox.execute(graded[index].job(tests, alone=True) for index, tests in alone):
            index, tests = alone[place]
            graded[index].record_alone(tests, execution)
            if tests := graded[index].to_run_alone():
                waiting[index] = tests
            else:
                yield index, graded[index].grade()


@dataclass(slots=True)
class _Attempt:
    """A program on a problem, while its tests are run."""

    source: str
    problem: Problem
    inputs: tuple[str, ...]
    how: GradingConfig
    every: bool
    found: list[Tested | None] = field(init=False)
    """None: not known yet. What failed among other tests is not known."""
    decided: bool = False
    """No further run could change what is known."""
    doubted: bool = False
    """A failure was looked at again."""
    fault: str = ""
    level: str = ""
    cpu_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.found = [None] * len(self.inputs)

    def first_job(self) -> Job:
        alone = self.how.isolation is GradeIsolation.TEST
        self.doubted = alone
        return self.job(range(min(1, len(self.inputs)) if alone else len(self.inputs)), alone=alone)

    def job(self, tests: Sequence[int], *, alone: bool) -> Job:
        inputs = tuple(self.inputs[test] for test in tests)
        entry = self.problem.entry_point if self.problem.io_mode is IoMode.FUNCTIONAL else ""
        if self.how.semantics is GradeSemantics.LCB:
            return lcb.job(self.source, inputs, entry, self.how.limits)
        source = self.source
        if entry and self.problem.compare.kind is CompareKind.TRUTHY:  # any object will do, a re.Match for one
            source, entry = f"{source}\n\ndef truth_of_{entry}(*args): return bool({entry}(*args))", f"truth_of_{entry}"
        return Job(source, inputs, entry, self.how.limits, stop_on_error=not self.every, alone=alone)

    def record(self, execution: Execution) -> None:
        """What the first run said."""
        fresh = self.how.isolation is GradeIsolation.TEST or self.how.semantics is GradeSemantics.LCB
        tampered = execution.status is Status.PROTOCOL  # by whichever test
        for test, tested in enumerate(self._read(execution, range(len(self.inputs)))):
            if tested.outcome is Outcome.PASS or fresh or (test == 0 and not tampered):  # nothing ran before the first
                self.found[test] = tested
        unloaded = not execution.results and not tampered
        self.decided = unloaded or self.how.semantics is GradeSemantics.LCB

    def record_alone(self, tests: Sequence[int], execution: Execution) -> None:
        for test, tested in zip(tests, self._read(execution, tests), strict=False):
            self.found[test] = tested

    def _read(self, execution: Execution, tests: Sequence[int]) -> list[Tested]:
        """What those of the tests that were reached were found to be."""
        self.level = execution.level
        self.cpu_seconds += execution.cpu_seconds
        if execution.status is Status.INFRA:
            self.fault = execution.detail or "a fault of the sandbox"
        results = execution.results or (Result(execution.status, detail=execution.detail),)
        return [
            _tested(self.problem, result, self.problem.tests[test].output, self.how.semantics)
            for result, test in zip(results, tests, strict=False)
        ]

    def to_run_alone(self) -> list[int]:
        """Tests that need a process of their own now; none once the grade is known."""
        failed = any(tested is not None and tested.outcome is not Outcome.PASS for tested in self.found)
        if self.fault or self.decided or (failed and not self.every):
            return []
        unknown = [test for test, tested in enumerate(self.found) if tested is None]
        if not self.doubted and not self.every:  # most programs that fail a test are wrong: look at one first
            self.doubted = True
            return unknown[:1]
        return unknown

    def grade(self) -> Grade:
        outcome, detail = Outcome.PASS, ""
        for number, tested in enumerate(self.found, 1):
            if tested is not None and tested.outcome is not Outcome.PASS:
                outcome, detail = tested.outcome, f"test {number} of {len(self.found)}: {_in_words(tested)}"
                break
        if self.fault:
            outcome, detail = Outcome.INFRA, self.fault
        return Grade(outcome, tuple(self.found), detail, self.level, self.cpu_seconds)


def _in_words(tested: Tested) -> str:
    if tested.outcome is Outcome.WRONG_ANSWER:
        return tested.detail
    return f"{tested.outcome}: {tested.detail}"[:MAX_DETAIL]


def _tested(problem: Problem, result: Result, expected: str, semantics: GradeSemantics) -> Tested:
    if result.status is not Status.OK:
        return Tested(Outcome(result.status.value), result.detail)
    compare = problem.compare
    got: str | None = result.value
    if semantics is GradeSemantics.LCB:
        compare = Comparison(CompareKind.EXACT)
        if problem.io_mode is IoMode.STDIN:
            got = lcb.standard_output(result.value)
    if problem.io_mode is IoMode.STDIN:
        right = got is not None and same_output(got, expected, compare)
    else:
        right = _same_result(problem, result.value, expected, compare)
    if right:
        return Tested(Outcome.PASS)
    return Tested(Outcome.WRONG_ANSWER, f"got {short(got or '')!r}, expected {short(expected)!r}")


def _same_result(problem: Problem, text: str, expected: str, compare: Comparison) -> bool:
    try:
        got = decode(text)
    except ValueError:
        return False
    if problem.encoding is Encoding.JSON and isinstance(got, tuple):
        got = list(got)  # LiveCodeBench: a top-level tuple counts as a list
    return same_value(got, _value(problem, expected), compare)


def _job_input(problem: Problem, text: str) -> str:
    """A test's input as the sandbox takes it."""
    if problem.encoding is Encoding.TEXT:
        return text
    lines = text.split("\n") if text else []
    return ", ".join(spell(_value(problem, line), keep_order=True) for line in lines)


def _value(problem: Problem, text: str) -> object:
    return json.loads(text) if problem.encoding is Encoding.JSON else decode(text)
