"""Normal form: every field that decides how an answer is judged, said outright; for sets that were prepared elsewhere.

`id, statement, starter_code, entry_point, io_mode, io_encoding, compare, tests, n_public_tests?, reference_solution?,
errata?, source?, date?, difficulty?` and any extras.
"""

from dataclasses import dataclass

from gasp_rl.problem import CompareKind, Comparison, Encoding, IoMode, Problem, TestCase
from gasp_rl.problems.forms.base import Excluded, Form, Row, RowError, convert, default_public

UNSUPPORTED = {
    "checker": "needs a checker program of its own",
    "test_code": "judged by test code, not by input and output",
}
"""Comparisons of the normal form that a `Comparison` cannot express."""


@dataclass(frozen=True, slots=True)
class _Comparison:
    type: str
    atol: float = 0.0
    rtol: float = 0.0


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    statement: str
    io_mode: IoMode
    io_encoding: Encoding
    compare: _Comparison
    tests: tuple[TestCase, ...]
    entry_point: str | None
    starter_code: str | None = None
    n_public_tests: int | None = None
    reference_solution: str | None = None
    errata: str | None = None
    source: str | None = None
    date: str | None = None
    difficulty: str | None = None


def recognises(row: Row) -> bool:
    return any(name in row for name in ("io_mode", "io_encoding", "compare"))


def read(row: Row) -> Problem | Excluded:
    given = convert(row, _Row)
    if given.compare.type in UNSUPPORTED:
        reason = f"compare {given.compare.type}: {UNSUPPORTED[given.compare.type]}"
        return Excluded(given.id, reason, date=given.date or "")
    if given.compare.type not in list(CompareKind):
        known = ", ".join([*CompareKind, *UNSUPPORTED])
        raise RowError("compare.type", f"must be one of {known}, got {given.compare.type!r}")

    public = given.n_public_tests
    if public is None:
        public = default_public(given.io_mode, len(given.tests))
    elif not 0 <= public <= len(given.tests):
        raise RowError("n_public_tests", f"must be between 0 and {len(given.tests)} (the tests), got {public}")

    problem = Problem(
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
    if given.errata:
        return Excluded(given.id, f"errata: {given.errata}", date=problem.date, problem=problem)
    return problem


NORMAL = Form("normal", recognises, read)
