"""Read and write problem files: JSON Lines, one problem a line, in either of two forms.

Own form: the fields of `Problem`, as `write_problems` writes them (a row that has `public_tests`).
Normal form: `id, statement, starter_code, entry_point, io_mode, io_encoding, compare, tests, n_public_tests?,
reference_solution?, errata?, source?, date?, difficulty?` and any extras, for sets that come from elsewhere.

A row that breaks its form stops the reading with file, line, field and reason. A row that is well formed but cannot
be judged fairly (listed in errata, a comparison we have not, values that the sandbox does not give, no tests) is left
out and named in `excluded`.
"""

import ast
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gasp_rl.errors import ProblemFileError
from gasp_rl.problem import CompareKind, Comparison, Encoding, IoMode, Problem, TestCase
from gasp_rl.sandbox.values import decode, spell

Row = TypeVar("Row")

STDIN_COMPARISONS = frozenset({CompareKind.EXACT, CompareKind.FLOAT_TOKENS})
FUNCTIONAL_COMPARISONS = frozenset({CompareKind.EXACT, CompareKind.FLOAT, CompareKind.SET, CompareKind.TRUTHY})

UNSUPPORTED = {
    "checker": "needs a checker program of its own",
    "test_code": "judged by test code, not by input and output",
}
"""Comparisons of the normal form that a `Comparison` cannot express."""


@dataclass(frozen=True, slots=True)
class Excluded:
    """A well-formed row that is not used, and why."""

    id: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class ProblemFile:
    """What a problem file holds."""

    problems: tuple[Problem, ...]
    excluded: tuple[Excluded, ...]


def read_problems(path: Path) -> ProblemFile:
    """All rows of a file, in order; `ProblemFileError` names the first one that is malformed."""
    problems: list[Problem] = []
    excluded: list[Excluded] = []
    lines_by_id: dict[str, int] = {}
    for line, text in _lines(path):
        try:
            row = _read_row(text, line)
        except _RowError as fault:
            raise ProblemFileError(f"{path}:{line}: {fault.field}: {fault.reason}") from fault
        if row.id in lines_by_id:
            raise ProblemFileError(f"{path}:{line}: id: {row.id!r} is already the id of line {lines_by_id[row.id]}")
        lines_by_id[row.id] = line
        if isinstance(row, Problem):
            problems.append(row)
        else:
            excluded.append(row)
    return ProblemFile(tuple(problems), tuple(excluded))


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Write our own form; `read_problems` gives the same problems back."""
    encoder = msgspec.json.Encoder()
    path.write_bytes(b"".join(encoder.encode(problem) + b"\n" for problem in problems))


def default_public(io_mode: IoMode, tests: int) -> int:
    """How many of the first tests are public where a row does not say.

    functional: two; stdin: one, as its tests are often whole files. At least one test stays hidden, so that
    repeating the examples can never pass.
    """
    return max(0, min(2 if io_mode is IoMode.FUNCTIONAL else 1, tests - 1))


class _RowError(Exception):
    """The row breaks its form; becomes a ProblemFileError where file and line are known."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _NormalComparison:
    type: str
    atol: float = 0.0
    rtol: float = 0.0


