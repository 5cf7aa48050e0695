"""Read and write problem files: JSON Lines, one problem a row, in any of the forms of `gasp_rl.problems.forms`.

A file may be compressed by gzip, and may be one JSON array or one JSON object instead. The form is recognised from each
row's fields, never from a name.

A row that breaks its form is malformed: the first one stops the reading with file, line, field and reason, or, by
choice, all of them are skipped and reported. A row that is well formed but cannot be judged fairly (listed in errata, a
comparison we have not, values that the sandbox does not give, no tests) is left out and named in `excluded`.
"""

import ast
import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import msgspec

from gasp_rl.config import ReadingConfig
from gasp_rl.errors import ProblemFileError
from gasp_rl.problem import CompareKind, Encoding, IoMode, Problem
from gasp_rl.problems.forms.apps import APPS
from gasp_rl.problems.forms.base import Excluded, Form, Row, RowError, moment
from gasp_rl.problems.forms.codecontests import CODECONTESTS
from gasp_rl.problems.forms.humaneval import HUMANEVAL
from gasp_rl.problems.forms.leetcode import LEETCODE
from gasp_rl.problems.forms.livecodebench import LIVECODEBENCH
from gasp_rl.problems.forms.mbpp import MBPP
from gasp_rl.problems.forms.normal import NORMAL
from gasp_rl.problems.forms.own import OWN
from gasp_rl.problems.forms.verifiable import VERIFIABLE
from gasp_rl.sandbox.values import decode, spell

FORMS: tuple[Form, ...] = (
    OWN, LIVECODEBENCH, CODECONTESTS, LEETCODE, HUMANEVAL, MBPP, APPS, NORMAL, VERIFIABLE,
)  # fmt: skip
"""The first one that recognises a row reads it."""

MAX_ROW = 512 << 20
"""Bytes of a row, unpacked (LiveCodeBench's largest have some 110 million): what a file of zeros may cost in memory."""

STDIN_COMPARISONS = frozenset({CompareKind.EXACT, CompareKind.FLOAT_TOKENS})
FUNCTIONAL_COMPARISONS = frozenset({CompareKind.EXACT, CompareKind.FLOAT, CompareKind.SET, CompareKind.TRUTHY})

GZIP, ZSTANDARD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Malformed:
    """A row that breaks its form."""

    line: int
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReadRow:
    """One row and what it was found to be."""

    line: int
    """From 1; in a JSON array, the place of the row."""
    form: str
    """Name of its form; empty if it has none that is known."""
    found: Problem | Excluded | Malformed


@dataclass(frozen=True, slots=True)
class ProblemFile:
    """What a problem file holds."""

    problems: tuple[Problem, ...]
    excluded: tuple[Excluded, ...]
    malformed: tuple[Malformed, ...] = ()


def read_problems(path: Path, reading: ReadingConfig = ReadingConfig()) -> ProblemFile:  # noqa: B008 - a frozen value
    """All rows of a file, in order. ProblemFileError names the first one that is malformed, unless they are skipped."""
    problems: list[Problem] = []
    excluded: list[Excluded] = []
    malformed: list[Malformed] = []
    for row in read_rows(path, errata=reading.errata):
        match row.found:
            case Problem():
                problems.append(row.found)
            case Excluded():
                excluded.append(row.found)
            case Malformed():
                malformed.append(row.found)
                if not reading.skip_malformed:
                    raise complaint(path, row.found)
    return ProblemFile(tuple(problems), tuple(excluded), tuple(malformed))


def read_rows(path: Path, *, errata: bool = False) -> Iterator[ReadRow]:
    """Every row of a file, one at a time: the largest sets do not fit in memory. `errata`: leave out no known misjudged."""
    lines_by_id: dict[str, int] = {}
    before: Form | None = None
    for line, text in _texts(path):
        form = before
        found: Problem | Excluded | Malformed
        try:
            row = _decoded(text)
            form = before = _recognised(row, before)
            found = _read(form, row, f"{path.name.split('.')[0]}/{line}")
            _note_id(found.id, line, lines_by_id)
        except RowError as fault:
            found = Malformed(line, fault.field, fault.reason)
        if isinstance(found, Excluded):
            found = found.problem if errata and found.problem else replace(found, line=line)
        yield ReadRow(line, form.name if form else "", found)


def complaint(path: Path, row: Malformed) -> ProblemFileError:
    """The one line about a malformed row."""
    return ProblemFileError(f"{path}:{row.line}: {row.field}: {row.reason}")


def skipped(path: Path, malformed: Sequence[Malformed]) -> str:
    """The one line about malformed rows that were left out."""
    count = f"{len(malformed)} malformed rows" if len(malformed) > 1 else "1 malformed row"
    return f"{path}: {count} left out, first line {malformed[0].line}: {malformed[0].field}: {malformed[0].reason}"


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Write our own form; `read_problems` gives the same problems back."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        for problem in problems:
            file.write(encoder.encode(problem) + b"\n")


# Texts


