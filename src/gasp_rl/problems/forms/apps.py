"""APPS and TACO: `question`, `input_output`, `solutions`, `starter_code`; TACO adds where and when a task was set."""

from dataclasses import dataclass
from typing import Any

from gasp_rl.problem import Problem
from gasp_rl.problems.forms.base import Excluded, Form, Row, RowError, convert, dated, parse_json, shared_out
from gasp_rl.problems.forms.cases import first_solution, read_cases


@dataclass(frozen=True, slots=True)
class _Row:
    question: str
    input_output: str | dict[str, Any]
    problem_id: int | str | None = None
    id: int | str | None = None
    solutions: str | tuple[str, ...] | None = None
    starter_code: str | None = None
    difficulty: str | None = None
    url: str | None = None
    source: str | None = None
    date: str | None = None


def recognises(row: Row) -> bool:
    return {"question", "input_output"} <= row.keys() or {"question", "solutions", "starter_code"} <= row.keys()


def read(row: Row) -> Problem | Excluded:
    given = convert(row, _Row)
    cases = read_cases(given.input_output, "input_output")
    taco = "skill_types" in row or "raw_tags" in row
    number = given.problem_id if given.problem_id is not None else given.id
    solutions = given.solutions or ()
    if isinstance(solutions, str):
        solutions = parse_json(solutions, "solutions")
        if not isinstance(solutions, list):
            raise RowError("solutions", f"must be a list of programs, got {type(solutions).__name__}")
    public, hidden = shared_out(cases.tests, cases.io_mode)
    return Problem(
        id="" if number is None else f"{'taco' if taco else 'apps'}/{number}",
        statement=given.question,
        public_tests=public,
        hidden_tests=hidden,
        io_mode=cases.io_mode,
        encoding=cases.encoding,
        entry_point=cases.entry_point,
        starter_code=given.starter_code or "",
        source=f"TACO {given.source}" if given.source else "TACO" if taco else "APPS",
        date=dated(given.date),
        difficulty=(given.difficulty or "").lower(),
        reference=first_solution(solutions),
    )


APPS = Form("apps", recognises, read)
