"""CodeContests: `public_tests`, `private_tests` and `generated_tests` as `{"input": [...], "output": [...]}`, all stdin."""

from dataclasses import dataclass

from gasp_rl.problem import Encoding, IoMode, Problem, TestCase
from gasp_rl.problems.forms.base import Excluded, Form, Row, RowError, convert

SOURCES = ("", "CodeChef", "Codeforces", "HackerEarth", "Code Jam", "AtCoder", "Aizu")
DIFFICULTIES = ("", "easy", "medium", "hard", "harder", "hardest", "external", *"abcdefghijklmnopqrstuv")
PYTHON_3 = 3
"""Names of its numbers."""


@dataclass(frozen=True, slots=True)
class _Tests:
    input: tuple[str, ...] = ()
    output: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Solutions:
    language: tuple[int, ...] = ()
    solution: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    description: str
    public_tests: _Tests
    private_tests: _Tests = _Tests()
    generated_tests: _Tests = _Tests()
    source: int = 0
    difficulty: int = 0
    solutions: _Solutions = _Solutions()
    input_file: str | None = None
    output_file: str | None = None


def recognises(row: Row) -> bool:
    return "generated_tests" in row or {"description", "public_tests", "private_tests"} <= row.keys()


def read(row: Row) -> Problem | Excluded:
    given = convert(row, _Row)
    name = f"codecontests/{given.name}" if given.name else ""
    for file in (given.input_file, given.output_file):
        if file:
            return Excluded(name, f"reads or writes a file, {file}: standard input and output only")
    solutions = zip(given.solutions.language, given.solutions.solution, strict=False)
    return Problem(
        id=name,
        statement=given.description,
        public_tests=_tests(given.public_tests, "public_tests"),
        hidden_tests=_tests(given.private_tests, "private_tests") + _tests(given.generated_tests, "generated_tests"),
        io_mode=IoMode.STDIN,
        encoding=Encoding.TEXT,
        entry_point="",
        source=" ".join(["CodeContests", *_named(SOURCES, given.source)]),
        difficulty="".join(_named(DIFFICULTIES, given.difficulty)),
        reference=next((text for language, text in solutions if language == PYTHON_3), ""),
    )


def _named(names: tuple[str, ...], number: int) -> tuple[str, ...]:
    return names[number : number + 1] if number > 0 else ()


def _tests(tests: _Tests, field: str) -> tuple[TestCase, ...]:
    if len(tests.input) != len(tests.output):
        raise RowError(field, f"{len(tests.input)} inputs, but {len(tests.output)} outputs")
    return tuple(TestCase(given, expected) for given, expected in zip(tests.input, tests.output, strict=True))


CODECONTESTS = Form("codecontests", recognises, read)
