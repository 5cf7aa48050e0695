"""One program in the sandbox, for scripts and for the curious: called on inputs, or graded on a problem. No model is near."""

import difflib
import json
import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gasp_rl.config import SandboxConfig
from gasp_rl.errors import InputError, SandboxError
from gasp_rl.problem import Problem
from gasp_rl.problems.jsonl import read_problems
from gasp_rl.sandbox import grading
from gasp_rl.sandbox.base import Execution, Job, Result, Status
from gasp_rl.sandbox.grading import Outcome
from gasp_rl.sandbox.remote import open_sandbox
from gasp_rl.sandbox.values import decode, spell

SHOWN = 70
"""Characters of an input or a value in a line for people."""


@dataclass(frozen=True, slots=True)
class Output:
    """What one call gave."""

    value: object
    """The value itself where JSON holds it exactly, else {"repr": its Python literal}. None unless the verdict is OK."""
    verdict: Status
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Called:
    """What a program did on its inputs; `outputs` has one entry for each."""

    verdict: Status
    outputs: tuple[Output, ...]
    detail: str
    level: str
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class TestGrade:
    __test__ = False  # not a pytest class, in spite of its name
    verdict: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Graded:
    """How a program did on the tests of a problem."""

    verdict: Outcome
    passed: int
    total: int
    detail: str
    problem: str
    tests: tuple[TestGrade | None, ...]
    """None: not run, because the program ended before."""
    level: str
    cpu_seconds: float


def read_source(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a Python source in UTF-8: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def read_inputs(path: Path, entry: str) -> tuple[str, ...]:
    """The inputs of a job, from a JSON list of argument lists (of strings, for a program that reads standard input)."""
    try:
        rows = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if not isinstance(rows, list):
        raise InputError(f"{path}: must hold a list with one list of arguments per call, holds {_kind(rows)}")
    return tuple(_job_input(row, entry, f"{path}: input {number}") for number, row in enumerate(rows, 1))


def _job_input(row: object, entry: str, place: str) -> str:
    if not entry:
        if not isinstance(row, str):
            raise InputError(f"{place} must be a string, the whole standard input, is {_kind(row)}")
        return row
    if not isinstance(row, list):
        raise InputError(f"{place} must be a list of arguments, is {_kind(row)}")
    try:
        return ", ".join(spell(argument, keep_order=True) for argument in row)
    except ValueError as error:
        raise InputError(f"{place} holds a value that is too deep or too large") from error


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def find_problem(path: Path, name: str) -> Problem:
    """The problem of that id; without one, the only problem of the file."""
    found = read_problems(path)
    if not name:
        if len(found.problems) == 1:
            return found.problems[0]
        if not found.problems and len(found.excluded) == 1:
            raise InputError(f"{path}: its only problem is left out: {found.excluded[0].reason}")
        raise InputError(f"{path}: holds {len(found.problems)} problems that can be used; choose one with --id")
    for problem in found.problems:
        if problem.id == name:
            return problem
    for row in found.excluded:
        if row.id == name:
            raise InputError(f"{path}: problem {name} is left out: {row.reason}")
    close = difflib.get_close_matches(name, [problem.id for problem in found.problems], n=1)
    raise InputError(f"{path}: no problem {name!r}" + (f"; did you mean {close[0]}?" if close else ""))


def call(source: str, inputs: tuple[str, ...], entry: str, config: SandboxConfig) -> Called:
    """Run a program on every input, whatever earlier ones did. A fault of ours raises SandboxError."""
    with closing(open_sandbox(config)) as sandbox:
        ((_, done),) = sandbox.execute([Job(source, inputs, entry, stop_on_error=False)])
    if done.status is Status.INFRA:
        raise SandboxError(f"the program could not be run: {done.detail}")
    outputs = [_output(result, entry) for result in done.results]
    outputs += [_not_reached(done)] * (len(inputs) - len(outputs))
    return Called(done.status, tuple(outputs), done.detail, done.level, round(done.cpu_seconds, 6))


def _output(result: Result, entry: str) -> Output:
    value = _jsonable(result.value, entry) if result.status is Status.OK else None
    return Output(value, result.status, result.detail)


def _not_reached(done: Execution) -> Output:
    if not done.results:  # the program could not even be loaded
        return Output(None, done.status, done.detail)
    return Output(None, Status.NO_RESULT, "not run: the program had ended")


def _jsonable(text: str, entry: str) -> object:
    if not entry:
        return text
    try:
        value = decode(text, max_text=len(text))
    except ValueError:  # the program took its process over and said something else
        return {"repr": text}
    only_a_repr = isinstance(value, dict) and set(value) == {"repr"}  # it must not look like our own
    return value if _json_holds(value) and not only_a_repr else {"repr": text}


def _json_holds(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(map(_json_holds, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _json_holds(item) for key, item in value.items())
    return value is None or isinstance(value, str | int)


def grade(problem: Problem, source: str, config: SandboxConfig) -> Graded:
    """Run a program on every test of a problem. A fault of ours raises SandboxError."""
    with closing(open_sandbox(config)) as sandbox:
        ((_, found),) = grading.grade(sandbox, [(source, problem)], config.grading, every=True)
    if found.outcome is Status.INFRA:
        raise SandboxError(f"the program could not be run: {found.detail}")
    tests = tuple(None if one is None else TestGrade(one.outcome, one.detail) for one in found.tests)
    return Graded(
        found.outcome,
        found.passed,
        len(tests),
        found.detail,
        problem.id,
        tests,
        found.level,
        round(found.cpu_seconds, 6),
    )


def to_json(found: Called | Graded) -> str:
    return json.dumps(msgspec.to_builtins(found), allow_nan=False)


def in_words(found: Called | Graded) -> str:
    """For people: the verdict first, then a line for each call, or for the test that failed."""
    cost = f"{found.level}, {found.cpu_seconds:.3f} s of CPU time"
    if isinstance(found, Called):
        calls = [f"{number:>4}  {_said(output)}" for number, output in enumerate(found.outputs, 1)]
        return "\n".join([f"{found.verdict} ({cost})", *calls])
    line = f"{found.verdict}: {found.passed} of {found.total} tests passed ({cost})"
    return f"{line}\n{found.detail}" if found.detail else line


def _said(output: Output) -> str:
    if output.verdict is not Status.OK:
        return f"{output.verdict}: {output.detail}"
    is_repr = isinstance(output.value, dict) and set(output.value) == {"repr"}
    text = str(output.value["repr"]) if isinstance(output.value, dict) and is_repr else json.dumps(output.value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
