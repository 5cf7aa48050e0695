"""Was it right? Checking and grading, outside the jail, on what the sandbox reports.

Expected values live here and are never sent in. Every function streams: it reads its programs as far as the sandbox has
room, so that whoever still samples them works while earlier ones run, and yields (index, finding) as they finish.
"""

import ast
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from gasp_rl.problem import CompareKind, Comparison, Encoding, IoMode, Problem
from gasp_rl.rollout import Judgement, Pair, Rejection
from gasp_rl.sandbox.base import Execution, Job, Result, Sandbox, Status
from gasp_rl.sandbox.values import canonical, canonical_arguments, decode, spell

HASH_SEEDS = (0, 4242)
"""Of the two processes that a program must agree with itself in."""

SHOWN = 60
"""Characters of a value in a detail."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer was worth, and why."""

    judgement: Judgement
    detail: str = ""


# Proposals


@dataclass(frozen=True, slots=True)
class Program:
    """A proposed function `f` and the argument texts it is to be run on."""

    source: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether a proposed program may be used. Inputs and outputs are canonical, and empty where it was rejected."""

    rejection: Rejection | None
    detail: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


ALLOWED_IMPORTS = frozenset(
    "abc array bisect cmath collections copy dataclasses decimal enum fractions functools heapq itertools math "
    "numbers operator re statistics string typing".split()
)
BANNED_NAMES = frozenset(
    "__import__ breakpoint compile delattr dir eval exec exit getattr globals hash help id input locals open quit "
    "setattr vars".split()
)
ALLOWED_DUNDERS = frozenset({"__init__", "__name__"})


def check(sandbox: Sandbox, programs: Iterable[Program]) -> Iterator[tuple[int, Checked]]:
    """Static policy, then two runs in fresh processes of different hash seeds, the second with its inputs reversed.

    The policy keeps out what makes bad tasks (clocks, randomness, files); it is no security: the sandbox is.
    """
    runs: dict[int, dict[int, Execution]] = {}
    inputs: dict[int, tuple[str, ...]] = {}
    refused: list[tuple[int, Checked]] = []
    places: list[tuple[int, int]] = []

    def jobs() -> Iterator[Job]:
        for index, program in enumerate(programs):
            arguments = [canonical_arguments(text) for text in program.inputs]
            known = tuple(text for text in arguments if text is not None)
            if len(known) < len(arguments):
                bad = program.inputs[arguments.index(None)]
                refused.append((index, Checked(Rejection.MALFORMED, f"input is not a literal: {bad[:SHOWN]}")))
            elif (breach := policy_breach(program.source)) is not None:
                refused.append((index, breach))
            else:
                inputs[index], runs[index] = known, {}
                for run, seed in enumerate(HASH_SEEDS):
                    places.append((index, run))
                    yield Job(program.source, known[:: 1 if run == 0 else -1], hash_seed=seed)

    for place, execution in sandbox.execute(jobs()):
        while refused:
            yield refused.pop()
        index, run = places[place]
        runs[index][run] = execution
        if len(runs[index]) == len(HASH_SEEDS):
            yield index, _agreed(inputs[index], runs[index][0], runs[index][1])
    while refused:
        yield refused.pop()


def policy_breach(source: str) -> Checked | None:
    """The first rule of the static policy that a proposed program breaks."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in what a model wrote
            tree = ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        return Checked(Rejection.INVALID, f"does not parse: {type(error).__name__}: {error}"[:200])
    if not any(isinstance(node, ast.FunctionDef) and node.name == "f" for node in tree.body) and not any(
        isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "f" for t in node.targets)
        for node in tree.body
    ):
        return Checked(Rejection.INVALID, "defines no function f")
    for node in ast.walk(tree):
        rule = _broken_rule(node)
        if rule:
            return Checked(Rejection.UNSAFE, rule)
    return None


def _broken_rule(node: ast.AST) -> str:
    match node:
        case ast.Import(names=names):
            modules = [alias.name for alias in names]
        case ast.ImportFrom(module=module):
            modules = [module or "."]
        case ast.Name(id=name) if name in BANNED_NAMES:
            return f"uses {name}"
        case ast.Attribute(attr=name) if name.startswith("__") and name not in ALLOWED_DUNDERS:
            return f"uses .{name}"
        case _:
            return ""
    banned = [module for module in modules if module.split(".")[0] not in ALLOWED_IMPORTS]
    return f"imports {banned[0]}" if banned else ""


def _agreed(inputs: tuple[str, ...], forward: Execution, backward: Execution) -> Checked:
    for execution in (forward, backward):
        if execution.status is Status.INFRA:
            return Checked(Rejection.SANDBOX_FAULT, execution.detail)
    if forward.status is not Status.OK:
        return Checked(Rejection.INVALID, f"{forward.status}: {forward.detail}"[:200])
    if backward.status is not Status.OK:
        return Checked(Rejection.NONDETERMINISTIC, f"second run: {backward.status}: {backward.detail}"[:200])
    outputs = tuple(result.value for result in forward.results)
    again = tuple(result.value for result in reversed(backward.results))
    for text, first, second in zip(inputs, outputs, again, strict=True):
        if first != second:
            return Checked(Rejection.NONDETERMINISTIC, f"f({_short(text)}) gave {_short(first)}, then {_short(second)}")
    return Checked(None, "", inputs, outputs)


