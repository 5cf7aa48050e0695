"""What every form of row has in common: how it is recognised, how it is read, and how it says that it cannot be."""

import ast
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

import msgspec

from gasp_rl.problem import IoMode, Problem, TestCase

Row: TypeAlias = dict[str, Any]
"""A row as JSON gives it."""

Shape = TypeVar("Shape")


class RowError(Exception):
    """The row breaks its form: which field, and why."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Excluded:
    """A well-formed row that is not used, and why."""

    id: str
    reason: str
    line: int = 0
    date: str = ""
    problem: Problem | None = None
    """What it asks, where it is known to be misjudged but could be judged all the same."""


@dataclass(frozen=True, slots=True)
class Form:
    """One form of row."""

    name: str
    """As `gasp problems inspect` says it."""
    recognises: Callable[[Row], bool]
    """By its fields only: a broken row of a form is still of that form."""
    read: Callable[[Row], Problem | Excluded]
    """Raises RowError. Where the row has no id, that of the result is empty."""


def convert(row: object, shape: type[Shape], within: str = "") -> Shape:
    """The row as a typed value; RowError names the place that does not fit. `within`: the field that the row is of."""
    try:
        return msgspec.convert(row, shape)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        place = place.rstrip("`")
        raise RowError((within + place).lstrip(".") or "row", reason) from error


def parse_json(text: str, field: str) -> Any:
    """The value of a field that holds JSON as a string. Integers of any length are kept."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RowError(field, f"not JSON: {error}") from error


def parse_python(code: str, field: str) -> ast.Module:
    """The syntax tree of a field that holds Python source. It is read, never run."""
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise RowError(field, f"not Python: {error}") from error


def default_public(io_mode: IoMode, tests: int) -> int:
    """How many of the first tests are public where a row does not say.

    functional: two; stdin: one, as its tests are often whole files. At least one test stays hidden, so that
    repeating the examples can never pass.
    """
    return max(0, min(2 if io_mode is IoMode.FUNCTIONAL else 1, tests - 1))


def shared_out(tests: Sequence[TestCase], io_mode: IoMode) -> tuple[tuple[TestCase, ...], tuple[TestCase, ...]]:
    """Public and hidden tests of a form that does not tell them apart."""
    public = default_public(io_mode, len(tests))
    return tuple(tests[:public]), tuple(tests[public:])


def moment(date: str) -> datetime | None:
    """When a date (its midnight) or a date and time is, in UTC unless it names a zone; None if it is no ISO date."""
    try:
        parsed = datetime.fromisoformat(date)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def dated(date: str | None) -> str:
    """An upstream date that is not the point of its set: kept if it is one, else empty."""
    return date if date and moment(date) else ""