@dataclass(frozen=True, slots=True)
class _NormalRow:
    """Row of the normal form; every field that decides how an answer is judged must be there."""

    id: str
    statement: str
    io_mode: IoMode
    io_encoding: Encoding
    compare: _NormalComparison
    tests: tuple[TestCase, ...]
    entry_point: str | None
    starter_code: str | None = None
    n_public_tests: int | None = None
    reference_solution: str | None = None
    errata: str | None = None
    source: str | None = None
    date: str | None = None
    difficulty: str | None = None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(1-based number, bytes) of every line that is not blank."""
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, start=1):
                if text.strip():
                    yield number, text
    except OSError as error:
        raise ProblemFileError(f"{path}: cannot be read: {error.strerror}") from error


def _read_row(text: bytes, line: int) -> Problem | Excluded:
    try:
        row = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _RowError("row", f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise _RowError("row", f"must be a JSON object, got {type(row).__name__}")
    problem = _own(row) if "public_tests" in row or "hidden_tests" in row else _normal(row, line)
    if isinstance(problem, Excluded):
        return problem
    _check(problem)
    if not problem.tests:
        return Excluded(problem.id, line, "no tests: any program would pass")
    strange = _strange_value(problem)
    if strange is not None:
        return Excluded(problem.id, line, f"a value that the sandbox does not give: {strange[:60]}")
    return problem


def _own(row: dict[str, Any]) -> Problem:
    unknown = row.keys() - {field.name for field in fields(Problem)}
    if unknown:
        raise _RowError(min(unknown), "not a field of a problem")
    return _convert(row, Problem)


def _normal(row: dict[str, Any], line: int) -> Problem | Excluded:
    given = _convert(row, _NormalRow)
    if given.errata:
        return Excluded(given.id, line, f"errata: {given.errata}")
    if given.compare.type in UNSUPPORTED:
        return Excluded(given.id, line, f"compare {given.compare.type}: {UNSUPPORTED[given.compare.type]}")
    if given.compare.type not in list(CompareKind):
        known = ", ".join([*CompareKind, *UNSUPPORTED])
        raise _RowError("compare.type", f"must be one of {known}, got {given.compare.type!r}")

    public = given.n_public_tests
    if public is None:
        public = default_public(given.io_mode, len(given.tests))
    elif not 0 <= public <= len(given.tests):
        raise _RowError("n_public_tests", f"must be between 0 and {len(given.tests)} (the tests), got {public}")

    return Problem(
        id=given.id,
        statement=given.statement,
        public_tests=given.tests[:public],
        hidden_tests=given.tests[public:],
        io_mode=given.io_mode,
        encoding=given.io_encoding,
        compare=Comparison(CompareKind(given.compare.type), given.compare.atol, given.compare.rtol),
        entry_point=given.entry_point or "",
        starter_code=given.starter_code or "",
        source=given.source or "",
        date=given.date or "",
        difficulty=given.difficulty or "",
        reference=given.reference_solution or "",
    )


def _convert(row: dict[str, Any], form: type[Row]) -> Row:
    try:
        return msgspec.convert(row, form)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        raise _RowError(place.strip("`.") or "row", reason) from error


def _check(problem: Problem) -> None:
    """What the types cannot say: that mode, encoding, comparison, entry point and tests fit together."""
    if not problem.id:
        raise _RowError("id", "must not be empty")
    stdin = problem.io_mode is IoMode.STDIN
    if stdin != (problem.encoding is Encoding.TEXT):
        rule = "'text' for stdin" if stdin else "'json' or 'pyliteral' for functional"
        raise _RowError("io_encoding", f"must be {rule}, got {problem.encoding.value!r}")
    if problem.compare.kind not in (STDIN_COMPARISONS if stdin else FUNCTIONAL_COMPARISONS):
        raise _RowError("compare", f"{problem.compare.kind.value!r} does not go with {problem.io_mode.value}")
    for name, tolerance in (("atol", problem.compare.atol), ("rtol", problem.compare.rtol)):
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise _RowError(f"compare.{name}", f"must be a number of 0 or more, got {tolerance}")
    if not stdin and not problem.entry_point.isidentifier():
        raise _RowError("entry_point", f"must name a function for functional, got {problem.entry_point!r}")


def _strange_value(problem: Problem) -> str | None:
    """The first value of a functional problem that has no canonical spelling: a complex number, or one too deep."""
    strange = None
    for number, test in enumerate(problem.tests if problem.io_mode is IoMode.FUNCTIONAL else ()):
        arguments = test.input.split("\n") if test.input else []
        for part, literal in [*(("input", argument) for argument in arguments), ("output", test.output)]:
            if not _has_spelling(literal, problem.encoding):
                if not _decodes(literal, problem.encoding):
                    raise _RowError(
                        f"tests[{number}].{part}", f"not a {problem.encoding.value} value: {literal[:60]!r}"
                    )
                strange = strange or literal
    return strange


def _has_spelling(literal: str, encoding: Encoding) -> bool:
    try:
        spell(json.loads(literal) if encoding is Encoding.JSON else decode(literal))
    except (ValueError, RecursionError):
        return False
    return True


def _decodes(literal: str, encoding: Encoding) -> bool:
    try:
        if encoding is Encoding.JSON:
            json.loads(literal)
        else:
            ast.literal_eval(literal)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return True