# Self-play tasks


def grade_pairs(sandbox: Sandbox, attempts: Iterable[tuple[str, Sequence[Pair]]]) -> Iterator[tuple[int, Verdict]]:
    """Induction: does the program give every pair's output for its input? Values are compared with their types."""
    expected: list[Sequence[Pair]] = []

    def jobs() -> Iterator[Job]:
        for source, pairs in attempts:
            expected.append(pairs)
            yield Job(source, tuple(pair.input for pair in pairs))

    for index, execution in sandbox.execute(jobs()):
        yield index, _matches(execution, expected[index])


def grade_abduction(sandbox: Sandbox, attempts: Iterable[tuple[str, str, str]]) -> Iterator[tuple[int, Verdict]]:
    """Abduction: (program, arguments the student gave, output wanted). Only literal arguments are ever passed in."""
    unreadable: list[tuple[int, Verdict]] = []
    asked: list[tuple[int, Pair]] = []

    def jobs() -> Iterator[Job]:
        for index, (source, text, wanted) in enumerate(attempts):
            arguments = canonical_arguments(text)
            if arguments is None:
                unreadable.append((index, _not_a_literal(text)))
            else:
                asked.append((index, Pair(arguments, wanted)))
                yield Job(source, (arguments,))

    for place, execution in sandbox.execute(jobs()):
        index, pair = asked[place]
        yield index, _matches(execution, [pair])
    yield from unreadable


def grade_deduction(text: str, expected: str) -> Verdict:
    """Deduction: is the literal the student gave the program's output? Nothing is run."""
    value = canonical(text)
    if value is None:
        return _not_a_literal(text)
    if value == expected:
        return Verdict(Judgement.CORRECT)
    return Verdict(Judgement.WRONG, f"said {_short(value)}, is {_short(expected)}")


def _matches(execution: Execution, pairs: Sequence[Pair]) -> Verdict:
    if execution.status is Status.INFRA:
        return Verdict(Judgement.SANDBOX_FAULT, execution.detail)
    for pair, result in zip(pairs, execution.results, strict=False):
        if result.status is Status.OK and result.value != pair.output:
            return Verdict(
                Judgement.WRONG, f"f({_short(pair.input)}) gave {_short(result.value)}, not {_short(pair.output)}"
            )
    if execution.status is not Status.OK:
        return Verdict(Judgement.WRONG, f"{execution.status}: {execution.detail}"[:200])
    return Verdict(Judgement.CORRECT)


def _not_a_literal(text: str) -> Verdict:
    return Verdict(Judgement.MALFORMED, f"not a literal: {_short(text)}")


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


# Real problems


@dataclass(slots=True)
class _Graded:
    """A program on a problem: its first run over all tests, then the strict one over the test that failed."""

    source: str
    problem: Problem
    inputs: tuple[str, ...] = field(default=())


def grade_problems(sandbox: Sandbox, attempts: Iterable[tuple[str, Problem]]) -> Iterator[tuple[int, Verdict]]:
    """Does the program pass every test of the problem? One process runs all tests; where one fails, it is run once
    more alone, in a process of its own, and that run decides, so that state left by earlier tests can only help.
    """
    graded: list[_Graded] = []
    inputs_of: dict[str, tuple[str, ...]] = {}

    def jobs() -> Iterator[Job]:
        for source, problem in attempts:
            if problem.id not in inputs_of:
                inputs_of[problem.id] = tuple(_job_input(problem, test.input) for test in problem.tests)
            graded.append(_Graded(source, problem, inputs_of[problem.id]))
            yield Job(source, graded[-1].inputs, _entry(problem))

    disputed: list[tuple[int, int]] = []
    for index, execution in sandbox.execute(jobs()):
        failed = _first_failure(graded[index].problem, execution, range(len(graded[index].inputs)))
        if execution.status is Status.INFRA:
            yield index, Verdict(Judgement.SANDBOX_FAULT, execution.detail)
        elif failed is None:
            yield index, Verdict(Judgement.CORRECT)
        elif failed == 0 or len(graded[index].inputs) == 1:  # it failed alone already
            yield index, _failure(graded[index].problem, execution, failed, 0)
        else:
            disputed.append((index, failed))
    if disputed:
        yield from _recheck(sandbox, graded, disputed)


