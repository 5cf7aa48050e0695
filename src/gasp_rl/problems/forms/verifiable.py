"""Rows for reinforcement learning: a prompt or statement, and tests in the shape that most sets share (`cases`).

verl (`prompt`, `reward_model.ground_truth`), rLLM and DeepCoder (`problem`, `tests`), open-r1 and PrimeIntellect's
SYNTHETIC-1 (`prompt`, `verification_info`), and anybody's `{"question", "inputs", "outputs", "fn_name"?}`.
"""

from typing import Any

from gasp_rl.problem import Problem
from gasp_rl.problems.forms.base import Excluded, Form, Row, RowError, dated, parse_json, shared_out
from gasp_rl.problems.forms.cases import FIELDS, first_solution, read_cases

STATEMENTS = ("question", "problem", "statement", "question_content", "problem_description", "description", "prompt")
IDS = ("id", "problem_id", "task_id", "question_id")
REFERENCES = ("reference_solution", "gold_standard_solution", "solution", "solutions", "canonical_solution")
FOREIGN = frozenset({"javascript", "java", "cpp", "c++", "c", "go", "rust", "typescript"})
"""Languages that a row may ask for, and that are not run here."""


def recognises(row: Row) -> bool:
    return any(field in row for field in FIELDS) or {"inputs", "outputs"} <= row.keys()


def read(row: Row) -> Problem | Excluded:
    name = _id(row)
    field = next((one for one in FIELDS if row.get(one) is not None), "")
    tests = row[field] if field else {name: row.get(name) for name in ("inputs", "outputs")}
    if isinstance(tests, str):
        tests = parse_json(tests, field) if tests.strip() else []
    if language := _foreign_language(tests):
        return Excluded(name, f"asks for {language}: only Python is run")
    cases = read_cases(tests, field or "inputs", _function(row))
    public, hidden = shared_out(cases.tests, cases.io_mode)
    return Problem(
        id=name,
        statement=_statement(row),
        public_tests=public,
        hidden_tests=hidden,
        io_mode=cases.io_mode,
        encoding=cases.encoding,
        entry_point=cases.entry_point,
        starter_code=_text(row, "starter_code"),
        source=_text(row, "source") or _text(row, "data_source"),
        date=dated(_text(row, "date")),
        difficulty=_text(row, "difficulty").lower(),
        reference=_reference(row),
    )


def _id(row: Row) -> str:
    for field in IDS:
        value = row.get(field)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value)
    return ""


def _text(row: Row, field: str) -> str:
    value = row.get(field)
    return value if isinstance(value, str) else ""


def _statement(row: Row) -> str:
    for field in STATEMENTS:
        value = row.get(field)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, list):
            return _last_of_the_user(value, field)
    raise RowError("statement", f"must be there, under any of {', '.join(STATEMENTS)}")


def _last_of_the_user(messages: list[Any], field: str) -> str:
    """What the user says last in a chat."""
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user" and isinstance(message.get("content"), str):
            return str(message["content"])
    raise RowError(field, "must be text, or messages with one of the user")


def _function(row: Row) -> str:
    """The function's name where it stands beside the tests: in the row, or in its metadata, which may be a string."""
    metadata = row.get("metadata")
    if isinstance(metadata, str) and metadata.strip().startswith("{"):
        metadata = parse_json(metadata, "metadata")
    inner = metadata if isinstance(metadata, dict) else {}
    for name in (row.get("fn_name"), row.get("func_name"), inner.get("func_name"), inner.get("fn_name")):
        if isinstance(name, str) and name:
            return name
    return ""


def _foreign_language(value: object) -> str:
    language = value.get("language") if isinstance(value, dict) else None
    return language if isinstance(language, str) and language.lower() in FOREIGN else ""


def _reference(row: Row) -> str:
    for field in REFERENCES:
        value = row.get(field)
        if reference := first_solution(value if isinstance(value, list) else [value]):
            return reference
    return ""


VERIFIABLE = Form("inputs_outputs", recognises, read)
