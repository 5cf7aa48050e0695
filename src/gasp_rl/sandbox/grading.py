"""Does a program solve a real problem? Outside the jail: expected outputs and their comparison never enter it.

One process runs all tests of a problem; a test that fails there is run once more in a process of its own, and that run
decides, so that state left by earlier tests can only help. Or each test has its own process from the start. Or all is
done as LiveCodeBench's grader does it (`gasp_rl.sandbox.lcb`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from gasp_rl.config import GradeIsolation, GradeSemantics, GradingConfig
from gasp_rl.problem import CompareKind, Comparison, Encoding, IoMode, Problem
from gasp_rl.rollout import Judgement
from gasp_rl.sandbox import lcb
from gasp_rl.sandbox.base import Execution, Job, Result, Sandbox, Status
from gasp_rl.sandbox.compare import same_output, same_value
from gasp_rl.sandbox.judge import Verdict, short
from gasp_rl.sandbox.values import decode, spell

MAX_DETAIL = 200
_NUMBERS = re.compile(r"[-\[\]0-9., ]+")
HASTE_SECONDS = 0.02
"""CPU seconds that all tests together have at first. A program that is wrong on one test may loop on the next, and since nobody
in there knows that it is wrong already, it would do so for seconds. What was done in time is seen then; where nothing is
wrong with it, all tests are run again, and the verdict is the same as if that had been done at once."""


class Judged(StrEnum):
    """What a test that gave a value, or a program that gave all of them, was found to be."""

    PASS = "pass"  # noqa: S105 - no password
    WRONG_ANSWER = "wrong_answer"


Outcome: TypeAlias = Judged | Status
"""Judged, or why there was nothing to judge: then never OK."""


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
        return sum(test is not None and test.outcome is Judged.PASS for test in self.tests)


def grade_problems(
    sandbox: Sandbox,
    attempts: Iterable[tuple[str, Problem]],
    how: GradingConfig = GradingConfig(),  # noqa: B008 - a frozen value
) -> Iterator[tuple[int, Verdict]]:
    """Does each program pass every test of its problem? Yields (index, verdict) as they are found."""
    for index, found in grade(sandbox, attempts, how):
        match found.outcome:
            case Judged.PASS:
                yield index, Verdict(Judgement.CORRECT)
            case Status.INFRA:
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
    under_way: dict[int, _Attempt] = {}

    def first_jobs() -> Iterator[tuple[int, Job]]:
        for index, (source, problem) in enumerate(attempts):
            if problem.id not in inputs_of:
                inputs_of[problem.id] = tuple(job_input(problem, test.input) for test in problem.tests)
            under_way[index] = _Attempt(source, problem, inputs_of[problem.id], how, every)
            yield index, under_way[index].first_job()

    jobs: Iterable[tuple[int, Job]] = first_jobs()
    while jobs:
        sent: list[int] = []
        following: dict[int, Job] = {}
        for place, execution in sandbox.execute(_noting(sent, jobs)):
            index = sent[place]
            under_way[index].record(execution)
            if job := under_way[index].next_job():
                following[index] = job
            else:
                yield index, under_way.pop(index).grade()
        jobs = sorted(following.items())


def _noting(sent: list[int], jobs: Iterable[tuple[int, Job]]) -> Iterator[Job]:
    for index, job in jobs:
        sent.append(index)
        yield job


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
    running: Sequence[int] = ()
    """The tests of the job under way."""
    alone: bool = False
    """Each of them in a process of its own."""
    in_haste: bool = False
    """For no longer than HASTE_SECONDS."""
    unfinished: bool = False
    """That was not long enough."""
    suspect: int | None = None
    """The first test that failed in haste."""
    doubted: bool = False
    """A failure was looked at again."""
    decided: bool = False
    """No further run could change what is known."""
    fault: str = ""
    level: str = ""
    cpu_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.found = [None] * len(self.inputs)

    def first_job(self) -> Job:
        if self.how.isolation is GradeIsolation.TEST:
            self.doubted = True
            return self._job(range(min(1, len(self.inputs))), alone=True)
        self.in_haste = self.how.semantics is GradeSemantics.FAITHFUL and not self.every
        return self._job(range(len(self.inputs)), alone=False)

    def next_job(self) -> Job | None:
        """What must be run now; None once the grade is known."""
        failed = any(tested is not None and tested.outcome is not Judged.PASS for tested in self.found)
        if self.fault or self.decided or (failed and not self.every):
            return None
        if self.unfinished and (self.suspect is None or self.doubted):  # all in one process, as if nothing had been run
            self.unfinished = False
            return self._job(range(len(self.inputs)), alone=False)
        unknown = [test for test, tested in enumerate(self.found) if tested is None]
        if not unknown:
            return None
        if not self.doubted and not self.every:  # most programs that fail a test are wrong: look at one first
            self.doubted = True
            return self._job([unknown[0] if self.suspect is None else self.suspect], alone=True)
        return self._job(unknown, alone=True)

    def _job(self, tests: Sequence[int], *, alone: bool) -> Job:
        self.running, self.alone = tests, alone
        inputs = tuple(self.inputs[test] for test in tests)
        entry = self.problem.entry_point if self.problem.io_mode is IoMode.FUNCTIONAL else ""
        if self.how.semantics is GradeSemantics.LCB:
            return lcb.job(self.source, inputs, entry, self.how.limits)
        source, limits = self.source, self.how.limits
        if entry and self.problem.compare.kind is CompareKind.TRUTHY:  # any object will do, a re.Match for one
            source, entry = f"{source}\n\ndef truth_of_{entry}(*args): return bool({entry}(*args))", f"truth_of_{entry}"
        if self.in_haste:
            limits = replace(limits, cpu_seconds=min(limits.cpu_seconds, HASTE_SECONDS))
        return Job(source, inputs, entry, limits, stop_on_error=not self.every, alone=alone)

    def record(self, execution: Execution) -> None:
        """What the job under way came to."""
        self.level = execution.level
        self.cpu_seconds += execution.cpu_seconds
        if execution.status is Status.INFRA:
            self.fault = execution.detail or "a fault of the sandbox"
        results = execution.results or (Result(execution.status, detail=execution.detail),)
        tampered = execution.status is Status.PROTOCOL  # by whichever test
        out_of_time = self.in_haste and execution.status in {Status.TIMEOUT_CPU, Status.TIMEOUT_WALL}
        self.in_haste = False
        found = self._judged(results[:-1] if out_of_time else results)
        if out_of_time:
            self.unfinished = True
            self.suspect = next((test for test, one in enumerate(found) if one.outcome is not Judged.PASS), None)
            if self.suspect != 0:
                return
        fresh = self.alone or self.how.semantics is GradeSemantics.LCB
        for test, tested in zip(self.running, found, strict=False):
            # Nothing ran before the first.
            if tested.outcome is Judged.PASS or fresh or (test == 0 and not tampered):
                self.found[test] = tested
        unloaded = not execution.results and not tampered
        self.decided = unloaded or self.how.semantics is GradeSemantics.LCB

    def _judged(self, results: Sequence[Result]) -> list[Tested]:
        """What those of its tests that were reached were found to be; the first alone where that decides."""
        found: list[Tested] = []
        for result, test in zip(results, self.running, strict=False):
            found.append(_tested(self.problem, result, self.problem.tests[test].output, self.how.semantics))
            if found[0].outcome is not Judged.PASS and not self.every:
                break
        return found

    def grade(self) -> Grade:
        outcome: Outcome = Judged.PASS
        detail = ""
        for number, tested in enumerate(self.found, 1):
            if tested is not None and tested.outcome is not Judged.PASS:
                outcome, detail = tested.outcome, f"test {number} of {len(self.found)}: {_in_words(tested)}"
                break
        if self.fault:
            outcome, detail = Status.INFRA, self.fault
        return Grade(outcome, tuple(self.found), detail, self.level, self.cpu_seconds)


PASSED = Tested(Judged.PASS)


def _in_words(tested: Tested) -> str:
    if tested.outcome is Judged.WRONG_ANSWER:
        return tested.detail
    return f"{tested.outcome}: {tested.detail}"[:MAX_DETAIL]


def _tested(problem: Problem, result: Result, expected: str, semantics: GradeSemantics) -> Tested:
    if result.status is not Status.OK:
        return Tested(result.status, result.detail)
    compare = problem.compare
    got: str | None = result.value
    if semantics is GradeSemantics.LCB:
        compare = Comparison(CompareKind.EXACT)
        if problem.io_mode is IoMode.STDIN:
            got = lcb.standard_output(result.value)
    if problem.io_mode is IoMode.STDIN:
        right = got is not None and same_output(got, expected, compare)
    else:
        right = same_result(problem, result.value, expected, compare)
    if right:
        return PASSED
    return Tested(Judged.WRONG_ANSWER, f"got {short(got or '')!r}, expected {short(expected)!r}")


def same_result(problem: Problem, text: str, expected: str, compare: Comparison) -> bool:
    """Is the text of a returned value what a test of a function expects?"""
    if text == expected and compare.kind is not CompareKind.SET and _NUMBERS.fullmatch(text):
        return True  # what most tests expect, and in every encoding the same: it need not be read
    try:
        got = decode(text)
    except ValueError:
        return False
    if problem.encoding is Encoding.JSON and isinstance(got, tuple):
        got = list(got)  # LiveCodeBench: a top-level tuple counts as a list
    return same_value(got, _value(problem, expected), compare)


def job_input(problem: Problem, text: str) -> str:
    """A test's input as the sandbox takes it."""
    if problem.encoding is Encoding.TEXT:
        return text
    lines = text.split("\n") if text else []
    return ", ".join(spell(_value(problem, line), keep_order=True) for line in lines)


def _value(problem: Problem, text: str) -> object:
    return json.loads(text) if problem.encoding is Encoding.JSON else decode(text)