def _recheck(
    sandbox: Sandbox, graded: Sequence[_Graded], disputed: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, Verdict]]:
    """Run failed tests alone; what passes so is tried on the tests after it, each alone too."""
    while disputed:
        jobs = [Job(graded[i].source, (graded[i].inputs[test],), _entry(graded[i].problem)) for i, test in disputed]
        later: list[tuple[int, int]] = []
        for place, execution in sandbox.execute(jobs):
            index, test = disputed[place]
            if execution.status is Status.INFRA:
                yield index, Verdict(Judgement.SANDBOX_FAULT, execution.detail)
            elif _first_failure(graded[index].problem, execution, range(test, test + 1)) is not None:
                yield index, _failure(graded[index].problem, execution, test, test)
            elif test + 1 == len(graded[index].inputs):
                yield index, Verdict(Judgement.CORRECT)
            else:
                later.append((index, test + 1))
        disputed = sorted(later)


def _entry(problem: Problem) -> str:
    return problem.entry_point if problem.io_mode is IoMode.FUNCTIONAL else ""


def _job_input(problem: Problem, text: str) -> str:
    """A test's input as the sandbox takes it."""
    if problem.encoding is Encoding.TEXT:
        return text
    lines = text.split("\n") if text else []
    return ", ".join(spell(_value(problem, line)) for line in lines)


def _value(problem: Problem, text: str) -> object:
    return json.loads(text) if problem.encoding is Encoding.JSON else decode(text)


def _first_failure(problem: Problem, execution: Execution, tests: range) -> int | None:
    for place, test in enumerate(tests):
        if place >= len(execution.results) or not _passes(
            problem, execution.results[place], problem.tests[test].output
        ):
            return test
    return None


def _passes(problem: Problem, result: Result, expected: str) -> bool:
    if result.status is not Status.OK:
        return False
    if problem.io_mode is IoMode.STDIN:
        return same_output(result.value, expected, problem.compare)
    try:
        got = decode(result.value)
    except ValueError:
        return False
    if problem.encoding is Encoding.JSON and isinstance(got, tuple):
        got = list(got)  # LiveCodeBench: a top-level tuple counts as a list
    return same_value(got, _value(problem, expected), problem.compare)


def _failure(problem: Problem, execution: Execution, test: int, first: int) -> Verdict:
    """Why a test failed, in words."""
    name = f"test {test + 1} of {len(problem.tests)}"
    place = test - first
    if place < len(execution.results) and execution.results[place].status is Status.OK:
        got, expected = execution.results[place].value, problem.tests[test].output
        return Verdict(Judgement.WRONG, f"{name}: got {_short(got)!r}, expected {_short(expected)!r}")
    return Verdict(Judgement.WRONG, f"{name}: {execution.status}: {execution.detail}"[:200])


def same_output(got: str, expected: str, compare: Comparison) -> bool:
    """Standard output against what was expected.

    EXACT is LiveCodeBench's rule: as many lines after stripping, each equal after stripping, or token for token the
    same decimal numbers. FLOAT_TOKENS: as many tokens, each equal or within tolerance.
    """
    if compare.kind is CompareKind.FLOAT_TOKENS:
        return _all_same(got.split(), expected.split(), lambda a, b: a == b or _close(_number(a), _number(b), compare))
    lines = [text.strip().split("\n") for text in (got, expected)]
    return _all_same(lines[0], lines[1], lambda a, b: a.strip() == b.strip() or _same_decimals(a, b))


def same_value(got: object, expected: object, compare: Comparison) -> bool:
    """A returned value against what was expected, by `compare`."""
    match compare.kind:
        case CompareKind.FLOAT:
            return _close_values(got, expected, compare)
        case CompareKind.SET:
            return _as_set(got) is not None and _as_set(got) == _as_set(expected)
        case CompareKind.TRUTHY:
            return bool(got) == bool(expected)
        case _:
            return got == expected


def _all_same(got: Sequence[str], expected: Sequence[str], same: Callable[[str, str], bool]) -> bool:
    return len(got) == len(expected) and all(same(a, b) for a, b in zip(got, expected, strict=True))


def _same_decimals(got: str, expected: str) -> bool:
    try:
        return [Decimal(token) for token in got.split()] == [Decimal(token) for token in expected.split()]
    except InvalidOperation:
        return False


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _close(got: float | None, expected: float | None, compare: Comparison) -> bool:
    if got is None or expected is None:
        return False
    return got == expected or abs(got - expected) <= compare.atol + compare.rtol * abs(expected)


def _close_values(got: object, expected: object, compare: Comparison) -> bool:
    if isinstance(got, list | tuple) and isinstance(expected, list | tuple):
        return len(got) == len(expected) and all(
            _close_values(a, b, compare) for a, b in zip(got, expected, strict=True)
        )
    if _is_number(got) and _is_number(expected):
        assert isinstance(got, int | float)
        assert isinstance(expected, int | float)
        return _close(got, expected, compare)
    return got == expected


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_set(value: object) -> frozenset[object] | None:
    try:
        return frozenset(value) if isinstance(value, list | tuple | set | frozenset | dict | str) else None
    except TypeError:  # unhashable items
        return None