def _texts(path: Path) -> Iterator[tuple[int, bytes]]:
    """(1-based number, bytes) of every row that is not blank."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            if start == PARQUET:
                raise ProblemFileError(f"{path}: is a Parquet file; write it as JSON Lines first (datasets: to_json)")
            if start == ZSTANDARD:
                raise ProblemFileError(f"{path}: is compressed by zstd; unpack it first, or use gzip")
            if start.startswith(GZIP):
                with gzip.open(file) as unpacked:
                    yield from _rows_of(path, unpacked)
            else:
                yield from _rows_of(path, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ProblemFileError(f"{path}: cannot be unpacked: {error}") from error
    except OSError as error:
        raise ProblemFileError(f"{path}: cannot be read: {error.strerror}") from error


def _rows_of(path: Path, file: BinaryIO | gzip.GzipFile) -> Iterator[tuple[int, bytes]]:
    number, blank = 0, True
    while text := file.readline(MAX_ROW + 1):
        number += 1
        if number == 1:
            text = text.removeprefix(BYTE_ORDER_MARK)
        if len(text) > MAX_ROW:
            raise ProblemFileError(f"{path}:{number}: a row of more than {MAX_ROW >> 20} MiB: refused")
        if blank and (text.lstrip().startswith(b"[") or text.strip() == b"{"):
            yield from _document(path, text + file.read(MAX_ROW))
            if file.read(1):
                raise ProblemFileError(f"{path}: more than {MAX_ROW >> 20} MiB in one JSON value: write JSON Lines")
            return
        if text.strip():
            blank = False
            yield number, text


def _document(path: Path, text: bytes) -> Iterator[tuple[int, bytes]]:
    """The rows of a file that is one JSON array, or one object over several lines."""
    if text.lstrip().startswith(b"{"):
        yield 1, text
        return
    try:
        rows = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemFileError(f"{path}: not a JSON array: {error}") from error
    for number, row in enumerate(rows, start=1):
        yield number, bytes(row)


def _decoded(text: bytes) -> Row:
    try:
        row = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RowError("row", f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise RowError("row", f"must be a JSON object, got {type(row).__name__}")
    return row


# Problems


def _recognised(row: Row, before: Form | None) -> Form:
    """The row's form; if none is known, that of the row before it, which can say what is missing."""
    form = next((one for one in FORMS if one.recognises(row)), before)
    if form is None:
        fields = ", ".join(sorted(row)[:8]) or "none"
        raise RowError("row", f"of no known form (docs/problems.md lists them); its fields: {fields}")
    return form


def _note_id(name: str, line: int, lines_by_id: dict[str, int]) -> None:
    if name in lines_by_id:
        raise RowError("id", f"{name!r} is already the id of line {lines_by_id[name]}")
    lines_by_id[name] = line


def _read(form: Form, row: Row, name: str) -> Problem | Excluded:
    """The row, checked. `name`: its id if it has none of its own."""
    found = form.read(row)
    if not found.id and "id" not in row:
        found = replace(found, id=name)
    problem = found.problem if isinstance(found, Excluded) else found
    if problem is None:
        return found
    _check(problem)
    if not problem.tests:
        return Excluded(problem.id, "no tests: any program would pass", date=problem.date)
    strange = _strange_value(problem)
    if strange is not None:
        return Excluded(problem.id, f"a value that the sandbox does not give: {strange[:60]}", date=problem.date)
    return found


def _check(problem: Problem) -> None:
    """What the types cannot say: that mode, encoding, comparison, entry point and tests fit together."""
    if not problem.id:
        raise RowError("id", "must not be empty")
    if problem.date and moment(problem.date) is None:
        raise RowError("date", f"must be like 2024-08-01 or 2024-08-01T12:30:00, got {problem.date!r}")
    stdin = problem.io_mode is IoMode.STDIN
    if stdin != (problem.encoding is Encoding.TEXT):
        rule = "'text' for stdin" if stdin else "'json' or 'pyliteral' for functional"
        raise RowError("io_encoding", f"must be {rule}, got {problem.encoding.value!r}")
    if problem.compare.kind not in (STDIN_COMPARISONS if stdin else FUNCTIONAL_COMPARISONS):
        raise RowError("compare", f"{problem.compare.kind.value!r} does not go with {problem.io_mode.value}")
    for name, tolerance in (("atol", problem.compare.atol), ("rtol", problem.compare.rtol)):
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise RowError(f"compare.{name}", f"must be a number of 0 or more, got {tolerance}")
    if not stdin and not problem.entry_point.isidentifier():
        raise RowError("entry_point", f"must name a function for functional, got {problem.entry_point!r}")


def _strange_value(problem: Problem) -> str | None:
    """The first value of a functional problem that has no canonical spelling: a complex number, or one too deep."""
    strange = None
    for number, test in enumerate(problem.tests if problem.io_mode is IoMode.FUNCTIONAL else ()):
        arguments = test.input.split("\n") if test.input else []
        for part, literal in [*(("input", argument) for argument in arguments), ("output", test.output)]:
            if not _has_spelling(literal, problem.encoding):
                if not _decodes(literal, problem.encoding):
                    raise RowError(f"tests[{number}].{part}", f"not a {problem.encoding.value} value: {literal[:60]!r}")
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
