"""MBPP, sanitized MBPP, and MBPP+ in its own form with literal results: functions that are judged by asserts.

The asserts become inputs and outputs (`asserts`); a problem with a single one that cannot is excluded.
"""

import ast
from dataclasses import dataclass, replace

from gasp_rl.problem import IoMode, Problem
from gasp_rl.problems.forms.asserts import SET, TRUTHY, Asserted, NotPlainError, as_tests, read_asserts
from gasp_rl.problems.forms.base import Excluded, Form, Row, RowError, convert, parse_python, shared_out

PLUS_SETS = frozenset({
    "similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum",
    "intersection_array", "find_dissimilar", "Diff",
})  # fmt: skip
PLUS_TRUTHS = frozenset({"check_str", "text_match_three", "text_starta_endb"})
PLUS_ORACLES = frozenset({"are_equivalent", "sum_div", "surface_Area", "digit_distance_nums"})
"""Functions of MBPP+ that EvalPlus's grader compares in a way of its own, whatever the row says."""


@dataclass(frozen=True, slots=True)
class _Row:
    task_id: int | str
    code: str
    test_list: tuple[str, ...] = ()
    challenge_test_list: tuple[str, ...] = ()
    text: str = ""
    prompt: str = ""
    test: str = ""
    """MBPP+: all its tests."""


def recognises(row: Row) -> bool:
    return "test_list" in row or {"text", "code", "task_id"} <= row.keys()


def read(row: Row) -> Problem | Excluded:
    given = convert(row, _Row)
    statement = given.text or given.prompt
    if not statement:
        raise RowError("text", "must be there, or `prompt`")
    plus = bool(given.test)
    name = f"{'mbpp_plus' if plus else 'mbpp'}/{str(given.task_id).removeprefix('Mbpp/')}"
    tree = parse_python(
        given.test or "\n".join(given.test_list + given.challenge_test_list), "test" if plus else "test_list"
    )
    defined = [node.name for node in parse_python(given.code, "code").body if isinstance(node, ast.FunctionDef)]
    used = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in defined]
    if not used:
        raise RowError("code", f"defines none of the functions that the tests call, but {', '.join(defined) or 'none'}")
    entry_point = used[0]

    try:
        asserted = read_asserts(tree.body, lambda called: called == entry_point)
        tests, compare = as_tests(_as_evalplus_compares(asserted, entry_point) if plus else asserted)
    except NotPlainError as reason:
        return Excluded(name, f"judged by test code: {reason}")
    public, hidden = shared_out(tests, IoMode.FUNCTIONAL)
    return Problem(
        id=name,
        statement=statement,
        public_tests=public,
        hidden_tests=hidden,
        compare=compare,
        entry_point=entry_point,
        source="MBPP+" if plus else "MBPP",
        reference=given.code,
    )


def _as_evalplus_compares(asserted: list[Asserted], entry_point: str) -> list[Asserted]:
    if entry_point in PLUS_ORACLES:
        raise NotPlainError("EvalPlus compares it in a way of its own")
    special = SET if entry_point in PLUS_SETS else TRUTHY if entry_point in PLUS_TRUTHS else None
    return [replace(one, compare=special) for one in asserted] if special else asserted


MBPP = Form("mbpp", recognises, read)
