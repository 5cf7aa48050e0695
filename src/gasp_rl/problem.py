"""What is asked and how an answer is judged: problems and their tests. Knows nothing of models or training."""

from dataclasses import dataclass
from enum import StrEnum


class IoMode(StrEnum):
    STDIN = "stdin"
    """A program that reads standard input and writes standard output."""
    FUNCTIONAL = "functional"
    """A function (or a method of `Solution`) called with positional arguments."""


class Encoding(StrEnum):
    """How the text of a test stands for values."""

    TEXT = "text"
    """stdin: the whole input and output."""
    JSON = "json"
    """functional: one JSON value per line per positional argument; the output is one JSON value (LiveCodeBench)."""
    PYLITERAL = "pyliteral"
    """functional: as JSON but Python literals, where tuples, sets and integer keys matter."""


class CompareKind(StrEnum):
    EXACT = "exact"
    """stdin: LiveCodeBench's line rule. functional: `==` after decoding (json: a top-level tuple counts as a list)."""
    FLOAT = "float"
    """Numbers anywhere within atol + rtol * |expected|; bools are not numbers; all else `==`."""
    SET = "set"
    """`set(got) == set(expected)`."""
    TRUTHY = "truthy"
    """`bool(got) == bool(expected)`."""
    FLOAT_TOKENS = "float_tokens"
    """stdin: as many whitespace-separated tokens, each equal or numerically within tolerance."""


@dataclass(frozen=True, slots=True)
class Comparison:
    kind: CompareKind = CompareKind.EXACT
    atol: float = 0.0
    rtol: float = 0.0


@dataclass(frozen=True, slots=True)
class TestCase:
    __test__ = False  # not a pytest class, in spite of its name
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with tests. A program solves it when it passes every public and hidden test."""

    id: str
    statement: str
    public_tests: tuple[TestCase, ...]
    hidden_tests: tuple[TestCase, ...]
    io_mode: IoMode = IoMode.FUNCTIONAL
    encoding: Encoding = Encoding.PYLITERAL
    compare: Comparison = Comparison()
    entry_point: str = "f"
    starter_code: str = ""
    source: str = ""
    date: str = ""
    difficulty: str = ""
    reference: str = ""
    """A program known to solve it; empty where there is none."""

    @property
    def tests(self) -> tuple[TestCase, ...]:
        return self.public_tests + self.hidden_tests
