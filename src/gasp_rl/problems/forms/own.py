"""Own form: the fields of `Problem`, as `write_problems` writes them (a row that has `public_tests`, as a list)."""

from dataclasses import fields

from gasp_rl.problem import Problem
from gasp_rl.problems.forms.base import Form, Row, RowError, convert


def recognises(row: Row) -> bool:
    return "hidden_tests" in row or ("public_tests" in row and not isinstance(row["public_tests"], dict))


def read(row: Row) -> Problem:
    unknown = row.keys() - {field.name for field in fields(Problem)}
    if unknown:
        raise RowError(min(unknown), "not a field of a problem")
    return convert(row, Problem)


OWN = Form("gasp", recognises, read)
