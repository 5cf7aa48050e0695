"""LeetCodeDataset: a method of `Solution`, inputs as `n = 3, q = [[1, 2]]`, outputs as Python or JSON literals."""

import ast
import json
from dataclasses import dataclass

from gasp_rl.problem import IoMode, Problem, TestCase
from gasp_rl.problems.forms.asserts import NotPlainError, fold
from gasp_rl.problems.forms.base import Excluded, Form, Row, RowError, convert, dated, shared_out
from gasp_rl.sandbox.values import spell

LINKED = ("TreeNode", "ListNode", "Node")
"""Argument types that the judge of the set builds from lists, and ours does not."""


@dataclass(frozen=True, slots=True)
class _Test:
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class _Row:
    task_id: str
    problem_description: str
    starter_code: str
    entry_point: str
    input_output: tuple[_Test, ...]
    prompt: str = ""
    completion: str = ""
    difficulty: str | None = None
    estimated_date: str | None = None


def recognises(row: Row) -> bool:
    return "problem_description" in row and ("entry_point" in row or "starter_code" in row)


def read(row: Row) -> Problem | Excluded:
    given = convert(row, _Row)
    name = f"leetcode/{given.task_id}"
    function = given.entry_point.removeprefix("Solution().")
    parameters, linked = _signature(given.starter_code, function)
    if linked:
        return Excluded(name, f"takes or gives linked nodes ({linked})", date=dated(given.estimated_date))
    tests = []
    for n, test in enumerate(given.input_output):
        arguments = _arguments(test.input, parameters, f"input_output[{n}].input")
        expected = _value(test.output)
        if expected is None or any(argument is None for argument in arguments):
            reason = f"input_output[{n}] holds what is no plain value"
            return Excluded(name, reason, date=dated(given.estimated_date))
        tests.append(TestCase("\n".join(argument for argument in arguments if argument is not None), expected))
    public, hidden = shared_out(tests, IoMode.FUNCTIONAL)
    return Problem(
        id=name,
        statement=given.problem_description,
        public_tests=public,
        hidden_tests=hidden,
        entry_point=function,
        starter_code=given.starter_code,
        source="LeetCodeDataset",
        date=dated(given.estimated_date),
        difficulty=(given.difficulty or "").lower(),
        reference=f"{given.prompt}\n\n{given.completion}".strip() if given.completion else "",
    )


def _signature(starter: str, function: str) -> tuple[tuple[str, ...], str]:
    """The names of the function's parameters, none if the starter code cannot be read; and a type of node it takes."""
    try:
        tree = ast.parse(starter.rstrip() + " pass")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return (), ""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            types = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
            linked = next((one for one in LINKED if one in types), "")
            return tuple(argument.arg for argument in node.args.args if argument.arg != "self"), linked
    return (), ""


def _arguments(text: str, parameters: tuple[str, ...], field: str) -> list[str | None]:
    """The spelled values of `n = 3, q = [1]`, in the order of the signature; None for what is no plain value."""
    try:
        call = ast.parse(f"f({text}\n)", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise RowError(field, f"not like `n = 3, q = [1]`: {text[:60]!r}") from error
    if not isinstance(call, ast.Call) or call.args:
        raise RowError(field, f"not like `n = 3, q = [1]`: {text[:60]!r}")
    named = {one.arg: _spelled(one.value) for one in call.keywords}
    if parameters and named.keys() == set(parameters):
        return [named[parameter] for parameter in parameters]
    return list(named.values())


def _value(text: str) -> str | None:
    try:
        return spell(json.loads(text))
    except (ValueError, RecursionError):
        pass
    try:
        return _spelled(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _spelled(node: ast.expr) -> str | None:
    try:
        return spell(fold(node), keep_order=True)
    except (NotPlainError, ValueError):
        return None


LEETCODE = Form("leetcode", recognises, read)
