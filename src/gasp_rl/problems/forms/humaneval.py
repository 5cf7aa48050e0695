"""HumanEval, and HumanEval+ in its own form with literal results: functions that are judged by `check(candidate)`.

The asserts of `check` become inputs and outputs (`asserts`); a problem with a single one that cannot is excluded, as
half of its tests would judge something else.
"""

import ast
from dataclasses import dataclass

from gasp_rl.problem import IoMode, Problem
from gasp_rl.problems.forms.asserts import NotPlainError, Renamed, as_tests, read_asserts
from gasp_rl.problems.forms.base import Excluded, Form, Row, RowError, convert, parse_python, shared_out


@dataclass(frozen=True, slots=True)
class _Row:
    task_id: str
    prompt: str
    entry_point: str
    test: str
    canonical_solution: str = ""


def recognises(row: Row) -> bool:
    return {"prompt", "entry_point"} <= row.keys() and ("test" in row or "plus_input" in row)


def read(row: Row) -> Problem | Excluded:
    if "test" not in row and "plus_input" in row:
        reason = "gives inputs without outputs: take the form with a `test` field (evalplus/humanevalplus, mbppplus on the hub)"
        return Excluded(_id(str(row.get("task_id", ""))), reason)
    given = convert(row, _Row)
    tree = parse_python(given.test, "test")
    checks = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "check"]
    if len(checks) != 1 or len(checks[0].args.args) != 1:
        raise RowError("test", "must define check(candidate)")
    checked = Renamed({checks[0].args.args[0].arg: ast.Name(given.entry_point, ast.Load())}).visit(checks[0])

    try:
        tests, compare = as_tests(read_asserts(checked.body, lambda name: name == given.entry_point))
    except NotPlainError as reason:
        return Excluded(_id(given.task_id), f"judged by test code: {reason}")
    public, hidden = shared_out(tests, IoMode.FUNCTIONAL)
    return Problem(
        id=_id(given.task_id),
        statement=given.prompt,
        public_tests=public,
        hidden_tests=hidden,
        compare=compare,
        entry_point=given.entry_point,
        starter_code=given.prompt,
        source="HumanEval",
        reference=given.prompt + given.canonical_solution if given.canonical_solution else "",
    )


def _id(task: str) -> str:
    return task.replace("HumanEval/", "humaneval/")


HUMANEVAL = Form("humaneval", recognises, read)
